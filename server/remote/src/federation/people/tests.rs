#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod side;

use std::time::Duration;

use serde_json::{Value, json};
use skerry_account::PresenceState;
use skerry_account::e2e::{self, KeyQuery};
use skerry_room::ReadMarks;

use side::{HERE, Pair, THERE, until};

const WITHIN: Duration = Duration::from_secs(5);

fn all_of(user_id: &str) -> KeyQuery {
    KeyQuery {
        device_keys: [(user_id.to_owned(), Vec::new())].into(),
    }
}

/// The devices of a user that one side's client is told of, and whether servers failed.
async fn devices(pair: &Pair, user_id: &str) -> (Vec<String>, bool) {
    let (there, bob) = (&pair.there, pair.there.owner("bob"));
    let query = all_of(user_id);
    let asked = there.people.query(&bob, query, WITHIN).await.unwrap();
    let found = asked.found.device_keys.get(user_id);
    let devices = found.map(|found| found.keys().cloned().collect());
    (devices.unwrap_or_default(), !asked.failures.is_empty())
}

#[tokio::test]
async fn lists_are_asked_for_once_and_follow_what_is_told() {
    let pair = Pair::new(true).await;
    let alice = pair.here.owner("alice");
    pair.here.device(&alice, "A1").await;
    let (found, failed) = devices(&pair, &alice.user_id).await;
    assert_eq!((found, failed), (vec!["A1".to_owned()], false));
    assert_eq!(pair.wire.asked(), 1);
    devices(&pair, &alice.user_id).await;
    assert_eq!(pair.wire.asked(), 1, "the list is known");

    pair.run();
    pair.carry().await;
    pair.here.device(&alice, "A2").await;
    until("the new device is told", async || {
        pair.carry().await;
        devices(&pair, &alice.user_id).await.0.len() == 2
    })
    .await;
    pair.stop();
}

#[tokio::test]
async fn a_gap_is_closed_by_fetching_the_list_again() {
    let pair = Pair::new(true).await;
    let alice = pair.here.owner("alice");
    pair.here.device(&alice, "A1").await;
    pair.run();
    until("the first device is told", async || pair.carry().await > 0).await;
    devices(&pair, &alice.user_id).await;
    pair.here.device(&alice, "A2").await;
    until("an update is lost", async || pair.lose() > 0).await;
    // Whatever the rest of that update was.
    pair.here.device(&alice, "A3").await;
    let user = pair.there.store.user_nid(&alice.user_id).unwrap().unwrap();
    until("the list is whole again", async || {
        pair.carry().await;
        let snap = pair.there.store.snapshot();
        // No client asks meanwhile.
        e2e::is_fresh(&snap, user).unwrap() && {
            let known = all_of(&alice.user_id);
            let bob = pair.there.owner("bob");
            let known = pair.there.accounts.keys().query_known(&bob, known).await;
            known.unwrap().device_keys[&*alice.user_id].len() == 3
        }
    })
    .await;
    pair.stop();
}

#[tokio::test]
async fn who_does_not_answer_is_named_and_what_is_known_is_told() {
    let pair = Pair::new(true).await;
    let alice = pair.here.owner("alice");
    pair.here.device(&alice, "A1").await;
    pair.wire.set_down(true);
    let (found, failed) = devices(&pair, &alice.user_id).await;
    assert_eq!((found, failed), (Vec::new(), true));
    pair.wire.set_down(false);
    let (found, failed) = devices(&pair, &alice.user_id).await;
    assert_eq!((found.len(), failed), (1, false));
    // An update that has no predecessor: the list is stale, and the server is gone.
    pair.here.device(&alice, "A2").await;
    pair.here.tell_now(&alice, THERE);
    pair.wire.set_down(true);
    pair.carry().await;
    let (found, failed) = devices(&pair, &alice.user_id).await;
    assert_eq!((found, failed), (vec!["A1".to_owned()], true));
    let request = [(
        alice.user_id.to_string(),
        [("A1".to_owned(), "x".to_owned())].into(),
    )];
    let claimed = pair
        .there
        .people
        .claim(request.into(), WITHIN)
        .await
        .unwrap();
    assert_eq!(claimed.failures.into_iter().collect::<Vec<_>>(), [HERE]);
}

