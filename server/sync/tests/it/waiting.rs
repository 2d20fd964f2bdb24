//! Long polls: woken by everything that concerns the user, by nothing else, and never too late.

use std::time::Duration;

use serde_json::json;
use skerry_account::PresenceState;

use crate::house::{House, find, joined, timeline, words};

#[tokio::test]
async fn news_end_the_wait() {
    let house = House::new();
    let (alice, bob) = (house.person("alice").await, house.person("bob").await);
    let room = house.room(&alice).await;
    house.join(&bob, &room).await;
    let mut since = house.sync(&bob, None, "{}").await.next;
    for what in 0..7 {
        let waiting = house.wait(&bob, since);
        let news = async {
            tokio::time::sleep(Duration::from_millis(30)).await;
            match what {
                0 => drop(house.say(&alice, &room, "hi").await),
                1 => {
                    house
                        .set(&alice, &room, "m.room.topic", "", json!({"topic": "t"}))
                        .await
                }
                2 => {
                    let id = house.say(&alice, &room, "read").await;
                    let marks = skerry_room::ReadMarks {
                        read: Some(id),
                        ..Default::default()
                    };
                    house
                        .rooms
                        .mark_read(alice.viewer(), &room, marks)
                        .await
                        .unwrap();
                }
                3 => {
                    let snap = house.store.snapshot();
                    house
                        .rooms
                        .set_typing(&snap, alice.user, &room, Some(1_000))
                        .unwrap();
                }
                4 => {
                    let data =
                        house
                            .accounts
                            .set_account_data(bob.user, None, "x.y", json!({"a": 1}));
                    data.await.unwrap();
                }
                5 => drop(house.device("alice", "NEW").await),
                _ => house.kick(&alice, &room, &bob).await,
            }
        };
        let (delta, ()) = tokio::join!(waiting, news);
        assert!(!delta.is_empty(), "news {what}");
        if what == 6 {
            assert!(find(&delta.left, &room).is_some());
        }
        // What came in two parts is fetched whole.
        since = house.sync(&bob, Some(delta.next), "{}").await.next;
    }
}

#[tokio::test]
async fn nothing_new_waits_for_the_timeout_and_says_so() {
    let house = House::new();
    let (alice, bob) = (house.person("alice").await, house.person("bob").await);
    let room = house.room(&alice).await;
    let since = house.sync(&bob, None, "{}").await.next;
    let request = bob.request(Some(since), "{}");
    let started = std::time::Instant::now();
    let waiting = house
        .sync
        .wait(request, PresenceState::Offline, Duration::from_millis(200));
    let (delta, _) = tokio::join!(waiting, house.say(&alice, &room, "elsewhere"));
    assert!(delta.unwrap().is_empty());
    assert!(started.elapsed() >= Duration::from_millis(200));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_message_is_missed_in_a_storm() {
    let house = std::sync::Arc::new(House::new());
    let alice = house.person("alice").await;
    let room = house.room(&alice).await;
    let mut readers = Vec::new();
    for n in 0..8 {
        let reader = house.person(&format!("reader{n}")).await;
        house.join(&reader, &room).await;
        let (house, room) = (house.clone(), room.clone());
        let mut since = house.sync(&reader, None, "{}").await.next;
        readers.push(tokio::spawn(async move {
            let mut seen = Vec::new();
            while seen.last().map(String::as_str) != Some("89") {
                let delta = house.wait(&reader, since).await;
                since = delta.next;
                if let Some(shown) = find(&delta.joined, &room) {
                    assert!(!shown.timeline.limited);
                    let events = timeline(shown);
                    seen.extend(words(&events).into_iter().filter(|word| word != "join"));
                }
            }
            seen
        }));
    }
    // As many as one answer may hold: a reader who is late gets them all at once.
    for n in 0..90 {
        house.say(&alice, &room, &n.to_string()).await;
    }
    let all: Vec<String> = (0..90).map(|n: u32| n.to_string()).collect();
    for reader in readers {
        let seen = tokio::time::timeout(Duration::from_secs(30), reader)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(seen, all);
    }
}

#[tokio::test]
async fn full_state_does_not_wait() {
    let house = House::new();
    let alice = house.person("alice").await;
    let room = house.room(&alice).await;
    let since = house.sync(&alice, None, "{}").await.next;
    let mut request = alice.request(Some(since), "{}");
    request.full_state = true;
    let long = Duration::from_secs(60);
    let answer = house.sync.wait(request, PresenceState::Offline, long);
    let delta = tokio::time::timeout(Duration::from_secs(5), answer)
        .await
        .unwrap()
        .unwrap();
    assert!(joined(&delta, &room).state.events().count > 3);
}
