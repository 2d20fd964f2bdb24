//! Rooms come and go: invites, knocks, leaving, bans, coming back.

use serde_json::{Value, json};
use skerry_room::{Move, Preset};

use crate::house::{House, find, joined, left, members, state, timeline, words};

#[tokio::test]
async fn an_invite_comes_with_stripped_state_and_goes_when_declined() {
    let house = House::new();
    let (alice, bob) = (house.person("alice").await, house.person("bob").await);
    let room = house.room_with(&alice, Preset::PrivateChat).await;
    house
        .set(&alice, &room, "m.room.name", "", json!({"name": "Den"}))
        .await;
    let start = house.sync(&bob, None, "{}").await;
    house.invite(&alice, &room, &bob).await;
    let invited = house.sync(&bob, Some(start.next), "{}").await;
    let state: Vec<Value> = serde_json::from_slice(&invited.invited[0].state).unwrap();
    assert_eq!(*invited.invited[0].room_id, *room);
    assert!(
        state.iter().any(|event| event["type"] == "m.room.name"),
        "{state:?}"
    );
    assert!(
        state
            .iter()
            .any(|event| event["content"]["membership"] == "invite")
    );
    assert!(invited.joined.is_empty());
    let again = house.sync(&bob, Some(invited.next), "{}").await;
    assert!(again.is_empty(), "{again:?}");
    house.leave(&bob, &room).await;
    let declined = house.sync(&bob, Some(invited.next), "{}").await;
    assert!(declined.invited.is_empty());
    assert_eq!(words(&timeline(left(&declined, &room))), ["leave"]);
    let initial = house.sync(&bob, None, "{}").await;
    assert!(initial.left.is_empty() && initial.invited.is_empty());
}

