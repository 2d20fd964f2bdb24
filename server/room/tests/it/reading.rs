//! Pages, context, state, members, single events.

use serde_json::{Value, json as j};
use skerry_room::{
    ContextAsk, Cut, EventFilter, Form, MembersAsk, MessagesAsk, Move, RoomError, Who,
};

use crate::readers::{House, field, json, viewer};

async fn talk(house: &House, who: &Who, room: &str, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for n in 0..count {
        ids.push(house.say(who, room, &format!("text {n}")).await);
    }
    ids
}

fn page(house: &House, who: &Who, room: &str, ask: &MessagesAsk) -> Value {
    json(
        &house
            .rooms
            .messages_json(&house.snap(), &viewer(who), room, ask)
            .unwrap()
            .json,
    )
}

fn ask(back: bool, limit: usize) -> MessagesAsk {
    MessagesAsk {
        from: None,
        to: None,
        back,
        limit,
        filter: EventFilter::default(),
    }
}

#[tokio::test]
async fn pages_join_without_gap_or_overlap_also_after_a_restart() {
    let mut house = House::new();
    let alice = house.person("alice");
    let room = house.room(&alice).await;
    let other = house.room(&alice).await;
    let mut sent = Vec::new();
    for n in 0..30 {
        sent.push(house.say(&alice, &room, &format!("text {n}")).await);
        house.say(&alice, &other, "elsewhere").await;
    }
    for back in [true, false] {
        let (mut seen, mut from) = (Vec::new(), None);
        for _ in 0..100 {
            let page = page(
                &house,
                &alice,
                &room,
                &MessagesAsk {
                    from,
                    ..ask(back, 7)
                },
            );
            let ids = field(&page["chunk"], "/event_id");
            seen.extend(ids.into_iter().map(str::to_owned));
            let Some(end) = page["end"].as_str() else {
                break;
            };
            from = Some(Cut::parse(end).unwrap());
            house = house.reopen();
        }
        if back {
            seen.reverse();
        }
        assert!(seen.ends_with(&sent), "{back}");
        let begun = page(&house, &alice, &room, &ask(false, 1));
        assert_eq!(begun["chunk"][0]["type"], "m.room.create");
        assert_eq!(seen[0], begun["chunk"][0]["event_id"]);
        let mut unique = seen.clone();
        unique.sort();
        unique.dedup();
        assert_eq!(unique.len(), seen.len());
    }
}

