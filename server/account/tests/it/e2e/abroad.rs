//! Devices across servers: two servers in one process, what one sends handed to the other.

use serde_json::{Value, json};
use skerry_account::TxnKey;
use skerry_account::e2e::{
    self, ClaimRequest, CrossSigningUpload, FetchedList, KeyQuery, ListUpdate, Messages, Owner,
    Sender, SigningKeyUpdate, Taken,
};
use skerry_core::{Pos, ServerNid};
use skerry_store::outbox::{self, Dest, Standing};
use skerry_store::schema::e2e::{DeviceKeyRow, DeviceKeyTable};

use super::house::{
    House, cross_id, cross_key, device_keys, one_time, parsed, raw, sign, signing_key,
};

pub(super) const THERE: &str = "there.test";

/// What waits for the other server, in order; taken off the queue.
pub(super) fn sent(house: &House, server: &str) -> Vec<(String, Value)> {
    let Some(server) = house.store.server_nid(server).unwrap() else {
        return Vec::new();
    };
    let dest = Dest::Server(server);
    let items = outbox::pending(&house.store.newest(), &dest, 1_000).unwrap();
    let mut w = house.store.write();
    outbox::clear(&mut w, &dest);
    house.commit(w);
    let edus = items.iter().map(|(_, item)| {
        let edu: Value = serde_json::from_slice(item).unwrap();
        let kind = edu["edu_type"].as_str().unwrap().to_owned();
        (kind, edu["content"].clone())
    });
    edus.collect()
}

pub(super) fn tell(house: &House, owner: &Owner, server: &str) -> Vec<(String, Value)> {
    let server = house.store.intern_server(server).unwrap();
    tell_only(house, owner, server);
    sent(house, &house.store.server_name(server).unwrap())
}

fn tell_only(house: &House, owner: &Owner, server: ServerNid) {
    let (snap, mut w) = (house.store.newest(), house.store.write());
    house
        .keys
        .tell_servers(&snap, &mut w, owner.user, &[server])
        .unwrap();
    if !w.is_empty() {
        house.commit(w);
    }
}

pub(super) fn update(content: &Value) -> ListUpdate {
    serde_json::from_str(&content.to_string()).unwrap()
}

/// The owner's list as it is served, taken by the other server.
pub(super) async fn fetch(from: &House, to: &House, owner: &Owner, missed: u64) -> bool {
    let list = from.keys.served_list(&owner.user_id).await.unwrap();
    let list: FetchedList = serde_json::from_str(&json!(list).to_string()).unwrap();
    let user = to.store.user_nid(&owner.user_id).unwrap().unwrap();
    to.keys
        .put_list(&owner.user_id, user, missed, list)
        .await
        .unwrap()
}

/// The names of the devices that one server knows of another's user.
pub(super) async fn known(house: &House, viewer: &Owner, owner: &Owner) -> Option<Vec<String>> {
    let found = house.query(viewer, owner).await;
    let devices = found.device_keys.get(&*owner.user_id)?;
    Some(devices.keys().cloned().collect())
}

pub(super) async fn upload(house: &House, owner: &Owner, device: &str, seed: u8) {
    let keys = device_keys(owner, device, seed);
    house
        .upload(owner, device, json!({ "device_keys": keys }))
        .await;
}

