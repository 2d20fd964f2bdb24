#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use ::http::Method;
use skerry_core::RoomVersion;
use skerry_core::canonical::{Mode, Object, Value};
use skerry_core::event::FormatError;
use skerry_core::fixtures::{FakeClock, RoomFixture, SERVER, signing_key};
use skerry_core::keys::SigningKey;
use skerry_core::verify::VerifyError;

use super::*;
use crate::federation::fakes::{Fake, World};
use crate::federation::{Limits, Peers, Signed};
use crate::http::Guard;

fn checker(world: &World, peers: &Peers, keys: KeyRing) -> Checker {
    let own = Arc::clone(peers.own_name());
    Checker::new(own, peers.policy().clone(), keys, world.clock.clone())
}

/// Two servers that know each other: what `one` asks of `two` is believed there.
async fn two_servers(world: &World) -> (Fake, Checker, Peers) {
    let store = world.store();
    let (one, two) = (
        world.server("one.test").await,
        world.server("two.test").await,
    );
    let of_two = world.peers_of(&two.name, &store, Guard::open());
    let keys = world.keys_of(&of_two, &store, &[]);
    let checker = checker(world, &of_two, keys);
    (
        two,
        checker,
        world.peers_of(&one.name, &store, Guard::open()),
    )
}

#[tokio::test]
async fn what_one_server_asks_is_believed_by_the_other() {
    let world = World::new();
    let (two, checker, one) = two_servers(&world).await;
    let body = Object::parse(b"{\"pdus\":[{\"x\":1.5}]}", Mode::Lenient).unwrap();
    for body in [None, Some(&body)] {
        let path = "/_matrix/federation/v1/send/1?x=%2F";
        let limits = Limits::default();
        one.call(&two.name, Method::PUT, path, body, limits)
            .await
            .unwrap();
        let asked = two.asked().pop().unwrap();
        let header = asked.authorization.unwrap();
        let got = Some(std::str::from_utf8(&asked.body).unwrap()).filter(|body| !body.is_empty());
        let origin = checker
            .check_request(&[&header], &asked.method, &asked.path, got)
            .await;
        assert_eq!(&*origin.unwrap(), &**one.own_name());
        let other = checker
            .check_request(&[&header], "PUT", "/_matrix/federation/v1/send/2", got)
            .await;
        assert!(matches!(other, Err(RequestFault::Signature)), "{other:?}");
    }
}

#[tokio::test]
async fn a_request_that_proves_nothing_is_refused() {
    let world = World::new();
    let (two, checker, one) = two_servers(&world).await;
    let signed = |origin: &str, destination: &str, key: &SigningKey| {
        let signed = Signed {
            method: "GET",
            uri: "/x",
            origin,
            destination,
            content: None,
        };
        signed.authorization(key)
    };
    let (name, key) = (one.own_name(), one.key());
    let good = signed(name, &two.name, key);
    let other_key = SigningKey::from_seed(&[1; 32], "other").unwrap();
    let stranger = SigningKey::from_seed(&[1; 32], "test").unwrap();
    let by_other = signed(name, &two.name, &other_key);
    let by_stranger = signed(name, &two.name, &stranger);
    let elsewhere = signed(name, "three.test", key);
    let as_us = signed(&two.name, &two.name, &signing_key(&two.name));
    let denied = signed("denied.test", &two.name, key);
    let nobody = signed("one.test:1", &two.name, key);
    let many = vec![good.as_str(); 9];
    let check = |headers: Vec<&str>| {
        let headers: Vec<String> = headers.iter().map(|header| (*header).to_owned()).collect();
        let checker = checker.clone();
        async move {
            let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
            checker.check_request(&headers, "GET", "/x", None).await
        }
    };
    assert!(check(vec![&good]).await.is_ok());
    // A signature under a key that nobody knows says nothing; under a known one it has to be good.
    assert!(check(vec![&by_other, &good]).await.is_ok());
    let bad = check(vec![&good, &by_stranger]).await;
    assert!(matches!(bad, Err(RequestFault::Signature)), "{bad:?}");
    let bad = check(vec![&by_other]).await;
    assert!(matches!(bad, Err(RequestFault::NoKey(_))), "{bad:?}");
    let bad = check(vec![&nobody]).await;
    assert!(matches!(bad, Err(RequestFault::NoKey(_))), "{bad:?}");
    let bad = check(vec![]).await;
    assert!(matches!(bad, Err(RequestFault::Missing)), "{bad:?}");
    let bad = check(vec![&elsewhere]).await;
    assert!(matches!(bad, Err(RequestFault::Destination)), "{bad:?}");
    for bad in [&as_us, &denied] {
        let bad = check(vec![bad]).await;
        assert!(matches!(bad, Err(RequestFault::Denied)), "{bad:?}");
    }
    let twice = good.replace("X-Matrix ", "X-Matrix origin=\"x\",");
    for malformed in [
        vec!["Bearer abc"],
        vec!["X-Matrix"],
        vec![&*twice],
        vec![&*good, "Basic x"],
        vec![&*good, &*denied],
        many,
    ] {
        let bad = check(malformed.clone()).await;
        assert!(
            matches!(bad, Err(RequestFault::Malformed)),
            "{malformed:?}: {bad:?}"
        );
    }
}

#[tokio::test]
async fn a_clock_that_is_a_little_wrong_does_no_harm() {
    let world = World::new();
    let (two, checker, one) = two_servers(&world).await;
    let signed = Signed {
        method: "GET",
        uri: "/x",
        origin: one.own_name(),
        destination: &two.name,
        content: None,
    };
    let header = signed.authorization(one.key());
    let day_ms = 24 * 3_600_000;
    for (late_ms, good) in [(0, true), (299_999, true), (300_001, false)] {
        world.clock.set(FakeClock::START_MS + day_ms + late_ms);
        let checked = checker.check_request(&[&header], "GET", "/x", None).await;
        assert_eq!(checked.is_ok(), good, "{late_ms}: {checked:?}");
    }
}

