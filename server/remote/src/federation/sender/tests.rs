#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use skerry_core::canonical::{Mode, Object};
use skerry_core::{EventNid, Pos, RoomNid, ServerNid};
use skerry_store::outbox::{Dest, queue_edu};
use skerry_store::schema::remote::{SendBehind, SendOwed, SendSeen};
use skerry_store::{Scan, Snapshot, outbox};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::source::Outgoing;
use super::*;
use crate::federation::fakes::{Asked, Fake, World};

mod fan_out;
mod pauses;

const SEND: &str = "/_matrix/federation/v1/send/";
const ROOM: RoomNid = RoomNid(1);

/// Rooms that are only what the sender asks of them.
#[derive(Default)]
struct Rooms {
    rows: Mutex<Vec<Outgoing>>,
    members: Mutex<BTreeMap<RoomNid, Vec<ServerNid>>>,
    /// When some of them came.
    came: Mutex<BTreeMap<RoomNid, (ServerNid, Pos)>>,
    /// Events that cannot be read.
    damaged: Mutex<HashSet<EventNid>>,
    forgotten: Mutex<Pos>,
}

impl Source for Rooms {
    fn outgoing(
        &self,
        _: &Snapshot,
        after: Pos,
        limit: usize,
    ) -> Result<Vec<Outgoing>, StoreError> {
        let rows = self.rows.lock();
        let found = rows.iter().filter(|row| row.pos > after).take(limit);
        Ok(found.cloned().collect())
    }

    fn servers(&self, _: &Snapshot, room: RoomNid) -> Result<Vec<ServerNid>, StoreError> {
        Ok(self.members.lock().get(&room).cloned().unwrap_or_default())
    }

    fn servers_after(
        &self,
        _: &Snapshot,
        room: RoomNid,
        at: Pos,
    ) -> Result<HashMap<ServerNid, Pos>, StoreError> {
        let came = self.came.lock().get(&room).copied();
        Ok(came.into_iter().filter(|(_, since)| *since > at).collect())
    }

    fn is_in(&self, snap: &Snapshot, room: RoomNid, server: ServerNid) -> Result<bool, StoreError> {
        Ok(self.servers(snap, room)?.contains(&server))
    }

    fn ends(&self, _: &Snapshot, room: RoomNid) -> Result<Vec<EventNid>, StoreError> {
        let rows = self.rows.lock();
        let last = rows.iter().rev().find(|row| row.room == room);
        Ok(last.map(|row| row.event).into_iter().collect())
    }

    fn json(&self, _: &Snapshot, event: EventNid) -> Result<Option<String>, StoreError> {
        if self.damaged.lock().contains(&event) {
            return Err(StoreError::missing("event", event));
        }
        Ok(Some(format!("{{\"n\":{}}}", event.0)))
    }

    fn forget(&self, upto: Pos) -> Result<(), StoreError> {
        *self.forgotten.lock() = upto;
        self.rows.lock().retain(|row| row.pos > upto);
        Ok(())
    }
}

/// A server with rooms, and its sender.
struct House {
    world: World,
    store: Arc<Store>,
    rooms: Arc<Rooms>,
    sender: Sender,
    stop: watch::Sender<bool>,
    running: Option<JoinHandle<()>>,
}

impl House {
    fn new() -> House {
        let world = World::new();
        let store = world.store();
        let rooms = Arc::new(Rooms::default());
        let sender = House::sender(&world, &store, &rooms);
        House {
            world,
            store,
            rooms,
            sender,
            stop: watch::Sender::new(false),
            running: None,
        }
    }

    fn sender(world: &World, store: &Arc<Store>, rooms: &Arc<Rooms>) -> Sender {
        Sender::new(SenderOptions {
            source: rooms.clone(),
            store: Arc::clone(store),
            peers: world.peers(store),
            clock: world.clock.clone(),
            dice: world.dice.clone(),
        })
    }

    fn start(&mut self) {
        self.stop = watch::Sender::new(false);
        let running = self.sender.clone().run(self.stop.subscribe());
        self.running = Some(tokio::spawn(running));
    }

