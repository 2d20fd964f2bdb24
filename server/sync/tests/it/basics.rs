//! Joined rooms: first, next, and nothing new.

use serde_json::json;
use skerry_core::Pos;
use skerry_sync::{SyncError, Token};

use crate::house::{House, events, joined, state, timeline, words};

const LAST_TWO: &str = r#"{"room":{"timeline":{"limit":2}}}"#;

#[tokio::test]
async fn an_initial_sync_has_the_rooms_and_the_next_one_what_is_new() {
    let house = House::new();
    let alice = house.person("alice").await;
    let room = house.room(&alice).await;
    house.say(&alice, &room, "one").await;
    house.say(&alice, &room, "two").await;
    let first = house.sync(&alice, None, LAST_TWO).await;
    let shown = joined(&first, &room);
    assert_eq!(words(&timeline(shown)), ["one", "two"]);
    assert!(shown.timeline.limited);
    let kinds: Vec<_> = state(shown)
        .iter()
        .map(|event| event["type"].clone())
        .collect();
    assert!(kinds.contains(&json!("m.room.create")) && kinds.contains(&json!("m.room.member")));
    assert_eq!(shown.summary.joined, Some(1));
    assert!(shown.unread.is_some());

    let idle = house.sync(&alice, Some(first.next), LAST_TWO).await;
    assert!(idle.is_empty(), "{idle:?}");
    house.say(&alice, &room, "three").await;
    for since in [first.next, idle.next] {
        let next = house.sync(&alice, Some(since), LAST_TWO).await;
        let shown = joined(&next, &room);
        assert_eq!(words(&timeline(shown)), ["three"]);
        assert!(!shown.timeline.limited && state(shown).is_empty());
        assert_eq!(shown.summary.joined, None);
    }
}

#[tokio::test]
async fn everything_fits_and_nothing_is_limited() {
    let house = House::new();
    let alice = house.person("alice").await;
    let room = house.room(&alice).await;
    let all = house
        .sync(&alice, None, r#"{"room":{"timeline":{"limit":100}}}"#)
        .await;
    let shown = joined(&all, &room);
    assert!(!shown.timeline.limited);
    assert_eq!(state(shown), Vec::<serde_json::Value>::new());
    assert_eq!(timeline(shown)[0]["type"], "m.room.create");
}

#[tokio::test]
async fn a_filter_finds_what_it_wants_far_back() {
    let house = House::new();
    let alice = house.person("alice").await;
    let room = house.room(&alice).await;
    house.say(&alice, &room, "wanted").await;
    for n in 0..100 {
        house.send(&alice, &room, "a.filler", json!({"n": n})).await;
    }
    let filter = r#"{"room":{"timeline":{"limit":1,"types":["m.room.message"]},
        "state":{"types":[]}}}"#;
    let found = house.sync(&alice, None, filter).await;
    let shown = joined(&found, &room);
    assert_eq!(words(&timeline(shown)), ["wanted"]);
    assert!(!shown.timeline.limited && state(shown).is_empty());
    let none = house
        .sync(&alice, None, r#"{"room":{"timeline":{"limit":0}}}"#)
        .await;
    assert!(timeline(joined(&none, &room)).is_empty() && joined(&none, &room).timeline.limited);
    let other = r#"{"room":{"not_rooms":["ROOM"]}}"#.replace("ROOM", &room);
    assert!(house.sync(&alice, None, &other).await.joined.is_empty());
}

#[tokio::test]
async fn the_senders_device_sees_its_transaction_and_no_other_does() {
    let house = House::new();
    let alice = house.person("alice").await;
    let tablet = house.device("alice", "TABLET").await;
    let room = house.room(&alice).await;
    let start = house.sync(&alice, None, "{}").await;
    let txn = skerry_account::TxnKey::new(alice.user, &alice.device, "PUT", "/send", "t1").unwrap();
    let message = skerry_room::Message {
        kind: "m.room.message".to_owned(),
        content: br#"{"body":"hi","msgtype":"m.text"}"#.to_vec(),
        txn: Some((txn, "t1".to_owned())),
        sticky_ms: None,
        ts: None,
    };
    house.rooms.send(alice.who(), &room, message).await.unwrap();
    let own = house.sync(&alice, Some(start.next), "{}").await;
    let event = &timeline(joined(&own, &room))[0];
    assert_eq!(event["unsigned"]["transaction_id"], "t1");
    assert_eq!(event["unsigned"]["membership"], "join");
    let other = house.sync(&tablet, Some(start.next), "{}").await;
    assert!(timeline(joined(&other, &room))[0]["unsigned"]["transaction_id"].is_null());
}

#[tokio::test]
async fn fields_and_format_are_as_asked() {
    let house = House::new();
    let alice = house.person("alice").await;
    let room = house.room(&alice).await;
    let id = house.say(&alice, &room, "hello").await;
    let few = r#"{"event_fields":["content.body","sender"],"room":{"timeline":{"limit":1}}}"#;
    let shown = house.sync(&alice, None, few).await;
    let event = &timeline(joined(&shown, &room))[0];
    assert_eq!(
        event,
        &json!({"content": {"body": "hello"}, "sender": *alice.id})
    );
    let raw = r#"{"event_format":"federation","room":{"timeline":{"limit":1}}}"#;
    let shown = house.sync(&alice, None, raw).await;
    let event = &timeline(joined(&shown, &room))[0];
    assert_eq!(event["event_id"], *id);
    assert_eq!(event["room_id"], *room);
    for field in [
        "prev_events",
        "auth_events",
        "depth",
        "hashes",
        "signatures",
    ] {
        assert!(!event[field].is_null(), "{field}");
    }
}

