//! The power levels of the two rooms of an upgrade.

use skerry_core::RoomVersion;
use skerry_core::canonical::{Object, Value};

/// Level of the creator of a room whose version knows no privileged creators.
const CREATOR: i64 = 100;
/// Level that closing a room of version 12 takes at least.
const TOMBSTONE: i64 = 150;
/// Level that speaking in a room which was replaced takes at least.
const QUIET: i64 = 50;

/// What the levels of the new room depend on.
pub(super) struct Levels<'a> {
    pub(super) version: RoomVersion,
    pub(super) who: &'a str,
    /// The creators beside `who`, where the version has such.
    pub(super) creators: &'a [String],
    /// Whether anybody is to be banned in the new room.
    pub(super) bans: bool,
    /// The old room's creators had their power from no entry.
    pub(super) from_privileged: bool,
}

impl Levels<'_> {
    /// The levels that the new room is to have: the old room's, as the new version writes them.
    pub(super) fn carried(&self, mut content: Object) -> Object {
        if self.version.integer_power_levels() {
            content.retain(|_, value| match value {
                Value::Object(entries) => {
                    entries.retain(|_, value| make_integer(value));
                    true
                }
                _ => make_integer(value),
            });
        }
        let mut users = taken(&mut content, "users");
        if self.version.creators_are_privileged() {
            users.retain(|user_id, _| {
                user_id != self.who && !self.creators.iter().any(|creator| creator == user_id)
            });
            let least = level(&content, "state_default")
                .unwrap_or(50)
                .saturating_add(1);
            let mut events = taken(&mut content, "events");
            if level(&events, "m.room.tombstone").is_none_or(|level| level < least) {
                events.insert("m.room.tombstone", least.max(TOMBSTONE));
            }
            content.insert("events", events);
        } else if self.from_privileged {
            users.insert(self.who, CREATOR);
        }
        content.insert("users", users);
        content
    }

    /// The levels to begin with, so that whoever upgrades may send all that is carried over.
    pub(super) fn raised(&self, lasting: &Object) -> Object {
        let mut content = lasting.clone();
        if self.version.creators_are_privileged() {
            return content;
        }
        let mut needed = level(&content, "state_default").unwrap_or(50);
        if let Some(events) = content.object("events") {
            needed = events
                .iter()
                .filter_map(|(_, value)| number(value))
                .fold(needed, i64::max);
        }
        let users = content.object("users").cloned().unwrap_or_default();
        if self.bans {
            needed = needed.max(level(&content, "ban").unwrap_or(50));
        }
        let own = level(&users, self.who).or_else(|| level(&content, "users_default"));
        if own.unwrap_or(0) < needed {
            let mut users = users;
            users.insert(self.who, needed);
            content.insert("users", users);
        }
        content
    }
}

/// Levels for a room that was replaced, in which only those with some power still speak and
/// invite; none where that is so already.
pub(super) fn quieted(before: &Object) -> Option<Object> {
    let mut content = before.clone();
    let least = level(before, "users_default")
        .unwrap_or(0)
        .saturating_add(1)
        .max(QUIET);
    let mut changed = false;
    for name in ["events_default", "invite"] {
        if level(before, name).unwrap_or(0) < least {
            content.insert(name, least);
            changed = true;
        }
    }
    changed.then_some(content)
}

fn taken(content: &mut Object, name: &str) -> Object {
    match content.remove(name) {
        Some(Value::Object(entries)) => entries,
        _ => Object::new(),
    }
}

fn level(content: &Object, name: &str) -> Option<i64> {
    content.get(name).and_then(number)
}

/// A level as versions before 10 may write it.
fn number(value: &Value) -> Option<i64> {
    match value {
        Value::Int(level) => Some(*level),
        Value::Str(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// Writes a level as an integer; says whether it is one.
fn make_integer(value: &mut Value) -> bool {
    match number(value) {
        Some(level) => {
            *value = Value::Int(level);
            true
        }
        None => false,
    }
}
