//! An event as it is stored: a small header and its canonical JSON in federation form.
//!
//! The header names where in the JSON each field stands, so nothing is parsed to read an event,
//! to send it to another server (a copy) or to show it to a client (a few copied spans).

mod codec;
mod format;
mod render;
mod ruled;
#[cfg(test)]
mod tests;

use std::fmt;

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::Membership;
use crate::canonical::{CanonicalError, Object, Value};
use crate::room_version::RoomVersion;

pub use codec::DecodeError;
pub use format::{
    FormatError, MAX_AUTH_EVENTS, MAX_EVENT_BYTES, MAX_PREV_EVENTS, MAX_STICKY_MS, STICKY,
};
pub use render::ClientOptions;
pub use ruled::RuledEvent;

/// A piece of an event's text: (start, length) in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Span {
    start: u32,
    len: u32,
}

/// An event of a known room version, shape-checked, without `unsigned`.
///
/// Whether it was rejected or soft-failed is not part of the event; the store keeps that beside it.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredEvent {
    version: RoomVersion,
    origin_server_ts: u64,
    depth: u64,
    /// Strings that do not stand in the JSON as they are, then the JSON.
    text: Box<str>,
    json: Span,
    event_id: Span,
    room_id: Span,
    sender: Span,
    kind: Span,
    content: Span,
    auth_events: Span,
    prev_events: Span,
    state_key: Option<Span>,
    redacts: Option<Span>,
    sticky_ms: Option<u32>,
}

impl StoredEvent {
    fn at(&self, span: Span) -> &str {
        let start = span.start as usize;
        // Spans are checked when the event is made; an empty text would be the answer otherwise.
        self.text
            .get(start..start + span.len as usize)
            .unwrap_or_default()
    }

    /// The event's id.
    #[must_use]
    pub fn event_id(&self) -> &str {
        self.at(self.event_id)
    }

    /// The id of its room, also for create events of version 12, which do not contain it.
    #[must_use]
    pub fn room_id(&self) -> &str {
        self.at(self.room_id)
    }

    /// Whether `room_id` stands in the event itself.
    #[must_use]
    pub fn has_room_id_field(&self) -> bool {
        !(self.version.room_id_is_create_event_id() && self.is_create())
    }

    /// The user who sent it.
    #[must_use]
    pub fn sender(&self) -> &str {
        self.at(self.sender)
    }

    /// The event type.
    #[must_use]
    pub fn event_type(&self) -> &str {
        self.at(self.kind)
    }

    /// The state key; `None` for an event that is not state.
    #[must_use]
    pub fn state_key(&self) -> Option<&str> {
        self.state_key.map(|span| self.at(span))
    }

    /// Whether it is a state event.
    #[must_use]
    pub fn is_state(&self) -> bool {
        self.state_key.is_some()
    }

    /// Whether it is state of this type with this key.
    #[must_use]
    pub fn is(&self, event_type: &str, state_key: &str) -> bool {
        self.event_type() == event_type && self.state_key() == Some(state_key)
    }

    /// Whether it is the `m.room.create` event.
    #[must_use]
    pub fn is_create(&self) -> bool {
        self.is("m.room.create", "")
    }

    /// Of an `m.room.redaction` event: which event it redacts, wherever the room version keeps it.
    #[must_use]
    pub fn redacts(&self) -> Option<&str> {
        self.redacts.map(|span| self.at(span))
    }

    /// For how many ms the event is sticky, at most an hour (MSC4354, `msc4354_sticky`); `None`
    /// for one that is not, as every redacted one.
    #[must_use]
    pub const fn sticky_ms(&self) -> Option<u32> {
        self.sticky_ms
    }

    /// Milliseconds since the Unix epoch, as the sender's server says.
    #[must_use]
    pub const fn origin_server_ts(&self) -> u64 {
        self.origin_server_ts
    }

    /// Distance from the create event, as the sender's server says.
    #[must_use]
    pub const fn depth(&self) -> u64 {
        self.depth
    }

    /// The room's version.
    #[must_use]
    pub const fn version(&self) -> RoomVersion {
        self.version
    }

    /// The whole event as canonical JSON, in the form that other servers get.
    #[must_use]
    pub fn json(&self) -> &str {
        self.at(self.json)
    }

    /// The whole event, parsed.
    ///
    /// # Errors
    /// Never for an event made by this crate; only where stored bytes are damaged.
    pub fn object(&self) -> Result<Object, CanonicalError> {
        Object::parse(self.json().as_bytes(), self.version.json_mode())
    }

    /// `content`, as canonical JSON text.
    #[must_use]
    pub fn content(&self) -> &str {
        self.at(self.content)
    }

    /// `content`, as serde's raw value; `null` where stored bytes are damaged.
    #[must_use]
    pub fn content_raw(&self) -> &RawValue {
        serde_json::from_str(self.content()).unwrap_or(RawValue::NULL)
    }

    /// `content`, parsed.
    ///
    /// # Errors
    /// Never for an event made by this crate; only where stored bytes are damaged.
    pub fn content_object(&self) -> Result<Object, CanonicalError> {
        Object::parse(self.content().as_bytes(), self.version.json_mode())
    }

    /// `content`, read into a type of the caller.
    ///
    /// # Errors
    /// The content does not have that shape: content is whatever its sender chose to write.
    pub fn content_as<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.content())
    }

    /// The membership that an `m.room.member` event sets; `None` for others or nonsense.
    #[must_use]
    pub fn membership(&self) -> Option<Membership> {
        if self.event_type() != "m.room.member" || !self.is_state() {
            return None;
        }
        Membership::parse(self.content_object().ok()?.str("membership")?)
    }

    /// Ids of the events that allow this one.
    #[must_use]
    pub fn auth_events(&self) -> Vec<String> {
        references(self.at(self.auth_events))
    }

    /// Ids of the events right before this one.
    #[must_use]
    pub fn prev_events(&self) -> Vec<String> {
        references(self.at(self.prev_events))
    }

    /// Bytes of memory this event takes, roughly: for caches.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.text.len()
    }
}

impl fmt::Debug for StoredEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoredEvent({} {})", self.event_id(), self.json())
    }
}

/// The event ids in `auth_events` or `prev_events`: plain ids, or pairs of id and hashes.
fn references(text: &str) -> Vec<String> {
    let Ok(Value::Array(items)) = Value::parse(text.as_bytes(), crate::canonical::Mode::Lenient)
    else {
        return Vec::new();
    };
    let id_of = |item| match item {
        Value::Str(id) => Some(id),
        Value::Array(pair) => match pair.into_iter().next() {
            Some(Value::Str(id)) => Some(id),
            _ => None,
        },
        _ => None,
    };
    items.into_iter().filter_map(id_of).collect()
}
