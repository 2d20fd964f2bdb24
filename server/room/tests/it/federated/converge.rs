//! Random histories of three servers that are parted and brought together again, with a fourth
//! one that says what it likes. In the end all hold the same state, judge every event alike, and
//! so does a model that knows nothing of versions, tips and tables.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::convert::Infallible;
use std::sync::Arc;

use serde_json::json;
use skerry_core::auth::{check_auth_events, check_ruled};
use skerry_core::event::RuledEvent;
use skerry_core::fixtures::{FakeClock, SeededDice};
use skerry_core::state::{ResolveSource, resolve};
use skerry_core::{EventNid, Pos, RoomVersion, StateKeyNid, StateMap, StoredEvent};
use skerry_room::{Arrival, CreateRoom, EventMeta, Gap, Move, Preset, Verdict, Who};

use super::pair::{join, state, wire};
use crate::abroad::{Abroad, text};
use crate::house::{House, def};

const EVE: &str = "@eve:evil.org";
/// Histories gone through; `SKERRY_SEEDS` says another number.
const SEEDS: u64 = 12;
/// The same where everything is tested.
const MANY_SEEDS: u64 = 400;
/// How far a server's clock is wrong, in ms, to either side.
const SKEW_MS: u64 = 24 * 3_600_000;
const STEPS: usize = 40;

struct World {
    houses: Vec<House>,
    /// Of each server one who stays, and one who comes and goes.
    anchors: Vec<Who>,
    guests: Vec<Who>,
    room: String,
    /// Up to where each server has told each other one.
    told: Vec<Vec<Pos>>,
    ids: BTreeSet<String>,
    /// How deep the room was when all had joined.
    base: u64,
    dice: SeededDice,
}

fn held(house: &House, id: &str) -> Arc<StoredEvent> {
    wire(&house.event(id).event)
}

/// Gives an event that one server has to another, and before it whatever is missing there. What
/// lies before all had joined is given as a state, by the server that was there.
async fn hand(world: &World, from: usize, to: usize, id: &str) {
    let (from, to, root) = (&world.houses[from], &world.houses[to], &world.houses[0]);
    let room = &world.room;
    let find = |id: &str| {
        let found = from.rooms.event_by_id(&from.snap(), id).unwrap();
        found.map_or_else(|| held(root, id), |held| wire(&held.event))
    };
    let mut path = vec![(id.to_owned(), Vec::new())];
    for _ in 0..2_000 {
        let Some((top, gaps)) = path.last_mut() else {
            return;
        };
        let event = find(top);
        let version = event.version();
        let how = Arrival {
            gaps: gaps.clone(),
            ..Arrival::default()
        };
        match to.rooms.receive(room, event, how).await.unwrap() {
            Verdict::Missing(missing) => {
                let mut auth: Vec<_> = missing.auth.iter().map(|id| find(id)).collect();
                let (old, new): (Vec<String>, Vec<String>) = missing
                    .prev
                    .into_iter()
                    .partition(|id| find(id).depth() <= world.base);
                for id in old {
                    let (snap, event) = (root.snap(), held(root, &id));
                    let nid = root.store.event_nid(&snap, &id).unwrap().unwrap();
                    let meta = root.rooms.meta(&snap, nid).unwrap().unwrap();
                    let before = root.rooms.state_map(&snap, meta.before).unwrap();
                    let ids = before.iter().map(|(_, nid)| root.store.event_id(nid));
                    let state: Vec<String> = ids.map(|id| id.unwrap().to_string()).collect();
                    let found = state.iter().map(|id| held(root, id));
                    auth.extend(found.chain([event]));
                    gaps.push(Gap {
                        prev_event: id,
                        state,
                    });
                }
                path.extend(new.into_iter().map(|id| (id, Vec::new())));
                to.rooms.keep_outliers(room, version, auth).await.unwrap();
            }
            _ => drop(path.pop()),
        }
    }
    panic!("{id} never came");
}

