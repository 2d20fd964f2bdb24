//! Making events: from what a client wants to say to a hashed, signed event.

#[cfg(test)]
mod tests;

use crate::Dice;
use crate::canonical::{MAX_INT, Mode, Object, Value};
use crate::event::{FormatError, STICKY, StoredEvent};
use crate::hash::{base64, content_hash, event_id_of_text, reference_hash, signable_text};
use crate::keys::{SigningKey, add_signature, random_name};
use crate::room_version::RoomVersion;

/// What is to be said, before it has a place in a room.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Draft {
    /// The room; `None` only for the create event of a version 12 room, whose id it makes.
    pub room_id: Option<String>,
    /// The sender's user id.
    pub sender: String,
    /// The event type.
    pub event_type: String,
    /// The state key; `None` for an event that is not state.
    pub state_key: Option<String>,
    /// The content. For version 6 and up it must have been parsed strictly.
    pub content: Object,
    /// Of a redaction: its target. Put where the room version keeps it.
    pub redacts: Option<String>,
    /// For how many ms it is sticky (MSC4354).
    pub sticky_ms: Option<u32>,
}

/// An event that another one names as coming before it or allowing it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EventRef {
    /// Its id.
    pub event_id: String,
    /// Its depth.
    pub depth: u64,
    /// Its reference hash, which versions 1 and 2 want beside the id.
    pub hash: Option<[u8; 32]>,
}

impl EventRef {
    /// The reference to an event. Costs a hash in versions 1 and 2, else almost nothing.
    #[must_use]
    pub fn of(event: &StoredEvent) -> Self {
        let hashed = event.version().references_have_hashes();
        let object = hashed.then(|| event.object().unwrap_or_default());
        EventRef {
            event_id: event.event_id().to_owned(),
            depth: event.depth(),
            hash: object.map(|object| reference_hash(&object, event.version())),
        }
    }

    fn to_value(&self, version: RoomVersion) -> Value {
        if !version.references_have_hashes() {
            return Value::Str(self.event_id.clone());
        }
        let mut hashes = Object::new();
        if let Some(hash) = &self.hash {
            hashes.insert("sha256", base64(hash));
        }
        Value::Array(vec![
            Value::Str(self.event_id.clone()),
            Value::Object(hashes),
        ])
    }
}

/// Where in the room's graph an event goes.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The room's version.
    pub version: RoomVersion,
    /// The events right before it, at most 20; none for the create event.
    pub prev: &'a [EventRef],
    /// The events that allow it, at most 10; see [`crate::auth::auth_types`].
    pub auth: &'a [EventRef],
    /// Milliseconds since the Unix epoch.
    pub origin_server_ts: u64,
}

/// Who signs.
#[derive(Clone, Copy, Debug)]
pub struct Signer<'a> {
    /// This server's name.
    pub server: &'a str,
    /// Its key.
    pub key: &'a SigningKey,
}

/// Makes the event: its place, its hashes, its signature, its id. `dice` is used in versions 1 and
/// 2 only, where ids are chosen.
///
/// # Errors
/// The event would be too large, or of a shape that the room version does not allow.
pub fn build(
    draft: Draft,
    place: Place<'_>,
    signer: Signer<'_>,
    dice: &mut dyn Dice,
) -> Result<StoredEvent, FormatError> {
    let version = place.version;
    let mut event = lay_out(draft, place)?;
    if version.references_have_hashes() {
        event.insert(
            "event_id",
            format!("${}:{}", random_name(dice, 18), signer.server),
        );
    }
    let signable = hash_and_sign(&mut event, version, signer);
    let event_id = match event_id_of_text(&signable, version) {
        Some(id) => id,
        None => event.str("event_id").unwrap_or_default().to_owned(),
    };
    StoredEvent::assemble(&event, event_id, version)
}

/// Adds the content hash and the signature; gives back the text that was signed.
fn hash_and_sign(event: &mut Object, version: RoomVersion, signer: Signer<'_>) -> String {
    let mut hashes = Object::new();
    hashes.insert("sha256", base64(&content_hash(event)));
    event.insert("hashes", hashes);
    let signable = signable_text(event, version);
    let signature = signer.key.sign(signable.as_bytes());
    add_signature(event, signer.server, signer.key.id(), signature);
    signable
}

/// Everything but the id, hashes and signatures.
fn lay_out(draft: Draft, place: Place<'_>) -> Result<Object, FormatError> {
    let Draft {
        room_id,
        sender,
        event_type,
        state_key,
        mut content,
        redacts,
        sticky_ms,
    } = draft;
    let version = place.version;
    if version.json_mode() == Mode::Strict && !is_strict(&content) {
        return Err(FormatError::Malformed("content"));
    }
    let deepest = place.prev.iter().map(|prev| prev.depth).max();
    let most = match version.json_mode() {
        Mode::Strict => MAX_INT,
        Mode::Lenient => i64::MAX,
    };
    let depth = deepest
        .map_or(1, |depth| depth.saturating_add(1))
        .min(most.unsigned_abs());
    let timestamp = i64::try_from(place.origin_server_ts)
        .map_err(|_| FormatError::Malformed("origin_server_ts"))?;
    let references =
        |refs: &[EventRef]| Value::Array(refs.iter().map(|r| r.to_value(version)).collect());
    let mut fields = vec![("auth_events".to_owned(), references(place.auth))];
    let mut outer_redacts = None;
    if let Some(redacts) = redacts {
        if version.redacts_in_content() {
            content.insert("redacts", redacts);
        } else {
            outer_redacts = Some(redacts);
        }
    }
    fields.push(("content".to_owned(), content.into()));
    fields.push((
        "depth".to_owned(),
        Value::Int(i64::try_from(depth).unwrap_or(most)),
    ));
    if let Some(sticky_ms) = sticky_ms {
        let mut sticky = Object::new();
        sticky.insert("duration_ms", i64::from(sticky_ms));
        fields.push((STICKY.to_owned(), sticky.into()));
    }
    fields.push(("origin_server_ts".to_owned(), timestamp.into()));
    fields.push(("prev_events".to_owned(), references(place.prev)));
    fields.extend(outer_redacts.map(|id| ("redacts".to_owned(), id.into())));
    fields.extend(room_id.map(|id| ("room_id".to_owned(), id.into())));
    fields.push(("sender".to_owned(), sender.into()));
    fields.extend(state_key.map(|key| ("state_key".to_owned(), key.into())));
    fields.push(("type".to_owned(), event_type.into()));
    Ok(Object::from_fields(fields))
}

/// Whether there are only the numbers that canonical JSON allows.
fn is_strict(object: &Object) -> bool {
    fn fits(value: &Value) -> bool {
        match value {
            Value::Int(n) => (-MAX_INT..=MAX_INT).contains(n),
            Value::Number(_) => false,
            Value::Array(items) => items.iter().all(fits),
            Value::Object(object) => is_strict(object),
            Value::Null | Value::Bool(_) | Value::Str(_) => true,
        }
    }
    object.iter().all(|(_, value)| fits(value))
}

/// Adds our signature to an event that another server made (restricted joins, invites).
///
/// # Errors
/// The signature makes it too large; or the stored event is damaged.
pub fn countersign(event: &StoredEvent, signer: Signer<'_>) -> Result<StoredEvent, FormatError> {
    let mut object = event.object().map_err(FormatError::Json)?;
    let signature = signer
        .key
        .sign(signable_text(&object, event.version()).as_bytes());
    add_signature(&mut object, signer.server, signer.key.id(), signature);
    StoredEvent::assemble(&object, event.event_id().to_owned(), event.version())
}
