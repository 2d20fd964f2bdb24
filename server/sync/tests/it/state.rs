//! State at the start and at the end of a timeline, gaps, full state, summaries.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use skerry_core::fixtures::SeededDice;
use skerry_room::Verdict;

use crate::foreign::REX;
use crate::house::{House, joined, state, timeline};

/// (type, state key, content) of state events of type `x.*`, sorted.
fn own(events: &[Value]) -> Vec<(String, String)> {
    let own = events
        .iter()
        .filter(|event| event["type"].as_str().unwrap().starts_with("x."));
    let mut own: Vec<_> = own
        .map(|e| {
            (
                e["type"].as_str().unwrap().to_owned(),
                e["content"]["v"].to_string(),
            )
        })
        .collect();
    own.sort();
    own
}

fn pair(kind: &str, value: u32) -> (String, String) {
    (kind.to_owned(), value.to_string())
}

#[tokio::test]
async fn a_gap_tells_what_changed_in_it() {
    let house = House::new();
    let alice = house.person("alice").await;
    let room = house.room(&alice).await;
    for kind in ["x.a", "x.b", "x.c"] {
        house.set(&alice, &room, kind, "", json!({"v": 1})).await;
    }
    let filter = r#"{"room":{"timeline":{"limit":2}}}"#;
    let start = house.sync(&alice, None, filter).await;
    house.set(&alice, &room, "x.a", "", json!({"v": 2})).await;
    house.set(&alice, &room, "x.c", "", json!({"v": 2})).await;
    house.say(&alice, &room, "one").await;
    house.say(&alice, &room, "two").await;
    house.set(&alice, &room, "x.c", "", json!({"v": 3})).await;
    let next = house.sync(&alice, Some(start.next), filter).await;
    let shown = joined(&next, &room);
    assert!(shown.timeline.limited);
    assert_eq!(own(&state(shown)), [pair("x.a", 2), pair("x.c", 2)]);
    assert_eq!(own(&timeline(shown)), [pair("x.c", 3)]);

    let mut request = alice.request(Some(start.next), filter);
    request.state_after = true;
    let after = house.ask(request).await.unwrap();
    assert_eq!(
        own(&state(joined(&after, &room))),
        [pair("x.a", 2), pair("x.c", 3)]
    );

    let mut request = alice.request(Some(next.next), filter);
    request.full_state = true;
    let full = house.ask(request).await.unwrap();
    let shown = joined(&full, &room);
    assert_eq!(
        own(&state(shown)),
        [pair("x.a", 2), pair("x.b", 1), pair("x.c", 3)]
    );
    assert!(timeline(shown).is_empty() && !shown.timeline.limited);
}

#[tokio::test]
async fn state_that_the_timeline_filter_drops_is_told_all_the_same() {
    let house = House::new();
    let alice = house.person("alice").await;
    let room = house.room(&alice).await;
    let filter = r#"{"room":{"timeline":{"types":["m.room.message"]}}}"#;
    let start = house.sync(&alice, None, filter).await;
    house.say(&alice, &room, "one").await;
    house.set(&alice, &room, "x.a", "", json!({"v": 1})).await;
    let next = house.sync(&alice, Some(start.next), filter).await;
    assert_eq!(own(&state(joined(&next, &room))), [pair("x.a", 1)]);
    house.set(&alice, &room, "x.a", "", json!({"v": 2})).await;
    let next = house.sync(&alice, Some(next.next), filter).await;
    assert_eq!(own(&state(joined(&next, &room))), [pair("x.a", 2)]);
}

#[tokio::test]
async fn state_in_the_timeline_is_not_repeated() {
    let house = House::new();
    let alice = house.person("alice").await;
    let room = house.room(&alice).await;
    let filter = r#"{"room":{"timeline":{"types":["x.a"]},"state":{"types":["x.a"]}}}"#;
    house.set(&alice, &room, "x.a", "", json!({"v": 1})).await;
    let first = house.sync(&alice, None, filter).await;
    assert_eq!(own(&timeline(joined(&first, &room))), [pair("x.a", 1)]);
    assert!(state(joined(&first, &room)).is_empty());
    house.set(&alice, &room, "x.a", "", json!({"v": 2})).await;
    let next = house.sync(&alice, Some(first.next), filter).await;
    assert_eq!(own(&timeline(joined(&next, &room))), [pair("x.a", 2)]);
    assert!(state(joined(&next, &room)).is_empty());
    let mut request = alice.request(Some(first.next), filter);
    request.state_after = true;
    let after = house.ask(request).await.unwrap();
    assert_eq!(own(&state(joined(&after, &room))), [pair("x.a", 2)]);
}