#[tokio::test]
async fn filters_choose_and_to_ends() {
    let house = House::new();
    let [alice, bob] = ["alice", "bob"].map(|name| house.person(name));
    let room = house.room(&alice).await;
    house.join(&bob, &room).await;
    talk(&house, &alice, &room, 5).await;
    let image = j!({ "msgtype": "m.image", "body": "x", "url": "mxc://a/b" });
    let image = house.send(&bob, &room, "m.room.message", &image).await;
    talk(&house, &bob, &room, 20).await;
    let with = |filter: &str| MessagesAsk {
        filter: EventFilter::parse(filter).unwrap(),
        ..ask(true, 50)
    };
    let found = page(&house, &alice, &room, &with(r#"{"contains_url":true}"#));
    assert_eq!(field(&found["chunk"], "/event_id"), [&image]);
    let filter = r#"{"senders":["@alice:test.example"],"types":["m.room.mess*"]}"#;
    assert_eq!(
        page(&house, &alice, &room, &with(filter))["chunk"]
            .as_array()
            .unwrap()
            .len(),
        5
    );
    let filter = r#"{"not_types":["m.room.message"],"not_senders":["@alice:test.example"]}"#;
    let found = page(&house, &alice, &room, &with(filter));
    assert_eq!(field(&found["chunk"], "/type"), ["m.room.member"]);
    let filter = format!(r#"{{"not_rooms":["{room}"]}}"#);
    assert_eq!(page(&house, &alice, &room, &with(&filter))["chunk"], j!([]));
    let lazy = r#"{"lazy_load_members":true,"types":["m.room.message"]}"#;
    let found = page(&house, &alice, &room, &with(lazy));
    let mut members = field(&found["state"], "/state_key");
    members.sort_unstable();
    assert_eq!(members, [&*alice.user_id, &*bob.user_id]);
    let first = page(&house, &alice, &room, &ask(true, 3));
    let to = Cut::parse(first["end"].as_str().unwrap());
    let again = page(
        &house,
        &alice,
        &room,
        &MessagesAsk {
            to,
            ..ask(true, 50)
        },
    );
    assert_eq!(first["chunk"], again["chunk"]);
}

#[tokio::test]
async fn context_stands_around_its_event() {
    let house = House::new();
    let alice = house.person("alice");
    let room = house.room(&alice).await;
    let ids = talk(&house, &alice, &room, 9).await;
    let about = |limit, filter: &str| ContextAsk {
        event_id: ids[4].clone(),
        limit,
        filter: EventFilter::parse(filter).unwrap(),
    };
    let context = |ask: &ContextAsk| {
        json(
            &house
                .rooms
                .context_json(&house.snap(), &viewer(&alice), &room, ask)
                .unwrap()
                .json,
        )
    };
    let found = context(&about(4, "{}"));
    assert_eq!(found["event"]["event_id"], ids[4]);
    assert_eq!(
        field(&found["events_before"], "/event_id"),
        [&ids[3], &ids[2]]
    );
    assert_eq!(
        field(&found["events_after"], "/event_id"),
        [&ids[5], &ids[6]]
    );
    assert!(field(&found["state"], "/type").contains(&"m.room.create"));
    let from = Cut::parse(found["start"].as_str().unwrap());
    let older = page(
        &house,
        &alice,
        &room,
        &MessagesAsk {
            from,
            ..ask(true, 1)
        },
    );
    assert_eq!(older["chunk"][0]["event_id"], ids[1]);
    let from = Cut::parse(found["end"].as_str().unwrap());
    let newer = page(
        &house,
        &alice,
        &room,
        &MessagesAsk {
            from,
            ..ask(false, 1)
        },
    );
    assert_eq!(newer["chunk"][0]["event_id"], ids[7]);
    let found = context(&about(0, r#"{"types":["m.room.create"]}"#));
    assert_eq!(
        (&found["events_before"], &found["events_after"]),
        (&j!([]), &j!([]))
    );
    assert_eq!(field(&found["state"], "/type"), ["m.room.create"]);
    let missing = ContextAsk {
        event_id: "$none".to_owned(),
        ..about(1, "{}")
    };
    let answer = house
        .rooms
        .context_json(&house.snap(), &viewer(&alice), &room, &missing);
    assert!(matches!(answer, Err(RoomError::NotFound(_))));
}

#[tokio::test]
async fn state_is_that_of_now_or_of_the_departure() {
    let house = House::new();
    let [alice, bob] = ["alice", "bob"].map(|name| house.person(name));
    let room = house.room(&alice).await;
    house.join(&bob, &room).await;
    house
        .state(&alice, &room, ("m.room.topic", ""), r#"{"topic":"one"}"#)
        .await;
    house.leave(&bob, &room).await;
    house
        .state(&alice, &room, ("m.room.topic", ""), r#"{"topic":"two"}"#)
        .await;
    let topic = |who: &Who, whole| {
        let place = ("m.room.topic", "");
        house
            .rooms
            .state_event_json(&house.snap(), &viewer(who), &room, place, whole)
    };
    assert_eq!(json(&topic(&alice, false).unwrap())["topic"], "two");
    assert_eq!(json(&topic(&bob, false).unwrap())["topic"], "one");
    let whole = json(&topic(&alice, true).unwrap());
    assert_eq!(whole["content"]["topic"], "two");
    assert_eq!(whole["unsigned"]["prev_content"]["topic"], "one");
    assert_eq!(whole["unsigned"]["membership"], "join");
    assert!(
        whole["unsigned"]["replaces_state"]
            .as_str()
            .unwrap()
            .starts_with('$')
    );
    assert_eq!(whole["room_id"], room);
    let state = house
        .rooms
        .state_json(&house.snap(), &viewer(&bob), &room)
        .unwrap();
    let state = json(&state);
    let topics: Vec<&Value> = state
        .as_array()
        .unwrap()
        .iter()
        .filter(|e| e["type"] == "m.room.topic")
        .collect();
    assert_eq!(topics.len(), 1);
    assert_eq!(topics[0]["content"]["topic"], "one");
    let carol = house.person("carol");
    assert!(matches!(topic(&carol, false), Err(RoomError::Forbidden(_))));
    let none = ("m.room.nothing", "");
    let answer = house
        .rooms
        .state_event_json(&house.snap(), &viewer(&alice), &room, none, false);
    assert!(matches!(answer, Err(RoomError::NotFound(_))));
    let place = ("m.room.create", "");
    let answer =
        house
            .rooms
            .state_event_json(&house.snap(), &viewer(&alice), "!no:x", place, false);
    assert!(matches!(answer, Err(RoomError::Forbidden(_))));
}

#[tokio::test]
async fn members_now_then_and_by_membership() {
    let house = House::new();
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| house.person(name));
    let room = house.room(&alice).await;
    house.join(&bob, &room).await;
    let then = Cut::at(house.snap().head());
    house.leave(&bob, &room).await;
    house.invite(&alice, &room, &carol).await;
    let members = |who: &Who, ask| {
        let chunk = house
            .rooms
            .members_json(&house.snap(), &viewer(who), &room, ask)
            .unwrap();
        let chunk = json(&chunk);
        let mut users: Vec<String> = field(&chunk["chunk"], "/state_key")
            .into_iter()
            .map(str::to_owned)
            .collect();
        users.sort();
        users.iter().map(|u| u[1..2].to_owned()).collect::<String>()
    };
    use skerry_core::Membership::{Invite, Join, Leave};
    let all = MembersAsk::default();
    assert_eq!(members(&alice, all), "abc");
    assert_eq!(members(&bob, all), "ab");
    assert_eq!(
        members(
            &alice,
            MembersAsk {
                at: Some(then),
                ..all
            }
        ),
        "ab"
    );
    assert_eq!(
        members(
            &alice,
            MembersAsk {
                membership: Some(Join),
                ..all
            }
        ),
        "a"
    );
    assert_eq!(
        members(
            &alice,
            MembersAsk {
                not_membership: Some(Leave),
                ..all
            }
        ),
        "ac"
    );
    let both = MembersAsk {
        membership: Some(Leave),
        not_membership: Some(Invite),
        ..all
    };
    assert_eq!(members(&alice, both), "ab");
    let then_joined = MembersAsk {
        at: Some(then),
        membership: Some(Join),
        ..all
    };
    assert_eq!(members(&alice, then_joined), "ab");
}

#[tokio::test]
async fn joined_members_and_rooms() {
    let house = House::new();
    let [alice, bob] = ["alice", "bob"].map(|name| house.person(name));
    let room = house.room(&alice).await;
    let how = Move {
        content: Some(br#"{"displayname":"Bob \"B\""}"#.to_vec()),
        reason: None,
    };
    house.rooms.join(bob.clone(), &room, how).await.unwrap();
    let joined = house
        .rooms
        .joined_members_json(&house.snap(), &viewer(&alice), &room);
    let joined = json(&joined.unwrap());
    assert_eq!(joined["joined"].as_object().unwrap().len(), 2);
    assert_eq!(
        joined["joined"][&*bob.user_id],
        j!({ "avatar_url": null, "display_name": "Bob \"B\"" })
    );
    let rooms = json(
        &house
            .rooms
            .joined_rooms_json(&house.snap(), bob.user)
            .unwrap(),
    );
    assert_eq!(rooms, j!({ "joined_rooms": [room] }));
    house.leave(&bob, &room).await;
    let refused = house
        .rooms
        .joined_members_json(&house.snap(), &viewer(&bob), &room);
    assert!(matches!(refused, Err(RoomError::Forbidden(_))));
    let rooms = json(
        &house
            .rooms
            .joined_rooms_json(&house.snap(), bob.user)
            .unwrap(),
    );
    assert_eq!(rooms, j!({ "joined_rooms": [] }));
}

#[tokio::test]
async fn a_redaction_is_seen_everywhere_at_once() {
    let house = House::new();
    let alice = house.person("alice");
    let room = house.room(&alice).await;
    let ids = talk(&house, &alice, &room, 3).await;
    let before = house.snap();
    page(&house, &alice, &room, &ask(true, 10));
    let redaction = house.redact(&alice, &room, &ids[1]).await;
    let event = |snap: &skerry_store::Snapshot| {
        json(
            &house
                .rooms
                .event_json(snap, &viewer(&alice), &room, &ids[1])
                .unwrap(),
        )
    };
    let now = event(&house.snap());
    assert_eq!(now["content"], j!({}));
    assert_eq!(now["unsigned"]["redacted_because"]["event_id"], redaction);
    assert_eq!(now["unsigned"]["redacted_because"]["redacts"], ids[1]);
    assert_eq!(
        event(&before)["content"]["body"],
        "text 1",
        "an older snapshot shows older truth"
    );
    let state_before = json(
        &house
            .rooms
            .state_json(&house.snap(), &viewer(&alice), &room)
            .unwrap(),
    );
    let topic = house
        .state(&alice, &room, ("m.room.topic", ""), r#"{"topic":"x"}"#)
        .await;
    let with = json(
        &house
            .rooms
            .state_json(&house.snap(), &viewer(&alice), &room)
            .unwrap(),
    );
    assert_eq!(
        with.as_array().unwrap().len(),
        state_before.as_array().unwrap().len() + 1
    );
    house.redact(&alice, &room, &topic).await;
    let place = ("m.room.topic", "");
    let content = house
        .rooms
        .state_event_json(&house.snap(), &viewer(&alice), &room, place, false);
    assert_eq!(json(&content.unwrap()), j!({}));
    let state = json(
        &house
            .rooms
            .state_json(&house.snap(), &viewer(&alice), &room)
            .unwrap(),
    );
    let topic = state
        .as_array()
        .unwrap()
        .iter()
        .find(|e| e["type"] == "m.room.topic")
        .unwrap();
    assert_eq!(topic["content"], j!({}));
}

#[tokio::test]
async fn unsigned_tells_age_and_only_the_sending_device_its_transaction() {
    let house = House::new();
    let [alice, bob] = ["alice", "bob"].map(|name| house.person(name));
    let room = house.room(&alice).await;
    house.join(&bob, &room).await;
    let path = format!("/rooms/{room}/send/m.room.message");
    let key = skerry_account::TxnKey::new(alice.user, &alice.device, "PUT", &path, "t1").unwrap();
    let message = skerry_room::Message {
        kind: "m.room.message".to_owned(),
        content: br#"{"body":"x"}"#.to_vec(),
        txn: Some((key, "t1".to_owned())),
        sticky_ms: None,
        ts: None,
    };
    let id = house
        .rooms
        .send(alice.clone(), &room, message)
        .await
        .unwrap();
    house.clock.advance(1_234);
    let unsigned = |who: &skerry_room::Viewer| {
        let event = house
            .rooms
            .event_json(&house.snap(), who, &room, &id)
            .unwrap();
        json(&event)["unsigned"].clone()
    };
    let own = unsigned(&viewer(&alice));
    assert_eq!(
        own,
        j!({ "age": 1_234, "membership": "join", "transaction_id": "t1" })
    );
    let mut other_device = viewer(&alice);
    other_device.device = "OTHER".into();
    assert!(unsigned(&other_device).get("transaction_id").is_none());
    let mut same_name = viewer(&bob);
    same_name.device = alice.device.clone();
    assert!(unsigned(&same_name).get("transaction_id").is_none());
}

#[tokio::test]
async fn the_event_nearest_in_time() {
    let house = House::new();
    let alice = house.person("alice");
    let room = house.room(&alice).await;
    house.clock.advance(1_000);
    let mut times = Vec::new();
    let mut ids = Vec::new();
    for n in 0..20 {
        house.clock.advance(999);
        ids.push(house.say(&alice, &room, &format!("{n}")).await);
        times.push(skerry_core::Clock::now_ms(&*house.clock));
    }
    let find = |ts, back| {
        house
            .rooms
            .event_at_time(&house.snap(), &viewer(&alice), &room, ts, back)
    };
    for n in 1..19 {
        assert_eq!(find(times[n], true).unwrap(), (ids[n].clone(), times[n]));
        assert_eq!(find(times[n], false).unwrap().0, ids[n]);
        assert_eq!(find(times[n] + 1, true).unwrap().0, ids[n]);
        assert_eq!(find(times[n] + 1, false).unwrap().0, ids[n + 1]);
    }
    assert!(matches!(
        find(times[19] + 1, false),
        Err(RoomError::NotFound(_))
    ));
    assert!(matches!(find(1, true), Err(RoomError::NotFound(_))));
    assert!(find(u64::MAX, true).is_ok() && find(0, false).is_ok());
}

#[tokio::test]
async fn recent_events_for_a_sync() {
    let house = House::new();
    let alice = house.person("alice");
    let room_id = house.room(&alice).await;
    let room = house.store.room_nid(&room_id).unwrap().unwrap();
    let since = Cut::at(house.snap().head());
    let ids = talk(&house, &alice, &room_id, 5).await;
    let snap = house.snap();
    let mut view = house.rooms.view(&snap, &viewer(&alice), room).unwrap();
    let upto = Cut::at(snap.head());
    let recent = view.recent(since, upto, 10, None).unwrap();
    assert!(!recent.limited);
    assert_eq!(recent.events.len(), 5);
    let recent = view.recent(since, upto, 3, None).unwrap();
    assert!(recent.limited);
    assert_eq!(recent.events[0].event.event_id(), ids[2]);
    let gap = view.recent(since, recent.prev_batch, 10, None).unwrap();
    assert!(!gap.limited);
    assert_eq!(gap.events.len(), 2);
    let mut out = Vec::new();
    view.write_bundled(&gap.events, Form::SYNC, &mut out)
        .unwrap();
    assert!(json(&out)[0].get("room_id").is_none());
    let none = view.recent(upto, upto, 3, None).unwrap();
    assert!(none.events.is_empty() && !none.limited && none.prev_batch == upto);
}

/// What is kept in memory never shows a reader more or less than their snapshot holds.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn readers_beside_writers_see_their_snapshots() {
    let house = std::sync::Arc::new(House::new());
    let [alice, bob] = ["alice", "bob"].map(|name| house.person(name));
    let room_id = house.room(&alice).await;
    house.join(&bob, &room_id).await;
    let room = house.store.room_nid(&room_id).unwrap().unwrap();
    let done = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let mut readers = Vec::new();
    for _ in 0..3 {
        let (house, who, done) = (house.clone(), viewer(&bob), done.clone());
        readers.push(tokio::task::spawn_blocking(move || {
            let mut old = house.snap();
            let mut rounds = 0;
            while !done.load(std::sync::atomic::Ordering::Relaxed) || rounds < 20 {
                let new = house.snap();
                for snap in [&new, &old] {
                    let mut view = house.rooms.view(snap, &who, room).unwrap();
                    let (all, end) = (Cut::START, Cut::at(snap.head()));
                    let recent = view.recent(all, end, 900, None).unwrap();
                    let ids: Vec<_> = recent.events.iter().map(|event| event.nid).collect();
                    let forward = skerry_room::PageAsk {
                        from: all,
                        to: Some(end),
                        back: false,
                        limit: 1_000,
                        filter: None,
                    };
                    let page = view.page(forward).unwrap();
                    let plain: Vec<_> = page.events.iter().map(|event| event.nid).collect();
                    assert_eq!(ids, plain);
                    let texts = page.events.iter();
                    let texts = texts.filter(|e| e.event.event_type() == "m.room.message");
                    assert_eq!(view.unread().unwrap().main.notify, texts.count() as u64);
                }
                old = new;
                rounds += 1;
            }
        }));
    }
    for n in 0..700 {
        house.say(&alice, &room_id, &n.to_string()).await;
    }
    done.store(true, std::sync::atomic::Ordering::Relaxed);
    for reader in readers {
        reader.await.unwrap();
    }
}
