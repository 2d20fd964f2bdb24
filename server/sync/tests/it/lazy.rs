//! Lazy-loaded members: those needed, once each, and all that changed in a gap.

use crate::house::{House, Person, joined, members, state, timeline};

const LAZY: &str = r#"{"room":{"state":{"lazy_load_members":true},"timeline":{"limit":5}}}"#;
const AGAIN: &str = r#"{"room":{"state":{"lazy_load_members":true,
    "include_redundant_members":true},"timeline":{"limit":5}}}"#;

/// A room of four, none of whom has spoken in the last five events but the first.
async fn crowd(house: &House) -> (String, [Person; 4]) {
    let alice = house.person("alice").await;
    let room = house.room(&alice).await;
    name(house, &alice, &room).await;
    let mut people = vec![alice];
    for name in ["bob", "carol", "dave"] {
        let person = house.person(name).await;
        house.join(&person, &room).await;
        people.push(person);
    }
    let people: [Person; 4] = people.try_into().unwrap();
    talk(house, &people[1], &room, 6).await;
    (room, people)
}

/// A name, so that nobody is told of as a hero.
async fn name(house: &House, who: &Person, room: &str) {
    house
        .set(
            who,
            room,
            "m.room.name",
            "",
            serde_json::json!({"name": "n"}),
        )
        .await;
}

async fn talk(house: &House, who: &Person, room: &str, times: usize) {
    for n in 0..times {
        house.say(who, room, &format!("{} {n}", who.id)).await;
    }
}

#[tokio::test]
async fn only_senders_and_oneself_and_nobody_twice() {
    let house = House::new();
    let (room, [alice, bob, carol, _]) = crowd(&house).await;
    talk(&house, &bob, &room, 5).await;
    let first = house.sync(&alice, None, LAZY).await;
    assert_eq!(
        members(&state(joined(&first, &room))),
        [&*alice.id, &*bob.id]
    );
    talk(&house, &carol, &room, 1).await;
    talk(&house, &bob, &room, 1).await;
    let next = house.sync(&alice, Some(first.next), LAZY).await;
    assert_eq!(members(&state(joined(&next, &room))), [&*carol.id]);
    // The answer was lost: carol has to come again.
    let retry = house.sync(&alice, Some(first.next), LAZY).await;
    assert_eq!(members(&state(joined(&retry, &room))), [&*carol.id]);
    talk(&house, &carol, &room, 1).await;
    let last = house.sync(&alice, Some(retry.next), LAZY).await;
    assert!(state(joined(&last, &room)).is_empty());
    let again = house.sync(&alice, Some(retry.next), AGAIN).await;
    assert_eq!(members(&state(joined(&again, &room))), [&*carol.id]);
}

#[tokio::test]
async fn a_gap_tells_every_membership_that_changed_in_it() {
    let house = House::new();
    let (room, [alice, bob, carol, dave]) = crowd(&house).await;
    let first = house.sync(&alice, None, LAZY).await;
    let erin = house.person("erin").await;
    house.join(&erin, &room).await;
    house.leave(&dave, &room).await;
    talk(&house, &carol, &room, 10).await;
    let next = house.sync(&alice, Some(first.next), LAZY).await;
    let shown = joined(&next, &room);
    assert!(shown.timeline.limited);
    assert_eq!(members(&state(shown)), [&*carol.id, &*dave.id, &*erin.id]);
    talk(&house, &bob, &room, 1).await;
    let next = house.sync(&alice, Some(next.next), LAZY).await;
    assert!(
        state(joined(&next, &room)).is_empty(),
        "bob was told at first"
    );
}

#[tokio::test]
async fn a_new_name_comes_with_its_event_alone() {
    let house = House::new();
    let (room, [alice, bob, ..]) = crowd(&house).await;
    let first = house.sync(&alice, None, LAZY).await;
    let content = serde_json::json!({"membership": "join", "displayname": "Bobby"});
    house
        .set(&bob, &room, "m.room.member", &bob.id, content)
        .await;
    let next = house.sync(&alice, Some(first.next), LAZY).await;
    let shown = joined(&next, &room);
    assert_eq!(members(&timeline(shown)), [&*bob.id]);
    talk(&house, &bob, &room, 1).await;
    let last = house.sync(&alice, Some(next.next), LAZY).await;
    assert!(
        state(joined(&last, &room)).is_empty(),
        "the new member event is known"
    );
}

#[tokio::test]
async fn heroes_come_with_their_member_events() {
    let house = House::new();
    let (room, [alice, bob, carol, dave]) = crowd(&house).await;
    house
        .set(&alice, &room, "m.room.name", "", serde_json::json!({}))
        .await;
    talk(&house, &bob, &room, 6).await;
    let first = house.sync(&alice, None, LAZY).await;
    let told = members(&state(joined(&first, &room)));
    assert_eq!(told, [&*alice.id, &*bob.id, &*carol.id, &*dave.id]);
}

#[tokio::test]
async fn at_the_end_of_the_timeline_members_are_as_they_are_then() {
    let house = House::new();
    let (room, [alice, bob, ..]) = crowd(&house).await;
    let first = house.sync(&alice, None, LAZY).await;
    let content = serde_json::json!({"membership": "join", "displayname": "Bobby"});
    house
        .set(&bob, &room, "m.room.member", &bob.id, content)
        .await;
    let mut request = alice.request(Some(first.next), LAZY);
    request.state_after = true;
    let next = house.ask(request).await.unwrap();
    let shown = state(joined(&next, &room));
    assert_eq!(shown[0]["content"]["displayname"], "Bobby");
}
