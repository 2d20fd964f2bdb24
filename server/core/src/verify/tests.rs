#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::canonical::Value;
use crate::fixtures::{RoomFixture, signing_key};

fn keys(server: &str, key_id: &str) -> Option<[u8; 32]> {
    (key_id == "ed25519:test").then(|| signing_key(server).public_key())
}

#[test]
fn genuine_events_pass_and_changed_ones_do_not() {
    for version in RoomVersion::all() {
        let room = RoomFixture::new(version, "alice create\nalice join\nhi: alice message Hello");
        for event in &room.events {
            let event = event.object().unwrap();
            assert_eq!(verify_event(&event, version, &keys), Ok(Verified::All));
        }
        let hi = room.event("hi").object().unwrap();

        let mut changed = hi.clone();
        let Some(Value::Object(content)) = changed.get_mut("content") else {
            panic!()
        };
        content.insert("body", "Bye");
        assert_eq!(
            verify_event(&changed, version, &keys),
            Ok(Verified::SignaturesOnly)
        );

        let mut forged = hi.clone();
        forged.insert("origin_server_ts", 5);
        let unsigned = Err(VerifyError::Unsigned("example.org".to_owned()));
        assert_eq!(verify_event(&forged, version, &keys), unsigned);
        assert_eq!(verify_event(&hi, version, &|_, _| None), unsigned);

        let mut nobody = hi.clone();
        nobody.insert("sender", "alice");
        let malformed = Err(VerifyError::Malformed("sender"));
        assert_eq!(verify_event(&nobody, version, &keys), malformed);
    }
}

#[test]
fn who_must_sign() {
    let event = |content: &str| {
        let text = format!(
            r#"{{"content":{content},"event_id":"$x:c","sender":"@a:a","type":"m.room.member"}}"#
        );
        Object::parse(text.as_bytes(), crate::canonical::Mode::Strict).unwrap()
    };
    let servers = |content: &str, version: RoomVersion| {
        let all: Vec<_> = required_servers(&event(content), version)
            .unwrap()
            .into_iter()
            .collect();
        all.concat()
    };
    let restricted = r#"{"join_authorised_via_users_server":"@b:b","membership":"join"}"#;
    let invite = r#"{"membership":"invite","third_party_invite":{}}"#;
    for version in RoomVersion::all() {
        let (plain, by_mail, joined) = match version.number() {
            1 | 2 => ("ac", "c", "ac"),
            3..=7 => ("a", "", "a"),
            _ => ("a", "", "ab"),
        };
        assert_eq!(servers(r#"{"membership":"join"}"#, version), plain);
        assert_eq!(servers(invite, version), by_mail);
        assert_eq!(servers(restricted, version), joined);
    }
}

#[test]
fn of_several_signatures_those_under_known_keys_count() {
    let version = RoomVersion::default();
    let room = RoomFixture::new(version, "alice create\nalice join\nhi: alice message Hello");
    let hi = room.event("hi").object().unwrap();
    let other = crate::keys::SigningKey::from_seed(&[9; 32], "other").unwrap();
    let signed_besides = |signature: String| {
        let mut event = hi.clone();
        crate::keys::add_signature(&mut event, "example.org", other.id(), signature);
        event
    };
    let both = |server: &str, key_id: &str| match key_id {
        "ed25519:other" => Some(other.public_key()),
        _ => keys(server, key_id),
    };
    let good = signed_besides(other.sign(signable_text(&hi, version).as_bytes()));
    let bad = signed_besides(other.sign(b"something else"));
    assert_eq!(verify_event(&good, version, &both), Ok(Verified::All));
    assert_eq!(verify_event(&good, version, &keys), Ok(Verified::All));
    // Under a key that nobody knows a signature says nothing, under a known one it has to be good.
    assert_eq!(verify_event(&bad, version, &keys), Ok(Verified::All));
    let unsigned = Err(VerifyError::Unsigned("example.org".to_owned()));
    assert_eq!(verify_event(&bad, version, &both), unsigned);
}