/// A checker that knows the keys of the server of fixtures, and the events of a room of it.
async fn a_room(world: &World, version: RoomVersion, text: &str) -> (Checker, Vec<Object>) {
    let store = world.store();
    // It checks its own events: no key has to be fetched.
    let peers = world.peers_of(SERVER, &store, Guard::open());
    let keys = world.keys_of(&peers, &store, &[]);
    let room = RoomFixture::new(version, text);
    let events = room.events.iter().map(|event| event.object().unwrap());
    (checker(world, &peers, keys), events.collect())
}

#[tokio::test]
async fn events_are_checked_in_their_order_and_each_by_itself() {
    let version = RoomVersion::default();
    let world = World::new();
    let mut text = String::from("alice create\nalice join\n");
    for n in 0..100 {
        text.push_str(&format!("alice message {n}\n"));
    }
    let (checker, events) = a_room(&world, version, &text).await;
    let mut pdus = events.clone();
    // Each of these is another kind of wrong.
    pdus[10].insert("origin_server_ts", 5);
    pdus[20].remove("depth");
    pdus[30].insert("sender", "@a:".to_owned() + &"b".repeat(255));
    pdus[40].remove("signatures");
    let mut content = Object::new();
    content.insert("body", "changed");
    pdus[50].insert("content", content);
    pdus[60].insert("unsigned", Object::new());
    pdus[70].insert("depth", Value::Number("1.5".into()));
    let checked = checker.check_pdus(version, pdus.clone()).await.unwrap();
    assert_eq!(checked.len(), events.len());
    for (n, checked) in checked.iter().enumerate() {
        match (n, checked) {
            (10 | 40, Err(PduFault::Signature(VerifyError::Unsigned(server)))) => {
                assert_eq!(server, SERVER);
            }
            (20, Err(PduFault::Format(FormatError::Missing("depth")))) => {}
            (30, Err(PduFault::Format(error))) => assert!(error.is_size(), "{error}"),
            (50, Ok(event)) => assert_eq!(event.content(), "{}", "redacted"),
            (60, Ok(event)) => assert_eq!(event.json(), events[60].to_string()),
            (70, Err(PduFault::Format(_))) => {}
            (_, Ok(event)) => assert_eq!(event.json(), events[n].to_string()),
            (n, Err(error)) => panic!("{n}: {error}"),
        }
    }
    let texts = pdus.iter().map(|pdu| pdu.to_string().into_bytes());
    let again = checker.check_texts(version, texts.collect()).await.unwrap();
    for (n, (by_object, by_text)) in checked.iter().zip(&again).enumerate() {
        assert_eq!(by_object.is_ok(), by_text.is_ok(), "{n}");
    }
    let nonsense = checker.check_texts(version, vec![b"{".to_vec()]).await;
    assert!(matches!(
        nonsense.unwrap()[..],
        [Err(PduFault::Format(FormatError::Json(_)))]
    ));
}

#[tokio::test]
async fn keys_of_many_events_are_asked_for_once() {
    let version = RoomVersion::default();
    let world = World::new();
    let (store, one) = (world.store(), world.server("one.test").await);
    let peers = world.peers(&store);
    let keys = world.keys_of(&peers, &store, &[]);
    let checker = checker(&world, &peers, keys);
    let event = |n: i64| {
        let text = format!(
            "{{\"auth_events\":[],\"content\":{{}},\"depth\":{n},\"hashes\":{{}},\
             \"origin_server_ts\":{n},\"prev_events\":[],\"room_id\":\"!r\",\
             \"sender\":\"@a:{}\",\"type\":\"t\"}}",
            one.name
        );
        let mut object = Object::parse(text.as_bytes(), Mode::Strict).unwrap();
        let signable = skerry_core::hash::signable_text(&object, version);
        let signature = one.key().sign(signable.as_bytes());
        skerry_core::keys::add_signature(&mut object, &one.name, one.key().id(), signature);
        object
    };
    let checked = checker
        .check_pdus(version, (1..60).map(event).collect())
        .await;
    for (n, event) in checked.unwrap().into_iter().enumerate() {
        assert_eq!(event.unwrap().depth(), n as u64 + 1);
    }
    assert_eq!(one.asked().len(), 1);
}

/// What was seen, cut and changed in any way is refused or taken; nothing panics or hangs.
#[tokio::test]
async fn mangled_events_are_refused() {
    let version = RoomVersion::default();
    let world = World::new();
    let text = "alice create\nalice join\nalice message hello";
    let (checker, events) = a_room(&world, version, text).await;
    let mut texts = Vec::new();
    for event in &events {
        let text = event.to_string();
        for at in (0..text.len()).step_by(7) {
            texts.push(text.as_bytes()[..at].to_vec());
            let mut changed = text.clone().into_bytes();
            changed[at] ^= 1;
            texts.push(changed);
        }
        for name in [
            "type",
            "content",
            "prev_events",
            "signatures",
            "hashes",
            "depth",
        ] {
            for value in ["null", "[]", "{}", "-1", "1e9", "\"\""] {
                let mut changed = event.clone();
                changed.insert(name, Value::parse(value.as_bytes(), Mode::Lenient).unwrap());
                texts.push(changed.to_string().into_bytes());
            }
        }
    }
    let count = texts.len();
    assert_eq!(
        checker.check_texts(version, texts).await.unwrap().len(),
        count
    );
}