#[tokio::test]
async fn keys_are_claimed_once_across_servers() {
    let pair = Pair::new(true).await;
    let alice = pair.here.owner("alice");
    pair.here.device(&alice, "A1").await;
    pair.here.one_time(&alice, "A1", &["k1", "k2"]).await;
    let request = || {
        let device = [("A1".to_owned(), "signed_curve25519".to_owned())].into();
        [(alice.user_id.to_string(), device)].into()
    };
    for id in ["k1", "k2"] {
        let claimed = pair.there.people.claim(request(), WITHIN).await.unwrap();
        assert!(claimed.failures.is_empty());
        let keys = &claimed.found.keys[&*alice.user_id]["A1"];
        assert_eq!(
            keys.keys().collect::<Vec<_>>(),
            [&format!("signed_curve25519:{id}")]
        );
    }
    let claimed = pair.there.people.claim(request(), WITHIN).await.unwrap();
    assert!(claimed.found.keys.is_empty());
}

#[tokio::test]
async fn a_list_is_followed_only_while_a_room_is_shared() {
    let pair = Pair::new(true).await;
    let alice = pair.here.owner("alice");
    pair.here.device(&alice, "A1").await;
    pair.run();
    devices(&pair, &alice.user_id).await;
    let user = pair.there.store.user_nid(&alice.user_id).unwrap().unwrap();
    assert!(e2e::is_followed(&pair.there.store.snapshot(), user).unwrap());
    pair.there.part(&pair.room, "alice", HERE);
    until("the list is forgotten", async || {
        !e2e::is_followed(&pair.there.store.snapshot(), user).unwrap()
    })
    .await;
    let asked = pair.wire.asked();
    let (found, _) = devices(&pair, &alice.user_id).await;
    assert_eq!(found, ["A1"]);
    devices(&pair, &alice.user_id).await;
    assert_eq!(pair.wire.asked(), asked + 2, "nothing is kept of strangers");
    pair.stop();
}

#[tokio::test]
async fn typing_crosses_over_and_ends() {
    let pair = Pair::new(true).await;
    pair.run();
    let alice = pair.here.owner("alice");
    let snap = pair.here.store.snapshot();
    let rooms = &pair.here.rooms;
    rooms
        .set_typing(&snap, alice.user, &pair.room, Some(30_000))
        .unwrap();
    until("typing is told", async || {
        pair.carry().await;
        pair.there.typists(&pair.room) == [&*alice.user_id]
    })
    .await;
    rooms
        .set_typing(&snap, alice.user, &pair.room, None)
        .unwrap();
    until("its end is told", async || {
        pair.carry().await;
        pair.there.typists(&pair.room).is_empty()
    })
    .await;
    pair.stop();
}

#[tokio::test]
async fn receipts_cross_over_also_those_of_threads_and_before_their_event() {
    let pair = Pair::new(true).await;
    pair.run();
    let (alice, carol) = (pair.here.owner("alice"), pair.here.owner("carol"));
    let event = pair.here.say(&carol, &pair.room).await;
    for thread in [None, Some("main".to_owned())] {
        let marks = ReadMarks {
            read: Some(event.clone()),
            thread,
            ..ReadMarks::default()
        };
        let viewer = pair.here.viewer(&alice);
        pair.here
            .rooms
            .mark_read(viewer, &pair.room, marks)
            .await
            .unwrap();
    }
    until("both receipts are sent", async || {
        pair.wire.soon("m.receipt") == 2
    })
    .await;
    pair.carry().await;
    assert!(
        pair.there.receipts(&pair.room, &alice).is_empty(),
        "the event is not there"
    );
    pair.there.copy_event(&pair.room, &event, &carol);
    until("they are found when it comes", async || {
        pair.there.receipts(&pair.room, &alice) == ["", "main"]
    })
    .await;
    // Carol's own events say what she has read.
    let marks = ReadMarks {
        read: Some(event.clone()),
        ..ReadMarks::default()
    };
    let viewer = pair.here.viewer(&carol);
    pair.here
        .rooms
        .mark_read(viewer, &pair.room, marks)
        .await
        .unwrap();
    pair.stop();
}

#[tokio::test]
async fn presence_crosses_over() {
    let pair = Pair::new(true).await;
    pair.run();
    let alice = pair.here.owner("alice");
    let board = pair.here.accounts.presence();
    let words = Some("at sea".to_owned());
    board.set(alice.user, &"A1".into(), PresenceState::Busy, words);
    let user = pair.there.store.user_nid(&alice.user_id).unwrap().unwrap();
    until("presence is told", async || {
        pair.carry().await;
        let view = pair.there.accounts.presence().of(user);
        view.state == PresenceState::Online && view.status_msg.as_deref() == Some("at sea")
    })
    .await;
    assert!(pair.there.accounts.presence().of(user).currently_active);
    pair.stop();
}