    async fn stop(&mut self) {
        self.stop.send_replace(true);
        self.running.take().unwrap().await.unwrap();
    }

    /// Ends and begins anew, as after a restart.
    async fn restart(&mut self) {
        self.stop().await;
        self.store.durable(&self.store.barrier()).await.unwrap();
        self.sender = House::sender(&self.world, &self.store, &self.rooms);
        self.start();
    }

    fn server(&self, fake: &Fake) -> ServerNid {
        self.store.intern_server(&fake.name).unwrap()
    }

    fn joined(&self, room: RoomNid, fakes: &[&Fake]) {
        let servers = fakes.iter().map(|fake| self.server(fake)).collect();
        self.rooms.members.lock().insert(room, servers);
    }

    /// An event of a room, with the commit that tells of it.
    fn event(&self, room: RoomNid, also: &[&Fake]) -> u64 {
        self.event_from(room, also, None)
    }

    /// The same of an event that a server gave us for all others.
    fn event_from(&self, room: RoomNid, also: &[&Fake], from: Option<&Fake>) -> u64 {
        let mut w = self.store.write();
        let stamp = w.stamp();
        w.put::<SendBehind>(&ServerNid(u64::MAX), &stamp);
        let mut rows = self.rooms.rows.lock();
        let pos = Pos(self.store.newest().head().0 + 1);
        rows.push(Outgoing {
            pos,
            room,
            event: EventNid(pos.0),
            also: also.iter().map(|fake| self.server(fake)).collect(),
            from: from.map(|fake| self.server(fake)),
        });
        drop(rows);
        w.delete::<SendBehind>(&ServerNid(u64::MAX));
        assert_eq!(self.store.commit(w).unwrap().pos(stamp), pos);
        pos.0
    }

    fn edu(&self, fake: &Fake, n: u64) {
        let mut w = self.store.write();
        queue_edu(
            &mut w,
            self.server(fake),
            "m.test",
            &format!("{{\"n\":{n}}}"),
        );
        let _ = self.store.commit(w).unwrap();
    }
}

/// Waits until something holds.
async fn until(what: &str, holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(20), waiting).await;
    assert!(waited.is_ok(), "{what}");
}

fn transactions(fake: &Fake) -> Vec<(Asked, Object)> {
    let asked = fake.asked_for(SEND).into_iter();
    asked
        .map(|asked| {
            let body = Object::parse_within(&asked.body, Mode::Strict, usize::MAX).unwrap();
            (asked, body)
        })
        .collect()
}

fn numbers(body: &Object, list: &str) -> Vec<u64> {
    let items = body.get(list).unwrap().as_array().unwrap().iter();
    let object = |item: &skerry_core::canonical::Value| {
        let item = item.as_object().unwrap();
        let content = item.object("content").unwrap_or(item);
        u64::try_from(content.int("n").unwrap()).unwrap()
    };
    items.map(object).collect()
}

/// The events that a server got, in order.
fn pdus(fake: &Fake) -> Vec<u64> {
    let all = transactions(fake);
    all.iter()
        .flat_map(|(_, body)| numbers(body, "pdus"))
        .collect()
}

fn edus(fake: &Fake) -> Vec<u64> {
    let all = transactions(fake);
    all.iter()
        .flat_map(|(_, body)| numbers(body, "edus"))
        .collect()
}

#[tokio::test]
async fn events_go_to_the_servers_of_their_room_in_order() {
    let mut house = House::new();
    let (one, two) = (
        house.world.server("one.test").await,
        house.world.server("two.test").await,
    );
    house.joined(ROOM, &[&one, &two]);
    house.joined(RoomNid(2), &[&one]);
    house.start();
    let mut of_one = Vec::new();
    let mut of_two = Vec::new();
    for n in 0..120 {
        let room = RoomNid(1 + n % 2);
        let also = if n == 7 { vec![&two] } else { Vec::new() };
        let event = house.event(room, &also);
        of_one.push(event);
        if room == ROOM || n == 7 {
            of_two.push(event);
        }
    }
    until("all arrived", || {
        pdus(&one).len() == 120 && pdus(&two).len() == 61
    })
    .await;
    assert_eq!((pdus(&one), pdus(&two)), (of_one, of_two));
    let mut ids = HashSet::new();
    for (asked, body) in transactions(&one) {
        assert_eq!(asked.method, "PUT");
        assert!(ids.insert(asked.path.clone()), "{}", asked.path);
        assert_eq!(body.str("origin"), Some("own.test"));
        assert!(numbers(&body, "pdus").len() <= 50);
        assert_eq!(asked.body, body.to_string(), "canonical");
    }
    house.stop().await;
    // Who has got everything is a row less.
    assert_eq!(
        house.store.newest().scan::<SendBehind>(Scan::all()).count(),
        0
    );
    assert_eq!(
        house.store.newest().get::<SendSeen>(&()).unwrap(),
        Some(Pos(pdus(&one)[119]))
    );
}

