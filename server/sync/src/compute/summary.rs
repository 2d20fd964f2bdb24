//! What a client needs to name a room that has no name of its own, and to count its members.

use std::sync::Arc;

use skerry_core::{Membership, Pos, RoomNid, StateId, StateMap, UserNid};
use skerry_room::RoomHead;
use skerry_store::StoreError;

use super::Query;
use crate::delta::Summary;

/// Users named at most.
pub(crate) const HEROES_MAX: usize = 5;

/// The users to name a room after, for any reader: one more than are shown, since a reader is not
/// told of themselves.
pub(crate) type Heroes = Arc<[UserNid]>;

impl Query<'_> {
    /// The summary of a room the user is in, whole.
    pub(super) fn summary(
        &self,
        room: RoomNid,
        head: &RoomHead,
        state: &StateMap,
    ) -> Result<Summary, StoreError> {
        let heroes = if self.is_named(state)? {
            None
        } else {
            let store = self.sync.rooms.store();
            let others = self.heroes(room, head.state)?;
            let others = others
                .iter()
                .filter(|user| **user != self.req.user)
                .take(HEROES_MAX);
            Some(
                others
                    .map(|user| store.user_id(*user))
                    .collect::<Result<_, _>>()?,
            )
        };
        Ok(Summary {
            heroes,
            joined: Some(u64::from(head.joined)),
            invited: Some(u64::from(head.invited)),
        })
    }

    /// Whether a room has a name or an alias to be called by.
    fn is_named(&self, state: &StateMap) -> Result<bool, StoreError> {
        for (kind, field) in [("m.room.name", "name"), ("m.room.canonical_alias", "alias")] {
            let Some(event) = self.sync.rooms.in_state(state, kind, "")? else {
                continue;
            };
            let Some(held) = self.sync.rooms.event(self.snap, event)? else {
                continue;
            };
            let content: serde_json::Value = held.event.content_as().unwrap_or_default();
            let name = content.get(field).and_then(serde_json::Value::as_str);
            if name.is_some_and(|name| !name.is_empty()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The first members of a room in the order of their member events: those joined or invited,
    /// or else those who were. Kept in memory, since a version of state never changes.
    pub(crate) fn heroes(&self, room: RoomNid, state: StateId) -> Result<Heroes, StoreError> {
        if let Some(heroes) = self.sync.heroes.get(state) {
            return Ok(heroes);
        }
        let (mut here, mut gone) = (Vec::new(), Vec::new());
        for (user, member) in self.sync.rooms.members(self.snap, room)? {
            match member.membership {
                Membership::Join | Membership::Invite => here.push((member.pos, user)),
                Membership::Leave | Membership::Ban => gone.push((member.pos, user)),
                Membership::Knock => {}
            }
        }
        let alone = here.iter().all(|(_, user)| *user == self.req.user);
        let heroes = if alone { first(gone) } else { first(here) };
        // Where the reader is alone, others would be told of the reader.
        if !alone {
            self.sync.heroes.put(state, Arc::clone(&heroes));
        }
        Ok(heroes)
    }
}

/// The first users by position.
fn first(mut users: Vec<(Pos, UserNid)>) -> Heroes {
    users.sort_unstable();
    users
        .into_iter()
        .take(HEROES_MAX + 1)
        .map(|(_, user)| user)
        .collect()
}
