//! Cross-signing keys and signatures.

use serde_json::{Value, json};
use skerry_account::e2e::{
    self, CrossSigningOutcome, CrossSigningUpload, KeysError, Owner, SignatureFailure,
    SignatureUpload,
};

use super::house::{
    House, cross_id, cross_key, device_keys, parsed, public, raw, sign, signing_key,
};

const MASTER: u8 = 11;
const SELF: u8 = 12;
const USER: u8 = 13;

fn signed_key(owner: &Owner, usage: &str, seed: u8, master: u8) -> Value {
    let mut key = cross_key(owner, usage, seed);
    sign(
        &mut key,
        &owner.user_id,
        &cross_id(master),
        &signing_key(master),
    );
    key
}

fn all_keys(owner: &Owner, base: u8) -> CrossSigningUpload {
    CrossSigningUpload {
        master_key: Some(raw(cross_key(owner, "master", base + MASTER))),
        self_signing_key: Some(raw(signed_key(
            owner,
            "self_signing",
            base + SELF,
            base + MASTER,
        ))),
        user_signing_key: Some(raw(signed_key(
            owner,
            "user_signing",
            base + USER,
            base + MASTER,
        ))),
    }
}

fn only_master(owner: &Owner, seed: u8) -> CrossSigningUpload {
    let master_key = Some(raw(cross_key(owner, "master", seed)));
    CrossSigningUpload {
        master_key,
        ..CrossSigningUpload::default()
    }
}

async fn put(house: &House, owner: &Owner, keys: &CrossSigningUpload) {
    let outcome = house
        .keys
        .upload_cross_signing(owner, keys, true)
        .await
        .unwrap();
    assert_eq!(outcome, CrossSigningOutcome::Stored);
}

fn signatures(value: Value) -> SignatureUpload {
    serde_json::from_str(&value.to_string()).unwrap()
}

#[tokio::test]
async fn keys_are_shown_to_whom_they_concern() {
    let house = House::new();
    let alice = house.person("alice", &["A1"]).await;
    let bob = house.person("bob", &[]).await;
    put(&house, &alice, &all_keys(&alice, 0)).await;
    let own = house.query(&alice, &alice).await;
    let id = &*alice.user_id;
    assert_eq!(
        parsed(&own.master_keys[id]),
        cross_key(&alice, "master", MASTER)
    );
    let expected = signed_key(&alice, "self_signing", SELF, MASTER);
    assert_eq!(parsed(&own.self_signing_keys[id]), expected);
    assert!(own.user_signing_keys.contains_key(id));
    let other = house.query(&bob, &alice).await;
    assert!(other.master_keys.contains_key(id) && other.self_signing_keys.contains_key(id));
    assert!(other.user_signing_keys.is_empty());
}

#[tokio::test]
async fn replacing_keys_needs_authentication_and_repeating_does_not() {
    let house = House::new();
    let alice = house.person("alice", &["A1"]).await;
    let upload = async |keys: CrossSigningUpload| {
        house
            .keys
            .upload_cross_signing(&alice, &keys, false)
            .await
            .unwrap()
    };
    assert_eq!(
        upload(all_keys(&alice, 0)).await,
        CrossSigningOutcome::Stored
    );
    assert_eq!(
        upload(all_keys(&alice, 0)).await,
        CrossSigningOutcome::Stored
    );
    assert_eq!(
        upload(only_master(&alice, MASTER)).await,
        CrossSigningOutcome::Stored
    );
    assert_eq!(
        upload(all_keys(&alice, 20)).await,
        CrossSigningOutcome::NeedsAuth
    );
    let before = house.query(&alice, &alice).await;
    assert_eq!(
        parsed(&before.master_keys[&*alice.user_id]),
        cross_key(&alice, "master", MASTER)
    );
    put(&house, &alice, &only_master(&alice, 40)).await;
    let after = house.query(&alice, &alice).await;
    assert!(
        after.self_signing_keys.is_empty(),
        "not signed by the new master key"
    );
    assert!(after.user_signing_keys.is_empty());
}