#[tokio::test]
async fn presence_that_is_told_too_early_counts_once_a_room_is_shared() {
    let pair = Pair::new(true).await;
    pair.run();
    let dave = format!("@dave:{HERE}");
    let said = json!({ "push": [{ "user_id": dave, "presence": "online", "last_active_ago": 7 }] });
    let state = || {
        let user = pair.there.store.intern_user(&dave).unwrap();
        pair.there.accounts.presence().of(user).state
    };
    pair.there.take(HERE, "m.presence", &said).await;
    // Nobody speaks of the users of others, however early.
    pair.there.take("evil.test", "m.presence", &said).await;
    assert_eq!(state(), PresenceState::Offline);
    pair.there.add_member(&pair.room, "dave", HERE);
    until("dave is there", async || state() == PresenceState::Online).await;
    pair.stop();
}

#[tokio::test]
async fn presence_that_is_off_is_neither_told_nor_taken() {
    let pair = Pair::new(false).await;
    pair.run();
    let alice = pair.here.owner("alice");
    let board = pair.here.accounts.presence();
    board.set(alice.user, &"A1".into(), PresenceState::Online, None);
    let snap = pair.here.store.snapshot();
    let rooms = &pair.here.rooms;
    // What is told after it shows that its time has come.
    tokio::time::sleep(Duration::from_millis(600)).await;
    rooms
        .set_typing(&snap, alice.user, &pair.room, Some(30_000))
        .unwrap();
    until("typing is told", async || pair.wire.soon("m.typing") > 0).await;
    assert_eq!(pair.wire.soon("m.presence"), 0);
    let said = json!({ "push": [{
        "user_id": &*alice.user_id, "presence": "online", "last_active_ago": 0,
    }] });
    pair.there.take(HERE, "m.presence", &said).await;
    let user = pair.there.store.user_nid(&alice.user_id).unwrap().unwrap();
    assert_eq!(
        pair.there.accounts.presence().of(user).state,
        PresenceState::Offline
    );
    pair.stop();
}

#[tokio::test]
async fn nobody_speaks_for_users_of_other_servers() {
    let pair = Pair::new(true).await;
    let alice = pair.here.owner("alice");
    let (carol, event) = (pair.here.owner("carol"), "$of_carol");
    pair.there.copy_event(&pair.room, event, &carol);
    let user_id = &*alice.user_id;
    let said: [(&str, Value); 6] = [
        (
            "m.typing",
            json!({ "room_id": pair.room, "user_id": user_id, "typing": true }),
        ),
        (
            "m.receipt",
            json!({ &*pair.room: { "m.read": { user_id: {
                "event_ids": [event], "data": { "ts": 1 },
            } } } }),
        ),
        (
            "m.presence",
            json!({ "push": [{ "user_id": user_id, "presence": "online" }] }),
        ),
        (
            "m.device_list_update",
            json!({ "user_id": user_id, "device_id": "E", "stream_id": 9 }),
        ),
        ("m.signing_key_update", json!({ "user_id": user_id })),
        ("m.unknown", json!({})),
    ];
    let user = pair.there.store.user_nid(user_id).unwrap().unwrap();
    let seen = |pair: &Pair| {
        let snap = pair.there.store.snapshot();
        let list = e2e::list_pos(&snap, user).unwrap();
        let state = pair.there.accounts.presence().of(user).state;
        let typists = pair.there.typists(&pair.room);
        (
            list,
            state,
            typists,
            pair.there.receipts(&pair.room, &alice),
        )
    };
    let before = seen(&pair);
    for (kind, content) in &said {
        pair.there.take("evil.test", kind, content).await;
    }
    assert_eq!(seen(&pair), before);
    for (kind, content) in &said {
        pair.there.take(HERE, kind, content).await;
    }
    let after = seen(&pair);
    assert!(after.0 > before.0, "clients look at the list again");
    assert_eq!(after.1, PresenceState::Online);
    assert_eq!(after.2, [user_id]);
    assert_eq!(after.3, [""]);
    // Whatever is not as the spec has it is passed over.
    for (kind, _) in &said {
        for content in [json!([]), json!({}), json!({ "user_id": 1 }), json!("x")] {
            pair.there.take(HERE, kind, &content).await;
        }
    }
    assert_eq!(seen(&pair), after);
}
