//! The joined users of this server, room by room.

use std::collections::HashMap;
use std::sync::Arc;

use skerry_core::{Membership, RoomNid, UserNid};
use skerry_room::Rooms;
use skerry_store::{Snapshot, StoreError};

/// Memberships held over all rooms; beyond this everything is read anew.
const MEMBERS_MAX: usize = 500_000;

/// Local members by room; read from the store when first asked for, kept up to date by facts.
///
/// A room may be read from a snapshot ahead of the facts noted so far. Noting those again can
/// bring somebody back for a moment, until the later fact comes that the snapshot held already.
#[derive(Default)]
pub(super) struct Locals {
    rooms: HashMap<RoomNid, Arc<Vec<UserNid>>>,
    held: usize,
}

impl Locals {
    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        *self = Locals::default();
    }

    /// A user joined a room, or is not joined any more.
    pub(super) fn note(&mut self, room: RoomNid, user: UserNid, joined: bool) {
        let Some(members) = self.rooms.get_mut(&room) else {
            return;
        };
        match (members.binary_search(&user), joined) {
            (Err(at), true) => Arc::make_mut(members).insert(at, user),
            (Ok(at), false) => {
                Arc::make_mut(members).remove(at);
            }
            _ => {}
        }
    }

    /// The local users joined to a room, sorted. Remote ones noted since the room was read may be
    /// among them; nobody listens on their channels.
    pub(super) fn of(
        &mut self,
        rooms: &Rooms,
        snap: &Snapshot,
        room: RoomNid,
    ) -> Result<Arc<Vec<UserNid>>, StoreError> {
        if let Some(members) = self.rooms.get(&room) {
            return Ok(Arc::clone(members));
        }
        let mut members = Vec::new();
        for (user, member) in rooms.members(snap, room)? {
            if member.membership == Membership::Join
                && rooms.is_local(&rooms.store().user_id(user)?)
            {
                members.push(user);
            }
        }
        members.sort_unstable();
        if self.held + members.len() > MEMBERS_MAX {
            self.clear();
        }
        self.held += members.len();
        let members = Arc::new(members);
        self.rooms.insert(room, Arc::clone(&members));
        Ok(members)
    }
}
