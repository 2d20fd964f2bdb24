//! Power levels: who may do what in a room.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;

use serde_json::value::RawValue;

use crate::canonical::{MAX_INT, Object, Value};
use crate::event::StoredEvent;
use crate::room_version::RoomVersion;

/// A power level. Creators of version 12 rooms stand above every number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Level {
    /// A number.
    Finite(i64),
    /// A privileged creator.
    Infinite,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Level::Finite(n) => n.fmt(f),
            Level::Infinite => f.write_str("infinite"),
        }
    }
}

/// What a create event says that rules ask for again and again. Parse it once per room.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CreateFacts {
    /// The room's version.
    pub version: RoomVersion,
    /// Who made the room: the first is the creator, the rest are additional creators (version 12).
    pub creators: Vec<String>,
    /// Whether other servers may take part.
    pub federate: bool,
    /// Type of room, such as `m.space`.
    pub room_type: Option<String>,
    /// The sender's server.
    pub server: String,
}

impl CreateFacts {
    /// Reads a create event. `None` where the event is not one or its fields have wrong types.
    #[must_use]
    pub fn of(event: &StoredEvent) -> Option<Self> {
        if !event.is_create() {
            return None;
        }
        let content = event.content_object().ok()?;
        let version = event.version();
        let creator = if version.creator_in_content() {
            content.str("creator")?
        } else {
            event.sender()
        };
        let mut creators = vec![creator.to_owned()];
        if version.creators_are_privileged()
            && let Some(more) = content.get("additional_creators")
        {
            for creator in more.as_array()? {
                creators.push(creator.as_str()?.to_owned());
            }
        }
        let federate = match content.get("m.federate") {
            None => true,
            Some(value) => value.as_bool()?,
        };
        Some(CreateFacts {
            version,
            creators,
            federate,
            room_type: content.str("type").map(str::to_owned),
            server: crate::names::server_of(event.sender())?.to_owned(),
        })
    }

    /// What holds of a room of which nothing is known but its version: nobody made it.
    #[must_use]
    pub fn unknown(version: RoomVersion) -> Self {
        CreateFacts {
            version,
            creators: Vec::new(),
            federate: true,
            room_type: None,
            server: String::new(),
        }
    }

    /// Whether the user made the room, alone or with others.
    #[must_use]
    pub fn is_creator(&self, user: &str) -> bool {
        self.creators.iter().any(|creator| creator == user)
    }
}

/// An action with a level of its own in `m.room.power_levels`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Ban and unban.
    Ban,
    /// Remove others.
    Kick,
    /// Redact others' events.
    Redact,
    /// Invite.
    Invite,
}

/// The power levels of a room, parsed once: cache it by the ids of the two events it comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PowerLevels {
    users: HashMap<String, i64>,
    events: HashMap<String, i64>,
    notifications: HashMap<String, i64>,
    users_default: i64,
    events_default: i64,
    state_default: i64,
    ban: i64,
    kick: i64,
    redact: i64,
    invite: i64,
    /// Creators with infinite power (version 12).
    privileged: Vec<String>,
}