impl World {
    async fn new(seed: u64) -> World {
        let mut dice = SeededDice::new(seed);
        let names = ["one.test", "two.test", "three.test"];
        let houses: Vec<House> = names.into_iter().map(House::of).collect();
        for house in &houses {
            let now_ms = FakeClock::START_MS + dice.below(2 * SKEW_MS);
            house.clock.set(now_ms - SKEW_MS);
        }
        let anchors: Vec<Who> = houses
            .iter()
            .map(|house| house.resident("anchor"))
            .collect();
        let guests: Vec<Who> = houses.iter().map(|house| house.resident("guest")).collect();
        let versions = ["2", "6", "10", "11", "12"];
        let version = versions[dice.below(5) as usize];
        let request = CreateRoom {
            version: Some(version.to_owned()),
            preset: Some(Preset::PublicChat),
            ..def()
        };
        let room = houses[0].rooms.create(anchors[0].clone(), request);
        let room = room.await.unwrap();
        let mut world = World {
            told: vec![vec![Pos::ZERO; 3]; 3],
            houses,
            anchors,
            guests,
            room,
            ids: BTreeSet::new(),
            // Until then everything old is.
            base: u64::MAX,
            dice,
        };
        for at in 1..3 {
            world.meet().await;
            let who = world.anchors[at].clone();
            let (there, here) = (&world.houses[at], &world.houses[0]);
            join(there, here, &who, &world.room).await.unwrap();
        }
        let (house, creator) = (&world.houses[0], world.anchors[0].clone());
        world.levels(house, &creator, [100; 2], [100; 3]).await;
        world.meet().await;
        let (snap, nid) = (world.houses[0].snap(), world.houses[0].nid(&world.room));
        let ends = world.houses[0].rooms.extremities(&snap, nid).unwrap();
        world.base = ends.depth;
        world
    }

    fn pick(&mut self, n: usize) -> usize {
        self.dice.below(n as u64) as usize
    }

    /// Who has which level, besides a creator who stands above.
    async fn levels(&self, house: &House, by: &Who, of_guests: [u64; 2], of_anchors: [u64; 3]) {
        let twelve = self.room.split_once(':').is_none();
        let mut users = serde_json::Map::new();
        for (at, (anchor, level)) in self.anchors.iter().zip(of_anchors).enumerate() {
            if !(twelve && at == 0) {
                users.insert(anchor.user_id.to_string(), json!(level));
            }
        }
        for (guest, level) in self.guests.iter().zip(of_guests) {
            users.insert(guest.user_id.to_string(), json!(level));
        }
        let content = json!({ "users": users });
        let kind = "m.room.power_levels";
        let _ = house.set(by, &self.room, kind, "", content).await;
    }

    /// One server tells another what it has sent since.
    async fn tell(&mut self, from: usize, to: usize) {
        let house = &self.houses[from];
        let sent = house
            .rooms
            .outgoing(&house.snap(), self.told[from][to], 1_000)
            .unwrap();
        for (pos, pdu) in sent {
            let id = house.store.event_id(pdu.event).unwrap().to_string();
            hand(self, from, to, &id).await;
            self.ids.insert(id);
            self.told[from][to] = pos;
        }
    }

    /// Everybody tells everybody everything.
    async fn meet(&mut self) {
        for from in 0..3 {
            for to in 0..3 {
                // Before the others have joined there is nobody to tell.
                if from != to
                    && self.houses[to]
                        .store
                        .room_nid(&self.room)
                        .unwrap()
                        .is_some()
                {
                    self.tell(from, to).await;
                }
            }
        }
    }

