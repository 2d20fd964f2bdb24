//! One user's push rules as a value: read, changed, written.

use std::sync::Arc;

use ruma_common::push::{
    Action, InsertPushRuleError, NewConditionalPushRule, NewPatternedPushRule, NewPushRule,
    NewSimplePushRule, PushCondition, RemovePushRuleError, RuleKind, Ruleset, SimplePushRule,
    SimplePushRuleInit,
};
use ruma_common::{RoomId, UserId};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::defaults::defaults;
use crate::AccountError;

/// How many rules a user can have, the server's included.
const MAX_RULES: usize = 2_000;
/// Longest rule id, in bytes.
const MAX_RULE_ID_BYTES: usize = 512;
/// The kinds of rules, by their names in the protocol.
const KINDS: [&str; 5] = ["override", "content", "room", "sender", "underride"];
/// The kind of the rules about threads (MSC4306), as it is listed; only the server makes rules of
/// it.
pub(super) const POST_CONTENT: &str = "postcontent";
/// The same kind, as some clients name it in paths.
pub(super) const POST_CONTENT_PREFIXED: &str = "io.element.msc4306.postcontent";

/// There is no such rule.
pub(super) const NO_RULE: AccountError = AccountError::NotFound("No such push rule");

/// A rule about rooms, by an id that may be anything.
type RoomRule = SimplePushRule<String>;

/// A user's push rules.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    /// What is evaluated; its rules for rooms are those of `rooms` that name a room.
    set: Arc<Ruleset>,
    /// Clients may name a rule of the kind `room` as they like; such a rule is kept, and never
    /// matches.
    rooms: Vec<RoomRule>,
}

/// Where a rule is to be put among the user's own of its kind.
#[derive(Clone, Debug, Default)]
pub(crate) struct Place {
    /// Right before this one.
    pub(crate) before: Option<String>,
    /// Right after this one.
    pub(crate) after: Option<String>,
}

impl Place {
    fn is_given(&self) -> bool {
        self.before.is_some() || self.after.is_some()
    }
}

impl Rules {
    /// The rules of a user who never changed any.
    pub(crate) fn defaults(user_id: &UserId) -> Rules {
        let set = Arc::new(defaults(user_id));
        Rules {
            set,
            rooms: Vec::new(),
        }
    }

    /// Reads what [`content`](Rules::content) wrote, perhaps under another version's defaults.
    pub(crate) fn parse(stored: &str, user_id: &UserId) -> Rules {
        #[derive(Deserialize)]
        struct Content {
            global: Value,
        }
        let read = || -> Option<Rules> {
            let mut content: Content = serde_json::from_str(stored).ok()?;
            let rooms = content.global.as_object_mut()?.remove("room");
            let mut set: Ruleset = serde_json::from_value(content.global).ok()?;
            set.update_with_server_default(defaults(user_id));
            let rooms = match rooms {
                Some(rooms) => serde_json::from_value(rooms).ok()?,
                None => Vec::new(),
            };
            let set = Arc::new(set);
            let mut rules = Rules { set, rooms };
            rules.follow_rooms();
            Some(rules)
        };
        // Only this module writes them, so they can be read; the defaults do no harm.
        read().unwrap_or_else(|| Rules::defaults(user_id))
    }

    /// The content of `m.push_rules`, with all kinds present.
    ///
    /// # Errors
    /// None that is met: rules are plain values.
    pub(crate) fn content(&self) -> Result<Value, AccountError> {
        let shape = |_| AccountError::BadJson("The push rules cannot be written as JSON");
        let mut global = serde_json::to_value(&*self.set).map_err(shape)?;
        let rooms = serde_json::to_value(&self.rooms).map_err(shape)?;
        if let Some(map) = global.as_object_mut() {
            map.insert("room".to_owned(), rooms);
            for kind in KINDS {
                map.entry(kind).or_insert_with(|| json!([]));
            }
        }
        Ok(json!({ "global": global }))
    }

    /// What is evaluated.
    pub(crate) fn set(&self) -> &Arc<Ruleset> {
        &self.set
    }

    /// Makes or replaces a rule of the user's own. A new one comes first unless placed; a
    /// replaced one stays where it is unless placed, and stays switched on or off.
    pub(crate) fn insert(
        &mut self,
        kind: RuleKind,
        id: &str,
        body: Value,
        place: &Place,
    ) -> Result<(), AccountError> {
        check_ids(id, place)?;
        check_actions(body.get("actions"))?;
        if kind == RuleKind::Room {
            let Simple { actions } = shaped(body)?;
            self.insert_room(id, actions, place)?;
        } else {
            let rule = new_rule(&kind, id, body)?;
            let set = Arc::make_mut(&mut self.set);
            let enabled = set.get(kind.clone(), id).map(|rule| rule.enabled());
            if enabled.is_some() && place.is_given() {
                // Taken out first, so that places are counted without it.
                set.remove(kind.clone(), id).map_err(|_| NO_RULE)?;
            }
            set.insert(rule, place.after.as_deref(), place.before.as_deref())
                .map_err(refused)?;
            if let Some(enabled) = enabled {
                set.set_enabled(kind, id, enabled).map_err(|_| NO_RULE)?;
            }
        }
        if self.set.iter().count() + self.rooms.len() > MAX_RULES {
            return Err(AccountError::TooLarge("Too many push rules"));
        }
        Ok(())
    }

