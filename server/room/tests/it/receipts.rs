//! Receipts and what they leave unread.

use serde_json::{Value, json as j};
use skerry_core::Pos;
use skerry_room::{Count, ReadMarks, RoomError, Unread, View, Who};

use crate::readers::{House, json, viewer};

fn view(house: &House, who: &Who, room: &str) -> View {
    let room = house.store.room_nid(room).unwrap().unwrap();
    house.rooms.view(&house.snap(), &viewer(who), room).unwrap()
}

fn unread(house: &House, who: &Who, room: &str) -> Unread {
    view(house, who, room).unread().unwrap()
}

fn receipts(house: &House, who: &Who, room: &str, since: Option<Pos>) -> Vec<Value> {
    let events = view(house, who, room).receipt_events(since).unwrap();
    events
        .iter()
        .map(|event| json(event)["content"].clone())
        .collect()
}

fn public(event: &str) -> ReadMarks {
    ReadMarks {
        read: Some(event.to_owned()),
        ..ReadMarks::default()
    }
}

fn private(event: &str) -> ReadMarks {
    ReadMarks {
        private: Some(event.to_owned()),
        ..ReadMarks::default()
    }
}

fn threaded(event: &str, thread: &str) -> ReadMarks {
    ReadMarks {
        thread: Some(thread.to_owned()),
        ..public(event)
    }
}

async fn mark(house: &House, who: &Who, room: &str, marks: ReadMarks) -> Result<(), RoomError> {
    house.rooms.mark_read(viewer(who), room, marks).await
}

async fn two(house: &House) -> (Who, Who, String) {
    let [alice, bob] = ["alice", "bob"].map(|name| house.person(name));
    let room = house.room(&alice).await;
    house.join(&bob, &room).await;
    (alice, bob, room)
}

#[tokio::test]
async fn receipts_move_forward_only_and_private_ones_stay_private() {
    let house = House::new();
    let (alice, bob, room) = two(&house).await;
    let first = house.say(&alice, &room, "1").await;
    let second = house.say(&alice, &room, "2").await;
    mark(&house, &bob, &room, public(&second)).await.unwrap();
    let since = house.snap().head();
    let ts = skerry_core::Clock::now_ms(&*house.clock);
    let expected = j!({ second.clone(): { "m.read": { &*bob.user_id: { "ts": ts } } } });
    assert_eq!(
        receipts(&house, &alice, &room, None),
        vec![expected.clone()]
    );
    mark(&house, &bob, &room, public(&first)).await.unwrap();
    assert_eq!(house.snap().head(), since, "nothing was written");
    let third = house.say(&alice, &room, "3").await;
    mark(&house, &bob, &room, private(&third)).await.unwrap();
    assert_eq!(receipts(&house, &alice, &room, None), vec![expected]);
    assert!(receipts(&house, &alice, &room, Some(since)).is_empty());
    let own = receipts(&house, &bob, &room, Some(since));
    assert_eq!(own.len(), 1);
    assert!(own[0][&third]["m.read.private"][&*bob.user_id]["ts"].is_u64());
    assert_eq!(unread(&house, &bob, &room), Unread::default());
    mark(&house, &bob, &room, public(&third)).await.unwrap();
    assert_eq!(receipts(&house, &alice, &room, Some(since)).len(), 1);
    mark(&house, &bob, &room, threaded(&third, "main"))
        .await
        .unwrap();
    let all = receipts(&house, &alice, &room, None);
    assert_eq!(all.len(), 2, "one event for each thread: {all:?}");
    assert_eq!(all[1][&third]["m.read"][&*bob.user_id]["thread_id"], "main");
}

#[tokio::test]
async fn receipts_are_refused_where_they_make_no_sense() {
    let house = House::new();
    let (alice, bob, room) = two(&house).await;
    let event = house.say(&alice, &room, "1").await;
    let stranger = house.person("carol");
    let answer = mark(&house, &stranger, &room, public(&event)).await;
    assert!(matches!(answer, Err(RoomError::Forbidden(_))));
    let answer = mark(&house, &bob, &room, public("$none")).await;
    assert!(matches!(answer, Err(RoomError::NotFound(_))));
    for thread in ["", "$other"] {
        let answer = mark(&house, &bob, &room, threaded(&event, thread)).await;
        assert!(
            matches!(answer, Err(RoomError::InvalidParam(_))),
            "{thread}"
        );
    }
    let elsewhere = house.room(&alice).await;
    let other = house.say(&alice, &elsewhere, "x").await;
    let fully = ReadMarks {
        fully_read: Some(other),
        ..ReadMarks::default()
    };
    assert!(matches!(
        mark(&house, &bob, &room, fully).await,
        Err(RoomError::NotFound(_))
    ));
}

#[tokio::test]
async fn the_fully_read_marker_is_account_data_and_moves_forward() {
    let house = House::new();
    let (alice, bob, room) = two(&house).await;
    let first = house.say(&alice, &room, "1").await;
    let second = house.say(&alice, &room, "2").await;
    for event in [&second, &first] {
        let marks = ReadMarks {
            fully_read: Some(event.clone()),
            ..ReadMarks::default()
        };
        mark(&house, &bob, &room, marks).await.unwrap();
        let data = house
            .accounts
            .account_data(bob.user, Some(&room), "m.fully_read")
            .await;
        assert_eq!(json(data.unwrap().as_bytes()), j!({ "event_id": second }));
    }
    assert_eq!(
        unread(&house, &bob, &room).main.notify,
        2,
        "it reads nothing"
    );
}