    async fn step(&mut self, n: usize) {
        let (at, other) = (self.pick(3), self.pick(3));
        let which = self.pick(14);
        let key = format!("{}", self.pick(2));
        let levels = [[0, 50, 100][self.pick(3)], [0, 50, 100][self.pick(3)]];
        // In a fight for power nobody keeps theirs for sure.
        let of_anchors = match self.pick(3) {
            0 => [100, [50, 100][self.pick(2)], [50, 100][self.pick(2)]],
            _ => [100; 3],
        };
        self.houses[at].clock.advance(1_000 * self.dice.below(60));
        let as_guest = self.pick(2) == 0;
        let (house, room) = (&self.houses[at], self.room.clone());
        let who = match as_guest {
            true => self.guests[at].clone(),
            false => self.anchors[at].clone(),
        };
        let target = self.guests[other].user_id.clone();
        let (rooms, how) = (house.rooms.clone(), Move::default);
        match which {
            0 => drop(house.say(&who, &room, &format!("{n}"), None).await),
            1 => drop(rooms.join(self.guests[at].clone(), &room, how()).await),
            2 => drop(rooms.leave(self.guests[at].clone(), &room, how()).await),
            3 => drop(rooms.kick(who, &room, &target, how()).await),
            4 => drop(rooms.ban(who, &room, &target, how()).await),
            5 => drop(rooms.unban(who, &room, &target, how()).await),
            6 | 12 => self.levels(house, &who, levels, of_anchors).await,
            13 => {
                // What was said last is taken back, on whatever side that is.
                let ends = Abroad::new(house, &room).ends();
                let redaction = json!({ "redacts": ends[0] });
                let kind = "m.room.redaction";
                drop(house.send(&who, &room, kind, redaction, None).await);
            }
            7 => {
                let rule = ["public", "invite"][usize::from(as_guest)];
                let content = json!({ "join_rule": rule });
                let who = self.anchors[at].clone();
                drop(
                    house
                        .set(&who, &room, "m.room.join_rules", "", content)
                        .await,
                );
            }
            8 | 9 => {
                let content = json!({ "n": n });
                drop(house.set(&who, &room, "x.state", &key, content).await);
            }
            10 => drop(rooms.invite(who, &room, &target, how()).await),
            _ => self.evil(n).await,
        }
    }

    /// Something that another server makes up, told to one that tells it on.
    async fn evil(&mut self, n: usize) {
        let (first, what, back) = (self.pick(3), self.pick(6), self.pick(4));
        let victim = self.pick(3);
        let victim = self.guests[victim].user_id.to_string();
        let house = &self.houses[first];
        let abroad = Abroad::new(house, &self.room);
        // After the ends, or after something some steps before them.
        let mut after = abroad.ends();
        for _ in 0..back {
            let prev = house.event(&after[0]).event.prev_events();
            if prev.is_empty() {
                break;
            }
            after = prev;
        }
        let said = match what {
            0 => ("m.room.member", Some(EVE), json!({"membership": "join"})),
            1 => (
                "m.room.member",
                Some(&*victim),
                json!({"membership": "ban"}),
            ),
            2 => (
                "m.room.power_levels",
                Some(""),
                json!({"users": {EVE: 100}}),
            ),
            3 => ("x.state", Some("0"), json!({ "n": n })),
            4 => ("m.room.member", Some(EVE), json!({"membership": "leave"})),
            _ => text("evil"),
        };
        let event = abroad.make(EVE, said, &after);
        let id = event.event_id().to_owned();
        // After what it knows only as state, nobody can say what holds.
        if matches!(abroad.give(&event).await, Verdict::Missing(_)) {
            return;
        }
        for to in 0..3 {
            hand(self, first, to, &id).await;
        }
        self.ids.insert(id);
    }

    fn flags(&self, at: usize, id: &str) -> u8 {
        let house = &self.houses[at];
        let snap = house.snap();
        let nid = house.store.event_nid(&snap, id).unwrap().unwrap();
        house.rooms.meta(&snap, nid).unwrap().unwrap().flags
    }

    async fn check(&mut self, seed: u64) {
        // Everybody speaks once and is heard: the last one comes after everything.
        for at in 0..3 {
            self.meet().await;
            let who = self.anchors[at].clone();
            let said = self.houses[at].say(&who, &self.room, "here", None).await;
            said.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        }
        self.meet().await;
        let states: Vec<_> = self
            .houses
            .iter()
            .map(|house| state(house, &self.room))
            .collect();
        assert_eq!(states[0], states[1], "seed {seed}");
        assert_eq!(states[0], states[2], "seed {seed}");
        let members = |house: &House| {
            let snap = house.snap();
            let members = house.rooms.members(&snap, house.nid(&self.room)).unwrap();
            // Of whom a state says nothing any more there is a row only where it did once.
            let there = members.into_iter();
            let mut all: Vec<_> = there
                .filter(|(_, row)| row.membership != skerry_core::Membership::Leave)
                .map(|(user, row)| (house.store.user_id(user).unwrap(), row.membership))
                .collect();
            all.sort_by(|a, b| a.0.cmp(&b.0));
            all
        };
        assert_eq!(
            members(&self.houses[0]),
            members(&self.houses[1]),
            "seed {seed}"
        );
        assert_eq!(
            members(&self.houses[0]),
            members(&self.houses[2]),
            "seed {seed}"
        );
        let model = Model::of(&self.houses[0], &self.ids);
        for id in &self.ids {
            let refused = model.rejected.contains(id);
            for at in 0..3 {
                let flags = self.flags(at, id);
                let here = flags & EventMeta::REJECTED != 0;
                assert_eq!(here, refused, "seed {seed}: {id} at {at}, flags {flags}");
            }
        }
        for (at, house) in self.houses.iter().enumerate() {
            house.check_rows(&self.room, seed, at);
        }
    }
}

