//! How fast events of other servers are taken: through the real `/send`, with their signatures, the
//! durable inbox, the rules, and an fsync for each commit. Only making and signing them is done
//! before; the sending side otherwise runs on the same cores.
//!
//! `cargo test --release -p skerry-testkit --test it incoming_pdus -- --ignored --nocapture`

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Method;
use serde_json::{Value, json};
use skerry_core::build::{Draft, EventRef};
use skerry_core::canonical::{Mode, Object};
use skerry_core::{RoomVersion, StoredEvent};
use skerry_testkit::{Network, Person, Stranger, TestServer};

use super::{escape, texts};

const ONE: &str = "one.example";
/// How many events one transaction has.
const TXN: usize = 50;
/// How many lines of talk a room of the measurement with forks has side by side.
const BRANCHES: usize = 10;
/// How many messages follow each other before the lines meet.
const ROUND: usize = 5;
/// The longest time that anything may take.
const PATIENCE: Duration = Duration::from_secs(300);

/// A user of another server, and where they stand in the room.
struct Line {
    user: String,
    member: EventRef,
    last: EventRef,
}

/// A room with users of another server.
struct Scene {
    other: Stranger,
    room: String,
    /// What allows messages, but for whose they are.
    rules: Vec<EventRef>,
    /// What memberships rest on beside that.
    join_rules: Vec<EventRef>,
    lines: Vec<Line>,
    said: usize,
}

impl Scene {
    async fn new(network: &Network, one: &TestServer, alice: &Person, n: usize) -> Scene {
        let other = Stranger::new(network, &format!("other{n}.example"));
        let body = json!({ "preset": "public_chat", "room_version": "11" });
        let room = one.room(alice, body).await;
        let mut lines: Vec<Line> = Vec::new();
        let (mut rules, mut join_rules) = (Vec::new(), Vec::new());
        for n in 0..BRANCHES {
            let user = other.user(&format!("user{n}"));
            let entered = other.join(ONE, &room, &user).await;
            let named = |is: fn(&StoredEvent) -> bool| {
                let found = entered.state.iter().filter(|event| is(event));
                found.map(EventRef::of).collect()
            };
            rules = named(|event| event.is_create() || event.is("m.room.power_levels", ""));
            join_rules = named(|event| event.is("m.room.join_rules", ""));
            lines.push(Line {
                user,
                member: entered.last.clone(),
                last: entered.last,
            });
        }
        // They begin where all of them are there.
        let newest = lines.last().unwrap().last.clone();
        for line in &mut lines {
            line.last = newest.clone();
        }
        Scene {
            other,
            room,
            rules,
            join_rules,
            lines,
            said: 0,
        }
    }

    fn event(
        &self,
        line: usize,
        kind: (&str, bool),
        content: &Value,
        prev: &[EventRef],
    ) -> StoredEvent {
        let line = &self.lines[line];
        let draft = Draft {
            room_id: Some(self.room.clone()),
            sender: line.user.clone(),
            event_type: kind.0.to_owned(),
            state_key: kind.1.then(|| line.user.clone()),
            content: Object::from_json(content, Mode::Strict).unwrap(),
            redacts: None,
            sticky_ms: None,
        };
        let mut auth = self.rules.clone();
        if kind.1 {
            auth.extend(self.join_rules.iter().cloned());
        }
        auth.push(line.member.clone());
        self.other.build(RoomVersion::V11, draft, prev, &auth)
    }

    /// Somebody says something after these events.
    fn say(&mut self, line: usize, prev: &[EventRef]) -> StoredEvent {
        self.said += 1;
        let content = json!({ "msgtype": "m.text", "body": format!("message {}", self.said) });
        let event = self.event(line, ("m.room.message", false), &content, prev);
        self.lines[line].last = EventRef::of(&event);
        event
    }

    /// Somebody takes another name, so that the lines differ in state.
    fn rename(&mut self, line: usize) -> StoredEvent {
        let content =
            json!({ "membership": "join", "displayname": format!("after {}", self.said) });
        let prev = [self.lines[line].last.clone()];
        let event = self.event(line, ("m.room.member", true), &content, &prev);
        self.lines[line].last = EventRef::of(&event);
        self.lines[line].member = EventRef::of(&event);
        event
    }

