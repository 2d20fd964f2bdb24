//! Upload and query.

use serde_json::{Value, json};
use skerry_account::e2e::{self, KeyQuery, KeyUpload, KeysError, Owner};
use skerry_core::Pos;

use super::house::{House, device_keys, one_time, parsed};

fn body(value: Value) -> KeyUpload {
    serde_json::from_str(&value.to_string()).unwrap()
}

#[tokio::test]
async fn uploaded_keys_are_found_by_everybody() {
    let house = House::new();
    let alice = house.person("alice", &["A1", "A2"]).await;
    let bob = house.person("bob", &[]).await;
    let keys = device_keys(&alice, "A1", 1);
    house
        .upload(&alice, "A1", json!({ "device_keys": keys }))
        .await;
    let found = house.query(&bob, &alice).await;
    let devices = &found.device_keys[&*alice.user_id];
    assert_eq!(devices.len(), 1, "a device without keys is not listed");
    let mut expected = keys;
    expected["unsigned"] = json!({});
    assert_eq!(parsed(&devices["A1"]), expected);
    house
        .accounts
        .rename_device(alice.user, "A1", Some("Phone".to_owned()))
        .await
        .unwrap();
    let found = house.query(&bob, &alice).await;
    let seen = parsed(&found.device_keys[&*alice.user_id]["A1"]);
    assert_eq!(seen["unsigned"], json!({ "device_display_name": "Phone" }));
}

#[tokio::test]
async fn a_query_answers_for_those_it_can_answer_for() {
    let house = House::new();
    let alice = house.person("alice", &["A1"]).await;
    house
        .upload(
            &alice,
            "A1",
            json!({ "device_keys": device_keys(&alice, "A1", 1) }),
        )
        .await;
    let query = json!({ "device_keys": {
        &*alice.user_id: ["A1", "NOPE"],
        "@nobody:skerry.test": [],
        "@far:away.example": ["X"],
    }});
    let query: KeyQuery = serde_json::from_value(query).unwrap();
    let found = house.keys.query(&alice, query).await.unwrap();
    assert_eq!(found.device_keys.len(), 1);
    let devices: Vec<_> = found.device_keys[&*alice.user_id].keys().collect();
    assert_eq!(devices, ["A1"]);
    assert_eq!(
        found.remote.keys().collect::<Vec<_>>(),
        ["@far:away.example"]
    );
    let bob = house.person("bob", &["B1"]).await;
    let found = house.query(&alice, &bob).await;
    assert!(
        found.device_keys[&*bob.user_id].is_empty(),
        "known, but without keys"
    );
}

/// More identity keys than a device has.
fn many_keys() -> Value {
    let key = |n| (format!("ed25519:{n}"), json!("x"));
    Value::Object((0..40).map(key).collect())
}

#[tokio::test]
async fn identity_keys_must_be_those_of_the_device() {
    let house = House::new();
    let alice = house.person("alice", &["A1", "A2"]).await;
    let bob = house.person("bob", &[]).await;
    let good = device_keys(&alice, "A1", 1);
    let changed = |name: &str, value: Value| {
        let mut keys = good.clone();
        keys[name] = value;
        keys
    };
    let bad = [
        device_keys(&bob, "A1", 1),
        device_keys(&alice, "A2", 1),
        changed("algorithms", json!("m.olm")),
        changed("algorithms", json!([1])),
        changed("keys", json!({ "ed25519:A1": 5 })),
        changed("keys", json!({ "ed25519": "x" })),
        changed("keys", json!({ ":A1": "x" })),
        changed("keys", many_keys()),
        changed("signatures", json!({ "@alice:skerry.test": "x" })),
        changed("more", json!(0.5)),
        json!({ "user_id": &*alice.user_id, "device_id": "A1" }),
        json!([]),
    ];
    for keys in bad {
        let error = house
            .keys
            .upload(&alice, "A1", body(json!({ "device_keys": keys })))
            .await;
        assert!(
            matches!(error, Err(KeysError::Shape(_))),
            "{keys}: {error:?}"
        );
    }
    assert!(house.query(&alice, &alice).await.device_keys[&*alice.user_id].is_empty());
    let error = house.keys.upload(&alice, "GONE", body(json!({}))).await;
    assert!(matches!(error, Err(KeysError::NoDevice)));
}

#[tokio::test]
async fn one_time_keys_are_counted_and_never_overwritten() {
    let house = House::new();
    let alice = house.person("alice", &["A1"]).await;
    let keys = one_time(["a".to_owned(), "b".to_owned()]);
    let none = house.upload(&alice, "A1", json!({})).await;
    assert_eq!(none, json!({ "signed_curve25519": 0 }));
    let two = house
        .upload(&alice, "A1", json!({ "one_time_keys": keys }))
        .await;
    assert_eq!(two, json!({ "signed_curve25519": 2 }));
    let again = house
        .upload(&alice, "A1", json!({ "one_time_keys": keys }))
        .await;
    assert_eq!(again, two, "the same content again is well");
    let clash = json!({ "one_time_keys": {
        "signed_curve25519:0new": { "key": "n" },
        "signed_curve25519:b": { "key": "another" },
    }});
    let error = house.keys.upload(&alice, "A1", body(clash)).await;
    assert!(matches!(error, Err(KeysError::KeyTaken(id)) if id == "signed_curve25519:b"));
    let counts = e2e::key_counts(&house.snap(), alice.user, "A1").unwrap();
    assert_eq!(counts.one_time["signed_curve25519"], 2, "all or nothing");
    for bad in ["noalgorithm", ":x", "x:"] {
        let error = house
            .keys
            .upload(&alice, "A1", body(json!({ "one_time_keys": { bad: "k" } })));
        assert!(matches!(error.await, Err(KeysError::Shape(_))));
    }
    let error = house
        .keys
        .upload(&alice, "A1", body(json!({ "one_time_keys": { "a:b": 5 } })));
    assert!(matches!(error.await, Err(KeysError::Shape(_))));
    let plain = house
        .upload(
            &alice,
            "A1",
            json!({ "one_time_keys": { "old:x": "text" } }),
        )
        .await;
    assert_eq!(plain, json!({ "signed_curve25519": 2, "old": 1 }));
}

