//! What a user carries over from a room to the one that replaces it: tags, the place among
//! direct chats, and push rules about the room (spec, module room upgrades, server behaviour).
//!
//! It is written in the batch of the join, so that nothing is done by halves. A join holds the
//! room's lane and not the user's, so each piece expects to find what it was made from: the
//! commit conflicts if the user changed it meanwhile, and the join is planned again.

use serde_json::Value;
use skerry_core::{RoomNid, UserNid};
use skerry_store::{Snapshot, Write};

use crate::push_rule::PUSH_RULES;
use crate::tag::TAG;
use crate::{AccountError, Accounts, data};

/// The type of account data that says which rooms are direct chats, by user.
const DIRECT: &str = "m.direct";

/// The room that is replaced, and the one that replaces it.
#[derive(Clone, Copy, Debug)]
pub struct Replaced {
    /// The old room.
    pub from: RoomNid,
    /// The new room.
    pub to: RoomNid,
}

impl Accounts {
    /// Adds to the batch of a join what the user carries over into the new room. What the new
    /// room has already stays as it is.
    ///
    /// # Errors
    /// Those of the store; what cannot be read is passed over.
    pub fn carry_over(
        &self,
        snap: &Snapshot,
        w: &mut Write,
        user: UserNid,
        rooms: Replaced,
    ) -> Result<(), AccountError> {
        let from = self.inner.store.room_id(rooms.from)?;
        let to = self.inner.store.room_id(rooms.to)?;
        if let Some(tags) = data::one(snap, user, Some(rooms.from), TAG)?
            && data::one(snap, user, Some(rooms.to), TAG)?.is_none()
        {
            data::replace(snap, w, user, Some(rooms.to), (TAG, tags.json))?;
        }
        if let Some(direct) = data::one(snap, user, None, DIRECT)?
            && let Some(json) = direct_with(&direct.json, &from, &to)
        {
            data::replace(snap, w, user, None, (DIRECT, json))?;
        }
        if let Some(rules) = self.rules(snap, user)?.repeated(&from, &to) {
            let json = rules.content()?.to_string();
            data::replace(snap, w, user, None, (PUSH_RULES, json))?;
        }
        Ok(())
    }
}

/// The direct chats with the new room wherever the old one is; none if there is nothing to add.
fn direct_with(json: &str, from: &str, to: &str) -> Option<String> {
    let mut content: Value = serde_json::from_str(json).ok()?;
    let mut added = false;
    for rooms in content.as_object_mut()?.values_mut() {
        let Some(rooms) = rooms.as_array_mut() else {
            continue;
        };
        let has = |room: &str| rooms.iter().any(|id| id.as_str() == Some(room));
        if has(from) && !has(to) {
            rooms.push(Value::from(to));
            added = true;
        }
    }
    added.then(|| content.to_string())
}
