//! Push rules: whether an event notifies a user, evaluated once per event for all members.
//!
//! The event is flattened once ([`EventFacts`]); each user's rules are then looked up in it without
//! parsing or copying. Rules and their defaults are ruma's, whose own evaluation flattens the event
//! again for each user. Spec: client-server API, "Push Rules".

pub(crate) mod glob;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use ruma_common::push::{
    Action, AnyPushRuleRef, ComparisonOperator, PushCondition, Ruleset, ScalarJsonValue,
};

use crate::canonical::{Object, Value};
use crate::event::StoredEvent;
use crate::power::PowerLevels;

pub use glob::matches as glob_matches;

/// A longer pattern matches nothing: matching takes time in proportion to its length.
const MAX_PATTERN_BYTES: usize = 1024;

/// How much comparing of patterns with texts one event may cost one user, in characters compared
/// at worst. Rules are the user's own, as many and as long as they like; what they cost is time
/// that others wait for. Beyond it, patterns match nothing.
const MAX_WORK: usize = 16_000_000;

/// The server-default rules that ask nothing about the user. Users can switch them off and change
/// their actions but not their conditions, so whether they match is found once per event.
const SAME_FOR_ALL: [&str; 13] = [
    ".m.rule.suppress_notices",
    ".m.rule.member_event",
    ".m.rule.is_room_mention",
    ".m.rule.roomnotif",
    ".m.rule.tombstone",
    ".m.rule.reaction",
    ".m.rule.room.server_acl",
    ".m.rule.suppress_edits",
    ".m.rule.call",
    ".m.rule.encrypted_room_one_to_one",
    ".m.rule.room_one_to_one",
    ".m.rule.message",
    ".m.rule.encrypted",
];

/// What the rules may ask about an event.
#[derive(Clone, Debug)]
pub struct EventFacts {
    sender: String,
    member_count: u64,
    power: Arc<PowerLevels>,
    /// Values by their dot-separated path.
    flat: HashMap<String, Flat>,
    has_mentions: bool,
    /// Which of [`SAME_FOR_ALL`] match, as far as anyone's rules have asked.
    matched: [OnceLock<bool>; SAME_FOR_ALL.len()],
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Flat {
    /// The string, and in lower case for matching.
    Str(String, String),
    Scalar(Scalar),
    Array(Vec<Scalar>),
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Scalar {
    Null,
    Bool(bool),
    Int(i64),
    Str(String),
}

impl Scalar {
    fn of(value: &Value) -> Option<Self> {
        match value {
            Value::Null => Some(Scalar::Null),
            Value::Bool(b) => Some(Scalar::Bool(*b)),
            Value::Int(n) => Some(Scalar::Int(*n)),
            Value::Str(s) => Some(Scalar::Str(s.clone())),
            Value::Number(_) | Value::Array(_) | Value::Object(_) => None,
        }
    }

    fn is(&self, value: &ScalarJsonValue) -> bool {
        match (self, value) {
            (Scalar::Null, ScalarJsonValue::Null) => true,
            (Scalar::Bool(a), ScalarJsonValue::Bool(b)) => a == b,
            (Scalar::Int(a), ScalarJsonValue::Integer(b)) => *a == i64::from(*b),
            (Scalar::Str(a), ScalarJsonValue::String(b)) => a == b,
            _ => false,
        }
    }
}

/// What the rules say for one user.
#[derive(Clone, Copy, Debug, Default)]
pub struct Verdict<'a> {
    /// Whether it is a notification, counted and pushed.
    pub notify: bool,
    /// Whether it also counts as a highlight.
    pub highlight: bool,
    /// The actions of the rule that matched.
    pub actions: &'a [Action],
}

impl EventFacts {
    /// Flattens an event. `member_count` is how many users are joined, `power` what the room's
    /// levels are at the event.
    #[must_use]
    pub fn new(event: &StoredEvent, member_count: u64, power: Arc<PowerLevels>) -> Self {
        let mut facts = EventFacts {
            sender: event.sender().to_owned(),
            member_count,
            power,
            flat: HashMap::new(),
            has_mentions: false,
            matched: Default::default(),
        };
        // Fields that only other servers ask about are left out.
        let top = [
            ("event_id", Some(event.event_id())),
            ("redacts", event.redacts()),
            ("room_id", Some(event.room_id())),
            ("sender", Some(event.sender())),
            ("state_key", event.state_key()),
            ("type", Some(event.event_type())),
        ];
        for (name, value) in top {
            if let Some(value) = value {
                facts.flat.insert(name.to_owned(), string(value));
            }
        }
        if let Ok(content) = event.content_object() {
            facts.has_mentions = content.get("m.mentions").is_some();
            facts.flatten("content", &content);
        }
        facts
    }