#[tokio::test]
async fn keys_must_be_signed_by_the_master_key() {
    let house = House::new();
    let alice = house.person("alice", &[]).await;
    let bob = house.person("bob", &[]).await;
    let try_it = async |keys: CrossSigningUpload| {
        house
            .keys
            .upload_cross_signing(&alice, &keys, true)
            .await
            .unwrap_err()
    };
    let lone = CrossSigningUpload {
        self_signing_key: Some(raw(signed_key(&alice, "self_signing", SELF, MASTER))),
        ..CrossSigningUpload::default()
    };
    assert!(matches!(try_it(lone).await, KeysError::NoMaster));
    let unsigned = CrossSigningUpload {
        self_signing_key: Some(raw(cross_key(&alice, "self_signing", SELF))),
        ..all_keys(&alice, 0)
    };
    assert!(matches!(try_it(unsigned).await, KeysError::Signature(_)));
    let mut forged = cross_key(&alice, "self_signing", SELF);
    sign(
        &mut forged,
        &alice.user_id,
        &cross_id(MASTER),
        &signing_key(99),
    );
    let forged = CrossSigningUpload {
        self_signing_key: Some(raw(forged)),
        ..all_keys(&alice, 0)
    };
    assert!(matches!(try_it(forged).await, KeysError::Signature(_)));
    assert!(matches!(
        try_it(only_master(&bob, MASTER)).await,
        KeysError::Shape(_)
    ));
    let mut two = cross_key(&alice, "master", MASTER);
    two["keys"]["ed25519:more"] = json!("more");
    let two = CrossSigningUpload {
        master_key: Some(raw(two)),
        ..CrossSigningUpload::default()
    };
    assert!(matches!(try_it(two).await, KeysError::Shape(_)));
    let wrong = raw(cross_key(&alice, "self_signing", MASTER));
    let wrong = CrossSigningUpload {
        master_key: Some(wrong),
        ..CrossSigningUpload::default()
    };
    assert!(matches!(try_it(wrong).await, KeysError::Shape(_)));
}

#[tokio::test]
async fn public_keys_and_device_ids_do_not_mix() {
    let house = House::new();
    let taken = public(&signing_key(MASTER));
    let alice = house.person("alice", &[&taken]).await;
    let error = house
        .keys
        .upload_cross_signing(&alice, &only_master(&alice, MASTER), true)
        .await;
    assert!(matches!(error, Err(KeysError::KeyIdInUse)));
    put(&house, &alice, &only_master(&alice, 40)).await;
    let name = public(&signing_key(40));
    assert!(e2e::is_cross_signing_key(&house.snap(), alice.user, &name).unwrap());
    assert!(!e2e::is_cross_signing_key(&house.snap(), alice.user, &taken).unwrap());
}

#[tokio::test]
async fn own_devices_and_master_key_are_signed_for_all_to_see() {
    let house = House::new();
    let alice = house.person("alice", &["A1"]).await;
    let bob = house.person("bob", &[]).await;
    let keys = device_keys(&alice, "A1", 1);
    house
        .upload(&alice, "A1", json!({ "device_keys": keys }))
        .await;
    put(&house, &alice, &all_keys(&alice, 0)).await;
    let before = e2e::list_pos(&house.snap(), alice.user).unwrap();
    let mut device = keys;
    sign(
        &mut device,
        &alice.user_id,
        &cross_id(SELF),
        &signing_key(SELF),
    );
    let mut master = cross_key(&alice, "master", MASTER);
    sign(&mut master, &alice.user_id, "ed25519:A1", &signing_key(1));
    let master_id = public(&signing_key(MASTER));
    let upload = json!({ &*alice.user_id: { "A1": device, master_id: master } });
    for _ in 0..2 {
        let failures = house
            .keys
            .upload_signatures(&alice, signatures(upload.clone()))
            .await;
        assert!(failures.unwrap().is_empty());
    }
    assert!(e2e::list_pos(&house.snap(), alice.user).unwrap() > before);
    let seen = house.query(&bob, &alice).await;
    let id = &*alice.user_id;
    let mut expected = device;
    expected["unsigned"] = json!({});
    assert_eq!(parsed(&seen.device_keys[id]["A1"]), expected);
    assert_eq!(parsed(&seen.master_keys[id]), master);
    house
        .accounts
        .delete_devices(alice.user, vec!["A1".to_owned()])
        .await
        .unwrap();
    let seen = house.query(&bob, &alice).await;
    assert_eq!(
        parsed(&seen.master_keys[id]),
        cross_key(&alice, "master", MASTER)
    );
}

