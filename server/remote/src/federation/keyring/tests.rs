#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};

use skerry_core::canonical::{Mode, Object};
use skerry_core::fixtures::{FakeClock, signing_key};
use skerry_core::hash::base64;
use skerry_core::keys::{SigningKey, verify_object};

use super::*;
use crate::federation::fakes::{Fake, World};
use crate::http::Guard;

const NOW: u64 = FakeClock::START_MS;
const DAY_MS: u64 = 24 * 3_600_000;
const KEYS: &str = "/_matrix/key/v2/server";
const QUERY: &str = "/_matrix/key/v2/query";

fn wanted(server: &Arc<str>, moment: Moment) -> Wanted {
    Wanted {
        server: Arc::clone(server),
        key_ids: BTreeSet::from(["ed25519:test".to_owned()]),
        moment,
    }
}

async fn find(keys: &KeyRing, server: &Arc<str>, moment: Moment) -> Option<[u8; 32]> {
    let found = keys.find(vec![wanted(server, moment)]).await.unwrap();
    found.get(server, "ed25519:test", moment)
}

/// An answer of `of`, as `by` vouches for it.
fn vouched(of: &Fake, by: &Fake, valid_until_ms: u64) -> String {
    let mut object = of.keys(valid_until_ms);
    by.key().sign_object(&by.name, &mut object);
    format!("{{\"server_keys\":[{object}]}}")
}

/// Answers with its own keys, and to queries with this.
fn answers_query(fake: &Fake, answer: String) {
    let keys = fake.keys(NOW + DAY_MS).to_string();
    fake.answers(move |asked| match asked.path.as_str() {
        KEYS => (200, keys.clone()),
        QUERY => (200, answer.clone()),
        _ => (404, String::new()),
    });
}

#[tokio::test]
async fn a_key_is_asked_for_once_and_then_known() {
    let world = World::new();
    let (store, one) = (world.store(), world.server("one.test").await);
    let peers = world.peers(&store);
    let keys = world.keys_of(&peers, &store, &[]);
    let public = Some(one.key().public_key());
    let at_once = (0..20).map(|_| find(&keys, &one.name, Moment::Request(NOW)));
    for found in futures_util::future::join_all(at_once).await {
        assert_eq!(found, public);
    }
    assert_eq!(one.asked_for(KEYS).len(), 1);
    assert!(one.asked()[0].authorization.is_none());
    // Another ring on the same store knows it too.
    store.durable(&store.barrier()).await.unwrap();
    let again = world.keys_of(&peers, &store, &[]);
    assert_eq!(find(&again, &one.name, Moment::Signed(NOW)).await, public);
    assert_eq!(one.asked().len(), 1);
}

#[tokio::test]
async fn how_long_a_key_is_good_counts_where_the_room_version_says_so() {
    let world = World::new();
    let (store, one) = (world.store(), world.server("one.test").await);
    let keys = world.keys_of(&world.peers(&store), &store, &[]);
    one.answers_keys(one.keys(NOW + 1_000));
    let public = Some(one.key().public_key());
    assert_eq!(
        find(&keys, &one.name, Moment::Signed(NOW + 1_000)).await,
        public
    );
    assert_eq!(
        find(&keys, &one.name, Moment::Signed(NOW + 1_001)).await,
        None
    );
    assert_eq!(
        find(&keys, &one.name, Moment::Whenever(NOW + 1_001)).await,
        public
    );
    assert_eq!(one.asked_for(KEYS).len(), 1, "it was asked just now");
    world.clock.advance(60_000);
    one.answers_keys(one.keys(NOW + 120_000));
    assert_eq!(
        find(&keys, &one.name, Moment::Signed(NOW + 60_000)).await,
        public
    );
    assert_eq!(one.asked_for(KEYS).len(), 2);
}

