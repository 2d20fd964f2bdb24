#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proptest::prelude::*;

use super::*;
use crate::fixtures::RoomFixture;

const ROOM: &str = r#"
    alice create
    alice join
    alice power {}
    alice rules public
    odd: alice state m.weird "quote\ and é" {"a":"\"b\""}
    hi: alice message Hello
    alice redact hi"#;

fn client(event: &StoredEvent, options: ClientOptions<'_>) -> serde_json::Value {
    let mut out = Vec::new();
    event.write_client(&mut out, options);
    serde_json::from_slice(&out).unwrap()
}

#[test]
fn decodes_what_it_encoded() {
    for version in RoomVersion::all() {
        for event in RoomFixture::new(version, ROOM).events {
            let bytes = event.encode();
            assert_eq!(bytes[0], 1);
            assert_eq!(StoredEvent::decode(&bytes).unwrap(), *event);
            assert!(bytes.len() < event.json().len() + 160);
        }
    }
}

#[test]
fn a_pdu_from_elsewhere_is_the_same_event() {
    for version in RoomVersion::all() {
        for event in RoomFixture::new(version, ROOM).events {
            let mut pdu = event.object().unwrap();
            pdu.insert("unsigned", Object::new());
            let spaced = serde_json::to_string_pretty(&pdu.to_json()).unwrap();
            assert_eq!(
                StoredEvent::from_pdu(spaced.as_bytes(), version).unwrap(),
                *event
            );
        }
    }
}

#[test]
fn fields_are_found_without_parsing() {
    for version in RoomVersion::all() {
        let room = RoomFixture::new(version, ROOM);
        for event in &room.events {
            let object = event.object().unwrap();
            assert_eq!(Some(event.sender()), object.str("sender"));
            assert_eq!(Some(event.event_type()), object.str("type"));
            assert_eq!(event.state_key(), object.str("state_key"));
            assert_eq!(
                event.content(),
                object.object("content").unwrap().to_string()
            );
            assert_eq!(event.content_raw().get(), event.content());
            assert_eq!(event.room_id(), room.room_id());
            assert_eq!(object.get("room_id").is_some(), event.has_room_id_field());
            assert_eq!(event.prev_events().is_empty(), event.is_create());
        }
        let create = &room.events[0];
        if version == RoomVersion::V12 {
            assert_eq!(create.room_id()[1..], create.event_id()[1..]);
        }
        assert_eq!(room.event("odd").state_key(), Some(r"quote\ and é"));
        assert_eq!(room.events[1].membership(), Some(Membership::Join));
        assert_eq!(create.membership(), None);
    }
}

