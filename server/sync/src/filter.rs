//! The filter of the client-server API, parsed once and asked often.
//!
//! Wrong types are refused; unknown keys are ignored, as the specification lets filters grow.

use std::collections::{BTreeSet, HashSet};

use serde::Deserialize;
use skerry_room::{EventFilter, Facts};

/// Timeline events per room where the filter names no number.
pub const TIMELINE_LIMIT_DEFAULT: u32 = 10;
/// Most timeline events per room and answer, whatever the filter asks for.
pub const TIMELINE_LIMIT_MAX: u32 = 100;
/// Largest filter looked at, in bytes of JSON.
pub const FILTER_BYTES_MAX: usize = 64 * 1024;
/// The most fields that `event_fields` may name.
const FIELDS_MAX: usize = 1_000;

/// Why a filter is refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadFilter {
    /// Larger than [`FILTER_BYTES_MAX`].
    #[error("the filter is too large")]
    TooLarge,
    /// The text is no JSON at all.
    #[error("the filter is not JSON")]
    NotJson,
    /// It is JSON of another shape.
    #[error("the filter is malformed: {0}")]
    Shape(String),
}

/// A filter (`POST /user/{userId}/filter`). An absent list lets everything through, an empty one
/// nothing.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(from = "RawFilter")]
pub struct Filter {
    /// Only these fields of events are wanted, each a path of keys.
    pub event_fields: Option<Vec<Vec<String>>>,
    /// Events as servers exchange them, rather than as clients see them.
    pub federation_format: bool,
    /// Which presence events are wanted.
    pub presence: EventFilter,
    /// Which global account data is wanted.
    pub account_data: EventFilter,
    /// What is wanted of rooms.
    pub room: RoomFilter,
}

/// The part of a filter that concerns rooms.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct RoomFilter {
    /// Only these rooms.
    pub rooms: Option<HashSet<String>>,
    /// Not these rooms, also where `rooms` lists them.
    pub not_rooms: HashSet<String>,
    /// Receipts and typing.
    pub ephemeral: EventFilter,
    /// Also the rooms left long ago, in an initial sync or one with full state.
    pub include_leave: bool,
    /// State events.
    pub state: EventFilter,
    /// Timeline events.
    pub timeline: EventFilter,
    /// Account data of rooms.
    pub account_data: EventFilter,
}

impl Filter {
    /// Reads a filter from JSON.
    pub fn parse(json: &[u8]) -> Result<Filter, BadFilter> {
        if json.len() > FILTER_BYTES_MAX {
            return Err(BadFilter::TooLarge);
        }
        let filter: Filter =
            serde_json::from_slice(json).map_err(|error| match error.classify() {
                serde_json::error::Category::Data => BadFilter::Shape(error.to_string()),
                _ => BadFilter::NotJson,
            })?;
        if filter.is_bounded() {
            Ok(filter)
        } else {
            Err(BadFilter::TooLarge)
        }
    }

    /// Whether no list is longer than what is accepted; lists are compared event by event.
    fn is_bounded(&self) -> bool {
        let room = &self.room;
        let parts = [
            &self.presence,
            &self.account_data,
            &room.ephemeral,
            &room.state,
            &room.timeline,
            &room.account_data,
        ];
        let fields = self.event_fields.as_ref().map_or(0, Vec::len);
        fields <= FIELDS_MAX && parts.iter().all(|part| part.is_bounded())
    }

    /// Whether anything of this room is wanted.
    #[must_use]
    pub fn wants_room(&self, room_id: &str) -> bool {
        let listed = self
            .room
            .rooms
            .as_ref()
            .is_none_or(|rooms| rooms.contains(room_id));
        listed && !self.room.not_rooms.contains(room_id)
    }

    /// Whether member events are lazy-loaded.
    #[must_use]
    pub fn lazy(&self) -> bool {
        self.room.state.lazy_load_members
    }

    /// Timeline events per room, bounded.
    #[must_use]
    pub fn timeline_limit(&self) -> usize {
        let wanted = self
            .room
            .timeline
            .limit
            .unwrap_or(u64::from(TIMELINE_LIMIT_DEFAULT));
        wanted.min(u64::from(TIMELINE_LIMIT_MAX)) as usize
    }

    /// Whether unread counts are wanted thread by thread. The specification has the switch in the
    /// filter of room events without saying which: clients set it on the timeline's.
    #[must_use]
    pub fn by_thread(&self) -> bool {
        self.room.timeline.unread_thread_notifications
    }
}

/// Whether an event without a room, of this type and from this sender, is wanted.
#[must_use]
pub(crate) fn wants(filter: &EventFilter, kind: &str, sender: &str) -> bool {
    filter.wants(Facts {
        kind,
        sender,
        has_url: None,
    })
}

/// The filter as it is written.
#[derive(Deserialize, Default)]
#[serde(default)]
struct RawFilter {
    event_fields: Option<Vec<String>>,
    event_format: Format,
    presence: EventFilter,
    account_data: EventFilter,
    room: RoomFilter,
}

#[derive(Deserialize, Default, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "lowercase")]
enum Format {
    #[default]
    Client,
    Federation,
}

impl From<RawFilter> for Filter {
    fn from(raw: RawFilter) -> Filter {
        Filter {
            // Each once: what a path leads to is copied for each mention of it.
            event_fields: raw.event_fields.map(|paths| {
                let paths: BTreeSet<_> = paths.iter().map(|path| keys_of(path)).collect();
                paths.into_iter().collect()
            }),
            federation_format: raw.event_format == Format::Federation,
            presence: raw.presence,
            account_data: raw.account_data,
            room: raw.room,
        }
    }
}

/// The keys of a dot-separated path, in which a backslash takes the next dot or backslash as it is.
fn keys_of(path: &str) -> Vec<String> {
    let mut keys = vec![String::new()];
    let mut chars = path.chars().peekable();
    while let Some(c) = chars.next() {
        let escaped = c == '\\' && matches!(chars.peek(), Some('.' | '\\'));
        let c = if escaped {
            chars.next().unwrap_or(c)
        } else {
            c
        };
        if c == '.' && !escaped {
            keys.push(String::new());
        } else if let Some(key) = keys.last_mut() {
            key.push(c);
        }
    }
    keys
}

#[cfg(test)]
mod tests;
