//! Which servers a room keeps out.

use skerry_core::acl::ServerAcl;
use skerry_core::canonical::Object;
use skerry_core::{Membership, RoomNid, names};
use skerry_store::schema::room as t;
use skerry_store::{Snapshot, StoreError};

use crate::{RoomError, RoomHead, Rooms};

impl Rooms {
    /// Whether the access list of a room, if it has one, lets a server take part
    /// (server-server API, "Server Access Control Lists"). Of an unknown room: yes.
    ///
    /// # Errors
    /// The store's.
    pub fn acl_allows(
        &self,
        snap: &Snapshot,
        room: RoomNid,
        server: &str,
    ) -> Result<bool, StoreError> {
        let Some(held) = self.current_event(snap, room, "m.room.server_acl", "")? else {
            return Ok(true);
        };
        // Content that does not even parse lists nobody.
        let content = held
            .event
            .content_object()
            .unwrap_or_else(|_| Object::new());
        Ok(ServerAcl::of(&content).allows(server))
    }

    /// Whether this server takes part in a room: somebody of it is joined, or nobody of another
    /// server is, so that the room is nobody else's.
    ///
    /// # Errors
    /// The store's.
    pub fn is_here(&self, snap: &Snapshot, room: RoomNid) -> Result<bool, StoreError> {
        Ok(self.head(snap, room)?.is_some_and(|head| takes_part(&head)))
    }

    /// [`Self::is_here`] of a room by id, as it is published.
    ///
    /// # Errors
    /// The store's.
    pub async fn is_here_id(&self, room_id: &str) -> Result<bool, RoomError> {
        let Some(room) = self.store().room_nid(room_id)? else {
            return Ok(false);
        };
        self.query(move |this, snap| Ok(this.is_here(snap, room)?))
            .await
    }

    /// Whether a server has a user who is joined to a room.
    ///
    /// # Errors
    /// The store's.
    pub fn has_server(
        &self,
        snap: &Snapshot,
        room: RoomNid,
        server: &str,
    ) -> Result<bool, StoreError> {
        match self.store().server_nid(server)? {
            Some(nid) => snap.has::<t::RoomServer>(&(room, nid)),
            None => Ok(false),
        }
    }

    /// Whether a user of a server has one of these memberships in a room.
    ///
    /// # Errors
    /// The store's.
    pub(crate) fn server_is(
        &self,
        snap: &Snapshot,
        room: RoomNid,
        server: &str,
        wanted: &[Membership],
    ) -> Result<bool, StoreError> {
        if wanted.contains(&Membership::Join) && self.has_server(snap, room, server)? {
            return Ok(true);
        }
        for (user, member) in self.members(snap, room)? {
            if wanted.contains(&member.membership)
                && names::server_of(&self.store().user_id(user)?) == Some(server)
            {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Whether this server takes part in a room with this end; see [`Rooms::is_here`].
pub(crate) fn takes_part(head: &RoomHead) -> bool {
    head.joined > head.remote || head.remote == 0
}