#[tokio::test]
async fn who_left_sees_nothing_after() {
    let house = House::new();
    let (alice, bob) = (house.person("alice").await, house.person("bob").await);
    let room = house.room(&alice).await;
    house.join(&bob, &room).await;
    let start = house.sync(&bob, None, "{}").await;
    house.say(&alice, &room, "before").await;
    house.leave(&bob, &room).await;
    house.say(&alice, &room, "after").await;
    house
        .set(
            &alice,
            &room,
            "m.room.topic",
            "",
            json!({"topic": "secret"}),
        )
        .await;
    for sync in [&house.sync, &house.by_positions] {
        let request = bob.request(Some(start.next), "{}");
        let none = std::time::Duration::ZERO;
        let presence = skerry_account::PresenceState::Offline;
        let gone = sync.wait(request, presence, none).await.unwrap();
        assert!(gone.joined.is_empty());
        let shown = left(&gone, &room);
        assert_eq!(words(&timeline(shown)), ["before", "leave"]);
        assert!(state(shown).is_empty() && !shown.timeline.limited);
        assert!(
            house
                .sync(&bob, Some(gone.next), "{}")
                .await
                .left
                .is_empty()
        );
    }
    house.say(&alice, &room, "much later").await;
    let archived = house
        .sync(&bob, None, r#"{"room":{"include_leave":true}}"#)
        .await;
    let shown = left(&archived, &room);
    assert_eq!(words(&timeline(shown)).last().unwrap(), "leave");
    let all = [state(shown), timeline(shown)].concat();
    assert!(!all.iter().any(|event| event["type"] == "m.room.topic"));
    assert!(house.sync(&bob, None, "{}").await.left.is_empty());
}

#[tokio::test]
async fn who_comes_back_gets_everything_anew() {
    let house = House::new();
    let (alice, bob) = (house.person("alice").await, house.person("bob").await);
    let room = house.room(&alice).await;
    house.join(&bob, &room).await;
    let start = house.sync(&bob, None, "{}").await;
    house.leave(&bob, &room).await;
    let gone = house.sync(&bob, Some(start.next), "{}").await;
    house.say(&alice, &room, "meanwhile").await;
    house.join(&bob, &room).await;
    for since in [start.next, gone.next] {
        let back = house
            .sync(&bob, Some(since), r#"{"room":{"timeline":{"limit":1}}}"#)
            .await;
        let shown = joined(&back, &room);
        assert!(back.left.is_empty() && shown.timeline.limited);
        assert_eq!(words(&timeline(shown)), ["join"]);
        let kinds: Vec<_> = state(shown).iter().map(|e| e["type"].clone()).collect();
        assert!(kinds.contains(&json!("m.room.create")), "{kinds:?}");
        assert_eq!(members(&state(shown)), [&*alice.id, &*bob.id]);
    }
}

#[tokio::test]
async fn kicked_banned_unbanned() {
    let house = House::new();
    let (alice, bob) = (house.person("alice").await, house.person("bob").await);
    let room = house.room(&alice).await;
    house.join(&bob, &room).await;
    let start = house.sync(&bob, None, "{}").await;
    house.kick(&alice, &room, &bob).await;
    let kicked = house.sync(&bob, Some(start.next), "{}").await;
    assert_eq!(words(&timeline(left(&kicked, &room))), ["leave"]);
    house.say(&alice, &room, "about bob").await;
    house
        .rooms
        .ban(alice.who(), &room, &bob.id, Move::default())
        .await
        .unwrap();
    let banned = house.sync(&bob, Some(kicked.next), "{}").await;
    assert_eq!(words(&timeline(left(&banned, &room))), ["ban"]);
    house.say(&alice, &room, "more about bob").await;
    house
        .rooms
        .unban(alice.who(), &room, &bob.id, Move::default())
        .await
        .unwrap();
    let unbanned = house.sync(&bob, Some(banned.next), "{}").await;
    assert_eq!(words(&timeline(left(&unbanned, &room))), ["leave"]);
    assert!(state(left(&unbanned, &room)).is_empty());
}

#[tokio::test]
async fn a_ban_far_behind_new_messages_still_comes() {
    let house = House::new();
    let (alice, bob) = (house.person("alice").await, house.person("bob").await);
    let room = house.room(&alice).await;
    house.join(&bob, &room).await;
    let start = house.sync(&bob, None, "{}").await;
    house
        .rooms
        .ban(alice.who(), &room, &bob.id, Move::default())
        .await
        .unwrap();
    for n in 0..20 {
        house.say(&alice, &room, &n.to_string()).await;
    }
    let banned = house.sync(&bob, Some(start.next), "{}").await;
    assert_eq!(words(&timeline(left(&banned, &room))), ["ban"]);
}

#[tokio::test]
async fn a_knock_is_shown() {
    let house = House::new();
    let (alice, bob) = (house.person("alice").await, house.person("bob").await);
    let room = house.room_with(&alice, Preset::PrivateChat).await;
    house
        .set(
            &alice,
            &room,
            "m.room.join_rules",
            "",
            json!({"join_rule": "knock"}),
        )
        .await;
    let start = house.sync(&bob, None, "{}").await;
    house
        .rooms
        .knock(bob.who(), &room, Move::default())
        .await
        .unwrap();
    let knocked = house.sync(&bob, Some(start.next), "{}").await;
    assert_eq!(*knocked.knocked[0].room_id, *room);
    let initial = house.sync(&bob, None, "{}").await;
    assert_eq!(initial.knocked.len(), 1);
}

#[tokio::test]
async fn a_forgotten_room_is_gone() {
    let house = House::new();
    let (alice, bob) = (house.person("alice").await, house.person("bob").await);
    let room = house.room(&alice).await;
    house.join(&bob, &room).await;
    let start = house.sync(&bob, None, "{}").await;
    house.leave(&bob, &room).await;
    house.rooms.forget(bob.who(), &room).await.unwrap();
    let archived = house
        .sync(&bob, None, r#"{"room":{"include_leave":true}}"#)
        .await;
    assert!(archived.left.is_empty());
    // A device that was away still has to learn that it is out.
    let gone = house.sync(&bob, Some(start.next), "{}").await;
    assert!(gone.joined.is_empty() && find(&gone.left, &room).is_some());
}

#[tokio::test]
async fn messages_from_ignored_users_are_not_shown() {
    let house = House::new();
    let (alice, bob) = (house.person("alice").await, house.person("bob").await);
    let room = house.room(&alice).await;
    house.join(&bob, &room).await;
    let list = json!({"ignored_users": {&*alice.id: {}}});
    house
        .accounts
        .set_account_data(bob.user, None, "m.ignored_user_list", list)
        .await
        .unwrap();
    let start = house.sync(&bob, None, "{}").await;
    house.say(&alice, &room, "noise").await;
    house
        .set(
            &alice,
            &room,
            "m.room.topic",
            "",
            json!({"topic": "still state"}),
        )
        .await;
    let next = house.sync(&bob, Some(start.next), "{}").await;
    assert_eq!(words(&timeline(joined(&next, &room))), ["m.room.topic"]);
    let other = house.room(&alice).await;
    house.invite(&alice, &other, &bob).await;
    assert!(
        house
            .sync(&bob, Some(next.next), "{}")
            .await
            .invited
            .is_empty()
    );
}

#[tokio::test]
async fn in_and_out_again_between_two_syncs() {
    let house = House::new();
    let (alice, bob) = (house.person("alice").await, house.person("bob").await);
    let room = house.room(&alice).await;
    house
        .set(&alice, &room, "x.state", "", json!({"v": 1}))
        .await;
    let start = house.sync(&bob, None, "{}").await;
    house.join(&bob, &room).await;
    house.leave(&bob, &room).await;
    house
        .set(&alice, &room, "x.state", "", json!({"v": 2}))
        .await;
    let gone = house.sync(&bob, Some(start.next), "{}").await;
    let all = state(left(&gone, &room));
    let own: Vec<_> = all
        .iter()
        .filter(|event| event["type"] == "x.state")
        .collect();
    assert_eq!(own[0]["content"]["v"], 1);
    assert!(all.iter().any(|event| event["type"] == "m.room.create"));
}

#[tokio::test]
async fn state_that_changed_out_of_sight_is_seen_on_return() {
    let house = House::new();
    let (alice, bob) = (house.person("alice").await, house.person("bob").await);
    let room = house.room(&alice).await;
    let content = json!({"history_visibility": "joined"});
    house
        .set(&alice, &room, "m.room.history_visibility", "", content)
        .await;
    house.join(&bob, &room).await;
    let start = house.sync(&bob, None, "{}").await;
    house.leave(&bob, &room).await;
    house.say(&alice, &room, "secret").await;
    house.set(&alice, &room, "x.old", "", json!({"v": 1})).await;
    house.set(&alice, &room, "x.old", "", json!({"v": 2})).await;
    house.join(&bob, &room).await;
    let back = house.sync(&bob, Some(start.next), "{}").await;
    let shown = timeline(joined(&back, &room));
    let values: Vec<_> = shown
        .iter()
        .filter(|event| event["type"] == "x.old")
        .collect();
    assert_eq!(values.len(), 1, "only what holds: {shown:?}");
    assert_eq!(values[0]["content"]["v"], 2);
    assert!(!words(&shown).contains(&"secret".to_owned()));
}

#[tokio::test]
async fn who_left_is_not_told_who_came_later() {
    let house = House::new();
    let (alice, bob) = (house.person("alice").await, house.person("bob").await);
    let carol = house.person("carol").await;
    let room = house.room(&alice).await;
    house.join(&bob, &room).await;
    let start = house.sync(&bob, None, "{}").await;
    house.leave(&bob, &room).await;
    house.join(&carol, &room).await;
    let gone = house.sync(&bob, Some(start.next), "{}").await;
    let left: Vec<&str> = gone.device_lists.left.iter().map(|id| &**id).collect();
    assert_eq!(left, [&*alice.who().user_id]);
}

#[tokio::test]
async fn how_an_invite_ended_is_told_and_nothing_else() {
    let house = House::new();
    let (alice, bob) = (house.person("alice").await, house.person("bob").await);
    for (ban, word) in [(false, "leave"), (true, "ban")] {
        let room = house.room_with(&alice, Preset::PrivateChat).await;
        house.invite(&alice, &room, &bob).await;
        let start = house.sync(&bob, None, "{}").await;
        house.say(&alice, &room, "never mind").await;
        if ban {
            let ban = house
                .rooms
                .ban(alice.who(), &room, &bob.id, Move::default());
            ban.await.unwrap();
        } else {
            house.kick(&alice, &room, &bob).await;
        }
        house.say(&alice, &room, "gone").await;
        let ended = house.sync(&bob, Some(start.next), "{}").await;
        assert_eq!(words(&timeline(left(&ended, &room))), [word]);
        assert!(state(left(&ended, &room)).is_empty());
        let filter = r#"{"room":{"timeline":{"types":["m.room.message"]}}}"#;
        let filtered = house.sync(&bob, Some(start.next), filter).await;
        assert!(timeline(left(&filtered, &room)).is_empty());
        assert_eq!(words(&state(left(&filtered, &room))), [word]);
        let later = house.sync(&bob, Some(ended.next), "{}").await;
        assert!(later.is_empty(), "{later:?}");
    }
}
