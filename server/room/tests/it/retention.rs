//! Messages that rooms keep no longer: hidden at once, gone after the purge.

use serde_json::{Value, json};
use skerry_core::EventNid;
use skerry_core::search::Key;
use skerry_room::{MessagesAsk, Purge, Redaction, Retention, SearchAsk, Viewer, Who};
use skerry_store::Scan;
use skerry_store::schema::room as t;
use skerry_store::schema::room_read::Parents;
use skerry_store::schema::room_redact::{Original, OriginalAt};

use crate::house::House;

const HOUR_MS: u64 = 3_600_000;

fn on() -> Option<Retention> {
    Some(Retention {
        default_ms: None,
        shortest_ms: HOUR_MS,
        longest_ms: 100 * HOUR_MS,
    })
}

fn viewer(who: &Who) -> Viewer {
    Viewer {
        user: who.user,
        user_id: who.user_id.clone(),
        device: who.device.clone(),
    }
}

async fn keep(house: &House, who: &Who, room: &str, content: Value) {
    let kind = "m.room.retention";
    house.set(who, room, kind, "", content).await.unwrap();
}

/// Texts of the messages that a user gets, oldest first, and how many events they get at all.
fn shown(house: &House, who: &Who, room: &str) -> (Vec<String>, usize) {
    let ask = MessagesAsk {
        from: None,
        to: None,
        back: false,
        limit: 1_000,
        filter: skerry_room::EventFilter::default(),
    };
    let snap = house.snap();
    let page = house.rooms.messages_json(&snap, &viewer(who), room, &ask);
    let page: Value = serde_json::from_slice(&page.unwrap().json).unwrap();
    let chunk = page["chunk"].as_array().unwrap();
    let texts = chunk
        .iter()
        .filter_map(|event| event["content"]["body"].as_str());
    (texts.map(str::to_owned).collect(), chunk.len())
}

async fn found(house: &House, who: &Who, term: &str) -> u64 {
    let ask = SearchAsk {
        term: term.to_owned(),
        keys: vec![Key::Body],
        limit: 10,
        ..SearchAsk::default()
    };
    let found = house.rooms.search(viewer(who), ask).await.unwrap();
    let found: Value = serde_json::from_slice(&found).unwrap();
    found["count"].as_u64().unwrap()
}

