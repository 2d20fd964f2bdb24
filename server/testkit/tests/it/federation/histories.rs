//! Random histories of three whole servers over a network that loses, repeats, delays and parts by
//! a seed: people talk, fight for power, ban each other, come and go; clocks go wrong. When the
//! network is whole again, all servers hold the same state and the same members, and have refused
//! the same events.

use std::collections::BTreeSet;
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use skerry_core::fixtures::SeededDice;
use skerry_testkit::{Faults, Network, Person, TestServer};

use super::escape;

const NAMES: [&str; 3] = ["one.example", "two.example", "three.example"];
/// Histories gone through; `SKERRY_SEEDS` says another number.
const SEEDS: u64 = 3;
/// The same where everything is tested.
const MANY_SEEDS: u64 = 60;
const STEPS: u64 = 25;
/// How far a server's clock goes ahead of the others', in ms.
const SKEW_MS: u64 = 3_600_000;
/// Longer than any server that was not reached is left alone, in ms.
const REST_MS: u64 = 48 * 3_600_000;
/// How often everybody speaks until all agree.
const ROUNDS: usize = 40;

/// Three servers; each history has a room of its own in them.
struct World {
    seed: u64,
    network: Network,
    servers: Vec<TestServer>,
    /// Of each server one who stays, and one who comes and goes.
    anchors: Vec<Person>,
    guests: Vec<Person>,
}

/// One history.
struct History<'a> {
    world: &'a World,
    room: String,
    dice: SeededDice,
    spoken: u64,
}

impl World {
    async fn new(seed: u64) -> World {
        let network = Network::new(seed);
        let servers: Vec<TestServer> = NAMES.iter().map(|name| network.server(name, "")).collect();
        let (mut anchors, mut guests) = (Vec::new(), Vec::new());
        for (at, server) in servers.iter().enumerate() {
            server.clock.advance(SKEW_MS * at as u64);
            anchors.push(server.person("anchor").await);
            guests.push(server.person("guest").await);
        }
        World {
            seed,
            network,
            servers,
            anchors,
            guests,
        }
    }

    /// Asks for something that may be refused.
    async fn try_to(&self, at: usize, who: &Person, method: Method, path: &str, body: Value) {
        let path = format!("/_matrix/client/v3/{path}");
        self.servers[at]
            .req(method, &path, Some(&who.token), Some(body))
            .await;
    }
}

