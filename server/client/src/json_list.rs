//! Writing the events of the deprecated endpoints, which say by themselves where they belong.

use skerry_core::canonical::write_string_bytes;
use skerry_sync::{AccountEvent, Presence};

/// Appends a JSON array.
pub(crate) fn list<T>(items: &[T], out: &mut Vec<u8>, write: impl Fn(&T, &mut Vec<u8>)) {
    out.push(b'[');
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write(item, out);
    }
    out.push(b']');
}

/// Appends an event with the id of its room, which it does not say itself. Events are objects
/// with members, so there is always a brace to be opened again.
pub(crate) fn in_room(json: &[u8], room_id: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(json.strip_suffix(b"}").unwrap_or(json));
    out.extend_from_slice(b",\"room_id\":");
    write_string_bytes(room_id, out);
    out.push(b'}');
}

/// Appends a piece of account data.
pub(crate) fn data_event(data: &AccountEvent, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"content\":");
    out.extend_from_slice(data.content.as_bytes());
    out.extend_from_slice(b",\"type\":");
    write_string_bytes(&data.kind, out);
    out.push(b'}');
}

/// Appends somebody's presence; its content says whose it is.
pub(crate) fn presence_event(presence: &Presence, out: &mut Vec<u8>) {
    let content = presence.content.as_bytes();
    out.extend_from_slice(b"{\"content\":");
    out.extend_from_slice(content.strip_suffix(b"}").unwrap_or(content));
    out.extend_from_slice(b",\"user_id\":");
    write_string_bytes(&presence.user_id, out);
    out.extend_from_slice(b"},\"sender\":");
    write_string_bytes(&presence.user_id, out);
    out.extend_from_slice(b",\"type\":\"m.presence\"}");
}