#[tokio::test]
async fn heroes_name_a_room_without_a_name() {
    let house = House::new();
    let alice = house.person("alice").await;
    let room = house.room(&alice).await;
    let mut others = Vec::new();
    for n in 0..7 {
        let other = house.person(&format!("other{n}")).await;
        house.join(&other, &room).await;
        others.push(other);
    }
    let first = house.sync(&alice, None, "{}").await;
    let summary = &joined(&first, &room).summary;
    let heroes: Vec<_> = others
        .iter()
        .take(5)
        .map(|other| other.id.clone())
        .collect();
    assert_eq!(summary.heroes, Some(heroes));
    assert_eq!((summary.joined, summary.invited), (Some(8), Some(0)));
    house.say(&alice, &room, "hi").await;
    let next = house.sync(&alice, Some(first.next), "{}").await;
    assert!(joined(&next, &room).summary.is_empty());
    let name = json!({"membership": "join", "displayname": "Al"});
    house
        .set(&alice, &room, "m.room.member", &alice.id, name)
        .await;
    let next = house.sync(&alice, Some(next.next), "{}").await;
    assert!(
        joined(&next, &room).summary.is_empty(),
        "a name counts for nothing"
    );
    let invited = house.person("invited").await;
    house.invite(&alice, &room, &invited).await;
    let next = house.sync(&alice, Some(next.next), "{}").await;
    assert_eq!(joined(&next, &room).summary.invited, Some(1));
    house
        .set(&alice, &room, "m.room.name", "", json!({"name": "Named"}))
        .await;
    let next = house.sync(&alice, Some(next.next), "{}").await;
    let summary = &joined(&next, &room).summary;
    assert_eq!((summary.heroes.clone(), summary.joined), (None, Some(8)));
    // To the first of them, the others are heroes.
    house.set(&alice, &room, "m.room.name", "", json!({})).await;
    let first = house.sync(&others[0], None, "{}").await;
    let heroes = joined(&first, &room).summary.heroes.clone().unwrap();
    assert!(!heroes.contains(&others[0].id) && heroes.len() == 5);
}

/// A change of another server wins over one that clients were shown, and is the older one: both
/// ways of telling end with it.
#[tokio::test]
async fn what_was_resolved_is_told() {
    let house = House::new();
    let alice = house.person("alice").await;
    let room = house.room(&alice).await;
    let levels = json!({"users": {REX: 50}});
    house
        .set(&alice, &room, "m.room.power_levels", "", levels)
        .await;
    let mut dice = SeededDice::new(1);
    let mut rex = async |said, back| house.rex(&room, said, back, &mut dice).await;
    let hello = || ("m.room.message", None, json!({"body": "hello"}));
    assert_eq!(rex(hello(), 0).await, Verdict::Accepted);
    let start = house.sync(&alice, None, "{}").await;
    // Alice's and rex's come after the same; one of two keys each is won by the other.
    for key in ["x.a", "x.b", "x.c", "x.d"] {
        house.set(&alice, &room, key, "", json!({"v": 1})).await;
    }
    let middle = house.sync(&alice, Some(start.next), "{}").await;
    for (back, key) in [(4, "x.a"), (5, "x.b"), (6, "x.c"), (7, "x.d")] {
        let said = (key, Some(""), json!({"v": 2}));
        assert_eq!(rex(said, back).await, Verdict::Accepted);
    }
    let snap = house.store.snapshot();
    let nid = house.store.room_nid(&room).unwrap().unwrap();
    let now = house.rooms.state_now(&snap, nid).unwrap().into_iter();
    let mut truth: Vec<_> = now
        .filter_map(|(key, event)| {
            let (kind, _) = house.store.state_key(key).unwrap();
            let held = house.rooms.event(&snap, event).unwrap().unwrap();
            let content: Value = serde_json::from_str(held.event.content()).unwrap();
            kind.starts_with("x.")
                .then(|| (kind.to_string(), content["v"].to_string()))
        })
        .collect();
    truth.sort();
    let mut first: Option<[(String, String); 4]> = None;
    for since in [start.next, middle.next] {
        for state_after in [true, false] {
            let mut request = alice.request(Some(since), "{}");
            request.state_after = state_after;
            let delta = house.ask(request).await.unwrap();
            let shown = joined(&delta, &room);
            let mut known = BTreeMap::from_iter(first.clone().into_iter().flatten());
            known.extend(own(&state(shown)));
            if !state_after {
                let told = timeline(shown).into_iter();
                let told: Vec<_> = told.filter(|e| !e["state_key"].is_null()).collect();
                for event in &told {
                    known.extend(own(std::slice::from_ref(event)));
                }
            }
            assert_eq!(Vec::from_iter(known), truth);
        }
        first = Some(["x.a", "x.b", "x.c", "x.d"].map(|key| pair(key, 1)));
    }
}