/// Content of `m.room.power_levels` that the room version does not allow; names the field.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("power levels have a malformed `{0}`")]
pub struct MalformedLevels(pub &'static str);

impl PowerLevels {
    /// From the room's create event and its `m.room.power_levels` content, if there is such an
    /// event.
    ///
    /// # Errors
    /// A field is not of the type that the room version asks for.
    pub fn new(create: &CreateFacts, content: Option<&Object>) -> Result<Self, MalformedLevels> {
        let privileged = if create.version.creators_are_privileged() {
            create.creators.clone()
        } else {
            Vec::new()
        };
        let empty = Object::new();
        let fields = content.unwrap_or(&empty);
        let number = |name: &'static str, default: i64| match fields.get(name) {
            None => Ok(default),
            Some(value) => level(value, create.version).ok_or(MalformedLevels(name)),
        };
        let map = |name: &'static str| match fields.get(name) {
            None => Ok(HashMap::new()),
            Some(Value::Object(entries)) => entries
                .iter()
                .map(|(key, value)| Some((key.to_owned(), level(value, create.version)?)))
                .collect::<Option<_>>()
                .ok_or(MalformedLevels(name)),
            Some(_) => Err(MalformedLevels(name)),
        };
        let mut users = map("users")?;
        if users.keys().any(|user| !crate::names::is_user_id(user)) {
            return Err(MalformedLevels("users"));
        }
        if content.is_none() && privileged.is_empty() {
            users.extend(
                create
                    .creators
                    .first()
                    .map(|creator| (creator.clone(), 100)),
            );
        }
        Ok(PowerLevels {
            users,
            events: map("events")?,
            notifications: map("notifications")?,
            users_default: number("users_default", 0)?,
            events_default: number("events_default", 0)?,
            state_default: number("state_default", 50)?,
            ban: number("ban", 50)?,
            kick: number("kick", 50)?,
            redact: number("redact", 50)?,
            invite: number("invite", 0)?,
            privileged,
        })
    }

    /// As [`Self::new`], from the events.
    ///
    /// # Errors
    /// As [`Self::new`]; also where the stored event is damaged.
    pub fn of(create: &CreateFacts, event: Option<&StoredEvent>) -> Result<Self, MalformedLevels> {
        let content = event.map(StoredEvent::content_object).transpose();
        Self::new(
            create,
            content.map_err(|_| MalformedLevels("content"))?.as_ref(),
        )
    }

    /// The user's level.
    #[must_use]
    pub fn user(&self, user: &str) -> Level {
        if self.privileged.iter().any(|creator| creator == user) {
            return Level::Infinite;
        }
        Level::Finite(self.users.get(user).copied().unwrap_or(self.users_default))
    }

    /// The level that sending an event of this type takes.
    #[must_use]
    pub fn event(&self, event_type: &str, is_state: bool) -> Level {
        let default = if is_state {
            self.state_default
        } else {
            self.events_default
        };
        Level::Finite(self.events.get(event_type).copied().unwrap_or(default))
    }

    /// The level that an action takes.
    #[must_use]
    pub fn action(&self, action: Action) -> Level {
        Level::Finite(match action {
            Action::Ban => self.ban,
            Action::Kick => self.kick,
            Action::Redact => self.redact,
            Action::Invite => self.invite,
        })
    }

    /// The level that a kind of notification (`room`) takes: 50 where nothing is said.
    #[must_use]
    pub fn notification(&self, key: &str) -> Level {
        Level::Finite(self.notifications.get(key).copied().unwrap_or(50))
    }

    /// Whether the user may send an event of this type.
    #[must_use]
    pub fn may_send(&self, user: &str, event_type: &str, is_state: bool) -> bool {
        self.user(user) >= self.event(event_type, is_state)
    }

    /// Whether the user has the level for the action as such (kicks and bans also ask for a higher
    /// level than the target's).
    #[must_use]
    pub fn may(&self, user: &str, action: Action) -> bool {
        self.user(user) >= self.action(action)
    }

    /// Users with a level of their own, creators of version 12 included.
    pub fn users(&self) -> impl Iterator<Item = (&str, Level)> {
        let named = self
            .users
            .iter()
            .map(|(user, &n)| (user.as_str(), Level::Finite(n)));
        let privileged = self
            .privileged
            .iter()
            .map(|user| (user.as_str(), Level::Infinite));
        privileged.chain(named)
    }

    /// The level of users without one of their own.
    #[must_use]
    pub const fn users_default(&self) -> i64 {
        self.users_default
    }
}

/// A level as the room version reads it: before version 10 a string may hold the integer, before
/// version 6 a float is cut off (rooms/v1, "m.room.power_levels events accept values as strings").
fn level(value: &Value, version: RoomVersion) -> Option<i64> {
    match value {
        Value::Int(n) => Some((*n).clamp(-MAX_INT, MAX_INT)),
        // Casting cuts the fraction off and stops at the limits.
        Value::Number(text) => text
            .parse::<f64>()
            .ok()
            .map(|f| (f as i64).clamp(-MAX_INT, MAX_INT)),
        Value::Str(text) if !version.integer_power_levels() => {
            let digits = text.trim();
            let unsigned = digits.strip_prefix(['+', '-']).unwrap_or(digits);
            let plain = !unsigned.is_empty() && unsigned.bytes().all(|b| b.is_ascii_digit());
            let n: i64 = plain.then(|| digits.parse().ok()).flatten()?;
            (-MAX_INT..=MAX_INT).contains(&n).then_some(n)
        }
        _ => None,
    }
}

/// For rooms of versions 1 to 5: power levels with floats and huge integers made plain integers, as
/// the servers of that time read them, so that ruma's rules can read them too. `None` where nothing
/// needs to change.
pub(crate) fn tame_power_levels(event: &StoredEvent) -> Option<Box<RawValue>> {
    if event.version() >= RoomVersion::V6 {
        return None;
    }
    let mut content = event.content_object().ok()?;
    let version = event.version();
    let mut changed = false;
    let mut tame = |value: &mut Value| {
        let tamed = match value {
            Value::Int(_) | Value::Number(_) => level(value, version).map(Value::Int),
            _ => None,
        };
        if let Some(tamed) = tamed.filter(|tamed| tamed != value) {
            *value = tamed;
            changed = true;
        }
    };
    content.retain(|_, value| {
        match value {
            Value::Object(entries) => entries.retain(|_, value| {
                tame(value);
                true
            }),
            _ => tame(value),
        }
        true
    });
    changed
        .then(|| RawValue::from_string(content.to_string()).ok())
        .flatten()
}
