//! What a client needs to name a room and count its people.

use std::sync::Arc;

use skerry_core::{Membership, UserNid};
use skerry_store::schema::room::MemberTable;
use skerry_store::{Scan, StoreError};

use crate::{Standing, View};

/// The most users a room is named after.
const HEROES_MAX: usize = 5;
/// Members looked at to find them.
const LOOK_MAX: usize = 1_000;

/// What a client needs to name a room and count its people (spec: `RoomSummary`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Users to name the room after, oldest acquaintance first.
    pub heroes: Vec<Arc<str>>,
    /// How many are joined.
    pub joined: u64,
    /// How many are invited.
    pub invited: u64,
}

impl View {
    /// The room's summary now; heroes only where it has neither a name nor a canonical alias.
    /// Empty to who is not in the room.
    ///
    /// # Errors
    /// The store's.
    pub fn summary(&self) -> Result<Summary, StoreError> {
        let head = self.rooms.head(&self.snap, self.room)?;
        let Some(head) = head.filter(|_| self.standing() == Standing::Joined) else {
            return Ok(Summary::default());
        };
        let heroes = if self.has_name()? { Vec::new() } else { self.heroes()? };
        Ok(Summary { heroes, joined: head.joined.into(), invited: head.invited.into() })
    }

    fn has_name(&self) -> Result<bool, StoreError> {
        for (kind, field) in [("m.room.name", "name"), ("m.room.canonical_alias", "alias")] {
            let event = self.rooms.current_event(&self.snap, self.room, kind, "")?;
            let content = event.and_then(|held| held.event.content_object().ok());
            let text = content.as_ref().and_then(|content| content.str(field));
            if text.is_some_and(|text| !text.is_empty()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Others who are joined or invited; where there are none, those who were.
    fn heroes(&self) -> Result<Vec<Arc<str>>, StoreError> {
        let (mut here, mut gone) = (Vec::<UserNid>::new(), Vec::new());
        for row in self.snap.scan::<MemberTable>(Scan::prefix(&self.room).limit(LOOK_MAX)) {
            let ((_, user), member) = row?;
            if user == self.reader.user {
                continue;
            }
            match member.membership {
                Membership::Join | Membership::Invite => here.push(user),
                Membership::Leave | Membership::Ban => gone.push(user),
                Membership::Knock => {}
            }
            if here.len() == HEROES_MAX {
                break;
            }
        }
        let chosen = if here.is_empty() { gone } else { here };
        let chosen = chosen.into_iter().take(HEROES_MAX);
        chosen.map(|user| self.rooms.store().user_id(user)).collect()
    }
}
