//! What a user carries over from a room to the one that replaces it: tags, the place among
//! direct chats, and push rules about the room (spec, module room upgrades, server behaviour).
//!
//! It is written in the batch of the join, so that nothing is done by halves. A join holds the
//! room's lane and not the user's, so each piece expects to find what it was made from: the
//! commit conflicts if the user changed it meanwhile, and the join is planned again.

use ruma_common::RoomId;
use ruma_common::push::{
    NewConditionalPushRule, NewPushRule, NewSimplePushRule, PushCondition, RuleKind, Ruleset,
};
use serde_json::Value;
use skerry_core::{RoomNid, UserNid};
use skerry_store::{Snapshot, Write};

use crate::push_rule::{self, PUSH_RULES};
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
        let before = self.ruleset(snap, user)?;
        if let Some(rules) = rules_with(&before, &from, &to) {
            let json = push_rule::content(&rules)?.to_string();
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

/// The rules with those about the old room repeated for the new one; none if there are none.
fn rules_with(before: &Ruleset, from: &str, to: &str) -> Option<Ruleset> {
    let mut rules = before.clone();
    let mut added = false;
    if let (Some(old), Ok(room)) = (before.room.get(from), RoomId::parse(to))
        && before.get(RuleKind::Room, to).is_none()
    {
        let rule = NewSimplePushRule::new(room.to_owned(), old.actions.clone());
        added |= rules.insert(NewPushRule::Room(rule), None, None).is_ok()
            && rules.set_enabled(RuleKind::Room, to, old.enabled).is_ok();
    }
    // Clients mute a room by an override rule that is named after it.
    if let Some(old) = before.override_.get(from)
        && before.get(RuleKind::Override, to).is_none()
    {
        let mut conditions = old.conditions.clone();
        for condition in &mut conditions {
            if let PushCondition::EventMatch(matched) = condition
                && matched.key == "room_id"
                && matched.pattern == from
            {
                to.clone_into(&mut matched.pattern);
            }
        }
        let rule = NewConditionalPushRule::new(to.to_owned(), conditions, old.actions.clone());
        added |= rules
            .insert(NewPushRule::Override(rule), None, None)
            .is_ok()
            && rules
                .set_enabled(RuleKind::Override, to, old.enabled)
                .is_ok();
    }
    added.then_some(rules)
}