    fn flatten(&mut self, path: &str, object: &Object) {
        for (name, value) in object.iter() {
            let mut path = format!("{path}.");
            for c in name.chars() {
                if c == '.' || c == '\\' {
                    path.push('\\');
                }
                path.push(c);
            }
            let flat = match value {
                Value::Object(fields) => {
                    self.flatten(&path, fields);
                    continue;
                }
                Value::Array(items) => Flat::Array(items.iter().filter_map(Scalar::of).collect()),
                Value::Str(s) => string(s),
                Value::Null | Value::Bool(_) | Value::Int(_) | Value::Number(_) => {
                    match Scalar::of(value) {
                        Some(scalar) => Flat::Scalar(scalar),
                        None => continue,
                    }
                }
            };
            self.flat.insert(path, flat);
        }
    }

    fn matches_glob(&self, key: &str, pattern: &str, asker: &Asker<'_>) -> bool {
        let Some(Flat::Str(_, lower)) = self.flat.get(key) else {
            return false;
        };
        if pattern.len() > MAX_PATTERN_BYTES || !asker.affords(pattern, lower) {
            return false;
        }
        let folded;
        let pattern = if pattern
            .chars()
            .any(|c| c.is_ascii_uppercase() || !c.is_ascii())
        {
            folded = pattern.to_lowercase();
            folded.as_str()
        } else {
            pattern
        };
        if key == "content.body" {
            glob::matches_words(pattern, lower)
        } else {
            glob::matches(pattern, lower)
        }
    }

    fn property_is(&self, key: &str, value: &ScalarJsonValue) -> bool {
        match self.flat.get(key) {
            Some(Flat::Str(s, _)) => matches!(value, ScalarJsonValue::String(v) if v == s),
            Some(Flat::Scalar(scalar)) => scalar.is(value),
            Some(Flat::Array(_)) | None => false,
        }
    }

    fn property_contains(&self, key: &str, value: &ScalarJsonValue) -> bool {
        match self.flat.get(key) {
            Some(Flat::Array(items)) => items.iter().any(|item| item.is(value)),
            _ => false,
        }
    }

    #[allow(deprecated)] // Users may still have rules with the old condition.
    fn holds(&self, condition: &PushCondition, asker: &Asker<'_>) -> bool {
        match condition {
            PushCondition::EventMatch(c) => self.matches_glob(&c.key, &c.pattern, asker),
            PushCondition::EventPropertyIs(c) => self.property_is(&c.key, &c.value),
            PushCondition::EventPropertyContains(c) => self.property_contains(&c.key, &c.value),
            PushCondition::RoomMemberCount(c) => {
                let count = u64::from(c.is.count);
                match c.is.prefix {
                    ComparisonOperator::Eq => self.member_count == count,
                    ComparisonOperator::Lt => self.member_count < count,
                    ComparisonOperator::Gt => self.member_count > count,
                    ComparisonOperator::Ge => self.member_count >= count,
                    ComparisonOperator::Le => self.member_count <= count,
                }
            }
            PushCondition::SenderNotificationPermission(c) => {
                self.power.user(&self.sender) >= self.power.notification(c.key.as_str())
            }
            PushCondition::ContainsDisplayName => {
                let name = asker.display_name.filter(|name| !name.is_empty());
                match (self.flat.get("content.body"), name) {
                    (Some(Flat::Str(_, body)), Some(name)) => {
                        asker.affords(name, body) && glob::contains_word(&name.to_lowercase(), body)
                    }
                    _ => false,
                }
            }
            PushCondition::ThreadSubscription(c) => asker.follows == Some(c.subscribed),
            _ => false,
        }
    }