#[tokio::test]
async fn a_list_is_fetched_once_and_then_kept_up_to_date() {
    let (here, there) = (House::new(), House::of(THERE));
    let alice = here.person("alice", &["A1"]).await;
    upload(&here, &alice, "A1", 1).await;
    let bob = there.person("bob", &["B1"]).await;
    let user = there.store.intern_user(&alice.user_id).unwrap();

    let first = tell(&here, &alice, THERE);
    assert_eq!(first.len(), 1);
    assert_eq!(first[0].0, "m.device_list_update");
    assert_eq!(first[0].1["prev_id"], json!([]), "the first of a sequence");
    assert_eq!(first[0].1.get("device_display_name"), None);
    // Nobody there has asked for the list: those who share a room are told that there is one.
    let taken = there.keys.take_list_update(update(&first[0].1), true).await;
    assert_eq!(taken.unwrap(), Taken::Applied);
    assert_eq!(known(&there, &bob, &alice).await, None);

    let missed = there.keys.begin_fetch(user).await.unwrap();
    assert!(fetch(&here, &there, &alice, missed).await);
    assert_eq!(known(&there, &bob, &alice).await.unwrap(), ["A1"]);

    here.log_in(&alice, "A2").await;
    upload(&here, &alice, "A2", 2).await;
    let before = e2e::list_pos(&there.snap(), user).unwrap();
    for (kind, content) in tell(&here, &alice, THERE) {
        assert_eq!(kind, "m.device_list_update");
        let taken = there.keys.take_list_update(update(&content), true).await;
        assert_eq!(taken.unwrap(), Taken::Applied);
    }
    assert_eq!(known(&there, &bob, &alice).await.unwrap(), ["A1", "A2"]);
    assert!(
        e2e::list_pos(&there.snap(), user).unwrap() > before,
        "clients are told"
    );

    here.accounts
        .delete_devices(alice.user, vec!["A1".to_owned()])
        .await
        .unwrap();
    let gone = tell(&here, &alice, THERE);
    assert_eq!(gone[0].1["deleted"], json!(true));
    let again = gone[0].1.clone();
    for (_, content) in gone {
        there
            .keys
            .take_list_update(update(&content), true)
            .await
            .unwrap();
    }
    assert_eq!(known(&there, &bob, &alice).await.unwrap(), ["A2"]);
    let taken = there.keys.take_list_update(update(&again), true).await;
    assert_eq!(taken.unwrap(), Taken::Nothing, "it comes a second time");
    assert!(tell(&here, &alice, THERE).is_empty(), "nothing is new");
}