#[test]
fn client_form() {
    for version in RoomVersion::all() {
        let room = RoomFixture::new(version, ROOM);
        let hi = room.event("hi");
        let shown = client(hi, ClientOptions::default());
        let wanted = serde_json::json!({
            "content": {"body": "Hello", "msgtype": "m.text"},
            "event_id": hi.event_id(),
            "origin_server_ts": hi.origin_server_ts(),
            "sender": "@alice:example.org",
            "type": "m.room.message",
        });
        assert_eq!(shown, wanted);
        let options = ClientOptions {
            room_id: true,
            unsigned: Some(br#"{"age":5}"#),
            content: Some(br#"{"x":1}"#),
        };
        let shown = client(room.event("odd"), options);
        assert_eq!(shown["room_id"], room.room_id());
        assert_eq!(shown["unsigned"]["age"], 5);
        assert_eq!(shown["content"]["x"], 1);
        assert_eq!(shown["state_key"], r"quote\ and é");

        let redaction = client(room.events.last().unwrap(), ClientOptions::default());
        assert_eq!(redaction["redacts"], hi.event_id());
        assert_eq!(redaction["content"]["redacts"], hi.event_id());
        assert!(
            !client(hi, ClientOptions::default())
                .as_object()
                .unwrap()
                .contains_key("redacts")
        );
    }
}

#[test]
fn stripped_and_federation_form() {
    let room = RoomFixture::new(RoomVersion::V12, ROOM);
    let mut out = Vec::new();
    room.event("odd").write_stripped(&mut out);
    let stripped: serde_json::Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(stripped.as_object().unwrap().len(), 4);
    let mut out = Vec::new();
    room.event("hi").write_federation(&mut out);
    assert_eq!(out, room.event("hi").json().as_bytes());
}

#[test]
fn malformed_pdus_are_refused() {
    let room = RoomFixture::new(RoomVersion::V12, ROOM);
    let good = room.event("hi").object().unwrap();
    let check = |change: &dyn Fn(&mut Object)| {
        let mut pdu = good.clone();
        change(&mut pdu);
        StoredEvent::from_object(pdu, RoomVersion::V12)
            .map(|_| ())
            .unwrap_err()
    };
    for field in [
        "type",
        "sender",
        "room_id",
        "content",
        "prev_events",
        "auth_events",
        "depth",
        "origin_server_ts",
    ] {
        assert!(
            matches!(check(&|pdu| drop(pdu.remove(field))), FormatError::Missing(f) if f == field)
        );
        assert!(
            matches!(check(&|pdu| drop(pdu.insert(field, true))), FormatError::Malformed(f) if f == field)
        );
    }
    assert_eq!(
        check(&|pdu| drop(pdu.insert("depth", -1))),
        FormatError::Malformed("depth")
    );
    assert_eq!(
        check(&|pdu| drop(pdu.insert("hashes", 1))),
        FormatError::Malformed("hashes")
    );
    assert_eq!(
        check(&|pdu| drop(pdu.insert("state_key", 1))),
        FormatError::Malformed("state_key")
    );
    let create = format!("${}", &room.room_id()[1..]);
    assert_eq!(
        check(&|pdu| drop(pdu.insert("auth_events", vec![Value::from(create.as_str())]))),
        FormatError::Malformed("auth_events")
    );
    let mut create = room.events[0].object().unwrap();
    create.insert("room_id", room.room_id());
    let refused = StoredEvent::from_object(create, RoomVersion::V12).unwrap_err();
    assert_eq!(refused, FormatError::Malformed("room_id"));
    assert!(matches!(
        StoredEvent::from_pdu(b"[]", RoomVersion::V12),
        Err(FormatError::Json(_))
    ));
    assert!(matches!(
        StoredEvent::from_pdu(b"{\"x\":1.5}", RoomVersion::V12),
        Err(FormatError::Json(CanonicalError::Number { .. }))
    ));
}

/// In hash-named versions a field `event_id` means nothing, even if it is as long as a real one.
#[test]
fn a_false_event_id_is_not_believed() {
    let room = RoomFixture::new(RoomVersion::V12, ROOM);
    let mut pdu = room.event("hi").object().unwrap();
    let false_id = format!("${}", "A".repeat(43));
    pdu.insert("event_id", false_id.as_str());
    let event = StoredEvent::from_object(pdu, RoomVersion::V12).unwrap();
    assert_ne!(event.event_id(), false_id);
}

/// Old rooms hold what strict JSON refuses, and keep it to the digit.
#[test]
fn lenient_events_round_trip() {
    let pdu = br#"{"auth_events":[],"content":{"big":123456789012345678901,"f":1.0e+2,"n":-0.0},
        "depth":9007199254740993,"event_id":"$1:a","hashes":{},"origin_server_ts":1,
        "prev_events":[["$0:a",{}]],"room_id":"!r:a","sender":"@u:a","signatures":{},"type":"x"}"#;
    let event = StoredEvent::from_pdu(pdu, RoomVersion::V1).unwrap();
    assert_eq!(
        event.content(),
        r#"{"big":123456789012345678901,"f":100.0,"n":-0.0}"#
    );
    assert_eq!(event.depth(), 9_007_199_254_740_993);
    assert_eq!(event.prev_events(), ["$0:a"]);
    assert_eq!(StoredEvent::decode(&event.encode()).unwrap(), event);
    assert!(StoredEvent::from_pdu(pdu, RoomVersion::V6).is_err());
}

proptest! {
    /// Damaged bytes are an error or another event, never a panic.
    #[test]
    fn damage_is_noticed_or_harmless(at in 0_usize..600, bit in 0_u8..8, cut in 0_usize..600) {
        let room = RoomFixture::public();
        let mut bytes = room.events[1].encode();
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        let cut = cut % bytes.len();
        for bytes in [&bytes[..], &bytes[..cut], &bytes[cut..]] {
            if let Ok(event) = StoredEvent::decode(bytes) {
                let _ = (event.membership(), event.auth_events(), event.content_raw(), event.object());
                event.write_client(&mut Vec::new(), ClientOptions::default());
                let _ = RuledEvent::new(event.into(), false);
            }
        }
    }
}
