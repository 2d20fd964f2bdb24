#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::RoomVersion;
use crate::canonical::Mode;
use crate::fixtures::{RoomFixture, signing_key};
use crate::verify::{Verified, verify_event};

fn object(text: &str) -> Object {
    Object::parse(text.as_bytes(), Mode::Strict).unwrap()
}

fn policy(key: &SigningKey) -> PolicyServer {
    let key = crate::hash::base64(&key.public_key());
    let text = format!(r#"{{"via":"policy.example","public_keys":{{"ed25519":"{key}"}}}}"#);
    PolicyServer::of(&object(&text)).unwrap()
}

fn message(version: RoomVersion, text: &str) -> std::sync::Arc<StoredEvent> {
    let lines = format!("alice create\nalice join\nhi: alice message {text}");
    RoomFixture::new(version, &lines).event("hi").clone()
}

#[test]
fn a_room_names_a_policy_server_by_a_name_and_a_key() {
    let example = object(
        r#"{"via":"policy.example.org",
            "public_keys":{"ed25519":"6yhHGKhCiXTSEN2ksjV7kX_N6rBQZ3Xb-M7LlC6NS-s"}}"#,
    );
    assert!(PolicyServer::of(&example).unwrap().key.is_some());
    for wrong in [
        "{}",
        r#"{"via":"a.example"}"#,
        r#"{"via":"a.example","public_keys":{}}"#,
        r#"{"via":1,"public_keys":{"ed25519":"x"}}"#,
        r#"{"via":"a.example","public_keys":{"ed25519":1}}"#,
        r#"{"public_keys":{"ed25519":"x"}}"#,
    ] {
        assert_eq!(PolicyServer::of(&object(wrong)), None, "{wrong}");
    }
    // A text that is no key names a policy server by which nothing is ever good.
    let broken = object(r#"{"via":"a.example","public_keys":{"ed25519":"x"}}"#);
    assert_eq!(PolicyServer::of(&broken).unwrap().key, None);
}

#[test]
fn a_recommendation_is_good_under_the_rooms_key_only() {
    let (key, other) = (signing_key("policy.example"), signing_key("other.example"));
    let server = policy(&key);
    for version in RoomVersion::all() {
        let event = message(version, "hello");
        assert!(!server.has_signed(&event));
        let signature = recommend(&event, &key).unwrap();
        let signed = server.signed(&event, &signature).unwrap().unwrap();
        assert!(server.has_signed(&signed));
        assert!(!policy(&other).has_signed(&signed));
        assert_eq!(signed.event_id(), event.event_id());
        // Another key's signature is not taken.
        let wrong = recommend(&event, &other).unwrap();
        assert_eq!(server.signed(&event, &wrong).unwrap(), None);
        // The origin's own signature is still there, and the event as genuine as before.
        let keys = |server: &str, id: &str| {
            (id == "ed25519:test").then(|| signing_key(server).public_key())
        };
        let verified = verify_event(&signed.object().unwrap(), version, &keys);
        assert_eq!(verified, Ok(Verified::All));
    }
}

#[test]
fn a_policy_servers_own_events_keep_both_signatures() {
    let key = signing_key("example.org policy");
    let text = crate::hash::base64(&key.public_key());
    let content = format!(r#"{{"via":"example.org","public_keys":{{"ed25519":"{text}"}}}}"#);
    let server = PolicyServer::of(&object(&content)).unwrap();
    let event = message(RoomVersion::V12, "hello");
    let signature = recommend(&event, &key).unwrap();
    let signed = server.signed(&event, &signature).unwrap().unwrap();
    let signatures = signed.object().unwrap();
    let signatures = signatures.object("signatures").unwrap();
    let own = signatures.object("example.org").unwrap();
    assert!(own.str(KEY_ID).is_some() && own.str("ed25519:test").is_some());
}

#[test]
fn only_the_event_that_names_the_policy_server_is_exempt() {
    let room = RoomFixture::new(
        RoomVersion::V12,
        r#"alice create
           alice join
           named: alice state m.room.policy "" {}
           keyed: alice state m.room.policy x {}"#,
    );
    assert!(is_exempt(room.event("named")));
    assert!(!is_exempt(room.event("keyed")));
    assert!(!is_exempt(&message(RoomVersion::V12, "hello")));
}

fn rules(lists: RuleLists) -> Rules {
    Rules::new(lists)
}

#[test]
fn senders_servers_and_types_are_named_by_globs() {
    let event = message(RoomVersion::V12, "hello");
    let list = |name: &str| vec![name.to_owned()];
    let senders = |name| {
        rules(RuleLists {
            senders: list(name),
            ..RuleLists::default()
        })
    };
    let servers = |name| {
        rules(RuleLists {
            servers: list(name),
            ..RuleLists::default()
        })
    };
    let types = |name| {
        rules(RuleLists {
            types: list(name),
            ..RuleLists::default()
        })
    };
    assert_eq!(senders("@ali*:*").refuse(&event), Some(Grounds::Sender));
    assert_eq!(senders("@bob:*").refuse(&event), None);
    assert_eq!(servers("EXAMPLE.org").refuse(&event), Some(Grounds::Server));
    assert_eq!(servers("*.example.org").refuse(&event), None);
    assert_eq!(types("m.room.mess*").refuse(&event), Some(Grounds::Type));
    assert_eq!(types("m.reaction").refuse(&event), None);
    assert_eq!(rules(RuleLists::default()).refuse(&event), None);
}

#[test]
fn words_are_found_as_people_write_them() {
    let lists = RuleLists {
        words: ["Müll", "buy now", "賭博"].map(str::to_owned).to_vec(),
        ..RuleLists::default()
    };
    let rules = rules(lists);
    let refused = |text: &str| rules.refuse(&message(RoomVersion::V12, text)).is_some();
    assert!(refused("so ein MULL!"));
    assert!(!refused("die Mülltonne"));
    assert!(refused("BUY, now"));
    assert!(!refused("buy it now"));
    assert!(refused("無料賭博サイト"));
    assert!(!refused("hello"));
}

#[test]
fn files_are_found_by_address_and_by_hash() {
    let file = [7_u8; 32];
    let rules = rules(RuleLists {
        media: vec![file],
        ..RuleLists::default()
    });
    let event = |content: &str| {
        let lines = format!("alice create\nalice join\nx: alice state m.test \"\" {content}");
        RoomFixture::new(RoomVersion::V12, &lines)
            .event("x")
            .clone()
    };
    let two = event(r#"{"url":"mxc://a.example/x","info":{"html":"<img src='mxc://b:1/y'>"}}"#);
    let mut files = rules.files_of(&two).unwrap();
    files.sort();
    assert_eq!(files, ["mxc://a.example/x", "mxc://b:1/y"]);
    assert_eq!(rules.refuse_file(&[[1; 32], file]), Some(Grounds::Media));
    assert_eq!(rules.refuse_file(&[[1; 32]]), None);
    let hash = crate::hash::base64(&file);
    let encrypted = event(&format!(r#"{{"file":{{"hashes":{{"sha256":"{hash}"}}}}}}"#));
    assert_eq!(rules.refuse(&encrypted), Some(Grounds::Media));
    let many: Vec<String> = (0..=MAX_MEDIA)
        .map(|n| format!("\"mxc://a.example/{n}\""))
        .collect();
    let many = event(&format!(r#"{{"urls":[{}]}}"#, many.join(",")));
    assert_eq!(rules.files_of(&many), Err(Grounds::TooManyMedia));
}