    fn insert_room(
        &mut self,
        id: &str,
        actions: Vec<Action>,
        place: &Place,
    ) -> Result<(), AccountError> {
        let old = self.rooms.iter().position(|rule| rule.rule_id == id);
        let rule = RoomRule::from(SimplePushRuleInit {
            actions,
            default: false,
            enabled: old
                .and_then(|at| self.rooms.get(at))
                .is_none_or(|old| old.enabled),
            rule_id: id.to_owned(),
        });
        if let Some(at) = old {
            self.rooms.remove(at);
        }
        let find = |id: &String| self.rooms.iter().position(|rule| rule.rule_id == *id);
        let unknown = || refused(InsertPushRuleError::UnknownRuleId);
        let mut at = if place.is_given() {
            0
        } else {
            old.unwrap_or(0)
        };
        if let Some(after) = &place.after {
            at = find(after).ok_or_else(unknown)? + 1;
        }
        if let Some(before) = &place.before {
            let before = find(before).ok_or_else(unknown)?;
            if before < at {
                return Err(refused(InsertPushRuleError::BeforeHigherThanAfter));
            }
            at = before;
        }
        self.rooms.insert(at, rule);
        self.follow_rooms();
        Ok(())
    }

    /// Takes out a rule of the user's own.
    pub(crate) fn remove(&mut self, kind: RuleKind, id: &str) -> Result<(), AccountError> {
        if kind == RuleKind::Room {
            let at = self.rooms.iter().position(|rule| rule.rule_id == id);
            self.rooms.remove(at.ok_or(NO_RULE)?);
            self.follow_rooms();
            return Ok(());
        }
        match Arc::make_mut(&mut self.set).remove(kind, id) {
            Ok(()) => Ok(()),
            Err(RemovePushRuleError::ServerDefault) => Err(AccountError::Invalid(
                "The server's rules cannot be deleted",
            )),
            Err(_) => Err(NO_RULE),
        }
    }

    /// Switches a rule on or off.
    pub(crate) fn enable(
        &mut self,
        kind: RuleKind,
        id: &str,
        enabled: bool,
    ) -> Result<(), AccountError> {
        if kind == RuleKind::Room {
            return self.edit_room(id, |rule| rule.enabled = enabled);
        }
        let set = Arc::make_mut(&mut self.set);
        set.set_enabled(kind, id, enabled).map_err(|_| NO_RULE)
    }

    /// Gives a rule other actions.
    pub(crate) fn set_actions(
        &mut self,
        kind: RuleKind,
        id: &str,
        actions: Vec<Action>,
    ) -> Result<(), AccountError> {
        if kind == RuleKind::Room {
            return self.edit_room(id, |rule| rule.actions = actions);
        }
        let set = Arc::make_mut(&mut self.set);
        set.set_actions(kind, id, actions).map_err(|_| NO_RULE)
    }

    fn edit_room(
        &mut self,
        id: &str,
        edit: impl FnOnce(&mut RoomRule),
    ) -> Result<(), AccountError> {
        let rule = self.rooms.iter_mut().find(|rule| rule.rule_id == id);
        edit(rule.ok_or(NO_RULE)?);
        self.follow_rooms();
        Ok(())
    }

    /// Brings what is evaluated in line with `rooms`.
    fn follow_rooms(&mut self) {
        let named = self.rooms.iter().filter_map(|rule| {
            let room = RoomId::parse(&rule.rule_id).ok()?.to_owned();
            Some(SimplePushRule::from(SimplePushRuleInit {
                actions: rule.actions.clone(),
                default: rule.default,
                enabled: rule.enabled,
                rule_id: room,
            }))
        });
        Arc::make_mut(&mut self.set).room = named.collect();
    }

    /// The rules with those about one room repeated for another that has none yet; none if there
    /// are none to repeat.
    pub(crate) fn repeated(&self, from: &str, to: &str) -> Option<Rules> {
        let mut rules = self.clone();
        let mut added = false;
        let of = |id: &str| self.rooms.iter().find(|rule| rule.rule_id == id);
        if let (Some(old), None) = (of(from), of(to)) {
            let placed = rules.insert_room(to, old.actions.clone(), &Place::default());
            added |= placed.is_ok() && rules.enable(RuleKind::Room, to, old.enabled).is_ok();
        }
        // Clients mute a room by an override rule that is named after it.
        if let Some(old) = self.set.override_.get(from)
            && self.set.override_.get(to).is_none()
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
            let set = Arc::make_mut(&mut rules.set);
            added |= set.insert(NewPushRule::Override(rule), None, None).is_ok()
                && set.set_enabled(RuleKind::Override, to, old.enabled).is_ok();
        }
        added.then_some(rules)
    }
}