impl History<'_> {
    async fn begin(world: &World) -> History<'_> {
        let mut dice = SeededDice::new(world.seed);
        let version = 1 + dice.below(12);
        let body = json!({ "preset": "public_chat", "room_version": version.to_string() });
        let room = world.servers[0].room(&world.anchors[0], body).await;
        let history = History {
            world,
            room,
            dice,
            spoken: 0,
        };
        for at in 1..3 {
            let path = format!("join/{}?via={}", escape(&history.room), NAMES[0]);
            let path = format!("/_matrix/client/v3/{path}");
            let who = &world.anchors[at];
            world.servers[at]
                .ok(Method::POST, &path, Some(&who.token), Some(json!({})))
                .await;
        }
        history
            .levels(0, &world.anchors[0], [100; 3], [100; 3])
            .await;
        history
    }

    fn pick(&mut self, n: usize) -> usize {
        self.dice.below(n as u64) as usize
    }

    async fn levels(&self, at: usize, by: &Person, anchors: [u64; 3], guests: [u64; 3]) {
        let world = self.world;
        let twelve = !self.room.contains(':');
        let mut users = serde_json::Map::new();
        for (n, (who, level)) in world.anchors.iter().zip(anchors).enumerate() {
            // Who made a room of version 12 stands above all levels.
            if !(twelve && n == 0) {
                users.insert(who.user_id.clone(), json!(level));
            }
        }
        for (who, level) in world.guests.iter().zip(guests) {
            users.insert(who.user_id.clone(), json!(level));
        }
        let path = format!("rooms/{}/state/m.room.power_levels/", escape(&self.room));
        let content = json!({ "users": users });
        world.try_to(at, by, Method::PUT, &path, content).await;
    }

    async fn say(&mut self, at: usize, who: &Person, text: &str) {
        self.spoken += 1;
        let (room, n) = (escape(&self.room), self.spoken);
        let path = format!("rooms/{room}/send/m.room.message/{}x{n}", self.world.seed);
        let body = json!({ "msgtype": "m.text", "body": text });
        self.world.try_to(at, who, Method::PUT, &path, body).await;
    }

    async fn step(&mut self, n: u64) {
        let world = self.world;
        let (at, other, which) = (self.pick(3), self.pick(3), self.pick(15));
        let as_guest = self.pick(2) == 0;
        let who = match as_guest {
            true => &world.guests[at],
            false => &world.anchors[at],
        };
        let (room, target) = (escape(&self.room), &world.guests[other].user_id);
        let some = |dice: &mut SeededDice| [0, 50, 100][dice.below(3) as usize];
        let about = json!({ "user_id": target });
        let post = |what: &str| format!("rooms/{room}/{what}");
        match which {
            0 | 1 => self.say(at, who, &format!("{n}")).await,
            2 | 3 => {
                // From whoever answers first: the network may be parted.
                let path = format!("join/{room}?via={}&via={}", NAMES[other], NAMES[0]);
                let guest = &world.guests[at];
                world
                    .try_to(at, guest, Method::POST, &path, json!({}))
                    .await;
            }
            4 => {
                let guest = &world.guests[at];
                world
                    .try_to(at, guest, Method::POST, &post("leave"), json!({}))
                    .await;
            }
            5 => {
                world
                    .try_to(at, who, Method::POST, &post("kick"), about)
                    .await
            }
            6 => {
                world
                    .try_to(at, who, Method::POST, &post("ban"), about)
                    .await
            }
            7 => {
                world
                    .try_to(at, who, Method::POST, &post("unban"), about)
                    .await
            }
            8 | 9 => {
                let anchors = [100, some(&mut self.dice), some(&mut self.dice)];
                let guests = [0; 3].map(|_: u64| some(&mut self.dice));
                self.levels(at, who, anchors, guests).await;
            }
            10 => {
                let rule = ["public", "invite"][usize::from(as_guest)];
                let path = post("state/m.room.join_rules/");
                let content = json!({ "join_rule": rule });
                world.try_to(at, who, Method::PUT, &path, content).await;
            }
            11 => {
                let path = post(&format!("state/x.state/{}", n % 2));
                world
                    .try_to(at, who, Method::PUT, &path, json!({ "n": n }))
                    .await;
            }
            12 => {
                let rest: Vec<&str> = (0..3).filter(|n| *n != other).map(|n| NAMES[n]).collect();
                world.network.part(&[&[NAMES[other]], &rest]);
            }
            13 => {
                let faults = Faults {
                    lost: self.dice.below(30),
                    unanswered: self.dice.below(20),
                    twice: self.dice.below(40),
                    delay_ms: self.dice.below(5),
                };
                world.network.set_faults(faults);
            }
            _ => world.network.heal(),
        }
        world.servers[at].clock.advance(self.dice.below(60_000));
    }

    /// Everybody speaks until all agree.
    async fn end(&mut self) {
        let world = self.world;
        world.network.heal();
        let mut differences = String::new();
        for _ in 0..ROUNDS {
            for (at, who) in world.anchors.iter().enumerate() {
                // Who was not reached before is tried again.
                world.servers[at].clock.advance(REST_MS);
                self.say(at, who, "here").await;
            }
            for _ in 0..10 {
                tokio::time::sleep(Duration::from_millis(20)).await;
                match self.differences() {
                    None => return self.agree_on_refusals().await,
                    Some(found) => differences = found,
                }
            }
        }
        panic!("they never agree: {differences}");
    }

    /// The current state of the room on a server, by event ids.
    fn state(&self, at: usize) -> Vec<String> {
        let rooms = &self.world.servers[at].house.rooms;
        let snap = rooms.store().snapshot();
        let room = rooms.store().room_nid(&self.room).unwrap().unwrap();
        let state = rooms.state_now(&snap, room).unwrap().into_iter();
        let ids = state.map(|(_, nid)| rooms.store().event_id(nid).unwrap().to_string());
        let mut ids: Vec<String> = ids.collect();
        ids.sort();
        ids
    }

    fn differences(&self) -> Option<String> {
        let states = [0, 1, 2].map(|at| self.state(at));
        let ends = [0, 1, 2].map(|at| {
            let rooms = &self.world.servers[at].house.rooms;
            let snap = rooms.store().snapshot();
            let room = rooms.store().room_nid(&self.room).unwrap().unwrap();
            let mut ids = rooms.extremities(&snap, room).unwrap().ids;
            ids.sort();
            ids
        });
        let same = states[0] == states[1] && states[0] == states[2];
        (!same || ends[0] != ends[1] || ends[0] != ends[2])
            .then(|| format!("states {states:?}, ends {ends:?}"))
    }

    /// What one server shows its people no other has refused by the rules.
    async fn agree_on_refusals(&self) {
        let mut shown: BTreeSet<String> = BTreeSet::new();
        for (server, who) in self.world.servers.iter().zip(&self.world.anchors) {
            shown.extend(self.timeline(server, who).await);
        }
        for (at, server) in self.world.servers.iter().enumerate() {
            let rooms = &server.house.rooms;
            let snap = rooms.store().snapshot();
            for id in &shown {
                let Some(nid) = rooms.store().event_nid(&snap, id).unwrap() else {
                    continue;
                };
                let meta = rooms.meta(&snap, nid).unwrap().unwrap();
                assert!(!meta.is_rejected(), "{id} is refused by {}", NAMES[at]);
            }
        }
    }

    /// The ids of all events that somebody can page back to.
    async fn timeline(&self, server: &TestServer, who: &Person) -> Vec<String> {
        let path = format!(
            "/_matrix/client/v3/rooms/{}/messages?dir=b&limit=100",
            escape(&self.room)
        );
        let (mut found, mut from) = (Vec::new(), String::new());
        for _ in 0..20 {
            let path = format!("{path}{from}");
            let page = server.ok(Method::GET, &path, Some(&who.token), None).await;
            let ids = page["chunk"].as_array().unwrap().iter();
            found.extend(ids.map(|event| event["event_id"].as_str().unwrap().to_owned()));
            match page["end"].as_str() {
                Some(end) => from = format!("&from={}", escape(end)),
                None => break,
            }
        }
        found
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// The histories that are gone through: that of `SKERRY_SEED`, or many.
fn seeds() -> std::ops::Range<u64> {
    if let Some(seed) = number("SKERRY_SEED") {
        return seed..seed + 1;
    }
    let everything = std::env::var_os("SKERRY_TEST_EVERYTHING").is_some();
    let usual = if everything { MANY_SEEDS } else { SEEDS };
    0..number("SKERRY_SEEDS").unwrap_or(usual)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happened_in_between_all_agree_in_the_end() {
    for seed in seeds() {
        let replay = Replay(seed);
        let world = World::new(seed).await;
        let mut history = History::begin(&world).await;
        for n in 0..STEPS {
            history.step(n).await;
        }
        history.end().await;
        drop(replay);
    }
}

/// Says how a history that failed is gone through again.
struct Replay(u64);

impl Drop for Replay {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let name = "whatever_happened_in_between";
            eprintln!(
                "again: SKERRY_SEED={} cargo test -p skerry-testkit {name}",
                self.0
            );
        }
    }
}