#[tokio::test]
async fn a_missed_update_makes_the_list_stale_until_it_is_fetched_again() {
    let (here, there) = (House::new(), House::of(THERE));
    let alice = here.person("alice", &["A1", "A2", "A3"]).await;
    upload(&here, &alice, "A1", 1).await;
    let bob = there.person("bob", &["B1"]).await;
    let user = there.store.intern_user(&alice.user_id).unwrap();
    tell(&here, &alice, THERE);
    let missed = there.keys.begin_fetch(user).await.unwrap();
    assert!(fetch(&here, &there, &alice, missed).await);

    upload(&here, &alice, "A2", 2).await;
    let lost = tell(&here, &alice, THERE);
    assert_eq!(lost.len(), 1);
    upload(&here, &alice, "A3", 3).await;
    let next = tell(&here, &alice, THERE);
    assert_eq!(next[0].1["prev_id"], json!([lost[0].1["stream_id"]]));
    let taken = there.keys.take_list_update(update(&next[0].1), true).await;
    assert_eq!(taken.unwrap(), Taken::Gap);
    assert!(!e2e::is_fresh(&there.snap(), user).unwrap());
    assert_eq!(known(&there, &bob, &alice).await, None, "it is asked for");
    let due = e2e::lists_due(&there.snap(), 0, 10).unwrap();
    assert_eq!(
        due,
        [user],
        "also after a restart, and with a clock that was wrong"
    );
    let query = KeyQuery {
        device_keys: [(alice.user_id.to_string(), Vec::new())].into(),
    };
    let old = there.keys.query_known(&bob, query).await.unwrap();
    assert_eq!(
        old.device_keys[&*alice.user_id].len(),
        1,
        "better than nothing"
    );

    // While the list is on its way, something else is missed: what comes may be too old.
    let missed = there.keys.begin_fetch(user).await.unwrap();
    there
        .keys
        .take_list_update(update(&next[0].1), true)
        .await
        .unwrap();
    assert!(!fetch(&here, &there, &alice, missed).await);
    assert!(!e2e::is_fresh(&there.snap(), user).unwrap());
    let missed = there.keys.begin_fetch(user).await.unwrap();
    assert!(fetch(&here, &there, &alice, missed).await);
    assert_eq!(
        known(&there, &bob, &alice).await.unwrap(),
        ["A1", "A2", "A3"]
    );
    assert!(
        e2e::lists_due(&there.snap(), u64::MAX, 10)
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn a_list_that_cannot_be_fetched_waits_longer_each_time() {
    let there = House::of(THERE);
    let user = there.store.intern_user("@alice:skerry.test").unwrap();
    there.keys.begin_fetch(user).await.unwrap();
    let mut pauses = Vec::new();
    for _ in 0..3 {
        there.keys.fetch_failed(user).await.unwrap();
        let now = there.clock_ms();
        let mut wait = 0;
        while e2e::lists_due(&there.snap(), now + wait, 1)
            .unwrap()
            .is_empty()
        {
            wait += 60_000;
        }
        pauses.push(wait);
    }
    assert_eq!(pauses, [60_000, 120_000, 240_000]);
    let (snap, mut w) = (there.store.newest(), there.store.write());
    e2e::unfollow(&snap, &mut w, user).unwrap();
    there.commit(w);
    there.keys.fetch_failed(user).await.unwrap();
    assert!(!e2e::is_followed(&there.snap(), user).unwrap());
}

#[tokio::test]
async fn a_server_that_was_away_is_told_of_each_device_once() {
    let here = House::new();
    let alice = here.person("alice", &["A1"]).await;
    upload(&here, &alice, "A1", 1).await;
    let server = here.store.intern_server(THERE).unwrap();
    assert_eq!(tell(&here, &alice, THERE).len(), 1);
    let mut w = here.store.write();
    let failing = Standing {
        failures: 3,
        retry_at_ms: 1,
        failing_since_ms: 1,
        success_ms: None,
    };
    outbox::set_standing(&mut w, &Dest::Server(server), &failing);
    here.commit(w);
    for seed in 2..10 {
        upload(&here, &alice, "A1", seed).await;
        tell_only(&here, &alice, server);
    }
    assert!(e2e::late_servers(&here.store.newest()).unwrap().is_empty());
    let mut w = here.store.write();
    outbox::forget_standing(&mut w, &Dest::Server(server));
    here.commit(w);
    assert_eq!(e2e::late_servers(&here.store.newest()).unwrap(), [server]);
    let (snap, mut w) = (here.store.newest(), here.store.write());
    let more = here
        .keys
        .tell_late(&snap, &mut w, server, |_| Ok(true))
        .unwrap();
    assert!(!more);
    here.commit(w);
    let told = sent(&here, THERE);
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].1["keys"], {
        let mut keys = device_keys(&alice, "A1", 9);
        keys["unsigned"] = json!({});
        keys
    });
    assert!(e2e::late_servers(&here.store.newest()).unwrap().is_empty());
}

