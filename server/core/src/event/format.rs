//! From an untrusted JSON object to an event: the shape and size that the room version asks for.

use super::{Span, StoredEvent};
use crate::canonical::{CanonicalError, Object, Value, write_string};
use crate::hash::{HashError, event_id_of};
use crate::names::{self, MAX_ID_BYTES};
use crate::room_version::{EventIdFormat, RoomVersion};

/// Largest event in bytes, as canonical JSON in federation form with signatures.
pub const MAX_EVENT_BYTES: usize = 65_536;
/// Most `prev_events` of one event.
pub const MAX_PREV_EVENTS: usize = 20;
/// Most `auth_events` of one event.
pub const MAX_AUTH_EVENTS: usize = 10;

/// The field that makes an event sticky (MSC4354).
pub const STICKY: &str = "msc4354_sticky";
/// The longest that an event is sticky, in ms (MSC4354); one that asks for more gets this.
pub const MAX_STICKY_MS: u32 = 3_600_000;

/// What is wrong with the form of an event.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FormatError {
    /// Not canonical JSON of the room version.
    #[error("{0}")]
    Json(#[source] CanonicalError),
    /// The whole event is larger than 65,536 bytes.
    #[error("event of {0} bytes is larger than 65536 bytes")]
    TooLarge(usize),
    /// A field that must be there is not.
    #[error("event has no `{0}`")]
    Missing(&'static str),
    /// A field of the wrong type or with a value out of its range.
    #[error("event's `{0}` is not of the form it must have")]
    Malformed(&'static str),
    /// A string field longer than 255 bytes.
    #[error("event's `{0}` is longer than 255 bytes")]
    TooLong(&'static str),
    /// More references than allowed.
    #[error("event has too many `{0}`")]
    TooMany(&'static str),
}

impl FormatError {
    /// Whether the event is refused for its size (and not for its shape).
    #[must_use]
    pub const fn is_size(&self) -> bool {
        matches!(self, FormatError::TooLarge(_) | FormatError::TooLong(_))
    }
}

impl StoredEvent {
    /// From the JSON text of a PDU. `unsigned` is dropped; hashes and signatures are not checked
    /// here (see `verify`).
    ///
    /// # Errors
    /// The text is not an event as the room version defines its format.
    pub fn from_pdu(json: &[u8], version: RoomVersion) -> Result<Self, FormatError> {
        let object = Object::parse(json, version.json_mode()).map_err(FormatError::Json)?;
        Self::from_object(object, version)
    }

    /// From a parsed PDU; as [`Self::from_pdu`].
    ///
    /// # Errors
    /// The object is not an event as the room version defines its format.
    pub fn from_object(mut object: Object, version: RoomVersion) -> Result<Self, FormatError> {
        object.remove("unsigned");
        let event_id = match event_id_of(&object, version) {
            Ok(id) => id,
            Err(HashError::NoEventId) => return Err(FormatError::Missing("event_id")),
        };
        Self::assemble(&object, event_id, version)
    }

    /// Checks the shape and lays the event out. `object` is without `unsigned`.
    pub(crate) fn assemble(
        object: &Object,
        event_id: String,
        version: RoomVersion,
    ) -> Result<Self, FormatError> {
        let shape = check_shape(object, &event_id, version)?;
        // Rough guess that saves growing in most cases.
        let mut layout = Layout {
            extra: String::new(),
            json: String::with_capacity(1024),
        };
        let mut places = [None; FIELDS.len()];
        layout.write_object(object, &mut places);
        if layout.json.len() > MAX_EVENT_BYTES {
            return Err(FormatError::TooLarge(layout.json.len()));
        }
        let place = |field: Field| {
            places
                .get(field as usize)
                .copied()
                .flatten()
                .ok_or(FormatError::Missing(field.name()))
        };
        let (content, auth, prev) = (
            place(Field::Content)?,
            place(Field::Auth)?,
            place(Field::Prev)?,
        );
        let kind = layout.string(shape.kind, place(Field::Kind)?);
        let sender = layout.string(shape.sender, place(Field::Sender)?);
        let mut state_key = None;
        if let Some(key) = shape.state_key {
            state_key = Some(layout.string(key, place(Field::StateKey)?));
        }
        let room_id = match shape.room_id {
            Some(id) => layout.string(id, place(Field::RoomId)?),
            None => layout.extra(&format!("!{}", event_id.get(1..).unwrap_or_default())),
        };
        let event_id = match place(Field::EventId) {
            Ok(found) if version.event_id_format() == EventIdFormat::Chosen => {
                layout.string(&event_id, found)
            }
            _ => layout.extra(&event_id),
        };
        let redacts = shape.redacts.map(|id| match place(Field::Redacts) {
            Ok(found) if !version.redacts_in_content() => layout.string(id, found),
            _ => layout.extra(id),
        });
        let json_at = layout.extra.len();
        let (json_len, moved) = (layout.json.len(), |p: Place| p.span(json_at));
        let mut text = layout.extra;
        text.push_str(&layout.json);
        Ok(StoredEvent {
            version,
            origin_server_ts: shape.origin_server_ts,
            depth: shape.depth,
            text: text.into_boxed_str(),
            json: Place::Json(0, json_len).span(json_at),
            event_id: moved(event_id),
            room_id: moved(room_id),
            sender: moved(sender),
            kind: moved(kind),
            content: moved(content),
            auth_events: moved(auth),
            prev_events: moved(prev),
            state_key: state_key.map(moved),
            redacts: redacts.map(moved),
            sticky_ms: sticky_ms_of(object),
        })
    }
}

/// Where a value stands: in the JSON or among the extra strings; (start, length).
#[derive(Clone, Copy)]
enum Place {
    Json(usize, usize),
    Extra(usize, usize),
}

impl Place {
    /// The span once the JSON stands behind the extra strings. Both together are far below 4 GiB.
    fn span(self, json_at: usize) -> Span {
        let (start, len) = match self {
            Place::Json(start, len) => (start + json_at, len),
            Place::Extra(start, len) => (start, len),
        };
        Span {
            start: start as u32,
            len: len as u32,
        }
    }
}

#[derive(Clone, Copy)]
#[repr(usize)]
enum Field {
    Auth = 0,
    Content,
    EventId,
    Prev,
    Redacts,
    RoomId,
    Sender,
    StateKey,
    Kind,
}

const FIELDS: [&str; 9] = [
    "auth_events",
    "content",
    "event_id",
    "prev_events",
    "redacts",
    "room_id",
    "sender",
    "state_key",
    "type",
];

impl Field {
    fn name(self) -> &'static str {
        FIELDS.get(self as usize).copied().unwrap_or_default()
    }
}

struct Layout {
    extra: String,
    json: String,
}

impl Layout {
    /// Writes the whole object and notes where the named fields' values stand.
    fn write_object(&mut self, object: &Object, places: &mut [Option<Place>; FIELDS.len()]) {
        self.json.push('{');
        for (i, (name, value)) in object.iter().enumerate() {
            if i > 0 {
                self.json.push(',');
            }
            write_string(name, &mut self.json);
            self.json.push(':');
            let start = self.json.len();
            value.write(&mut self.json);
            let field = FIELDS.iter().position(|&field| field == name);
            if let Some(slot) = field.and_then(|field| places.get_mut(field)) {
                *slot = Some(Place::Json(start, self.json.len() - start));
            }
        }
        self.json.push('}');
    }

    fn extra(&mut self, s: &str) -> Place {
        let start = self.extra.len();
        self.extra.push_str(s);
        Place::Extra(start, s.len())
    }

    /// A string value: inside its quotes where it needed no escapes, else kept beside the JSON.
    fn string(&mut self, value: &str, found: Place) -> Place {
        match found {
            Place::Json(start, len) if len == value.len() + 2 => Place::Json(start + 1, len - 2),
            _ => self.extra(value),
        }
    }
}

struct Shape<'a> {
    kind: &'a str,
    sender: &'a str,
    room_id: Option<&'a str>,
    state_key: Option<&'a str>,
    redacts: Option<&'a str>,
    origin_server_ts: u64,
    depth: u64,
}

/// What `msc4354_sticky` says; of any other shape it says nothing.
fn sticky_ms_of(object: &Object) -> Option<u32> {
    let Some(Value::Int(ms)) = object.object(STICKY)?.get("duration_ms") else {
        return None;
    };
    let ms = u64::try_from(*ms).ok()?;
    Some(u32::try_from(ms).map_or(MAX_STICKY_MS, |ms| ms.min(MAX_STICKY_MS)))
}

/// Every check on form that does not need other events.
fn check_shape<'a>(
    object: &'a Object,
    event_id: &str,
    version: RoomVersion,
) -> Result<Shape<'a>, FormatError> {
    let kind = required_string(object, "type")?;
    let sender = required_string(object, "sender")?;
    if !names::is_user_id(sender) {
        return Err(FormatError::Malformed("sender"));
    }
    let state_key = optional_string(object, "state_key")?;
    let is_create = kind == "m.room.create" && state_key == Some("");
    let room_id = room_id_of(object, is_create, version)?;
    if event_id.len() > MAX_ID_BYTES {
        return Err(FormatError::TooLong("event_id"));
    }
    if !names::is_event_id(event_id) {
        return Err(FormatError::Malformed("event_id"));
    }
    let content = match object.get("content") {
        Some(Value::Object(content)) => content,
        Some(_) => return Err(FormatError::Malformed("content")),
        None => return Err(FormatError::Missing("content")),
    };
    check_references(object, "prev_events", MAX_PREV_EVENTS, version)?;
    let auth = check_references(object, "auth_events", MAX_AUTH_EVENTS, version)?;
    if let (true, Some(room_id)) = (version.room_id_is_create_event_id(), room_id) {
        // The room id already names the create event.
        let create = room_id.get(1..);
        if auth.iter().any(|id| id.get(1..) == create) {
            return Err(FormatError::Malformed("auth_events"));
        }
    }
    for field in ["hashes", "signatures"] {
        if object
            .get(field)
            .is_some_and(|value| value.as_object().is_none())
        {
            return Err(FormatError::Malformed(field));
        }
    }
    let redacts = if kind == "m.room.redaction" {
        let holder = if version.redacts_in_content() {
            content
        } else {
            object
        };
        holder.str("redacts").filter(|id| names::is_event_id(id))
    } else {
        None
    };
    Ok(Shape {
        kind,
        sender,
        room_id,
        state_key,
        redacts,
        origin_server_ts: required_number(object, "origin_server_ts")?,
        depth: required_number(object, "depth")?,
    })
}

