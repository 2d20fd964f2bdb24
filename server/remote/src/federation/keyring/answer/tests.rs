#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proptest::prelude::*;
use skerry_core::fixtures::signing_key;
use skerry_core::hash::base64;
use skerry_core::keys::SigningKey;

use super::*;
use crate::federation::fakes::unsigned_keys;

const NOW: u64 = 1_000_000_000;

fn revoked() -> Revoked {
    Revoked::load(None).unwrap()
}

fn signed(object: &Object) -> Object {
    let mut object = object.clone();
    signing_key("a.example").sign_object("a.example", &mut object);
    object
}

fn plain() -> Object {
    unsigned_keys("a.example", &signing_key("a.example"), NOW + 5)
}

fn changed(name: &str, value: impl Into<Value>) -> Object {
    let mut object = plain();
    object.insert(name, value);
    object
}

#[test]
fn only_what_its_server_signed_is_believed() {
    let read = |object: Object| read(object, "a.example", &revoked(), NOW);
    let good = read(signed(&plain())).unwrap();
    assert_eq!(good.valid_until_ms, NOW + 5);
    assert_eq!(good.keys.len(), 1);
    let mut forged = signed(&plain());
    forged.insert("valid_until_ts", 5);
    let other = SigningKey::from_seed(&[1; 32], "test").unwrap();
    let mut by_other = plain();
    other.sign_object("a.example", &mut by_other);
    let mut many = Object::new();
    for n in 0..=KEYS_MAX {
        many.insert(&format!("ed25519:{n}"), Object::new());
    }
    for (why, bad) in [
        ("unsigned", plain()),
        ("changed", forged),
        ("signed by another key", by_other),
        (
            "of another server",
            signed(&changed("server_name", "b.example")),
        ),
        ("no keys", signed(&changed("verify_keys", Object::new()))),
        (
            "keys of another shape",
            signed(&changed("verify_keys", "x")),
        ),
        ("no time", signed(&changed("valid_until_ts", "soon"))),
        ("a time before all", signed(&changed("valid_until_ts", -1))),
        ("too many", signed(&changed("old_verify_keys", many))),
    ] {
        assert!(read(bad).is_err(), "{why}");
    }
}

#[test]
fn nothing_is_believed_for_more_than_seven_days() {
    let far = signed(&changed("valid_until_ts", i64::MAX / 4096));
    let far = read(far, "a.example", &revoked(), NOW).unwrap();
    assert_eq!(far.valid_until_ms, NOW + BELIEVED_MS);
    assert_eq!(far.keys[0].1.valid_until_ms, NOW + BELIEVED_MS);
}

#[test]
fn old_keys_are_good_until_they_were_given_up() {
    let old = |key: &str, expired: Value| {
        let mut one = Object::new();
        one.insert("key", key);
        one.insert("expired_ts", expired);
        one
    };
    let mut all = Object::new();
    all.insert("ed25519:old", old(&base64(&[4; 32]), 77.into()));
    all.insert("ed25519:test", old(&base64(&[4; 32]), 77.into()));
    all.insert("ed25519:short", old(&base64(&[4; 31]), 77.into()));
    all.insert("ed25519:never", old(&base64(&[4; 32]), "x".into()));
    all.insert("rsa:old", old(&base64(&[4; 32]), 77.into()));
    let object = signed(&changed("old_verify_keys", all));
    let answer = read(object, "a.example", &revoked(), NOW).unwrap();
    let retired: Vec<_> = answer.keys.iter().filter(|(_, key)| key.retired).collect();
    assert_eq!(retired.len(), 1);
    assert_eq!(
        (retired[0].0.as_str(), retired[0].1.valid_until_ms),
        ("ed25519:old", 77)
    );
}

#[test]
fn cve_2026_24044_a_key_that_everybody_has_is_no_key() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("revoked");
    let key = base64(&signing_key("a.example").public_key());
    std::fs::write(&file, key).unwrap();
    let revoked = Revoked::load(Some(&file)).unwrap();
    assert!(read(signed(&plain()), "a.example", &revoked, NOW).is_err());
    // Another key of the same server goes on.
    let other = SigningKey::from_seed(&[1; 32], "other").unwrap();
    let mut both = plain();
    let Some(Value::Object(keys)) = both.get_mut("verify_keys") else {
        panic!()
    };
    let mut public = Object::new();
    public.insert("key", base64(&other.public_key()));
    keys.insert(other.id(), public);
    other.sign_object("a.example", &mut both);
    let answer = read(signed(&both), "a.example", &revoked, NOW).unwrap();
    let ids: Vec<&str> = answer.keys.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!(ids, ["ed25519:other"]);
}

/// Whatever comes is refused or taken; nothing panics.
#[test]
fn nonsense_is_refused() {
    for text in [
        "{}",
        "{\"server_name\":\"a.example\",\"valid_until_ts\":1,\"verify_keys\":[]}",
        "{\"server_name\":\"a.example\",\"valid_until_ts\":1,\"verify_keys\":{\"ed25519:a\":1}}",
        "{\"server_name\":\"a.example\",\"valid_until_ts\":1.5,\"verify_keys\":{}}",
    ] {
        let object = Object::parse(text.as_bytes(), Mode::Lenient).unwrap();
        assert!(
            read(object, "a.example", &revoked(), NOW).is_err(),
            "{text}"
        );
    }
    for body in [
        "",
        "[]",
        "{}",
        "{\"server_keys\":{}}",
        "{\"server_keys\":[1,[]]}",
    ] {
        let found = from_notary(body.as_bytes()).unwrap_or_default();
        assert!(found.is_empty(), "{body}");
    }
}

/// JSON of any shape, a few levels deep.
fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        "[-_a-zA-Z0-9:+/=]{0,50}".prop_map(Into::into),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        let names = "ed25519:[a-z]{0,3}|key|expired_ts|a\\.example";
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            proptest::collection::btree_map(names, inner, 0..4)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    /// Whatever a server says of its keys, what is believed is bounded and of this server.
    #[test]
    fn no_answer_is_too_strange(
        verify in any_json(),
        old in any_json(),
        until in any_json(),
        signatures in any_json(),
        sign in any::<bool>(),
    ) {
        let json = serde_json::json!({
            "server_name": "a.example",
            "verify_keys": verify,
            "old_verify_keys": old,
            "valid_until_ts": until,
            "signatures": signatures,
        });
        if let Ok(mut object) = Object::from_json(&json, Mode::Lenient) {
            if sign {
                signing_key("a.example").sign_object("a.example", &mut object);
            }
            if let Ok(answer) = read(object, "a.example", &revoked(), NOW) {
                prop_assert!(answer.valid_until_ms <= NOW + BELIEVED_MS);
                prop_assert!(answer.keys.iter().any(|(_, key)| !key.retired));
            }
        }
    }
}