#[tokio::test]
async fn cross_signing_keys_and_signatures_cross_over() {
    let (here, there) = (House::new(), House::of(THERE));
    let alice = here.person("alice", &["A1"]).await;
    upload(&here, &alice, "A1", 1).await;
    tell(&here, &alice, THERE);
    let bob = there.person("bob", &["B1"]).await;
    let user = there.store.intern_user(&alice.user_id).unwrap();
    let missed = there.keys.begin_fetch(user).await.unwrap();
    fetch(&here, &there, &alice, missed).await;

    let mut own = cross_key(&alice, "self_signing", 11);
    sign(&mut own, &alice.user_id, &cross_id(10), &signing_key(10));
    let keys = CrossSigningUpload {
        master_key: Some(raw(cross_key(&alice, "master", 10))),
        self_signing_key: Some(raw(own)),
        user_signing_key: None,
    };
    here.keys
        .upload_cross_signing(&alice, &keys, true)
        .await
        .unwrap();
    let edus = tell(&here, &alice, THERE);
    assert_eq!(edus.len(), 1);
    assert_eq!(edus[0].0, "m.signing_key_update");
    let keys: SigningKeyUpdate = serde_json::from_str(&edus[0].1.to_string()).unwrap();
    there.keys.take_signing_keys(keys, true).await.unwrap();
    let found = there.query(&bob, &alice).await;
    let master = parsed(&found.master_keys[&*alice.user_id]);
    assert_eq!(master, cross_key(&alice, "master", 10));
    assert!(found.self_signing_keys.contains_key(&*alice.user_id));

    // Bob signs Alice's master key; nobody else sees that.
    let mut signing = cross_key(&bob, "user_signing", 21);
    sign(&mut signing, &bob.user_id, &cross_id(20), &signing_key(20));
    let keys = CrossSigningUpload {
        master_key: Some(raw(cross_key(&bob, "master", 20))),
        self_signing_key: None,
        user_signing_key: Some(raw(signing)),
    };
    there
        .keys
        .upload_cross_signing(&bob, &keys, true)
        .await
        .unwrap();
    let mut signed = cross_key(&alice, "master", 10);
    sign(&mut signed, &bob.user_id, &cross_id(21), &signing_key(21));
    let item = cross_id(10).trim_start_matches("ed25519:").to_owned();
    let upload = [(
        alice.user_id.to_string(),
        [(item, raw(signed.clone()))].into(),
    )]
    .into();
    let failures = there.keys.upload_signatures(&bob, upload).await.unwrap();
    assert!(failures.is_empty(), "{failures:?}");
    let found = there.query(&bob, &alice).await;
    let seen = parsed(&found.master_keys[&*alice.user_id]);
    assert_eq!(seen["signatures"], signed["signatures"]);
    let carol = there.person("carol", &[]).await;
    let found = there.query(&carol, &alice).await;
    let seen = parsed(&found.master_keys[&*alice.user_id]);
    assert_eq!(seen.get("signatures"), None);

    // A self-signing key that the master key did not sign is not taken.
    let forged = json!({
        "user_id": &*alice.user_id,
        "self_signing_key": cross_key(&alice, "self_signing", 12),
    });
    let keys: SigningKeyUpdate = serde_json::from_str(&forged.to_string()).unwrap();
    assert_eq!(
        there.keys.take_signing_keys(keys, true).await.unwrap(),
        Taken::Nothing
    );
}

#[tokio::test]
async fn signing_a_device_is_told_as_an_update_of_it() {
    let here = House::new();
    let alice = here.person("alice", &["A1"]).await;
    upload(&here, &alice, "A1", 1).await;
    let mut own = cross_key(&alice, "self_signing", 11);
    sign(&mut own, &alice.user_id, &cross_id(10), &signing_key(10));
    let keys = CrossSigningUpload {
        master_key: Some(raw(cross_key(&alice, "master", 10))),
        self_signing_key: Some(raw(own)),
        user_signing_key: None,
    };
    here.keys
        .upload_cross_signing(&alice, &keys, true)
        .await
        .unwrap();
    tell(&here, &alice, THERE);
    let mut signed = device_keys(&alice, "A1", 1);
    sign(&mut signed, &alice.user_id, &cross_id(11), &signing_key(11));
    let upload = [(
        alice.user_id.to_string(),
        [("A1".to_owned(), raw(signed.clone()))].into(),
    )];
    here.keys
        .upload_signatures(&alice, upload.into())
        .await
        .unwrap();
    let edus = tell(&here, &alice, THERE);
    assert_eq!(edus.len(), 1);
    assert_eq!(edus[0].0, "m.device_list_update");
    assert_eq!(edus[0].1["keys"]["signatures"], signed["signatures"]);
}