/// The room as a list of events, judged one after another.
struct Model {
    events: Vec<RuledEvent>,
    by_id: HashMap<String, usize>,
    keys: Vec<(String, String)>,
    rejected: BTreeSet<String>,
}

impl Model {
    /// Of all events that a server has of these and of what comes before them.
    fn of(house: &House, ids: &BTreeSet<String>) -> Model {
        let mut found: BTreeMap<String, Arc<StoredEvent>> = BTreeMap::new();
        let mut todo: Vec<String> = ids.iter().cloned().collect();
        while let Some(id) = todo.pop() {
            if let Entry::Vacant(entry) = found.entry(id) {
                let event = held(house, entry.key());
                todo.extend(event.prev_events());
                todo.extend(event.auth_events());
                entry.insert(event);
            }
        }
        let mut model = Model {
            events: Vec::new(),
            by_id: HashMap::new(),
            keys: Vec::new(),
            rejected: BTreeSet::new(),
        };
        let mut after: HashMap<String, StateMap> = HashMap::new();
        while after.len() < found.len() {
            let ready = found.values().filter(|event| {
                let before = [event.prev_events(), event.auth_events()].concat();
                !after.contains_key(event.event_id())
                    && before.iter().all(|id| after.contains_key(id))
            });
            for event in ready.cloned().collect::<Vec<_>>() {
                let state = model.judge(&event, &after);
                after.insert(event.event_id().to_owned(), state);
            }
        }
        model
    }

    /// The state after an event.
    fn judge(&mut self, event: &Arc<StoredEvent>, after: &HashMap<String, StateMap>) -> StateMap {
        let version = event.version();
        let states: Vec<StateMap> = event
            .prev_events()
            .iter()
            .map(|id| after[id].clone())
            .collect();
        let before = resolve(version, &states, &*self).unwrap();
        let by_state = |kind: &str, key: &str| {
            let nid = before.get(self.state_key_nid(kind, key).unwrap()?)?;
            self.event(nid).unwrap()
        };
        let ruled = RuledEvent::new(event.clone(), false);
        let named = check_auth_events(event, |id| {
            let at = *self.by_id.get(id)?;
            Some((self.events[at].event().clone(), self.rejected.contains(id)))
        });
        let mut named_events: Vec<RuledEvent> = event
            .auth_events()
            .iter()
            .map(|id| self.events[self.by_id[id]].clone())
            .collect();
        if version == RoomVersion::V12 {
            named_events.extend(self.events.first().cloned());
        }
        let by_named = |kind: &str, key: &str| {
            let mut all = named_events.iter();
            all.find(|event| event.event().is(kind, key)).cloned()
        };
        let good = named.is_ok()
            && check_ruled(&ruled, by_named).is_ok()
            && check_ruled(&ruled, by_state).is_ok();
        let id = event.event_id().to_owned();
        self.by_id.insert(id.clone(), self.events.len());
        self.events.push(ruled);
        let nid = EventNid(self.events.len() as u64);
        if !good {
            self.rejected.insert(id);
            return before;
        }
        let Some(key) = event.state_key() else {
            return before;
        };
        let pair = (event.event_type().to_owned(), key.to_owned());
        if !self.keys.contains(&pair) {
            self.keys.push(pair);
        }
        let key = self
            .state_key_nid(event.event_type(), key)
            .unwrap()
            .unwrap();
        before.with(key, nid)
    }
}

impl ResolveSource for Model {
    type Error = Infallible;

    fn event(&self, event: EventNid) -> Result<Option<RuledEvent>, Infallible> {
        Ok(self.events.get(event.0 as usize - 1).cloned())
    }

    fn event_nid(&self, event_id: &str) -> Result<Option<EventNid>, Infallible> {
        let at = self.by_id.get(event_id);
        Ok(at.map(|at| EventNid(*at as u64 + 1)))
    }

