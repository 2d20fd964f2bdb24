//! What advisories about other servers found, tried on this one: `docs/advisories.md` is the list.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;
use skerry_core::StoredEvent;
use skerry_room::{EventFilter, EventMeta, MessagesAsk, Verdict, Viewer};

use crate::abroad::{Abroad, text};
use crate::house::House;

const BOB: &str = "@bob:other.org";
const EVE: &str = "@eve:evil.org";

fn rejected(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Rejected(_))
}

/// CVE-2025-54315: the event that a room begins with is the only one of its kind.
#[tokio::test(flavor = "multi_thread")]
async fn cve_2025_54315_a_room_begins_once() {
    let house = House::new();
    let ada = house.person("ada");
    let request = skerry_room::CreateRoom {
        version: Some("11".to_owned()),
        preset: Some(skerry_room::Preset::PublicChat),
        ..crate::house::def()
    };
    let room = house.rooms.create(ada.clone(), request).await.unwrap();
    let abroad = Abroad::new(&house, &room);
    abroad.join(BOB).await;
    let create = house.state(&room, "m.room.create", "").unwrap();
    let forged = ("m.room.create", Some(""), json!({ "room_version": "11" }));
    let (id, verdict) = abroad.say(BOB, forged).await;
    assert!(rejected(&verdict), "{verdict:?}");
    let now = house.state(&room, "m.room.create", "").unwrap();
    assert_eq!(now.event.event_id(), create.event.event_id());
    let snap = house.snap();
    let nid = house.store.event_nid(&snap, &id).unwrap().unwrap();
    let meta = house.rooms.meta(&snap, nid).unwrap().unwrap();
    assert_eq!(meta.flags, EventMeta::REJECTED);
}

/// MSC4307: what allows an event has to be of its own room.
#[tokio::test(flavor = "multi_thread")]
async fn msc4307_what_allows_an_event_is_of_its_room() {
    let house = House::new();
    let ada = house.person("ada");
    let room = house.public_room(&ada).await;
    let elsewhere = house.public_room(&ada).await;
    let abroad = Abroad::new(&house, &room);
    let other = Abroad::new(&house, &elsewhere);
    abroad.join(BOB).await;
    other.join(BOB).await;
    // Somebody has power in a room that they made up; they say that it counts here.
    let mut state: BTreeMap<(String, String), Arc<StoredEvent>> = BTreeMap::new();
    for (from, kind, key) in [
        (&room, "m.room.power_levels", ""),
        (&room, "m.room.join_rules", ""),
        (&elsewhere, "m.room.member", BOB),
    ] {
        let held = house.state(from, kind, key).unwrap();
        state.insert((kind.to_owned(), key.to_owned()), Arc::new(held.event));
    }
    let event = abroad.make_by(BOB, text("let me"), &abroad.ends(), &state);
    let verdict = abroad.give(&event).await;
    assert!(rejected(&verdict), "{verdict:?}");
}

/// CVE-2026-45076: a page is not empty because what would stand on it was refused.
#[tokio::test(flavor = "multi_thread")]
async fn cve_2026_45076_pages_reach_what_was_said_before_much_that_was_refused() {
    let house = House::new();
    let ada = house.person("ada");
    let room = house.public_room(&ada).await;
    let abroad = Abroad::new(&house, &room);
    abroad.join(BOB).await;
    house.say(&ada, &room, "before it", None).await.unwrap();
    let mut after = abroad.ends();
    for n in 0..60 {
        let event = abroad.make(EVE, text(&format!("refused {n}")), &after);
        assert!(rejected(&abroad.give(&event).await));
        after = vec![event.event_id().to_owned()];
    }
    // Who comes after all that is heard.
    let event = abroad.make(BOB, text("behind it"), &after);
    assert_eq!(abroad.give(&event).await, Verdict::Accepted);
    let viewer = Viewer {
        user: ada.user,
        user_id: ada.user_id.clone(),
        device: ada.device.clone(),
    };
    let ask = MessagesAsk {
        from: None,
        to: None,
        back: true,
        limit: 2,
        filter: EventFilter::default(),
    };
    let snap = house.snap();
    let told = house.rooms.messages_json(&snap, &viewer, &room, &ask);
    let page: serde_json::Value = serde_json::from_slice(&told.unwrap().json).unwrap();
    let chunk = page["chunk"].as_array().unwrap().iter();
    let bodies: Vec<_> = chunk
        .map(|event| event["content"]["body"].clone())
        .collect();
    assert_eq!(bodies, ["behind it", "before it"]);
}