#[tokio::test]
async fn who_gave_us_an_event_is_not_given_it_back() {
    let mut house = House::new();
    let (one, two) = (
        house.world.server("one.test").await,
        house.world.server("two.test").await,
    );
    house.joined(ROOM, &[&one, &two]);
    house.start();
    let theirs = house.event_from(ROOM, &[], Some(&one));
    let ours = house.event(ROOM, &[]);
    until("both were told", || {
        pdus(&one).contains(&ours) && pdus(&two).contains(&ours)
    })
    .await;
    assert_eq!((pdus(&one), pdus(&two)), (vec![ours], vec![theirs, ours]));
    house.stop().await;
}

#[tokio::test]
async fn who_comes_later_is_not_sent_what_was_said_before() {
    let mut house = House::new();
    let (one, two) = (
        house.world.server("one.test").await,
        house.world.server("two.test").await,
    );
    house.joined(ROOM, &[&one, &two]);
    let before = house.event(ROOM, &[]);
    let of_both = house.event(ROOM, &[&two]);
    let came = (house.server(&two), Pos(of_both + 1));
    house.rooms.came.lock().insert(ROOM, came);
    let after = [house.event(ROOM, &[]), house.event(ROOM, &[])];
    house.start();
    until("all arrived", || {
        pdus(&one).len() == 4 && pdus(&two).len() == 3
    })
    .await;
    assert_eq!(pdus(&one), [before, of_both, after[0], after[1]]);
    assert_eq!(pdus(&two), [of_both, after[0], after[1]]);
    house.stop().await;
}

#[tokio::test]
async fn who_was_not_reached_gets_the_same_transaction_again() {
    let mut house = House::new();
    let one = house.world.server("one.test").await;
    house.joined(ROOM, &[&one]);
    one.answers(|_| (503, String::new()));
    house.start();
    let first = house.event(ROOM, &[]);
    until("it was tried", || transactions(&one).len() == 1).await;
    let second = house.event(ROOM, &[]);
    house.edu(&one, 5);
    until("it waits", || {
        let status = house.sender.status(&one.name);
        let failed = |s: &SendStatus| s.standing.as_ref().is_some_and(|s| s.failures == 1);
        status.is_some_and(|s| s.pdus == 2 && s.edus && failed(&s))
    })
    .await;
    one.answers(|_| (200, "{}".to_owned()));
    // It speaks to us, so it is there.
    house.sender.heard_from(&one.name).unwrap();
    until("all arrived", || pdus(&one).len() == 3 && edus(&one) == [5]).await;
    assert_eq!(pdus(&one), [first, first, second]);
    let sent = transactions(&one);
    assert_eq!(sent[0].0.path, sent[1].0.path);
    assert_ne!(sent[1].0.path, sent[2].0.path);
    assert_eq!(sent[0].0.body, sent[1].0.body);
    until("nothing is left", || {
        let rows = outbox::destinations(&house.store.snapshot()).unwrap();
        rows.is_empty() && house.sender.status(&one.name).unwrap().pdus == 0
    })
    .await;
    house.stop().await;
}