#[tokio::test]
async fn unread_counts_follow_messages_receipts_and_restarts() {
    let mut house = House::new();
    let (alice, bob, room) = two(&house).await;
    assert_eq!(
        unread(&house, &bob, &room),
        Unread::default(),
        "what was before the join is read"
    );
    house.say(&alice, &room, "hello").await;
    let mention = j!({ "body": "you", "m.mentions": { "user_ids": [&*bob.user_id] } });
    let second = house.send(&alice, &room, "m.room.message", &mention).await;
    house.say(&bob, &room, "own words do not count").await;
    let last = house.say(&alice, &room, "more").await;
    let expected = Count {
        notify: 3,
        highlight: 1,
    };
    assert_eq!(unread(&house, &bob, &room).main, expected);
    assert_eq!(unread(&house, &alice, &room).main.notify, 1);
    house = house.reopen();
    assert_eq!(unread(&house, &bob, &room).main, expected);
    mark(&house, &bob, &room, public(&second)).await.unwrap();
    assert_eq!(
        unread(&house, &bob, &room).main,
        Count {
            notify: 1,
            highlight: 0
        }
    );
    house = house.reopen();
    assert_eq!(
        unread(&house, &bob, &room).main,
        Count {
            notify: 1,
            highlight: 0
        }
    );
    house.say(&alice, &room, "and more").await;
    assert_eq!(unread(&house, &bob, &room).main.notify, 2);
    mark(&house, &bob, &room, private(&last)).await.unwrap();
    assert_eq!(unread(&house, &bob, &room).main.notify, 1);
    house = house.reopen();
    assert_eq!(unread(&house, &bob, &room).main.notify, 1);
    house.leave(&bob, &room).await;
    assert_eq!(unread(&house, &bob, &room), Unread::default());
}

#[tokio::test]
async fn unread_counts_by_thread() {
    let mut house = House::new();
    let (alice, bob, room) = two(&house).await;
    let root = house.say(&alice, &room, "root").await;
    let mut replies = Vec::new();
    for _ in 0..3 {
        let relates = j!({ "rel_type": "m.thread", "event_id": root });
        let content = j!({ "msgtype": "m.text", "body": "reply", "m.relates_to": relates });
        replies.push(house.send(&alice, &room, "m.room.message", &content).await);
    }
    let counts = |house: &House| {
        let unread = unread(house, &bob, &room);
        let threads: Vec<u64> = unread
            .threads
            .iter()
            .map(|(_, count)| count.notify)
            .collect();
        (unread.main.notify, threads)
    };
    assert_eq!(counts(&house), (1, vec![3]));
    mark(&house, &bob, &room, threaded(&replies[1], &root))
        .await
        .unwrap();
    assert_eq!(counts(&house), (1, vec![1]));
    house = house.reopen();
    assert_eq!(counts(&house), (1, vec![1]));
    let wrong = mark(&house, &bob, &room, threaded(&replies[1], "main")).await;
    assert!(matches!(wrong, Err(RoomError::InvalidParam(_))));
    mark(&house, &bob, &room, threaded(&root, "main"))
        .await
        .unwrap();
    assert_eq!(counts(&house), (0, vec![1]));
    mark(&house, &bob, &room, public(&replies[2]))
        .await
        .unwrap();
    assert_eq!(counts(&house), (0, vec![]));
}

#[tokio::test]
async fn many_unread_are_counted_once_and_saved() {
    let mut house = House::new();
    let (alice, bob, room) = two(&house).await;
    let mut ids = Vec::new();
    for n in 0..1_500 {
        ids.push(house.say(&alice, &room, &n.to_string()).await);
    }
    assert_eq!(unread(&house, &bob, &room).main.notify, 1_500);
    house.rooms.save_unread().await.unwrap();
    let saved = house.snap().head();
    house.rooms.save_unread().await.unwrap();
    assert_eq!(house.snap().head(), saved);
    house = house.reopen();
    house.say(&alice, &room, "one more").await;
    assert_eq!(unread(&house, &bob, &room).main.notify, 1_501);
    mark(&house, &bob, &room, public(&ids[99])).await.unwrap();
    assert_eq!(unread(&house, &bob, &room).main.notify, 1_401);
    house = house.reopen();
    assert_eq!(unread(&house, &bob, &room).main.notify, 1_401);
    mark(&house, &bob, &room, public(&ids[1_499]))
        .await
        .unwrap();
    assert_eq!(unread(&house, &bob, &room).main.notify, 1);
}

#[tokio::test]
async fn threads_cannot_be_invented() {
    let house = House::new();
    let (alice, bob, room) = two(&house).await;
    for n in 0..3 {
        let nowhere = format!("${n}{}", "x".repeat(20_000));
        let relates = j!({ "rel_type": "m.thread", "event_id": nowhere });
        let content = j!({ "msgtype": "m.text", "body": "reply", "m.relates_to": relates });
        house.send(&alice, &room, "m.room.message", &content).await;
    }
    let unread = unread(&house, &bob, &room);
    assert_eq!((unread.main.notify, unread.threads), (3, vec![]));
}

#[tokio::test]
async fn what_is_taken_back_counts_no_more() {
    let mut house = House::new();
    let (alice, bob, room) = two(&house).await;
    let first = house.say(&alice, &room, "oops").await;
    house.say(&alice, &room, "hello").await;
    assert_eq!(unread(&house, &bob, &room).main.notify, 2);
    house.redact(&alice, &room, &first).await;
    assert_eq!(unread(&house, &bob, &room).main.notify, 1);
    house = house.reopen();
    assert_eq!(unread(&house, &bob, &room).main.notify, 1);
}