#[tokio::test]
async fn a_retired_key_signs_old_events_only() {
    let world = World::new();
    let (store, one) = (world.store(), world.server("one.test").await);
    let keys = world.keys_of(&world.peers(&store), &store, &[]);
    let new = SigningKey::from_seed(&[5; 32], "new").unwrap();
    let mut answer = crate::federation::fakes::unsigned_keys(&one.name, &new, NOW + DAY_MS);
    let mut old = Object::new();
    old.insert("key", base64(&one.key().public_key()));
    old.insert("expired_ts", i64::try_from(NOW - 10).unwrap());
    let mut all = Object::new();
    all.insert("ed25519:test", old);
    answer.insert("old_verify_keys", all);
    new.sign_object(&one.name, &mut answer);
    one.answers_keys(answer);
    let public = Some(one.key().public_key());
    for (moment, found) in [
        (Moment::Signed(NOW - 10), public),
        (Moment::Signed(NOW - 9), None),
        (Moment::Whenever(NOW - 10), public),
        (Moment::Whenever(NOW - 9), None),
        (Moment::Request(NOW - 10), None),
    ] {
        assert_eq!(find(&keys, &one.name, moment).await, found, "{moment:?}");
    }
}

#[tokio::test]
async fn a_trusted_server_helps_where_the_server_itself_is_gone() {
    let world = World::new();
    let (store, one) = (world.store(), world.server("one.test").await);
    let (two, three) = (
        world.server("two.test").await,
        world.server("three.test").await,
    );
    one.answers(|_| (500, String::new()));
    // One that vouches for nothing, one whose word is another's, one that is right.
    let moment = Moment::Signed(NOW);
    let peers = world.peers(&store);
    let keys = world.keys_of(&peers, &store, &[&two]);
    answers_query(&two, vouched(&one, &three, NOW + DAY_MS));
    assert_eq!(find(&keys, &one.name, moment).await, None);
    answers_query(&two, vouched(&one, &two, NOW + DAY_MS));
    let public = Some(one.key().public_key());
    assert_eq!(find(&keys, &one.name, moment).await, public);
    let query = two.asked_for(QUERY).pop().unwrap();
    let query = Object::parse(&query.body, Mode::Strict).unwrap();
    let until = query
        .object("server_keys")
        .and_then(|all| all.object(&one.name));
    let until = until.and_then(|keys| keys.object("ed25519:test"));
    let until = until.and_then(|key| key.int("minimum_valid_until_ts"));
    assert_eq!(until, Some(i64::try_from(NOW).unwrap()));
    assert!(three.asked().is_empty());
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_not_asked_again_at_once() {
    let world = World::new();
    let (store, one) = (world.store(), world.server("one.test").await);
    let keys = world.keys_of(&world.peers(&store), &store, &[]);
    one.answers(|_| (200, "{}".to_owned()));
    let mut asked = Vec::new();
    for _ in 0..200 {
        assert_eq!(find(&keys, &one.name, Moment::Request(NOW)).await, None);
        asked.push(one.asked().len());
        world.clock.advance(1_000);
    }
    assert_eq!(
        *asked.last().unwrap(),
        3,
        "after 0, 30 and 90 seconds: {asked:?}"
    );
    one.answers_keys(one.keys(NOW + DAY_MS));
    world.clock.advance(120_000);
    let public = Some(one.key().public_key());
    assert_eq!(find(&keys, &one.name, Moment::Request(NOW)).await, public);
}

fn query(servers: &[(&str, &[(&str, u64)])]) -> BTreeMap<String, KeysAsked> {
    let keys = |keys: &[(&str, u64)]| {
        let ids = keys.iter().map(|(id, ms)| ((*id).to_owned(), Some(*ms)));
        KeysAsked {
            ids: ids.collect(),
            until_ms: None,
        }
    };
    let servers = servers
        .iter()
        .map(|(name, ids)| ((*name).to_owned(), keys(ids)));
    servers.collect()
}

fn answers(body: &str) -> Vec<Object> {
    let body = Object::parse(body.as_bytes(), Mode::Strict).unwrap();
    let answers = body.get("server_keys").unwrap().as_array().unwrap();
    answers
        .iter()
        .map(|answer| answer.as_object().unwrap().clone())
        .collect()
}

#[tokio::test]
async fn others_are_told_keys_signed_by_both() {
    let world = World::new();
    let (store, one) = (world.store(), world.server("one.test").await);
    let peers = world.peers(&store);
    let keys = world.keys_of(&peers, &store, &[]);
    let ours = signing_key("own.test").public_key();
    let asked = query(&[(&one.name, &[]), ("own.test", &[]), ("no name", &[])]);
    let told = answers(&keys.notary(asked.clone()).await.unwrap());
    assert_eq!(told.len(), 2);
    assert!(answers(&keys.notary(query(&[])).await.unwrap()).is_empty());
    for answer in &told {
        assert!(verify_object(answer, "own.test", "ed25519:test", &ours));
    }
    let of_one = |told: Vec<Object>| {
        let of_one = |answer: &Object| answer.str("server_name") == Some(&*one.name);
        told.into_iter().find(of_one)
    };
    let answer = of_one(told).unwrap();
    assert!(verify_object(
        &answer,
        &one.name,
        "ed25519:test",
        &one.key().public_key()
    ));
    // Told again without asking, until half of its time is over; then it is asked again, and if
    // it does not answer, the last word is told.
    keys.notary(asked.clone()).await.unwrap();
    assert_eq!(one.asked_for(KEYS).len(), 1);
    one.answers(|_| (500, String::new()));
    world.clock.advance(DAY_MS / 2 + 1);
    let told = answers(&keys.notary(asked).await.unwrap());
    assert_eq!(one.asked_for(KEYS).len(), 2);
    assert!(of_one(told).is_some());
    // Nothing of a stranger is kept.
    assert_eq!(store.server_nid(&one.name).unwrap(), None);
}

/// An answer of a server whose only key is this one.
fn with_key(fake: &Fake, seed: u8, version: &str, valid_until_ms: u64) -> Object {
    let key = SigningKey::from_seed(&[seed; 32], version).unwrap();
    let mut answer = crate::federation::fakes::unsigned_keys(&fake.name, &key, valid_until_ms);
    key.sign_object(&fake.name, &mut answer);
    answer
}

#[tokio::test]
async fn others_are_told_old_keys_that_their_server_has_forgotten() {
    // Of a stranger, and of one whose keys are kept.
    for known in [false, true] {
        let world = World::new();
        let (store, one) = (world.store(), world.server("one.test").await);
        if known {
            store.intern_server(&one.name).unwrap();
        }
        let keys = world.keys_of(&world.peers(&store), &store, &[]);
        let ask = |id: &'static str, until_ms: u64| {
            let (keys, name) = (keys.clone(), one.name.clone());
            async move {
                let told = keys.notary(query(&[(&name, &[(id, until_ms)])])).await;
                answers(&told.unwrap())
            }
        };
        let names =
            |answer: &Object, id: &str| answer.object("verify_keys").unwrap().get(id).is_some();
        one.answers_keys(with_key(&one, 5, "old", NOW - DAY_MS));
        let told = ask("ed25519:old", 0).await;
        assert!(told.len() == 1 && names(&told[0], "ed25519:old"));
        // It is told again as long as it is good for what is asked, else its server is asked.
        ask("ed25519:old", NOW - DAY_MS).await;
        assert_eq!(one.asked_for(KEYS).len(), 1);
        one.answers_keys(with_key(&one, 6, "new", NOW + DAY_MS));
        let told = ask("ed25519:old", NOW).await;
        assert_eq!(one.asked_for(KEYS).len(), 2);
        assert!(
            told.len() == 1 && names(&told[0], "ed25519:old"),
            "the last there is"
        );
        let told = ask("ed25519:new", NOW).await;
        assert!(told.len() == 1 && names(&told[0], "ed25519:new"));
        let told = ask("ed25519:old", NOW - DAY_MS).await;
        assert!(told.len() == 1 && names(&told[0], "ed25519:old"));
        assert_eq!(one.asked_for(KEYS).len(), 2);
        // Nobody makes us knock at it without end, and a failure does not take back what is known.
        one.answers(|_| (400, "{}".to_owned()));
        for _ in 0..50 {
            assert!(names(&ask("ed25519:old", NOW).await[0], "ed25519:old"));
        }
        assert_eq!(one.asked_for(KEYS).len(), 6, "once, and five times more");
        let all = KeysAsked {
            until_ms: Some(NOW),
            ..KeysAsked::default()
        };
        let told = keys.notary(BTreeMap::from([(one.name.to_string(), all)]));
        let told = answers(&told.await.unwrap());
        assert!(
            told.len() == 1 && names(&told[0], "ed25519:new"),
            "all: the newest word"
        );
        assert_eq!(one.asked_for(KEYS).len(), 6);
    }
}

