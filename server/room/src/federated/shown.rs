//! What another server says of a room that we do not hold: the state that comes with an invite or
//! a knock. Anybody can send it, so nothing of it is believed to have any shape
//! (CVE-2024-52815: one such event kept a user from ever syncing again).

use std::collections::HashSet;

use skerry_core::canonical::{Mode, Object, Value, write_string_bytes};
use skerry_core::names::{self, MAX_ID_BYTES};
use skerry_core::{RoomVersion, StoredEvent};

use crate::RoomError;

/// Events that are looked at; a server has some ten to show.
const MAX_EVENTS: usize = 100;
/// Bytes of JSON that are kept of one room; what does not fit is left out.
const MAX_BYTES: usize = 256 * 1024;

/// Checks what the specification asks for: from version 12 on, all are events of the room in
/// their full form, and the one that created it, whose hash names the room, is among them. In
/// older rooms not even the room's id says who made it, and servers send other forms: what is
/// malformed is only left out.
///
/// # Errors
/// `InvalidParam`.
pub(super) fn check(
    version: RoomVersion,
    room_id: &str,
    events: &[Object],
) -> Result<(), RoomError> {
    if events.len() > MAX_EVENTS {
        let text = "There are too many events to show the room by";
        return Err(RoomError::InvalidParam(text.into()));
    }
    if !version.room_id_is_create_event_id() {
        return Ok(());
    }
    let mut created = false;
    for event in events {
        let event = StoredEvent::from_object(event.clone(), version).map_err(|error| {
            RoomError::InvalidParam(format!("An event to show the room by: {error}"))
        })?;
        if event.room_id() != room_id {
            let text = "An event to show the room by is of another room";
            return Err(RoomError::InvalidParam(text.into()));
        }
        created |= event.is_create();
    }
    if !created {
        let text = "The event that created the room is not among those to show it by";
        return Err(RoomError::InvalidParam(text.into()));
    }
    Ok(())
}

/// The events that are well-formed as clients are shown them, with the user's own member event:
/// a JSON array.
pub(super) fn clean(events: &[Object], own: &StoredEvent) -> Vec<u8> {
    let mut out = vec![b'['];
    let mut met = HashSet::from([("m.room.member", own.state_key().unwrap_or_default())]);
    for event in events.iter().take(MAX_EVENTS) {
        let Some(shown) = Shown::read(event) else {
            continue;
        };
        if out.len() + shown.content.len() > MAX_BYTES || !met.insert((shown.kind, shown.key)) {
            continue;
        }
        shown.write(&mut out);
        out.push(b',');
    }
    own.write_stripped(&mut out);
    out.push(b']');
    out
}

/// The parts of an event that clients are shown.
struct Shown<'a> {
    kind: &'a str,
    key: &'a str,
    sender: &'a str,
    content: String,
}

