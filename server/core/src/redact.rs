//! What remains of an event when it is redacted; each room version has its own list.
//! Spec: rooms/v1, v6, v8, v9, v11, "Redactions".

#[cfg(test)]
mod tests;

use crate::canonical::{Object, Value};
use crate::event::{FormatError, StoredEvent};
use crate::room_version::RoomVersion;

const KEPT: [&str; 12] = [
    "auth_events",
    "content",
    "depth",
    "event_id",
    "hashes",
    "origin_server_ts",
    "prev_events",
    "room_id",
    "sender",
    "signatures",
    "state_key",
    "type",
];
const KEPT_UNTIL_V10: [&str; 3] = ["membership", "origin", "prev_state"];

const POWER_LEVELS: [&str; 8] = [
    "ban",
    "events",
    "events_default",
    "kick",
    "redact",
    "state_default",
    "users",
    "users_default",
];

/// The redacted form of an event, by the rules of its room version.
#[must_use]
pub fn redact(event: &Object, version: RoomVersion) -> Object {
    let old_keys = version < RoomVersion::V11;
    let kept = event.iter().filter(|(name, _)| {
        *name != "content" && (KEPT.contains(name) || (old_keys && KEPT_UNTIL_V10.contains(name)))
    });
    let mut fields: Vec<_> = kept
        .map(|(name, value)| (name.to_owned(), value.clone()))
        .collect();
    if let Some(content) = event.get("content") {
        let empty = Object::new();
        let kind = event.str("type").unwrap_or_default();
        let content = redact_content(kind, content.as_object().unwrap_or(&empty), version);
        fields.push(("content".to_owned(), Value::Object(content)));
    }
    Object::from_fields(fields)
}

/// The redacted form of a `content`.
#[must_use]
pub fn redact_content(event_type: &str, content: &Object, version: RoomVersion) -> Object {
    let number = version.number();
    let keep = |names: &[&str]| -> Object {
        let kept = content.iter().filter(|(name, _)| names.contains(name));
        kept.map(|(name, value)| (name.to_owned(), value.clone()))
            .collect()
    };
    match event_type {
        "m.room.create" if number >= 11 => content.clone(),
        "m.room.create" => keep(&["creator"]),
        "m.room.member" => {
            let mut kept = if number >= 9 {
                keep(&["join_authorised_via_users_server", "membership"])
            } else {
                keep(&["membership"])
            };
            let signed = content
                .object("third_party_invite")
                .and_then(|invite| invite.get("signed"));
            if let (true, Some(signed)) = (number >= 11, signed) {
                let mut invite = Object::new();
                invite.insert("signed", signed.clone());
                kept.insert("third_party_invite", invite);
            }
            kept
        }
        "m.room.join_rules" if number >= 8 => keep(&["allow", "join_rule"]),
        "m.room.join_rules" => keep(&["join_rule"]),
        "m.room.power_levels" => {
            let mut kept = keep(&POWER_LEVELS);
            if let (true, Some(invite)) = (number >= 11, content.get("invite")) {
                kept.insert("invite", invite.clone());
            }
            kept
        }
        "m.room.aliases" if number <= 5 => keep(&["aliases"]),
        "m.room.history_visibility" => keep(&["history_visibility"]),
        "m.room.redaction" if number >= 11 => keep(&["redacts"]),
        _ => Object::new(),
    }
}

impl StoredEvent {
    /// The event as it is kept once redacted: same id, same hash, same signatures.
    ///
    /// # Errors
    /// Only where stored bytes are damaged.
    pub fn redacted(&self) -> Result<StoredEvent, FormatError> {
        let object = self.object().map_err(FormatError::Json)?;
        let redacted = redact(&object, self.version());
        StoredEvent::assemble(&redacted, self.event_id().to_owned(), self.version())
    }
}