fn nid(house: &House, id: &str) -> EventNid {
    house.store.event_nid(&house.snap(), id).unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_expired_is_hidden_and_then_gone() {
    let house = House::with_retention(on());
    let alice = house.person("alice");
    let room = house.public_room(&alice).await;
    let other = house.public_room(&alice).await;
    keep(
        &house,
        &alice,
        &room,
        json!({ "max_lifetime": 2 * HOUR_MS }),
    )
    .await;
    let root = house.say(&alice, &room, "old root", None).await.unwrap();
    let relates = json!({ "rel_type": "m.thread", "event_id": root });
    let reply = json!({ "body": "old reply", "m.relates_to": relates });
    let reply = house
        .send(&alice, &room, "m.room.message", reply, None)
        .await
        .unwrap();
    let redacted = house
        .say(&alice, &room, "old redacted", None)
        .await
        .unwrap();
    let redaction = Redaction {
        target: redacted.clone(),
        content: b"{}".to_vec(),
        with_rel_types: Vec::new(),
        txn: None,
    };
    house
        .rooms
        .redact(alice.clone(), &room, redaction)
        .await
        .unwrap();
    house
        .say(&alice, &other, "old elsewhere", None)
        .await
        .unwrap();
    let state = house.timeline(&room).len() - 4;
    assert_eq!(found(&house, &alice, "old").await, 3);

    house.clock.advance(HOUR_MS);
    house.say(&alice, &room, "young", None).await.unwrap();
    house.clock.advance(HOUR_MS + 60_000);
    assert_eq!(
        shown(&house, &alice, &room),
        (vec!["young".to_owned()], state + 1)
    );
    assert_eq!(shown(&house, &alice, &other).0, ["old elsewhere"]);
    assert_eq!(found(&house, &alice, "old").await, 1);
    assert!(
        house
            .store
            .snapshot()
            .has::<t::Event>(&nid(&house, &root))
            .unwrap()
    );

    let mut purge = Purge::default();
    assert_eq!(house.rooms.purge_expired(&mut purge).await.unwrap(), 4);
    assert_eq!(house.rooms.purge_expired(&mut purge).await.unwrap(), 0);
    let snap = house.snap();
    for id in [&root, &reply, &redacted] {
        let nid = nid(&house, id);
        assert!(!snap.has::<t::Event>(&nid).unwrap());
        assert!(
            snap.has::<t::Meta>(&nid).unwrap(),
            "its place in the graph stays"
        );
        assert_eq!(snap.scan::<t::Relations>(Scan::prefix(&nid)).count(), 0);
    }
    assert_eq!(snap.scan::<Parents>(Scan::all()).count(), 0);
    assert_eq!(snap.scan::<Original>(Scan::all()).count(), 0);
    assert_eq!(snap.scan::<OriginalAt>(Scan::all()).count(), 0);
    assert_eq!(house.timeline(&room).len(), state + 1);
    assert_eq!(
        shown(&house, &alice, &room),
        (vec!["young".to_owned()], state + 1)
    );
    assert_eq!(found(&house, &alice, "old").await, 1);
    house.say(&alice, &room, "after", None).await.unwrap();

    drop(snap);
    let house = house.restart();
    assert_eq!(shown(&house, &alice, &room).0, ["young", "after"]);
    house.say(&alice, &room, "still", None).await.unwrap();
}

/// The room's end stays, though it is shown no more, and the room goes on from there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_room_stays() {
    let house = House::with_retention(on());
    let alice = house.person("alice");
    let room = house.public_room(&alice).await;
    keep(&house, &alice, &room, json!({ "max_lifetime": HOUR_MS })).await;
    for n in 0..600 {
        house
            .say(&alice, &room, &n.to_string(), None)
            .await
            .unwrap();
    }
    let last = house.say(&alice, &room, "last", None).await.unwrap();
    let before = house.timeline(&room).len();
    house.clock.advance(2 * HOUR_MS);
    assert!(shown(&house, &alice, &room).0.is_empty());
    let mut purge = Purge::default();
    assert_eq!(house.rooms.purge_expired(&mut purge).await.unwrap(), 600);
    assert_eq!(house.timeline(&room).len(), before - 600);
    assert!(house.snap().has::<t::Event>(&nid(&house, &last)).unwrap());
    let house = house.restart();
    house.say(&alice, &room, "next", None).await.unwrap();
    assert_eq!(shown(&house, &alice, &room).0, ["next"]);
    assert_eq!(house.rooms.purge_expired(&mut purge).await.unwrap(), 1);
}

/// Rooms ask, the operator bounds; without either nothing ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn how_long_is_bounded() {
    let house = House::with_retention(on());
    let alice = house.person("alice");
    let room = house.public_room(&alice).await;
    let lifetime = |house: &House| {
        let snap = house.snap();
        house.rooms.lifetime_ms(&snap, house.nid(&room)).unwrap()
    };
    assert_eq!(lifetime(&house), None);
    for (content, expected) in [
        (json!({ "max_lifetime": 1 }), Some(HOUR_MS)),
        (json!({ "max_lifetime": 5 * HOUR_MS }), Some(5 * HOUR_MS)),
        (
            json!({ "max_lifetime": 5_000 * HOUR_MS }),
            Some(100 * HOUR_MS),
        ),
        (json!({ "min_lifetime": 5 }), None),
        (json!({}), None),
    ] {
        keep(&house, &alice, &room, content).await;
        assert_eq!(lifetime(&house), expected);
    }
    for wrong in [
        json!({ "max_lifetime": "1d" }),
        json!({ "max_lifetime": -1 }),
        json!({ "min_lifetime": 2, "max_lifetime": 1 }),
    ] {
        let refused = house
            .set(&alice, &room, "m.room.retention", "", wrong)
            .await;
        assert!(refused.is_err());
    }
    let refused = house.send(&alice, &room, "m.room.retention", json!({}), None);
    assert!(refused.await.is_err(), "it is a state event");

    let default = Retention {
        default_ms: Some(7),
        shortest_ms: 0,
        longest_ms: u64::MAX,
    };
    let house = house.restart_with(Some(default));
    assert_eq!(lifetime(&house), Some(7));
    let house = house.restart_with(None);
    keep(&house, &alice, &room, json!({ "max_lifetime": 1 })).await;
    assert_eq!(lifetime(&house), None, "the operator wants none");
    let mut purge = Purge::default();
    house.clock.advance(HOUR_MS);
    assert_eq!(house.rooms.purge_expired(&mut purge).await.unwrap(), 0);
}