impl<'a> Shown<'a> {
    /// Nothing, where any part is not what it should be.
    fn read(event: &'a Object) -> Option<Shown<'a>> {
        let short = |field: &str| {
            let text = event.str(field)?;
            (text.len() <= MAX_ID_BYTES).then_some(text)
        };
        let mut content = String::new();
        event.object("content")?.write(&mut content);
        // Numbers that old rooms may hold are not for every client's parser.
        Value::parse(content.as_bytes(), Mode::Strict).ok()?;
        Some(Shown {
            kind: short("type").filter(|kind| !kind.is_empty())?,
            key: short("state_key")?,
            sender: short("sender").filter(|sender| names::is_user_id(sender))?,
            content,
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"content\":");
        out.extend_from_slice(self.content.as_bytes());
        for (name, value) in [
            ("sender", self.sender),
            ("state_key", self.key),
            ("type", self.kind),
        ] {
            out.extend_from_slice(format!(",\"{name}\":").as_bytes());
            write_string_bytes(value, out);
        }
        out.push(b'}');
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use skerry_core::canonical::{Mode, Object};
    use skerry_core::fixtures::RoomFixture;
    use skerry_core::{RoomVersion, StoredEvent};

    use super::{MAX_BYTES, check, clean};

    fn object(text: &str) -> Object {
        Object::parse(text.as_bytes(), Mode::Lenient).unwrap()
    }

    fn invite() -> (RoomFixture, std::sync::Arc<StoredEvent>) {
        let text = "alice create\nalice join\nalice power {}\nalice rules invite\n\
                    it: alice invite bob";
        let room = RoomFixture::new(RoomVersion::V12, text);
        let event = room.event("it").clone();
        (room, event)
    }

    fn types(json: &[u8]) -> Vec<String> {
        let events: Vec<serde_json::Value> = serde_json::from_slice(json).unwrap();
        let kind = |event: &serde_json::Value| event["type"].as_str().unwrap().to_owned();
        events.iter().map(kind).collect()
    }

    /// CVE-2024-52815.
    #[test]
    fn malformed_state_is_left_out_and_the_rest_is_kept() {
        let (_, own) = invite();
        let good =
            r#"{"type":"m.room.name","state_key":"","sender":"@a:b.c","content":{"name":"x"}}"#;
        let mut events = vec![object(good), object(good)];
        for bad in [
            "{}",
            r#"{"type":"m.room.topic","state_key":"","sender":"@a:b.c"}"#,
            r#"{"type":"m.room.topic","state_key":"","sender":"@a:b.c","content":"x"}"#,
            r#"{"type":"m.room.topic","state_key":null,"sender":"@a:b.c","content":{}}"#,
            r#"{"type":"m.room.topic","sender":"@a:b.c","content":{}}"#,
            r#"{"type":7,"state_key":"","sender":"@a:b.c","content":{}}"#,
            r#"{"type":"","state_key":"","sender":"@a:b.c","content":{}}"#,
            r#"{"type":"m.room.topic","state_key":"","sender":"nobody","content":{}}"#,
            r#"{"type":"m.room.topic","state_key":"","sender":"@a:b.c","content":{"x":1e300}}"#,
            r#"{"type":"m.room.topic","state_key":"","sender":"@a:b.c","content":{"x":0.5}}"#,
        ] {
            events.push(object(bad));
        }
        let long = format!(
            r#"{{"type":"{}","state_key":"","sender":"@a:b.c","content":{{}}}}"#,
            "x".repeat(256)
        );
        events.push(object(&long));
        assert_eq!(
            types(&clean(&events, &own)),
            ["m.room.name", "m.room.member"]
        );
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let (_, own) = invite();
        let body = "x".repeat(60_000);
        let one = |n| {
            object(&format!(
                r#"{{"type":"t{n}","state_key":"","sender":"@a:b.c","content":{{"x":"{body}"}}}}"#
            ))
        };
        let events: Vec<Object> = (0..500).map(one).collect();
        let kept = clean(&events, &own);
        assert!(kept.len() < MAX_BYTES + 2_000, "{}", kept.len());
        assert!(check(RoomVersion::V11, "!r:x", &events).is_err());
    }

    #[test]
    fn the_user_s_own_event_is_not_what_the_server_says_it_is() {
        let (_, own) = invite();
        let text = format!(
            r#"{{"type":"m.room.member","state_key":"{}","sender":"@a:b.c","content":{{"membership":"join"}}}}"#,
            own.state_key().unwrap()
        );
        let kept = clean(&[object(&text)], &own);
        let events: Vec<serde_json::Value> = serde_json::from_slice(&kept).unwrap();
        assert_eq!(events.len(), 1);
        assert_eq!(events[0]["content"]["membership"], "invite");
    }

    #[test]
    fn from_version_12_on_the_create_event_has_to_be_there() {
        let (room, own) = invite();
        let pdu = |event: &StoredEvent| object(event.json());
        let all: Vec<Object> = room.events.iter().map(|event| pdu(event)).collect();
        let (version, room_id) = (RoomVersion::V12, own.room_id());
        check(version, room_id, &all).unwrap();
        check(version, room_id, &all[1..]).unwrap_err();
        check(version, room_id, &[]).unwrap_err();
        check(version, "!other", &all[..1]).unwrap_err();
        let mut stripped = all[0].clone();
        stripped.remove("prev_events");
        check(version, room_id, &[stripped]).unwrap_err();
        check(RoomVersion::V11, "!r:x", &[]).unwrap();
    }
}