#[tokio::test]
async fn our_own_answer_names_old_keys_and_is_believed_by_others() {
    let world = World::new();
    let store = world.store();
    let own = world.server("own.test").await;
    let peers = world.peers_of(&own.name, &store, Guard::open());
    let old = OldKey {
        id: "ed25519:before".to_owned(),
        public: [3; 32],
        expired_ms: 5,
    };
    let ours = KeyRing::new(KeyRingOptions {
        store: Arc::clone(&store),
        peers,
        trusted: Vec::new(),
        old_keys: vec![old],
        revoked: Revoked::load(None).unwrap(),
        clock: world.clock.clone(),
    });
    let told = ours.own_keys();
    own.answers(move |_| (200, told.clone()));
    let theirs = world.keys_of(
        &world.peers_of("one.test", &store, Guard::open()),
        &store,
        &[],
    );
    for (ring, who) in [(&theirs, "others"), (&ours, "ourselves")] {
        let wanted = Wanted {
            server: Arc::clone(&own.name),
            key_ids: BTreeSet::from(["ed25519:before".to_owned()]),
            moment: Moment::Signed(5),
        };
        let found = ring.find(vec![wanted]).await.unwrap();
        let old = found.get(&own.name, "ed25519:before", Moment::Signed(5));
        assert_eq!(old, Some([3; 32]), "{who}");
        let current = find(ring, &own.name, Moment::Request(NOW)).await;
        assert_eq!(current, Some(own.key().public_key()), "{who}");
    }
    assert_eq!(own.asked().len(), 1, "nobody asks itself");
}

