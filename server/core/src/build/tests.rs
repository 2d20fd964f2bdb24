#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::fixtures::{SeededDice, signing_key};
use crate::hash::{decode_base64, event_id_of};
use crate::keys::{verify, verify_object};

/// The key of the appendices, "Cryptographic Test Vectors".
fn vector_key() -> SigningKey {
    let seed = decode_base64("YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1").unwrap();
    SigningKey::from_seed(&seed.try_into().unwrap(), "1").unwrap()
}

fn object(text: &str) -> Object {
    Object::parse(text.as_bytes(), Mode::Strict).unwrap()
}

#[test]
fn json_signing_vectors() {
    let key = vector_key();
    for (text, signature) in [
        (
            "{}",
            "K8280/U9SSy9IVtjBuVeLr+HpOB4BQFWbg+UZaADMtTdGYI7Geitb76LTrr5QV/7Xg4ahLwYGYZzuHGZKM5ZAQ",
        ),
        (
            r#"{"one":1,"two":"Two"}"#,
            "KqmLSbO39/Bzb0QIYE82zqLwsA+PDzYIpIRA2sRQ4sL53+sN6/fpNSoqE7BP7vBZhG6kYdD13EIMJpvhJI+6Bw",
        ),
    ] {
        let mut signed = object(text);
        key.sign_object("domain", &mut signed);
        let found = signed
            .object("signatures")
            .unwrap()
            .object("domain")
            .unwrap();
        assert_eq!(found.str("ed25519:1"), Some(signature));
        assert!(verify_object(
            &signed,
            "domain",
            "ed25519:1",
            &key.public_key()
        ));
        signed.insert("three", 3);
        assert!(!verify_object(
            &signed,
            "domain",
            "ed25519:1",
            &key.public_key()
        ));
    }
}

#[test]
fn event_signing_vectors() {
    let key = vector_key();
    for (text, hash, signature) in [
        (
            r#"{"room_id":"!x:domain","sender":"@a:domain","origin":"domain","origin_server_ts":1000000,
            "signatures":{},"hashes":{},"type":"X","content":{},"prev_events":[],"auth_events":[],
            "depth":3,"unsigned":{"age_ts":1000000}}"#,
            "5jM4wQpv6lnBo7CLIghJuHdW+s2CMBJPUOGOC89ncos",
            "KxwGjPSDEtvnFgU00fwFz+l6d2pJM6XBIaMEn81SXPTRl16AqLAYqfIReFGZlHi5KLjAWbOoMszkwsQma+lYAg",
        ),
        (
            r#"{"content":{"body":"Here is the message content"},"event_id":"$0:domain",
            "origin":"domain","origin_server_ts":1000000,"type":"m.room.message",
            "room_id":"!r:domain","sender":"@u:domain","signatures":{},
            "unsigned":{"age_ts":1000000}}"#,
            "onLKD1bGljeBWQhWZ1kaP9SorVmRQNdN5aM2JYU2n/g",
            "Wm+VzmOUOz08Ds+0NTWb1d4CZrVsJSikkeRxh6aCcUwu6pNC78FunoD7KNWzqFn241eYHYMGCA5McEiVPdhzBA",
        ),
    ] {
        let mut event = object(text);
        hash_and_sign(
            &mut event,
            RoomVersion::V1,
            Signer {
                server: "domain",
                key: &key,
            },
        );
        assert_eq!(event.object("hashes").unwrap().str("sha256"), Some(hash));
        let found = event
            .object("signatures")
            .unwrap()
            .object("domain")
            .unwrap();
        assert_eq!(found.str("ed25519:1"), Some(signature));
    }
}