    fn applies(&self, rule: AnyPushRuleRef<'_>, asker: &Asker<'_>) -> bool {
        if !rule.enabled() {
            return false;
        }
        // These looked for mentions in the text, and rest where the event says whom it mentions.
        let by_text = [
            ".m.rule.contains_display_name",
            ".m.rule.contains_user_name",
            ".m.rule.roomnotif",
        ];
        if self.has_mentions && by_text.contains(&rule.rule_id()) {
            return false;
        }
        match rule {
            AnyPushRuleRef::Override(rule)
            | AnyPushRuleRef::PostContent(rule)
            | AnyPushRuleRef::Underride(rule) => {
                let holds =
                    |asker: &Asker<'_>| rule.conditions.iter().all(|c| self.holds(c, asker));
                let place = || SAME_FOR_ALL.iter().position(|id| *id == rule.rule_id);
                let same = rule.default.then(place).flatten();
                match same.and_then(|i| self.matched.get(i)) {
                    // Answered for everybody, so not from what one user has left.
                    Some(known) => *known.get_or_init(|| holds(&Asker::new(None))),
                    None => holds(asker),
                }
            }
            AnyPushRuleRef::Content(rule) => {
                self.matches_glob("content.body", &rule.pattern, asker)
            }
            AnyPushRuleRef::Room(rule) => self.top_is("room_id", rule.rule_id.as_str()),
            AnyPushRuleRef::Sender(rule) => self.sender == rule.rule_id.as_str(),
            #[allow(unreachable_patterns)] // Kinds behind features that are off.
            _ => false,
        }
    }

    fn top_is(&self, key: &str, value: &str) -> bool {
        matches!(self.flat.get(key), Some(Flat::Str(s, _)) if s == value)
    }
}

/// The user for whom an event is evaluated, and how much work is left for them.
struct Asker<'a> {
    display_name: Option<&'a str>,
    /// Whether they are subscribed to the event's thread; `None` if there is nothing to say.
    follows: Option<bool>,
    work_left: Cell<usize>,
}

impl<'a> Asker<'a> {
    fn new(display_name: Option<&'a str>) -> Asker<'a> {
        Asker {
            display_name,
            follows: None,
            work_left: Cell::new(MAX_WORK),
        }
    }

    /// Takes what comparing this pattern with this text may cost, if so much is left.
    fn affords(&self, pattern: &str, text: &str) -> bool {
        let cost = if pattern.contains(['*', '?']) {
            text.len() * pattern.len()
        } else {
            // Found by comparing many bytes at once.
            text.len() / 8 * (1 + pattern.len() / 64)
        };
        let left = self.work_left.get().checked_sub(cost);
        left.map(|left| self.work_left.set(left)).is_some()
    }
}

fn string(s: &str) -> Flat {
    Flat::Str(s.to_owned(), s.to_lowercase())
}

/// What a user's rules say about the event: the first enabled rule that matches counts. One's own
/// events never notify. `follows` says whether the user is subscribed to the thread that the
/// event is in (MSC4306); with `None` no rule about subscriptions matches.
#[must_use]
pub fn evaluate<'r>(
    rules: &'r Ruleset,
    facts: &EventFacts,
    display_name: Option<&str>,
    user_id: &str,
    follows: Option<bool>,
) -> Verdict<'r> {
    if facts.sender == user_id {
        return Verdict::default();
    }
    let asker = Asker {
        follows,
        ..Asker::new(display_name)
    };
    let rule = rules.iter().find(|rule| facts.applies(*rule, &asker));
    let actions = rule.map(AnyPushRuleRef::actions).unwrap_or_default();
    let notify = actions.iter().any(Action::should_notify);
    Verdict {
        notify,
        highlight: notify && actions.iter().any(Action::is_highlight),
        actions,
    }
}