    /// One message after the other.
    fn chain(&mut self, count: usize) -> Vec<StoredEvent> {
        let next = |scene: &mut Scene| {
            let prev = [scene.lines[0].last.clone()];
            scene.say(0, &prev)
        };
        (0..count).map(|_| next(self)).collect()
    }

    /// Several lines side by side, each with a change of state, that meet and part again.
    fn forks(&mut self, count: usize) -> Vec<StoredEvent> {
        let mut events = Vec::new();
        while events.len() < count {
            for line in 0..BRANCHES {
                events.push(self.rename(line));
                for _ in 0..ROUND {
                    let prev = [self.lines[line].last.clone()];
                    events.push(self.say(line, &prev));
                }
            }
            let ends: Vec<EventRef> = self.lines.iter().map(|line| line.last.clone()).collect();
            let meeting = self.say(0, &ends);
            for line in &mut self.lines {
                line.last = EventRef::of(&meeting);
            }
            events.push(meeting);
        }
        events
    }

    /// Sends events as a server does: one transaction after the other.
    async fn send(&self, events: &[StoredEvent]) {
        for (n, some) in events.chunks(TXN).enumerate() {
            let pdus: Vec<&str> = some.iter().map(StoredEvent::json).collect();
            loop {
                let (status, answer) = self.other.send(ONE, &format!("t{n}"), &pdus, &[]).await;
                if status == 429 {
                    // So much of ours waits that no more is taken.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                }
                assert_eq!(status, 200, "{answer}");
                let said = answer["pdus"].as_object().unwrap();
                assert!(said.values().all(|one| one["error"].is_null()), "{answer}");
                break;
            }
        }
    }
}

/// Waits until an event can be read.
async fn there(one: &TestServer, alice: &Person, room: &str, event: &StoredEvent) {
    let path = format!(
        "/_matrix/client/v3/rooms/{}/event/{}",
        escape(room),
        escape(event.event_id())
    );
    let begun = Instant::now();
    loop {
        let (status, _) = one.req(Method::GET, &path, Some(&alice.token), None).await;
        if status == 200 {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "the last event never came");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Sends so many events into each of so many rooms, each of another server; how long that took
/// until all could be read.
async fn take(rooms: usize, count: usize, forked: bool) -> (usize, Duration) {
    let network = Network::new(1);
    let one = network.server(ONE, "");
    let alice = one.person("alice").await;
    let mut scenes = Vec::new();
    for n in 0..rooms {
        let mut scene = Scene::new(&network, &one, &alice, n).await;
        let events = match forked {
            true => scene.forks(count),
            false => scene.chain(count),
        };
        scenes.push(Arc::new((scene, events)));
    }
    let begun = Instant::now();
    let mut sending = tokio::task::JoinSet::new();
    for scene in &scenes {
        let scene = Arc::clone(scene);
        sending.spawn(async move { scene.0.send(&scene.1).await });
    }
    while let Some(sent) = sending.join_next().await {
        sent.unwrap();
    }
    for scene in &scenes {
        let (scene, events) = &**scene;
        there(&one, &alice, &scene.room, events.last().unwrap()).await;
    }
    let took = begun.elapsed();
    let mut all = 0;
    for scene in &scenes {
        let (scene, events) = &**scene;
        all += events.len();
        // Pages of the helper end somewhere; what a test sends is below that.
        if events.len() < 500 {
            let found = texts(&one, &alice, &scene.room).await;
            assert_eq!(found.len(), scene.said, "every message, once");
        }
    }
    (all, took)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_fast_and_forked_arrives_whole() {
    let (all, _) = take(2, 130, false).await;
    assert_eq!(all, 260);
    let (all, _) = take(1, 180, true).await;
    assert!(all >= 180);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn incoming_pdus() {
    for (what, rooms, count, forked) in [
        ("a chain in one room", 1, 10_000, false),
        ("chains in ten rooms", 10, 1_000, false),
        (
            "ten lines with changes of state in one room",
            1,
            5_000,
            true,
        ),
    ] {
        let (all, took) = take(rooms, count, forked).await;
        let each = all as f64 / took.as_secs_f64();
        println!("{what}: {all} events in {took:?}, {each:.0} a second");
    }
}
