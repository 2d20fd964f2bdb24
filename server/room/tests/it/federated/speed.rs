//! Figures, printed: `cargo test --release -p skerry-room federated::speed -- --ignored --nocapture`.

use std::time::Instant;

use serde_json::json;
use skerry_room::{Arrival, Verdict};

use crate::abroad::{Abroad, text};
use crate::house::House;

const EVENTS: usize = 3_000;
/// As many as one transaction holds.
const AT_ONCE: usize = 50;

/// A chain of messages, and one that forks after every event and is brought together.
#[ignore = "prints figures"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn incoming() {
    for forks in [false, true] {
        let house = House::new();
        let ada = house.person("ada");
        let room = house.public_room(&ada).await;
        let abroad = Abroad::new(&house, &room);
        let users: Vec<String> = (0..10).map(|n| format!("@u{n}:other.org")).collect();
        for user in &users {
            abroad.join(user).await;
        }
        let (mut events, mut last) = (Vec::new(), abroad.ends());
        while events.len() < EVENTS {
            let user = &users[events.len() % users.len()];
            let event = abroad.make(user, text("hello there"), &last);
            if forks {
                let other = &users[(events.len() + 1) % users.len()];
                let beside = match events.len() % 10 {
                    0 => {
                        let name = json!({"membership": "join", "displayname": "x"});
                        abroad.make(other, ("m.room.member", Some(other), name), &last)
                    }
                    _ => abroad.make(other, text("beside"), &last),
                };
                last = vec![beside.event_id().to_owned(), event.event_id().to_owned()];
                events.push(beside);
            } else {
                last = vec![event.event_id().to_owned()];
            }
            events.push(event);
        }
        let start = Instant::now();
        for batch in events.chunks(AT_ONCE) {
            let batch = batch.iter().map(|e| (e.clone(), Arrival::default()));
            let verdicts = house.rooms.receive_all(&room, batch.collect());
            let verdicts = verdicts.await.unwrap();
            assert!(verdicts.iter().all(|verdict| *verdict == Verdict::Accepted));
        }
        let rate = events.len() as f64 / start.elapsed().as_secs_f64();
        println!("forks: {forks}: {rate:.0} events a second");
    }
}