/// The room id; a create event of version 12 must not have one.
fn room_id_of(
    object: &Object,
    is_create: bool,
    version: RoomVersion,
) -> Result<Option<&str>, FormatError> {
    if is_create && version.room_id_is_create_event_id() {
        return match object.get("room_id") {
            Some(_) => Err(FormatError::Malformed("room_id")),
            None => Ok(None),
        };
    }
    let id = required_string(object, "room_id")?;
    if names::is_room_id(id) {
        Ok(Some(id))
    } else {
        Err(FormatError::Malformed("room_id"))
    }
}

fn optional_string<'a>(
    object: &'a Object,
    name: &'static str,
) -> Result<Option<&'a str>, FormatError> {
    match object.get(name) {
        None => Ok(None),
        Some(Value::Str(s)) if s.len() > MAX_ID_BYTES => Err(FormatError::TooLong(name)),
        Some(Value::Str(s)) => Ok(Some(s)),
        Some(_) => Err(FormatError::Malformed(name)),
    }
}

fn required_string<'a>(object: &'a Object, name: &'static str) -> Result<&'a str, FormatError> {
    optional_string(object, name)?.ok_or(FormatError::Missing(name))
}

fn required_number(object: &Object, name: &'static str) -> Result<u64, FormatError> {
    match object.get(name) {
        None => Err(FormatError::Missing(name)),
        Some(Value::Int(n)) => u64::try_from(*n).map_err(|_| FormatError::Malformed(name)),
        Some(_) => Err(FormatError::Malformed(name)),
    }
}

/// Event ids, or in versions 1 and 2 pairs of event id and hashes.
fn check_references<'a>(
    object: &'a Object,
    name: &'static str,
    most: usize,
    version: RoomVersion,
) -> Result<Vec<&'a str>, FormatError> {
    let items = match object.get(name) {
        None => return Err(FormatError::Missing(name)),
        Some(Value::Array(items)) => items,
        Some(_) => return Err(FormatError::Malformed(name)),
    };
    if items.len() > most {
        return Err(FormatError::TooMany(name));
    }
    let id_of = |item: &'a Value| match (item, version.references_have_hashes()) {
        (Value::Str(id), false) => Some(id.as_str()),
        (Value::Array(pair), true) => match pair.as_slice() {
            [Value::Str(id), Value::Object(_)] => Some(id.as_str()),
            _ => None,
        },
        _ => None,
    };
    let id_of = |item| id_of(item).filter(|id| names::is_event_id(id));
    items
        .iter()
        .map(|item| id_of(item).ok_or(FormatError::Malformed(name)))
        .collect()
}