/// The kind of that name.
pub(super) fn kind(name: &str) -> Result<RuleKind, AccountError> {
    if [POST_CONTENT, POST_CONTENT_PREFIXED].contains(&name) {
        Ok(RuleKind::PostContent)
    } else if KINDS.contains(&name) {
        Ok(RuleKind::from(name))
    } else {
        Err(AccountError::Invalid("Unknown kind of push rule"))
    }
}

/// Refuses actions that nobody would act on (spec, module push, actions).
pub(super) fn check_actions(actions: Option<&Value>) -> Result<(), AccountError> {
    // The last two did something once; they are still written and do nothing.
    const KNOWN: [&str; 3] = ["notify", "dont_notify", "coalesce"];
    let known = |action: &Value| match action {
        Value::String(action) => KNOWN.contains(&action.as_str()),
        action => action.get("set_tweak").is_some_and(Value::is_string),
    };
    let mut actions = actions.and_then(Value::as_array).into_iter().flatten();
    if actions.all(known) {
        Ok(())
    } else {
        Err(AccountError::Invalid("Unrecognised action"))
    }
}

/// What holds for the ids of rules of any kind.
fn check_ids(id: &str, place: &Place) -> Result<(), AccountError> {
    if id.is_empty() || id.len() > MAX_RULE_ID_BYTES {
        return Err(AccountError::Invalid(
            "The rule id must be 1 to 512 bytes long",
        ));
    }
    if id.starts_with('.') {
        return Err(refused(InsertPushRuleError::ServerDefaultRuleId));
    }
    if id.contains(['/', '\\']) {
        return Err(refused(InsertPushRuleError::InvalidRuleId));
    }
    for other in [&place.before, &place.after].into_iter().flatten() {
        if other.starts_with('.') {
            return Err(refused(InsertPushRuleError::RelativeToServerDefaultRule));
        }
        if other == id {
            return Err(AccountError::Invalid(
                "A rule cannot be placed relative to itself",
            ));
        }
    }
    Ok(())
}

#[derive(Deserialize)]
struct Simple {
    actions: Vec<Action>,
}

#[derive(Deserialize)]
struct Patterned {
    actions: Vec<Action>,
    pattern: String,
}

#[derive(Deserialize)]
struct Conditional {
    actions: Vec<Action>,
    #[serde(default)]
    conditions: Vec<PushCondition>,
}

impl Conditional {
    fn named(self, id: &str) -> NewConditionalPushRule {
        NewConditionalPushRule::new(id.to_owned(), self.conditions, self.actions)
    }
}

/// Reads the body of a new rule, whose shape depends on its kind.
fn new_rule(kind: &RuleKind, id: &str, body: Value) -> Result<NewPushRule, AccountError> {
    Ok(match kind {
        RuleKind::Override => NewPushRule::Override(shaped::<Conditional>(body)?.named(id)),
        RuleKind::Underride => NewPushRule::Underride(shaped::<Conditional>(body)?.named(id)),
        RuleKind::Content => {
            let Patterned { actions, pattern } = shaped(body)?;
            NewPushRule::Content(NewPatternedPushRule::new(id.to_owned(), pattern, actions))
        }
        RuleKind::Sender => {
            let Simple { actions } = shaped(body)?;
            let sender = UserId::parse(id);
            let sender =
                sender.map_err(|_| AccountError::Invalid("The rule id must be a user id"))?;
            NewPushRule::Sender(NewSimplePushRule::new(sender.to_owned(), actions))
        }
        _ => return Err(AccountError::Invalid("Unknown kind of push rule")),
    })
}

/// Reads a part of a request.
pub(super) fn shaped<T: DeserializeOwned>(body: Value) -> Result<T, AccountError> {
    serde_json::from_value(body)
        .map_err(|_| AccountError::BadJson("The push rule does not have the right shape"))
}

fn refused(error: InsertPushRuleError) -> AccountError {
    match error {
        InsertPushRuleError::UnknownRuleId => {
            AccountError::NotFound("The rule named by before or after does not exist")
        }
        InsertPushRuleError::ServerDefaultRuleId => {
            AccountError::Invalid("Rule ids that begin with a dot are the server's")
        }
        InsertPushRuleError::RelativeToServerDefaultRule => {
            AccountError::Invalid("A rule cannot be placed relative to one of the server's")
        }
        InsertPushRuleError::BeforeHigherThanAfter => {
            AccountError::Invalid("The rule of before has a higher priority than that of after")
        }
        _ => AccountError::Invalid("Invalid rule id"),
    }
}