fn draft(version: RoomVersion) -> Draft {
    let room_id = if version.room_id_is_create_event_id() {
        format!("!{}", "a".repeat(43))
    } else {
        "!room:example.org".to_owned()
    };
    Draft {
        room_id: Some(room_id),
        sender: "@alice:example.org".to_owned(),
        event_type: "m.room.message".to_owned(),
        state_key: None,
        content: object(r#"{"msgtype":"m.text","body":"Hello"}"#),
        redacts: None,
        sticky_ms: None,
    }
}

fn make(draft: Draft, version: RoomVersion, prev: &[EventRef]) -> Result<StoredEvent, FormatError> {
    let key = signing_key("example.org");
    let place = Place {
        version,
        prev,
        auth: &[],
        origin_server_ts: 1_000,
    };
    let signer = Signer {
        server: "example.org",
        key: &key,
    };
    build(draft, place, signer, &mut SeededDice::new(3))
}

#[test]
fn each_version_names_its_events_its_way() {
    for version in RoomVersion::all() {
        let event = make(draft(version), version, &[]).unwrap();
        let object = event.object().unwrap();
        assert_eq!(event_id_of(&object, version).unwrap(), event.event_id());
        assert_eq!(object.get("event_id").is_some(), version.number() <= 2);
        match version.number() {
            1 | 2 => assert!(event.event_id().ends_with(":example.org")),
            3 => assert_eq!(event.event_id().len(), 44),
            _ => assert!(!event.event_id().contains(['+', '/', ':'])),
        }
        let text = signable_text(&object, version);
        let signatures = object
            .object("signatures")
            .unwrap()
            .object("example.org")
            .unwrap();
        let key = signing_key("example.org");
        assert!(verify(
            &key.public_key(),
            signatures.str(key.id()).unwrap(),
            text.as_bytes()
        ));
        assert_eq!(event.depth(), 1);
    }
}

/// The same as ruma says, where ruma can read the event.
#[test]
fn hashes_and_ids_agree_with_ruma() {
    for version in RoomVersion::all() {
        let event = make(draft(version), version, &[]).unwrap();
        let ruma: ruma_common::CanonicalJsonObject = serde_json::from_str(event.json()).unwrap();
        let content_hash = ruma_signatures::content_hash(&ruma).unwrap();
        let object = event.object().unwrap();
        let hash = object.object("hashes").unwrap().str("sha256").unwrap();
        assert_eq!(content_hash.encode(), hash);
        if version.number() > 2 {
            let reference = ruma_signatures::reference_hash(&ruma, version.rules()).unwrap();
            assert_eq!(format!("${reference}"), event.event_id());
        }
    }
}

#[test]
fn references_and_depth() {
    for version in [RoomVersion::V1, RoomVersion::V12] {
        let first = make(draft(version), version, &[]).unwrap();
        let mut earlier = EventRef::of(&first);
        earlier.depth = 7;
        let second = make(draft(version), version, &[EventRef::of(&first), earlier]).unwrap();
        assert_eq!(second.depth(), 8);
        assert_eq!(second.prev_events(), [first.event_id(), first.event_id()]);
        let hashed = second.json().contains(r#"{"sha256":"#);
        assert!(hashed);
        let pairs = second.object().unwrap();
        let pairs = pairs.get("prev_events").unwrap().as_array().unwrap();
        assert_eq!(pairs[0].as_array().is_some(), version == RoomVersion::V1);
    }
    let deep = EventRef {
        event_id: "$x".to_owned(),
        depth: u64::MAX,
        hash: None,
    };
    let event = make(draft(RoomVersion::V12), RoomVersion::V12, &[deep]).unwrap();
    assert_eq!(event.depth(), MAX_INT.unsigned_abs());
}

#[test]
fn size_and_shape_are_limited() {
    let version = RoomVersion::V12;
    let with = |change: &dyn Fn(&mut Draft)| {
        let mut draft = draft(version);
        change(&mut draft);
        make(draft, version, &[])
    };
    let empty = with(&|d| drop(d.content.insert("body", "")))
        .unwrap()
        .json()
        .len();
    let room = 65_536 - empty;
    assert!(with(&|d| drop(d.content.insert("body", "x".repeat(room)))).is_ok());
    let refused = with(&|d| drop(d.content.insert("body", "x".repeat(room + 1)))).unwrap_err();
    assert_eq!(refused, FormatError::TooLarge(65_537));
    assert!(refused.is_size());
    assert!(with(&|d| d.event_type = "x".repeat(255)).is_ok());
    let refused = with(&|d| d.event_type = "x".repeat(256)).unwrap_err();
    assert_eq!(refused, FormatError::TooLong("type"));
    let refused = with(&|d| d.state_key = Some("x".repeat(256))).unwrap_err();
    assert_eq!(refused, FormatError::TooLong("state_key"));
    let refused = with(&|d| d.sender = "alice".to_owned()).unwrap_err();
    assert_eq!(refused, FormatError::Malformed("sender"));
    let refused = with(&|d| d.room_id = None).unwrap_err();
    assert_eq!(refused, FormatError::Missing("room_id"));
    let float = || Object::parse(b"{\"x\":1.5}", Mode::Lenient).unwrap();
    let refused = with(&|d| d.content = float()).unwrap_err();
    assert_eq!(refused, FormatError::Malformed("content"));
    let mut old = draft(RoomVersion::V3);
    old.content = float();
    assert!(make(old, RoomVersion::V3, &[]).is_ok());
    let many: Vec<_> = (0..21)
        .map(|i| EventRef {
            event_id: format!("${i}"),
            depth: 1,
            hash: None,
        })
        .collect();
    let refused = make(draft(version), version, &many).unwrap_err();
    assert_eq!(refused, FormatError::TooMany("prev_events"));
    assert!(make(draft(version), version, &many[..20]).is_ok());
}

#[test]
fn redactions_name_their_target_where_the_version_keeps_it() {
    for version in RoomVersion::all() {
        let mut draft = draft(version);
        draft.event_type = "m.room.redaction".to_owned();
        draft.content = Object::new();
        draft.redacts = Some("$target:example.org".to_owned());
        let event = make(draft, version, &[]).unwrap();
        assert_eq!(event.redacts(), Some("$target:example.org"));
        let object = event.object().unwrap();
        assert_eq!(object.get("redacts").is_some(), version.number() <= 10);
        let inside = object.object("content").unwrap().get("redacts").is_some();
        assert_eq!(inside, version.number() >= 11);
    }
}

#[test]
fn countersigning_keeps_the_id() {
    let event = make(draft(RoomVersion::V12), RoomVersion::V12, &[]).unwrap();
    let key = signing_key("other.org");
    let signed = countersign(
        &event,
        Signer {
            server: "other.org",
            key: &key,
        },
    )
    .unwrap();
    assert_eq!(signed.event_id(), event.event_id());
    let object = signed.object().unwrap();
    assert_eq!(
        event_id_of(&object, RoomVersion::V12).unwrap(),
        event.event_id()
    );
    let signatures = object.object("signatures").unwrap();
    assert!(signatures.get("example.org").is_some() && signatures.get("other.org").is_some());
}

#[test]
fn keys_of_bad_names_are_refused() {
    assert!(SigningKey::from_seed(&[1; 32], "").is_err());
    assert!(SigningKey::from_seed(&[1; 32], "a:b").is_err());
    let key = SigningKey::generate(&mut SeededDice::new(1)).unwrap();
    assert_eq!(key.id().len(), "ed25519:".len() + 6);
    assert_eq!(format!("{key:?}"), format!("SigningKey({})", key.id()));
}