#[tokio::test]
async fn a_signature_on_another_user_is_seen_by_its_maker_alone() {
    let house = House::new();
    let alice = house.person("alice", &[]).await;
    let bob = house.person("bob", &[]).await;
    let carol = house.person("carol", &[]).await;
    put(&house, &alice, &all_keys(&alice, 0)).await;
    put(&house, &bob, &all_keys(&bob, 50)).await;
    let since = house.snap().head();
    let mut master = cross_key(&bob, "master", 50 + MASTER);
    sign(
        &mut master,
        &alice.user_id,
        &cross_id(USER),
        &signing_key(USER),
    );
    let item = public(&signing_key(50 + MASTER));
    let upload = json!({ &*bob.user_id: { item: master } });
    let failures = house
        .keys
        .upload_signatures(&alice, signatures(upload))
        .await
        .unwrap();
    assert!(failures.is_empty());
    let seen_by =
        async |viewer: &Owner| parsed(&house.query(viewer, &bob).await.master_keys[&*bob.user_id]);
    assert_eq!(seen_by(&alice).await, master);
    for viewer in [&bob, &carol] {
        assert_eq!(
            seen_by(viewer).await,
            cross_key(&bob, "master", 50 + MASTER)
        );
    }
    let snap = house.snap();
    assert_eq!(
        e2e::private_changes(&snap, alice.user, since).unwrap(),
        [bob.user]
    );
    assert!(
        e2e::private_changes(&snap, bob.user, since)
            .unwrap()
            .is_empty()
    );
    assert!(
        e2e::lists_changed(&snap, &[bob.user], since)
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn a_new_user_signing_key_is_news_for_its_owner_alone() {
    let house = House::new();
    let alice = house.person("alice", &[]).await;
    put(&house, &alice, &only_master(&alice, MASTER)).await;
    let since = house.snap().head();
    let user_signing_key = Some(raw(signed_key(&alice, "user_signing", USER, MASTER)));
    put(
        &house,
        &alice,
        &CrossSigningUpload {
            user_signing_key,
            ..Default::default()
        },
    )
    .await;
    let snap = house.snap();
    assert!(
        e2e::lists_changed(&snap, &[alice.user], since)
            .unwrap()
            .is_empty()
    );
    assert_eq!(
        e2e::private_changes(&snap, alice.user, since).unwrap(),
        [alice.user]
    );
}

#[tokio::test]
async fn each_bad_signature_is_named_and_the_good_ones_count() {
    let house = House::new();
    let alice = house.person("alice", &["A1", "A2", "A3"]).await;
    put(&house, &alice, &all_keys(&alice, 0)).await;
    let mut upload = json!({});
    for (device, seed) in [("A1", 1), ("A2", 2), ("A3", 3)] {
        let mut keys = device_keys(&alice, device, seed);
        house
            .upload(&alice, device, json!({ "device_keys": keys }))
            .await;
        let signer = if device == "A2" {
            signing_key(99)
        } else {
            signing_key(SELF)
        };
        if device == "A3" {
            keys["algorithms"] = json!([]);
        }
        sign(&mut keys, &alice.user_id, &cross_id(SELF), &signer);
        upload[&*alice.user_id][device] = keys;
    }
    upload[&*alice.user_id]["A4"] = device_keys(&alice, "A4", 4);
    upload["@nobody:skerry.test"]["X"] = json!({});
    let failures = house
        .keys
        .upload_signatures(&alice, signatures(upload))
        .await
        .unwrap();
    let own = &failures[&*alice.user_id];
    assert!(!own.contains_key("A1"));
    assert_eq!(own["A2"], SignatureFailure::Invalid);
    assert_eq!(own["A3"], SignatureFailure::Mismatch);
    assert_eq!(own["A4"], SignatureFailure::NotFound);
    assert_eq!(
        failures["@nobody:skerry.test"]["X"],
        SignatureFailure::NotFound
    );
}