#[tokio::test]
async fn a_token_outlives_a_restart_and_one_from_the_future_is_refused() {
    let house = House::new();
    let alice = house.person("alice").await;
    let room = house.room(&alice).await;
    let first = house.sync(&alice, None, "{}").await;
    house.say(&alice, &room, "before").await;
    let house = house.restart().await;
    house.say(&alice, &room, "after").await;
    let since = Token::parse(&first.next.to_string()).unwrap();
    let next = house.sync(&alice, Some(since), "{}").await;
    assert_eq!(words(&timeline(joined(&next, &room))), ["before", "after"]);
    assert_ne!(next.next.boot, first.next.boot);
    let far = Token {
        pos: Pos(1 << 40),
        to_device: Pos(0),
        ..first.next
    };
    let refused = house.ask(alice.request(Some(far), "{}")).await;
    assert!(matches!(refused, Err(SyncError::UnknownPos)));
}

#[tokio::test]
async fn a_redacted_event_comes_redacted() {
    let house = House::new();
    let alice = house.person("alice").await;
    let room = house.room(&alice).await;
    let start = house.sync(&alice, None, "{}").await;
    let id = house.say(&alice, &room, "oops").await;
    house.sync(&alice, Some(start.next), "{}").await;
    let redaction = skerry_room::Redaction {
        with_rel_types: Vec::new(),
        target: id,
        content: b"{}".to_vec(),
        txn: None,
    };
    house
        .rooms
        .redact(alice.who(), &room, redaction)
        .await
        .unwrap();
    let again = house.sync(&alice, Some(start.next), "{}").await;
    let shown = timeline(joined(&again, &room));
    assert_eq!(shown[0]["content"], json!({}));
    assert_eq!(shown[1]["type"], "m.room.redaction");
}

#[tokio::test]
async fn unread_counts_and_receipts() {
    let house = House::new();
    let (alice, bob) = (house.person("alice").await, house.person("bob").await);
    let room = house.room(&alice).await;
    house.join(&bob, &room).await;
    let start = house.sync(&bob, None, "{}").await;
    house.say(&alice, &room, "one").await;
    let id = house.say(&alice, &room, "two").await;
    let next = house.sync(&bob, Some(start.next), "{}").await;
    assert_eq!(joined(&next, &room).unread.as_ref().unwrap().main.notify, 2);
    let watching = house.sync(&alice, None, "{}").await;
    let marks = skerry_room::ReadMarks {
        read: Some(id.clone()),
        ..Default::default()
    };
    house
        .rooms
        .mark_read(bob.viewer(), &room, marks)
        .await
        .unwrap();
    let read = house.sync(&bob, Some(next.next), "{}").await;
    assert_eq!(joined(&read, &room).unread.as_ref().unwrap().main.notify, 0);
    let seen = house.sync(&alice, Some(watching.next), "{}").await;
    let receipt: serde_json::Value =
        serde_json::from_slice(&joined(&seen, &room).ephemeral[0]).unwrap();
    assert!(
        receipt["content"][&id]["m.read"][&*bob.id]["ts"].is_u64(),
        "{receipt}"
    );
    // A private one concerns nobody else.
    let id = house.say(&alice, &room, "three").await;
    let start = house.sync(&alice, None, "{}").await;
    let marks = skerry_room::ReadMarks {
        private: Some(id),
        ..Default::default()
    };
    house
        .rooms
        .mark_read(bob.viewer(), &room, marks)
        .await
        .unwrap();
    assert!(house.sync(&alice, Some(start.next), "{}").await.is_empty());
    let own = house.sync(&bob, Some(read.next), "{}").await;
    assert_eq!(joined(&own, &room).unread.as_ref().unwrap().main.notify, 0);
    // Even where no ephemeral events are wanted, the counts are told.
    let none = r#"{"room":{"ephemeral":{"types":[]}}}"#;
    let quiet = house.sync(&bob, Some(read.next), none).await;
    assert!(joined(&quiet, &room).ephemeral.is_empty());
    assert_eq!(events(&joined(&quiet, &room).timeline.events).len(), 1);
}

#[tokio::test]
async fn counts_by_thread_where_asked() {
    let house = House::new();
    let (alice, bob) = (house.person("alice").await, house.person("bob").await);
    let room = house.room(&alice).await;
    house.join(&bob, &room).await;
    let root = house.say(&alice, &room, "root").await;
    let content = json!({"msgtype": "m.text", "body": "in thread",
        "m.relates_to": {"rel_type": "m.thread", "event_id": root}});
    house.send(&alice, &room, "m.room.message", content).await;
    let all = house.sync(&bob, None, "{}").await;
    let unread = joined(&all, &room).unread.clone().unwrap();
    assert_eq!((unread.main.notify, unread.threads.len()), (2, 0));
    let filter = r#"{"room":{"timeline":{"unread_thread_notifications":true}}}"#;
    let apart = house.sync(&bob, None, filter).await;
    let unread = joined(&apart, &room).unread.clone().unwrap();
    assert_eq!(unread.main.notify, 1);
    assert_eq!(
        (&*unread.threads[0].0, unread.threads[0].1.notify),
        (&*root, 1)
    );
}