async fn lists(house: &House, owner: &Owner) -> Pos {
    e2e::list_pos(&house.snap(), owner.user).unwrap()
}

#[tokio::test]
async fn changes_of_devices_move_the_list_and_others_do_not() {
    let house = House::new();
    let alice = house.person("alice", &["A1"]).await;
    let bob = house.person("bob", &["B1"]).await;
    let start = lists(&house, &alice).await;
    assert!(start > Pos::ZERO, "a new device");
    let keys = json!({ "device_keys": device_keys(&alice, "A1", 1) });
    house.upload(&alice, "A1", keys.clone()).await;
    let uploaded = lists(&house, &alice).await;
    assert!(uploaded > start);
    house.upload(&alice, "A1", keys).await;
    house
        .upload(
            &alice,
            "A1",
            json!({ "one_time_keys": one_time(["a".to_owned()]) }),
        )
        .await;
    assert_eq!(
        lists(&house, &alice).await,
        uploaded,
        "nothing that others have to look at"
    );
    house
        .accounts
        .rename_device(alice.user, "A1", Some("Phone".to_owned()))
        .await
        .unwrap();
    let renamed = lists(&house, &alice).await;
    assert!(renamed > uploaded);
    house
        .accounts
        .delete_devices(alice.user, vec!["A1".to_owned()])
        .await
        .unwrap();
    assert!(lists(&house, &alice).await > renamed);
    let snap = house.snap();
    let both = [alice.user, bob.user];
    assert_eq!(
        e2e::lists_changed(&snap, &both, uploaded).unwrap(),
        [alice.user]
    );
    assert_eq!(e2e::lists_changed(&snap, &both, snap.head()).unwrap(), []);
}

#[tokio::test]
async fn a_deleted_device_leaves_no_key_behind() {
    let house = House::new();
    let alice = house.person("alice", &["A1"]).await;
    let all = json!({
        "device_keys": device_keys(&alice, "A1", 1),
        "one_time_keys": one_time(["a".to_owned()]),
        "fallback_keys": { "signed_curve25519:f": { "key": "f", "fallback": true } },
    });
    house.upload(&alice, "A1", all).await;
    house
        .accounts
        .delete_devices(alice.user, vec!["A1".to_owned()])
        .await
        .unwrap();
    let gone = |house: &House| e2e::key_counts(&house.snap(), alice.user, "A1").unwrap();
    assert_eq!(gone(&house).one_time["signed_curve25519"], 0);
    assert!(gone(&house).unused_fallback.is_empty());
    house.log_in(&alice, "A1").await;
    assert!(house.query(&alice, &alice).await.device_keys[&*alice.user_id].is_empty());
    assert_eq!(house.claim(&alice, "A1").await, None);
    let other = json!({ "one_time_keys": { "signed_curve25519:a": { "key": "other" } } });
    assert_eq!(
        house.upload(&alice, "A1", other).await,
        json!({ "signed_curve25519": 1 })
    );
}

#[tokio::test]
async fn a_device_has_keys_of_few_algorithms() {
    let house = House::new();
    let alice = house.person("alice", &["A1"]).await;
    let named = |from: usize, to: usize| -> Value {
        let keys = (from..to).map(|n| (format!("algorithm{n}:1"), json!("key")));
        Value::Object(keys.collect())
    };
    for kind in ["one_time_keys", "fallback_keys"] {
        let many = house
            .keys
            .upload(&alice, "A1", body(json!({ kind: named(0, 17) })))
            .await;
        assert!(matches!(many, Err(KeysError::TooMany)), "{kind}");
        house
            .upload(&alice, "A1", json!({ kind: named(0, 16) }))
            .await;
        let more = house
            .keys
            .upload(&alice, "A1", body(json!({ kind: named(16, 17) })))
            .await;
        assert!(matches!(more, Err(KeysError::TooMany)), "{kind}");
    }
}

#[tokio::test]
async fn a_device_named_again_and_again_is_read_once() {
    let house = House::new();
    let alice = house.person("alice", &["A1"]).await;
    let mut keys = device_keys(&alice, "A1", 1);
    keys["org.example.filler"] = json!("x".repeat(60_000));
    let keys = {
        let mut keys = keys;
        keys.as_object_mut().unwrap().remove("signatures");
        super::house::sign(
            &mut keys,
            &alice.user_id,
            "ed25519:A1",
            &super::house::signing_key(1),
        );
        keys
    };
    house
        .upload(&alice, "A1", json!({ "device_keys": keys }))
        .await;
    let query = json!({ "device_keys": { &*alice.user_id: vec!["A1"; 200_000] } });
    let query: KeyQuery = serde_json::from_value(query).unwrap();
    // Read for each mention, this would take 12 GB.
    let found = house.keys.query(&alice, query).await.unwrap();
    assert_eq!(found.device_keys[&*alice.user_id].len(), 1);
}
