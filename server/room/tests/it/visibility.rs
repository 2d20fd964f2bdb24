//! Who may see what: the table of the spec, on rooms whose people come and go.

use skerry_room::{EventFilter, MessagesAsk, RoomError};

use crate::readers::{House, field, json, viewer};

fn all(back: bool) -> MessagesAsk {
    MessagesAsk {
        from: None,
        to: None,
        back,
        limit: 100,
        filter: EventFilter::default(),
    }
}

/// The texts of all messages that somebody sees, oldest first.
fn texts(house: &House, who: &skerry_room::Who, room: &str) -> Vec<String> {
    let page = house
        .rooms
        .messages_json(&house.snap(), &viewer(who), room, &all(false));
    let page = match page {
        Ok(page) => json(&page.json),
        Err(RoomError::Forbidden(_)) => return vec!["forbidden".to_owned()],
        Err(error) => panic!("{error}"),
    };
    let bodies = field(&page["chunk"], "/content/body");
    bodies
        .into_iter()
        .filter(|body| *body != "-")
        .map(str::to_owned)
        .collect()
}

/// Alice says something at each step; Bob is invited, joins, leaves; Carol never comes.
async fn story(visibility: &str) -> (House, String, [skerry_room::Who; 3]) {
    let house = House::new();
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| house.person(name));
    let room = house.room_with(&alice, visibility).await;
    house.say(&alice, &room, "before").await;
    house.invite(&alice, &room, &bob).await;
    house.say(&alice, &room, "invited").await;
    house.join(&bob, &room).await;
    house.say(&alice, &room, "joined").await;
    house.leave(&bob, &room).await;
    house.say(&alice, &room, "left").await;
    (house, room, [alice, bob, carol])
}

#[tokio::test]
async fn what_a_departed_member_and_a_stranger_see() {
    let everything = vec!["before", "invited", "joined", "left"];
    for (visibility, departed, stranger) in [
        ("world_readable", everything.clone(), everything.clone()),
        (
            "shared",
            vec!["before", "invited", "joined"],
            vec!["forbidden"],
        ),
        ("invited", vec!["invited", "joined"], vec!["forbidden"]),
        ("joined", vec!["joined"], vec!["forbidden"]),
        (
            "nonsense",
            vec!["before", "invited", "joined"],
            vec!["forbidden"],
        ),
    ] {
        let (house, room, [alice, bob, carol]) = story(visibility).await;
        assert_eq!(texts(&house, &alice, &room), everything, "{visibility}");
        assert_eq!(texts(&house, &bob, &room), departed, "{visibility}");
        assert_eq!(texts(&house, &carol, &room), stranger, "{visibility}");
    }
}

#[tokio::test]
async fn what_counts_is_the_visibility_at_the_event() {
    let house = House::new();
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| house.person(name));
    let room = house.room_with(&alice, "joined").await;
    house.say(&alice, &room, "secret").await;
    house.set_visibility(&alice, &room, "shared").await;
    house.say(&alice, &room, "shared").await;
    house.set_visibility(&alice, &room, "world_readable").await;
    house.say(&alice, &room, "open").await;
    assert_eq!(texts(&house, &carol, &room), ["open"]);
    house.join(&bob, &room).await;
    assert_eq!(texts(&house, &bob, &room), ["shared", "open"]);
    house.set_visibility(&alice, &room, "joined").await;
    assert_eq!(texts(&house, &carol, &room), ["forbidden"]);
}

#[tokio::test]
async fn own_membership_and_changes_of_visibility_are_seen_from_either_side() {
    let (house, room, [alice, bob, _]) = story("joined").await;
    let page = house
        .rooms
        .messages_json(&house.snap(), &viewer(&bob), &room, &all(true));
    let page = json(&page.unwrap().json);
    let own: Vec<&str> = page["chunk"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|event| event["state_key"] == *bob.user_id)
        .map(|event| event["content"]["membership"].as_str().unwrap())
        .collect();
    assert_eq!(
        own,
        ["leave", "join"],
        "the invite came before he could see anything"
    );
    house.set_visibility(&alice, &room, "world_readable").await;
    let event = house
        .state(
            &alice,
            &room,
            ("m.room.history_visibility", ""),
            r#"{"history_visibility":"joined"}"#,
        )
        .await;
    let carol = house.person("carol");
    let seen = house
        .rooms
        .event_json(&house.snap(), &viewer(&carol), &room, &event);
    assert_eq!(
        json(&seen.unwrap())["content"]["history_visibility"],
        "joined"
    );
    let hidden = house.say(&alice, &room, "hidden").await;
    let seen = house
        .rooms
        .event_json(&house.snap(), &viewer(&carol), &room, &hidden);
    assert!(matches!(seen, Err(RoomError::NotFound(_))));
}

#[tokio::test]
async fn who_forgot_a_room_is_a_stranger() {
    let (house, room, [_, bob, _]) = story("shared").await;
    house.rooms.forget(bob.clone(), &room).await.unwrap();
    assert_eq!(texts(&house, &bob, &room), ["forbidden"]);
}

#[tokio::test]
async fn ignored_people_are_not_heard_but_their_state_counts() {
    let house = House::new();
    let [alice, bob] = ["alice", "bob"].map(|name| house.person(name));
    let room = house.room(&alice).await;
    house.join(&bob, &room).await;
    let heard = house.say(&bob, &room, "noise").await;
    let content = serde_json::json!({ "ignored_users": { &*bob.user_id: {} } });
    let kind = "m.ignored_user_list";
    house
        .accounts
        .set_account_data(alice.user, None, kind, content)
        .await
        .unwrap();
    assert!(texts(&house, &alice, &room).is_empty());
    let page = house
        .rooms
        .messages_json(&house.snap(), &viewer(&alice), &room, &all(true));
    let senders = json(&page.unwrap().json);
    assert!(
        field(&senders["chunk"], "/sender").contains(&&*bob.user_id),
        "his join"
    );
    let seen = house
        .rooms
        .event_json(&house.snap(), &viewer(&alice), &room, &heard);
    assert!(matches!(seen, Err(RoomError::NotFound(_))));
}

#[tokio::test]
async fn the_members_of_a_time_are_shown_to_those_who_may_see_it() {
    for (visibility, may) in [("joined", false), ("invited", false), ("shared", true)] {
        let house = House::new();
        let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| house.person(name));
        let room = house.room_with(&alice, visibility).await;
        house.join(&bob, &room).await;
        house.say(&alice, &room, "among us").await;
        let then = skerry_room::Cut::at(house.snap().head());
        house.leave(&bob, &room).await;
        house.join(&carol, &room).await;
        let members = |who, at| {
            let ask = skerry_room::MembersAsk {
                at,
                ..Default::default()
            };
            let (snap, viewer) = (house.snap(), viewer(who));
            house.rooms.members_json(&snap, &viewer, &room, ask)
        };
        assert!(members(&alice, Some(then)).is_ok(), "{visibility}");
        let carols = members(&carol, Some(then));
        if may {
            assert!(carols.is_ok(), "{visibility}");
        } else {
            assert!(
                matches!(carols, Err(RoomError::Forbidden(_))),
                "{visibility}"
            );
        }
        let now = skerry_room::Cut::at(house.snap().head());
        assert!(members(&carol, Some(now)).is_ok(), "{visibility}");
        assert!(members(&carol, None).is_ok(), "{visibility}");
    }
}