#[tokio::test]
async fn a_restart_forgets_nothing() {
    let mut house = House::new();
    let (one, two) = (
        house.world.server("one.test").await,
        house.world.server("two.test").await,
    );
    house.joined(ROOM, &[&one, &two]);
    one.answers(|_| (503, String::new()));
    house.start();
    let before = [house.event(ROOM, &[]), house.event(ROOM, &[])];
    house.edu(&one, 1);
    until("one got all, the other nothing", || {
        pdus(&two).len() == 2 && !transactions(&one).is_empty()
    })
    .await;
    house.stop().await;
    let behind: Vec<_> = house
        .store
        .newest()
        .scan::<SendBehind>(Scan::all())
        .collect();
    assert_eq!(
        behind.len(),
        1,
        "a row for whom was not reached, and no other: {behind:?}"
    );
    let meanwhile = house.event(ROOM, &[]);
    one.answers(|_| (200, "{}".to_owned()));
    let tried = transactions(&one).len();
    house.start();
    house.restart().await;
    until("all arrived", || {
        // It speaks to us: what waits for it is tried whatever the pause says.
        house.sender.heard_from(&one.name).unwrap();
        pdus(&one).last() == Some(&meanwhile) && pdus(&two).len() == 3
    })
    .await;
    // What was refused is said again.
    assert_eq!(edus(&one).last(), Some(&1));
    let got: Vec<u64> = transactions(&one)[tried..]
        .iter()
        .flat_map(|(_, body)| numbers(body, "pdus"))
        .collect();
    assert_eq!(got, [before[0], before[1], meanwhile]);
    assert_eq!(
        pdus(&two),
        [before[0], before[1], meanwhile],
        "nothing twice"
    );
    house.stop().await;
}

#[tokio::test]
async fn who_was_away_for_long_is_told_how_its_rooms_stand() {
    let mut house = House::new();
    let one = house.world.server("one.test").await;
    let (left, other) = (RoomNid(2), RoomNid(3));
    for room in [ROOM, left, other] {
        house.joined(room, &[&one]);
    }
    one.answers(|_| (503, String::new()));
    house.start();
    for n in 0..400 {
        house.event(if n % 2 == 0 { ROOM } else { left }, &[]);
    }
    let last = house.event(other, &[]);
    // It is put out of a room; of that it hears nothing more than this.
    house.joined(left, &[]);
    let kicked = house.event(left, &[&one]);
    house.event(left, &[]);
    let newest = house.event(ROOM, &[]);
    until("it is told of rooms", || {
        house
            .sender
            .status(&one.name)
            .is_some_and(|s| s.rooms == 3 && s.pdus == 0)
    })
    .await;
    house.restart().await;
    until("a restart knows that", || {
        house.sender.status(&one.name).is_some_and(|s| s.rooms == 3)
    })
    .await;
    let tried = transactions(&one).len();
    one.answers(|_| (200, "{}".to_owned()));
    house.sender.heard_from(&one.name).unwrap();
    let got = || -> Vec<u64> {
        let new = transactions(&one).split_off(tried);
        new.iter()
            .flat_map(|(_, body)| numbers(body, "pdus"))
            .collect()
    };
    until("it was told", || got().len() >= 3).await;
    assert_eq!(got(), [newest, kicked, last], "the latest first");
    // From now on it gets everything again.
    let next = house.event(ROOM, &[]);
    until("the next arrived", || got().last() == Some(&next)).await;
    house.stop().await;
    assert_eq!(
        house.store.newest().scan::<SendOwed>(Scan::all()).count(),
        0
    );
}

