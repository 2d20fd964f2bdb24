//! State at the start and at the end of a timeline, gaps, full state, summaries.

use serde_json::{Value, json};

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