/// What Palpo had: whoever asks a notary for keys makes it knock where it should not.
#[tokio::test]
async fn palpo_ssrf_a_notary_does_not_knock_in_its_own_network() {
    let world = World::new();
    let (store, one) = (world.store(), world.server("127.0.0.1").await);
    let peers = world.peers_of("own.test", &store, Guard::default());
    let keys = world.keys_of(&peers, &store, &[]);
    let port = one.addr.port();
    let names = [
        format!("127.0.0.1:{port}"),
        format!("[::ffff:127.0.0.1]:{port}"),
        format!("one.test:{port}"),
        format!("127.0.0.1:{port}/_admin"),
        format!("x@127.0.0.1:{port}"),
        "denied.test".to_owned(),
    ];
    let asked = names
        .iter()
        .map(|name| (name.clone(), KeysAsked::default()));
    let told = keys.notary(asked.collect()).await.unwrap();
    assert!(answers(&told).is_empty(), "{told}");
    assert!(one.asked().is_empty());
    for name in names {
        let moment = Moment::Request(NOW);
        assert_eq!(find(&keys, &name.as_str().into(), moment).await, None);
    }
    assert!(one.asked().is_empty());
}

#[tokio::test]
async fn what_is_revoked_later_is_forgotten() {
    let world = World::new();
    let (store, one) = (world.store(), world.server("one.test").await);
    let peers = world.peers(&store);
    let keys = world.keys_of(&peers, &store, &[]);
    assert!(find(&keys, &one.name, Moment::Signed(NOW)).await.is_some());
    let file = world.dir.path().join("revoked");
    std::fs::write(&file, base64(&one.key().public_key())).unwrap();
    let stricter = KeyRing::new(KeyRingOptions {
        store: Arc::clone(&store),
        peers,
        trusted: Vec::new(),
        old_keys: Vec::new(),
        revoked: Revoked::load(Some(&file)).unwrap(),
        clock: world.clock.clone(),
    });
    for moment in [
        Moment::Signed(NOW),
        Moment::Whenever(NOW),
        Moment::Request(NOW),
    ] {
        assert_eq!(find(&stricter, &one.name, moment).await, None, "{moment:?}");
    }
    // The same for one that runs, and knew the key.
    assert!(find(&keys, &one.name, Moment::Signed(NOW)).await.is_some());
    keys.revoke(Revoked::load(Some(&file)).unwrap());
    let moment = Moment::Signed(NOW);
    assert_eq!(find(&keys, &one.name, moment).await, None);
}