    fn state_key(&self, key: StateKeyNid) -> Result<Option<(Arc<str>, Arc<str>)>, Infallible> {
        let name = self.keys.get(key.0 as usize - 1);
        Ok(name.map(|(kind, key)| (kind.as_str().into(), key.as_str().into())))
    }

    fn state_key_nid(&self, kind: &str, key: &str) -> Result<Option<StateKeyNid>, Infallible> {
        let at = self.keys.iter().position(|(k, s)| k == kind && s == key);
        Ok(at.map(|at| StateKeyNid(at as u64 + 1)))
    }
}

impl House {
    /// The rows by which a room is read say what its state says.
    fn check_rows(&self, room: &str, seed: u64, at: usize) {
        let (snap, nid) = (self.snap(), self.nid(room));
        let text = format!("seed {seed}, server {at}");
        let (id, map) = self.rooms.state_of(&snap, nid).unwrap().unwrap();
        assert!(
            map.iter().eq(self.rooms.state_now(&snap, nid).unwrap()),
            "{text}"
        );
        let told = self.rooms.state_id_at(&snap, nid, snap.head()).unwrap();
        assert_eq!(told, Some(id), "{text}");
        let members = self.rooms.members(&snap, nid).unwrap();
        let joined: Vec<_> = members
            .iter()
            .filter(|(_, row)| row.membership == skerry_core::Membership::Join)
            .map(|(user, _)| self.store.user_id(*user).unwrap())
            .collect();
        let head = self.rooms.head(&snap, nid).unwrap().unwrap();
        assert_eq!(head.joined as usize, joined.len(), "{text}");
        let remote = joined.iter().filter(|user| !self.rooms.is_local(user));
        let servers: BTreeSet<String> = remote
            .clone()
            .map(|user| user.split_once(':').unwrap().1.to_owned())
            .collect();
        assert_eq!(head.remote as usize, remote.count(), "{text}");
        let rows = self.rooms.servers_in(&snap, nid).unwrap();
        let rows: BTreeSet<String> = rows.iter().map(|server| server.to_string()).collect();
        assert_eq!(rows, servers, "{text}");
        for (user, row) in members {
            let user_id = self.store.user_id(user).unwrap();
            let event = self
                .rooms
                .in_state(&map, "m.room.member", &user_id)
                .unwrap();
            let event = event.map(|nid| self.rooms.event(&snap, nid).unwrap().unwrap());
            let says = event.and_then(|held| held.event.membership());
            let is = says.unwrap_or(skerry_core::Membership::Leave);
            assert_eq!(row.membership, is, "{text}: {user_id}");
        }
    }
}

/// Goes through one history.
async fn go_through(seed: u64) {
    let mut world = World::new(seed).await;
    for n in 0..STEPS {
        world.step(n).await;
        match world.pick(6) {
            0 => {
                let (from, to) = (world.pick(3), world.pick(3));
                if from != to {
                    world.tell(from, to).await;
                }
            }
            1 if world.pick(6) == 0 => world.meet().await,
            _ => {}
        }
    }
    world.check(seed).await;
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

/// Each history has a thread and a runtime of its own, some at once.
#[test]
fn servers_that_were_parted_agree_when_they_meet() {
    let seeds = seeds();
    let threads = std::thread::available_parallelism().map_or(2, usize::from) as u64;
    let next = std::sync::atomic::AtomicU64::new(seeds.start);
    std::thread::scope(|scope| {
        let go_on = || {
            loop {
                let seed = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                if seed >= seeds.end {
                    return;
                }
                let _replay = Replay(seed);
                let runtime = tokio::runtime::Builder::new_current_thread();
                let runtime = { runtime }.enable_all().build().unwrap();
                runtime.block_on(go_through(seed));
            }
        };
        let going: Vec<_> = (0..threads).map(|_| scope.spawn(go_on)).collect();
        for one in going {
            if let Err(panic) = one.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
}

/// Says how a history that failed is gone through again.
struct Replay(u64);

impl Drop for Replay {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let name = "servers_that_were_parted_agree_when_they_meet";
        eprintln!(
            "again: SKERRY_SEED={} cargo test -p skerry-room {name}",
            self.0
        );
    }
}
