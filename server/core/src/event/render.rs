//! What clients get to see of an event.

use super::{STICKY, StoredEvent};
use crate::canonical::write_string_bytes;

/// What to put into the client form of an event.
#[derive(Clone, Copy, Default, Debug)]
pub struct ClientOptions<'a> {
    /// Whether to name the room (left out in sync, where the event stands under its room).
    pub room_id: bool,
    /// A JSON object to show as `unsigned`; nothing is shown where it is absent.
    pub unsigned: Option<&'a [u8]>,
    /// A JSON object to show in place of `content` (for aggregated edits, filtered fields).
    pub content: Option<&'a [u8]>,
}

impl StoredEvent {
    /// Appends the event as clients see it, as one JSON object: a few copies, nothing is parsed.
    ///
    /// The target of a redaction is given both at the top and inside `content`, whatever the room
    /// version (rooms/v11, "Moving the `redacts` property").
    pub fn write_client(&self, out: &mut Vec<u8>, options: ClientOptions<'_>) {
        out.extend_from_slice(b"{\"content\":");
        match options.content {
            Some(content) => out.extend_from_slice(content),
            None => self.write_client_content(out),
        }
        field("event_id", self.event_id(), out);
        if let Some(sticky_ms) = self.sticky_ms() {
            let sticky = format!(",\"{STICKY}\":{{\"duration_ms\":{sticky_ms}}}");
            out.extend_from_slice(sticky.as_bytes());
        }
        out.extend_from_slice(b",\"origin_server_ts\":");
        out.extend_from_slice(self.origin_server_ts().to_string().as_bytes());
        if let Some(redacts) = self.redacts() {
            field("redacts", redacts, out);
        }
        if options.room_id {
            field("room_id", self.room_id(), out);
        }
        field("sender", self.sender(), out);
        if let Some(state_key) = self.state_key() {
            field("state_key", state_key, out);
        }
        field("type", self.event_type(), out);
        if let Some(unsigned) = options.unsigned {
            out.extend_from_slice(b",\"unsigned\":");
            out.extend_from_slice(unsigned);
        }
        out.push(b'}');
    }

    fn write_client_content(&self, out: &mut Vec<u8>) {
        let plain = self.content();
        let Some(redacts) = self
            .redacts()
            .filter(|_| !self.version().redacts_in_content())
        else {
            out.extend_from_slice(plain.as_bytes());
            return;
        };
        match self.content_object() {
            Ok(mut content) => {
                content.insert("redacts", redacts);
                out.extend_from_slice(content.to_string().as_bytes());
            }
            Err(_) => out.extend_from_slice(plain.as_bytes()),
        }
    }

    /// Appends the stripped form that invites and knocks carry: content, sender, state key, type.
    pub fn write_stripped(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"content\":");
        out.extend_from_slice(self.content().as_bytes());
        field("sender", self.sender(), out);
        field("state_key", self.state_key().unwrap_or_default(), out);
        field("type", self.event_type(), out);
        out.push(b'}');
    }

    /// Appends the event as other servers get it: one copy.
    pub fn write_federation(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.json().as_bytes());
    }
}

fn field(name: &str, value: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
    write_string_bytes(value, out);
}