/// CVE-2025-61672: keys that are not as the spec has them keep others from nothing.
#[tokio::test]
async fn cve_2025_61672_bad_keys_do_not_leave() {
    let (here, there) = (House::new(), House::of(THERE));
    let alice = here.person("alice", &["A1", "A2", "A3"]).await;
    upload(&here, &alice, "A1", 1).await;
    // As it might have been stored before it was checked, and a signature that is none.
    let mut w = here.store.write();
    let pos = w.stamp();
    let mut wrong = device_keys(&alice, "A3", 3);
    wrong["algorithms"] = json!(["other"]);
    for (device, json) in [("A2", json!({ "keys": "none" })), ("A3", wrong)] {
        let json = json.to_string();
        let slot = (alice.user, device.to_owned());
        w.put::<DeviceKeyTable>(&slot, &DeviceKeyRow { json, pos });
    }
    here.commit(w);
    let list = json!(here.keys.served_list(&alice.user_id).await.unwrap());
    let ids: Vec<_> = list["devices"]
        .as_array()
        .unwrap()
        .iter()
        .map(|d| &d["device_id"])
        .collect();
    assert_eq!(ids, ["A1"]);
    let query = json!({ "device_keys": { &*alice.user_id: [] } });
    let query = serde_json::from_value(query).unwrap();
    let found = here.keys.served_query(query).await.unwrap();
    assert_eq!(found.device_keys[&*alice.user_id].len(), 1);
    // And what comes from elsewhere in that shape is passed over, not the rest of the list.
    let mut list = list;
    list["devices"]
        .as_array_mut()
        .unwrap()
        .push(json!({ "device_id": "A4", "keys": [] }));
    let user = there.store.intern_user(&alice.user_id).unwrap();
    let missed = there.keys.begin_fetch(user).await.unwrap();
    let list: FetchedList = serde_json::from_str(&list.to_string()).unwrap();
    assert!(
        there
            .keys
            .put_list(&alice.user_id, user, missed, list)
            .await
            .unwrap()
    );
    let bob = there.person("bob", &[]).await;
    assert_eq!(known(&there, &bob, &alice).await.unwrap(), ["A1"]);
}

#[tokio::test]
async fn nothing_is_told_of_users_that_are_not_here() {
    let here = House::new();
    let error = here
        .keys
        .served_list("@nobody:skerry.test")
        .await
        .unwrap_err();
    assert!(matches!(error, e2e::KeysError::NoDevice));
    let query = json!({ "device_keys": { "@nobody:skerry.test": [], "@x:elsewhere.test": [] } });
    let query = serde_json::from_value(query).unwrap();
    let found = here.keys.served_query(query).await.unwrap();
    assert!(found.device_keys.is_empty());
    assert!(found.remote.is_empty());
}

fn sender(owner: &Owner, txn: &str) -> Sender {
    let path = "/sendToDevice/m.secret";
    Sender {
        user_id: owner.user_id.clone(),
        user: owner.user,
        txn: TxnKey::new(owner.user, "A1", "PUT", path, txn).unwrap(),
    }
}

fn messages(value: &Value) -> Messages {
    serde_json::from_str(&json!({ "messages": value }).to_string()).unwrap()
}

fn waiting(house: &House, owner: &Owner, device: &str) -> Vec<Value> {
    let snap = house.snap();
    let found = e2e::waiting(&snap, owner.user, device, Pos::ZERO, 100).unwrap();
    let parse = |json: &String| serde_json::from_str(json).unwrap();
    found.messages.iter().map(parse).collect()
}