/// What stopped Synapse from sending anything to anybody.
#[tokio::test]
async fn cve_2025_30355_a_malformed_row_never_stops_a_queue() {
    let mut house = House::new();
    let one = house.world.server("one.test").await;
    house.joined(ROOM, &[&one]);
    let mut good = vec![house.event(ROOM, &[])];
    let damaged = house.event(ROOM, &[]);
    house.rooms.damaged.lock().insert(EventNid(damaged));
    house.edu(&one, 1);
    let mut w = house.store.write();
    for item in [
        &b"nonsense"[..],
        b"[]",
        b"{\"edu_type\":1,\"content\":{}}",
        b"{\"edu_type\":\"m.test\",\"content\":5}",
        b"{\"edu_type\":\"m.test\",\"content\":{\"x\":\"\xff\"}}",
    ] {
        outbox::queue(&mut w, &Dest::Server(house.server(&one)), item);
    }
    let _ = house.store.commit(w).unwrap();
    house.edu(&one, 2);
    // The other side takes one event, and one EDU, under no circumstances.
    let (poison, poisoned) = (house.event(ROOM, &[]), 3);
    house.edu(&one, poisoned);
    for n in 4..40 {
        good.push(house.event(ROOM, &[]));
        house.edu(&one, n);
    }
    one.answers(move |asked| {
        let body = Object::parse_within(&asked.body, Mode::Strict, usize::MAX).unwrap();
        let bad =
            numbers(&body, "pdus").contains(&poison) || numbers(&body, "edus").contains(&poisoned);
        (if bad { 400 } else { 200 }, "{}".to_owned())
    });
    house.start();
    let got = || {
        let taken = transactions(&one).into_iter().filter(|(_, body)| {
            !numbers(body, "pdus").contains(&poison) && !numbers(body, "edus").contains(&poisoned)
        });
        let taken: Vec<Object> = taken.map(|(_, body)| body).collect();
        let all = |list: &str| -> Vec<u64> {
            taken.iter().flat_map(|body| numbers(body, list)).collect()
        };
        (all("pdus"), all("edus"))
    };
    let expected: Vec<u64> = [1, 2].into_iter().chain(4..40).collect();
    until("all that is good arrived", || {
        let (pdus, edus) = got();
        pdus.len() >= good.len() && edus.len() >= expected.len()
    })
    .await;
    assert_eq!(got(), (good, expected));
    until("nothing is left", || {
        outbox::destinations(&house.store.snapshot())
            .unwrap()
            .is_empty()
    })
    .await;
    house.stop().await;
}

#[tokio::test]
async fn ephemeral_edus_are_told_once_and_not_to_everybody() {
    let mut house = House::new();
    let one = house.world.server("one.test").await;
    let names: Vec<Arc<str>> = ["own.test", "denied.test", &one.name]
        .into_iter()
        .map(Arc::from)
        .collect();
    for n in 0..5 {
        let content = format!("{{\"n\":{n}}}");
        house
            .sender
            .send_soon(&names, "m.receipt", "a", &content)
            .unwrap();
    }
    house
        .sender
        .send_soon(&names, "m.receipt", "b", "{\"n\":9}")
        .unwrap();
    house.start();
    until("they arrived", || edus(&one).len() == 2).await;
    assert_eq!(edus(&one), [4, 9], "the newest of each");
    house.stop().await;
    assert!(house.store.server_nid("denied.test").unwrap().is_none());
}

#[tokio::test]
async fn what_nobody_needs_is_forgotten_and_nothing_else() {
    let house = House::new();
    let (one, two) = (
        house.world.server("one.test").await,
        house.world.server("two.test").await,
    );
    house.joined(ROOM, &[&one]);
    house.joined(RoomNid(2), &[&two]);
    let first = house.event(ROOM, &[]);
    let (second, third) = (house.event(RoomNid(2), &[]), house.event(ROOM, &[]));
    house.store.durable(&house.store.barrier()).await.unwrap();
    let inner = &house.sender.inner;
    while inner.distribute().unwrap() {}
    assert_eq!(
        inner.trim(Pos::ZERO).unwrap(),
        Pos::ZERO,
        "not written down yet"
    );
    inner.save().unwrap();
    assert_eq!(inner.trim(Pos::ZERO).unwrap(), Pos(first - 1));
    inner.prepare(house.server(&one)).unwrap().unwrap();
    inner.save().unwrap();
    assert_eq!(
        inner.trim(Pos::ZERO).unwrap(),
        Pos(first - 1),
        "it is under way"
    );
    inner.arrived(house.server(&one)).unwrap();
    inner.save().unwrap();
    assert_eq!(inner.trim(Pos::ZERO).unwrap(), Pos(second - 1));
    inner.prepare(house.server(&two)).unwrap().unwrap();
    inner.arrived(house.server(&two)).unwrap();
    inner.save().unwrap();
    assert_eq!(inner.trim(Pos::ZERO).unwrap(), Pos(third));
}
