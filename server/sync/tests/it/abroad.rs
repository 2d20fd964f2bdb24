//! Rooms that this server does not hold: invites of other servers, knocks on their rooms, and how
//! these end.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use skerry_account::PresenceState;
use skerry_core::canonical::{Mode, Object};
use skerry_core::fixtures::RoomFixture;
use skerry_core::{RoomVersion, StoredEvent};
use skerry_sync::sliding::{SlidingAnswer, SlidingAsk, SlidingRequest};

use crate::house::{House, Person, left, timeline, words};

/// Where the fixture's people are.
const ELSEWHERE: &str = "example.org";

/// A room of the other server, with an invite of bob.
fn elsewhere(version: RoomVersion) -> (RoomFixture, Arc<StoredEvent>) {
    let text = "alice create\nalice join\nalice power {}\nalice rules invite\n\
                alice state m.room.name \"\" {\"name\":\"Far\"}\n\
                it: alice invite bob:skerry.test";
    let room = RoomFixture::new(version, text);
    let invite = room.event("it").clone();
    (room, invite)
}

fn objects(room: &RoomFixture) -> Vec<Object> {
    let state = room.events.iter().filter(|event| event.is_state());
    state.map(|event| event.object().unwrap()).collect()
}

fn object(text: &str) -> Object {
    Object::parse(text.as_bytes(), Mode::Lenient).unwrap()
}

async fn slide(house: &House, person: &Person, pos: Option<String>) -> SlidingAnswer {
    let ask = json!({ "lists": { "all": {
        "ranges": [[0, 99]], "timeline_limit": 5, "required_state": [["*", "*"]],
    } } });
    let ask: SlidingAsk = serde_json::from_value(ask).unwrap();
    let request = SlidingRequest {
        user: person.user,
        user_id: person.id.clone(),
        device: person.device.clone(),
        pos,
        ask,
    };
    let told = house
        .sync
        .slide(request, PresenceState::Offline, Duration::ZERO);
    told.await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invite_to_an_unknown_room_is_told_and_its_end_too() {
    let house = House::new();
    let bob = house.person("bob").await;
    let (room, invite) = elsewhere(RoomVersion::V12);
    let start = house.sync(&bob, None, "{}").await;
    let slid = slide(&house, &bob, None).await;
    let take = house
        .rooms
        .take_invite(ELSEWHERE, invite.clone(), objects(&room));
    take.await.unwrap();

    // Whoever waits is woken.
    let told = house.wait(&bob, start.next).await;
    assert_eq!(*told.invited[0].room_id, *invite.room_id());
    let state: Vec<Value> = serde_json::from_slice(&told.invited[0].state).unwrap();
    assert!(
        state.iter().any(|event| event["content"]["name"] == "Far"),
        "{state:?}"
    );
    let slid = slide(&house, &bob, Some(slid.pos)).await;
    assert_eq!(slid.rooms.len(), 1);
    assert_eq!(slid.rooms[0].name.as_deref(), Some("Far"));
    assert!(slid.rooms[0].stripped.is_some());
    // Also to a device that begins only now.
    for sync in [&house.sync, &house.by_positions, &house.by_log] {
        let all = sync.wait(
            bob.request(None, "{}"),
            PresenceState::Offline,
            Duration::ZERO,
        );
        assert_eq!(all.await.unwrap().invited.len(), 1);
    }
    assert_eq!(slide(&house, &bob, None).await.rooms.len(), 1);

    let decline = house
        .rooms
        .left_elsewhere(bob.who(), invite.room_id(), None, None);
    decline.await.unwrap();
    let ended = house.sync(&bob, Some(told.next), "{}").await;
    assert!(ended.invited.is_empty());
    assert_eq!(words(&timeline(left(&ended, invite.room_id()))), ["leave"]);
    let slid = slide(&house, &bob, Some(slid.pos)).await;
    assert_eq!(slid.rooms.len(), 1);
    let state: Vec<Value> = serde_json::from_slice(&slid.rooms[0].required_state.json).unwrap();
    assert_eq!(words(&state), ["leave"]);
    let all = house
        .sync(&bob, None, r#"{"room":{"include_leave":true}}"#)
        .await;
    assert_eq!(words(&timeline(left(&all, invite.room_id()))), ["leave"]);
    let all = house.sync(&bob, None, "{}").await;
    assert!(all.invited.is_empty() && all.left.is_empty());
    let later = house.sync(&bob, Some(ended.next), "{}").await;
    assert!(later.is_empty(), "{later:?}");
}

/// CVE-2024-52815: an invite whose state has no shape stopped a user's sync for good.
#[tokio::test(flavor = "multi_thread")]
async fn cve_2024_52815_malformed_invite_state_breaks_no_sync() {
    let house = House::new();
    let bob = house.person("bob").await;
    let (_, invite) = elsewhere(RoomVersion::V11);
    let shown = [
        "{}",
        r#"{"type":null,"state_key":[],"sender":{},"content":7}"#,
        r#"{"type":"m.room.create","state_key":"","sender":"@a:b","content":[]}"#,
        r#"{"type":"m.room.name","state_key":"","sender":"@a:b.c","content":{"name":{"x":1}}}"#,
        r#"{"type":"m.room.avatar","state_key":"","sender":"@a:b.c","content":{"url":1e300}}"#,
        r#"{"type":"m.room.encryption","state_key":"","sender":"","content":{}}"#,
    ];
    let shown = shown.iter().map(|text| object(text)).collect();
    house
        .rooms
        .take_invite(ELSEWHERE, invite.clone(), shown)
        .await
        .unwrap();
    let told = house.sync(&bob, None, "{}").await;
    let state: Vec<Value> = serde_json::from_slice(&told.invited[0].state).unwrap();
    for event in &state {
        assert!(
            event["type"].is_string() && event["state_key"].is_string(),
            "{event}"
        );
        assert!(
            event["sender"].is_string() && event["content"].is_object(),
            "{event}"
        );
    }
    assert_eq!(words(&state), ["m.room.name", "invite"]);
    let slid = slide(&house, &bob, None).await;
    assert_eq!((slid.rooms.len(), slid.rooms[0].name.as_deref()), (1, None));
    // And other rooms go on.
    let alice = house.person("alice").await;
    let room = house.room(&alice).await;
    house.join(&bob, &room).await;
    let told = house.sync(&bob, Some(told.next), "{}").await;
    assert_eq!(told.joined.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invite_of_somebody_ignored_is_kept_and_not_shown() {
    let house = House::new();
    let bob = house.person("bob").await;
    let (room, invite) = elsewhere(RoomVersion::V12);
    let ignore = json!({ "ignored_users": { "@alice:example.org": {} } });
    let set = house
        .accounts
        .set_account_data(bob.user, None, "m.ignored_user_list", ignore);
    set.await.unwrap();
    let take = house
        .rooms
        .take_invite(ELSEWHERE, invite.clone(), objects(&room));
    take.await.unwrap();
    assert!(house.sync(&bob, None, "{}").await.invited.is_empty());
    assert!(slide(&house, &bob, None).await.rooms.is_empty());
}
