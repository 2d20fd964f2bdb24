//! Stripped state: what someone may know of a room before they are in it.

use skerry_core::StoredEvent;

/// Types whose state with the empty key is shown (client-server API, "Stripped state").
pub(crate) const KINDS: [&str; 9] = [
    "m.room.create",
    "m.room.name",
    "m.room.avatar",
    "m.room.topic",
    "m.room.join_rules",
    "m.room.canonical_alias",
    "m.room.encryption",
    "m.room.history_visibility",
    "m.room.guest_access",
];

/// A JSON array of events in stripped form.
pub(crate) fn list<'a>(events: impl Iterator<Item = &'a StoredEvent>) -> Vec<u8> {
    let mut out = vec![b'['];
    for event in events {
        if out.len() > 1 {
            out.push(b',');
        }
        event.write_stripped(&mut out);
    }
    out.push(b']');
    out
}
