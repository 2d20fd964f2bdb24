//! What other servers see of spaces (server-server API, "Spaces").

use skerry_core::Membership;
use skerry_core::RoomNid;
use skerry_core::power::CreateFacts;
use skerry_store::{Snapshot, StoreError};

use crate::hierarchy::stripped_children;
use crate::{HierarchyRoom, PublicRoom, RoomError, Rooms};

/// The most children that one answer tells of.
const CHILDREN_MAX: usize = 1_000;

/// A space, or another room, as a server sees it.
#[derive(Clone, Debug)]
pub struct ServedSpace {
    /// The room with its children's events.
    pub room: HierarchyRoom,
    /// The children of it that the server could have its users look into or join.
    pub children: Vec<PublicRoom>,
    /// The ids of those that it could not.
    pub inaccessible: Vec<String>,
}

impl Rooms {
    /// A space and the children of it that are known here.
    ///
    /// # Errors
    /// `NotFound` for a room that this server does not take part in or that the asking one could
    /// have nobody look into; the store's.
    pub async fn served_hierarchy(
        &self,
        origin: &str,
        room_id: &str,
        suggested_only: bool,
    ) -> Result<ServedSpace, RoomError> {
        let unknown = || RoomError::NotFound("There is no such room, or it is not open".into());
        let room = self.store().room_nid(room_id)?.ok_or_else(unknown)?;
        let origin = origin.to_owned();
        self.query(move |this, snap| {
            if !this.is_here(snap, room)? || !this.may_preview_from(snap, room, &origin)? {
                return Err(unknown());
            }
            let children = this.suggested_children(snap, room, suggested_only)?;
            let mut space = ServedSpace {
                room: HierarchyRoom {
                    room: this.public_room(snap, room)?.ok_or_else(unknown)?,
                    children: stripped_children(&children),
                },
                children: Vec::new(),
                inaccessible: Vec::new(),
            };
            for child in children.iter().take(CHILDREN_MAX) {
                let Some(child) = this.store().room_nid(&child.room_id)? else {
                    continue;
                };
                if !this.is_here(snap, child)? {
                    continue;
                }
                if this.may_preview_from(snap, child, &origin)? {
                    space.children.extend(this.public_room(snap, child)?);
                } else {
                    let room_id = this.store().room_id(child)?;
                    space.inaccessible.push(room_id.to_string());
                }
            }
            Ok(space)
        })
        .await
    }

    /// Whether users of a server may know what a room shows of itself: some are in it or invited,
    /// or could come in, or it is open to readers.
    pub(crate) fn may_preview_from(
        &self,
        snap: &Snapshot,
        room: RoomNid,
        server: &str,
    ) -> Result<bool, StoreError> {
        let (Some(facts), Some(head)) = (self.facts(snap, room)?, self.head(snap, room)?) else {
            return Ok(false);
        };
        if !self.federates(snap, room)? || !self.acl_allows(snap, room, server)? {
            return Ok(false);
        }
        let card = self.card(snap, room, &head)?;
        let version = facts.version;
        let restricted = match card.join_rule.as_deref() {
            _ if card.world_readable => return Ok(true),
            Some("public") => return Ok(true),
            Some("knock") if version.has_knock() => return Ok(true),
            Some("knock_restricted") if version.has_knock_restricted() => return Ok(true),
            Some("restricted") => version.has_restricted(),
            _ => false,
        };
        let inside = [Membership::Join, Membership::Invite];
        if self.server_is(snap, room, server, &inside)? {
            return Ok(true);
        }
        for room_id in card.allowed.iter().filter(|_| restricted) {
            if let Some(room) = self.store().room_nid(room_id)?
                && self.has_server(snap, room, server)?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether users of other servers can be in a room (`m.federate`).
    pub(crate) fn federates(&self, snap: &Snapshot, room: RoomNid) -> Result<bool, StoreError> {
        let Some(facts) = self.facts(snap, room)? else {
            return Ok(false);
        };
        let create = self.event(snap, facts.create)?;
        let create = create.and_then(|held| CreateFacts::of(&held.event));
        Ok(create.is_some_and(|create| create.federate))
    }
}