#[tokio::test]
async fn a_message_to_a_device_elsewhere_arrives_exactly_once() {
    let (here, there) = (House::new(), House::of(THERE));
    let alice = here.person("alice", &["A1"]).await;
    let bob = there.person("bob", &["B1", "B2"]).await;
    let body = json!({
        &*bob.user_id: { "*": { "n": 1 } },
        &*alice.user_id: { "A1": { "n": 2 } },
        "not a user": { "X": {} },
    });
    for _ in 0..2 {
        let (sender, messages) = (sender(&alice, "t1"), messages(&body));
        here.keys
            .send_to_device(sender, "m.secret", messages)
            .await
            .unwrap();
    }
    assert_eq!(waiting(&here, &alice, "A1").len(), 1);
    let edus = sent(&here, THERE);
    assert_eq!(edus.len(), 1, "once, however often the transaction is sent");
    let (kind, content) = &edus[0];
    assert_eq!(kind, "m.direct_to_device");
    for _ in 0..2 {
        let taken = there
            .keys
            .take_direct("skerry.test", &raw(content.clone()))
            .await;
        assert!(taken.unwrap());
    }
    for device in ["B1", "B2"] {
        let expected = json!({
            "content": { "n": 1 }, "sender": &*alice.user_id, "type": "m.secret",
        });
        assert_eq!(waiting(&there, &bob, device), [expected]);
    }
    // The same id from another server is another message; nobody speaks for others.
    let taken = there
        .keys
        .take_direct("evil.test", &raw(content.clone()))
        .await;
    assert!(!taken.unwrap());
    let mut other = content.clone();
    other["sender"] = json!("@eve:evil.test");
    assert!(
        there
            .keys
            .take_direct("evil.test", &raw(other))
            .await
            .unwrap()
    );
    assert_eq!(waiting(&there, &bob, "B1").len(), 2);
    let there = there.restart();
    there
        .keys
        .take_direct("skerry.test", &raw(content.clone()))
        .await
        .unwrap();
    assert_eq!(waiting(&there, &bob, "B1").len(), 2, "also after a restart");
}

#[tokio::test]
async fn many_messages_to_one_server_go_in_pieces() {
    let (here, there) = (House::new(), House::of(THERE));
    let alice = here.person("alice", &["A1"]).await;
    let bob = there.person("bob", &["B0", "B1", "B2", "B3"]).await;
    let long = "x".repeat(30_000);
    let devices: Value = (0..4)
        .map(|n| (format!("B{n}"), json!({ "long": long })))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let body = json!({ &*bob.user_id: devices });
    here.keys
        .send_to_device(sender(&alice, "t1"), "m.secret", messages(&body))
        .await
        .unwrap();
    let edus = sent(&here, THERE);
    assert_eq!(edus.len(), 4);
    let mut ids: Vec<_> = edus
        .iter()
        .map(|(_, c)| c["message_id"].to_string())
        .collect();
    ids.dedup();
    assert_eq!(ids.len(), 4);
    for (_, content) in edus {
        assert!(
            there
                .keys
                .take_direct("skerry.test", &raw(content))
                .await
                .unwrap()
        );
    }
    for device in ["B0", "B1", "B2", "B3"] {
        assert_eq!(waiting(&there, &bob, device).len(), 1);
    }
}

#[tokio::test]
async fn claimed_keys_are_the_ones_that_were_asked_for() {
    let (here, there) = (House::new(), House::of(THERE));
    let alice = here.person("alice", &["A1"]).await;
    let keys = one_time(["k1".to_owned(), "k2".to_owned()]);
    here.upload(&alice, "A1", json!({ "one_time_keys": keys }))
        .await;
    let request = json!({ &*alice.user_id: { "A1": "signed_curve25519" } });
    let request: ClaimRequest = serde_json::from_value(request).unwrap();
    let mut asked = there.keys.claim(request.clone()).await.unwrap();
    assert_eq!(asked.remote, request);
    let claimed = here.keys.claim(request.clone()).await.unwrap();
    let mut answer = json!({ "one_time_keys": claimed.keys });
    answer["one_time_keys"]["@other:skerry.test"] = json!({ "X": { "signed_curve25519:z": "z" } });
    answer["one_time_keys"][&*alice.user_id]["A9"] = json!({ "signed_curve25519:z": "z" });
    let answer: e2e::AnsweredClaim = serde_json::from_str(&answer.to_string()).unwrap();
    answer.add_to(&mut asked, request);
    assert_eq!(
        json!(asked.keys),
        json!({ &*alice.user_id: { "A1": { "signed_curve25519:k1": { "key": "key of k1" } } } })
    );
}

#[tokio::test]
async fn without_federation_nothing_is_queued() {
    let here = House::alone();
    let alice = here.person("alice", &["A1"]).await;
    let body = json!({ "@bob:there.test": { "*": { "n": 1 } } });
    here.keys
        .send_to_device(sender(&alice, "t1"), "m.secret", messages(&body))
        .await
        .unwrap();
    assert!(sent(&here, THERE).is_empty());
}
