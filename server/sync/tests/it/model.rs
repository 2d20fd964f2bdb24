//! Random histories of several people, and clients that know only what sync tells them. Answers
//! get lost, limits and filters differ; in the end each client holds what is true. Of each person
//! one device uses `GET /sync`, another sliding sync (`slider`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};
use skerry_account::e2e::{Messages, Sender};
use skerry_account::{PresenceState, TxnKey};
use skerry_core::fixtures::SeededDice;
use skerry_core::{Membership, RoomNid};
use skerry_room::{Cut, Move, Preset, ReadMarks, Redaction, StateEvent, View};
use skerry_sync::{Delta, RoomDelta, Token};

use crate::foreign::{REX, Said};
use crate::house::{House, Person, state, timeline};
use crate::slider::Slider;

pub const PEOPLE: usize = 4;
const ROOMS_MAX: usize = 4;
const STEPS: usize = 50;
/// Histories gone through by each test; there are several so that they run side by side.
const SEEDS: u64 = 60;
/// Histories in one store.
const PER_HOUSE: u64 = 20;

const FILTERS: &[&str] = &[
    "{}",
    r#"{"room":{"timeline":{"limit":1}}}"#,
    r#"{"room":{"timeline":{"limit":3},"state":{"lazy_load_members":true}}}"#,
    r#"{"room":{"timeline":{"limit":2,"types":["m.room.message"]}}}"#,
    r#"{"room":{"timeline":{"limit":4},"state":{"lazy_load_members":true,
        "include_redundant_members":true}}}"#,
];

/// What a client knows of a room it is in.
#[derive(Default)]
struct Known {
    state: BTreeMap<(String, String), String>,
    timeline: Vec<Value>,
    receipts: BTreeMap<(String, String), String>,
    data: BTreeMap<String, String>,
    unread: u64,
    members: u64,
}

struct Client {
    person: Person,
    filter: &'static str,
    state_after: bool,
    since: Option<Token>,
    rooms: BTreeMap<String, Known>,
    invited: BTreeSet<String>,
    told: Vec<u64>,
}

pub fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

pub fn id(event: &Value) -> String {
    text(&event["event_id"])
}

impl Client {
    fn is_lazy(&self) -> bool {
        self.filter.contains("lazy")
    }

    fn is_narrow(&self) -> bool {
        self.filter.contains("types")
    }

    fn apply(&mut self, delta: &Delta) {
        for room in &delta.joined {
            self.invited.remove(&*room.room_id);
            let known = self.rooms.entry(room.room_id.to_string()).or_default();
            known.apply(room, self.state_after);
        }
        for room in &delta.left {
            self.invited.remove(&*room.room_id);
            self.rooms.remove(&*room.room_id);
            self.check_left(room);
        }
        for room in &delta.invited {
            self.rooms.remove(&*room.room_id);
            self.invited.insert(room.room_id.to_string());
        }
        for message in &delta.to_device {
            let message: Value = serde_json::from_str(message).unwrap();
            self.told.push(message["content"]["n"].as_u64().unwrap());
        }
        self.since = Some(Token::parse(&delta.next.to_string()).unwrap());
    }

    /// Nothing comes after the event that ended it.
    fn check_left(&self, room: &RoomDelta) {
        let events = timeline(room);
        let own = |event: &Value| {
            event["type"] == "m.room.member" && event["state_key"] == *self.person.id
        };
        if let (Some(last), false) = (events.last(), self.is_narrow()) {
            assert!(
                own(last) || last["content"]["membership"] != "join",
                "{last}"
            );
        }
    }
}

impl Known {
    fn apply(&mut self, room: &RoomDelta, state_after: bool) {
        let new = timeline(room);
        if room.timeline.limited {
            self.timeline.clear();
        }
        let mut changes = state(room);
        if !state_after {
            changes.extend(
                new.iter()
                    .filter(|event| !event["state_key"].is_null())
                    .cloned(),
            );
        }
        for event in changes {
            let key = (text(&event["type"]), text(&event["state_key"]));
            self.state.insert(key, id(&event));
        }
        self.timeline.extend(new);
        for event in &room.ephemeral {
            let event: Value = serde_json::from_slice(event).unwrap();
            note_receipts(&event, &mut self.receipts);
        }
        for event in &room.account_data {
            note_data(&event.kind, &event.content, &mut self.data);
        }
        self.unread = room.unread.as_ref().unwrap().total().notify;
        self.members = room.summary.joined.unwrap_or(self.members);
    }
}

/// Takes in a piece of account data; an empty one is deleted.
pub fn note_data(kind: &str, content: &str, data: &mut BTreeMap<String, String>) {
    if content == "{}" {
        data.remove(kind);
    } else {
        data.insert(kind.to_owned(), content.to_owned());
    }
}

pub fn note_receipts(event: &Value, receipts: &mut BTreeMap<(String, String), String>) {
    if event["type"] != "m.receipt" {
        return;
    }
    for (id, kinds) in event["content"].as_object().unwrap() {
        for (kind, users) in kinds.as_object().unwrap() {
            for user in users.as_object().unwrap().keys() {
                receipts.insert((user.clone(), kind.clone()), id.clone());
            }
        }
    }
}

pub struct World {
    pub house: House,
    pub dice: SeededDice,
    clients: Vec<Client>,
    sliders: Vec<Slider>,
    rooms: Vec<String>,
    sent: Vec<Vec<u64>>,
    messages: Vec<(String, String)>,
    /// Somebody of another server lets rooms fork.
    forks: bool,
}

impl World {
    /// New people in a house where others may be already.
    async fn new(house: House, seed: u64) -> World {
        let mut dice = SeededDice::new(seed);
        let (mut clients, mut sliders) = (Vec::new(), Vec::new());
        for n in 0..PEOPLE {
            let name = format!("person{n}of{seed}");
            let person = house.person(&name).await;
            sliders.push(Slider::new(house.device(&name, "TABLET").await, &mut dice));
            let filter = FILTERS[dice.below(FILTERS.len() as u64) as usize];
            let state_after = dice.below(2) == 0;
            clients.push(Client {
                person,
                filter,
                state_after,
                since: None,
                rooms: BTreeMap::new(),
                invited: BTreeSet::new(),
                told: Vec::new(),
            });
        }
        let sent = vec![Vec::new(); PEOPLE];
        World {
            house,
            dice,
            clients,
            sliders,
            rooms: Vec::new(),
            sent,
            messages: Vec::new(),
            forks: seed % 2 == 1,
        }
    }

    pub fn pick(&mut self, n: usize) -> usize {
        self.dice.below(n as u64) as usize
    }

    fn anybody(&mut self) -> Person {
        let at = self.pick(PEOPLE);
        self.clients[at].person.clone()
    }

    /// One thing somebody does. Much of it is refused, which is as good.
    async fn step(&mut self, n: usize) {
        if self.rooms.is_empty() || (self.rooms.len() < ROOMS_MAX && self.pick(25) == 0) {
            let creator = self.anybody();
            let room = self.house.room_with(&creator, Preset::PublicChat).await;
            if self.forks {
                let levels = json!({"users": {REX: 50}});
                self.state(&creator, &room, "m.room.power_levels", "", levels)
                    .await;
            }
            self.rooms.push(room);
            return;
        }
        let (who, whom) = (self.anybody(), self.anybody());
        let at = self.pick(self.rooms.len());
        let room = self.rooms[at].clone();
        if self.forks && self.pick(5) == 0 {
            return self.fork(&room, &whom, n).await;
        }
        let rooms = self.house.rooms.clone();
        let how = Move::default;
        match self.pick(29) {
            0..=2 => drop(rooms.join(who.who(), &room, how()).await),
            3 => drop(rooms.leave(who.who(), &room, how()).await),
            4 => drop(rooms.invite(who.who(), &room, &whom.id, how()).await),
            5 => drop(rooms.kick(who.who(), &room, &whom.id, how()).await),
            6 => drop(rooms.ban(who.who(), &room, &whom.id, how()).await),
            7 | 8 => drop(rooms.unban(who.who(), &room, &whom.id, how()).await),
            9 => {
                self.state(
                    &who,
                    &room,
                    "x.state",
                    &format!("{}", n % 3),
                    json!({"n": n}),
                )
                .await
            }
            10 => {
                let seen = ["shared", "joined", "invited", "world_readable"][self.pick(4)];
                let content = json!({"history_visibility": seen});
                self.state(&who, &room, "m.room.history_visibility", "", content)
                    .await;
            }
            11 => {
                let content = json!({"membership": "join", "displayname": format!("name {n}")});
                self.state(&who, &room, "m.room.member", &who.id, content)
                    .await;
            }
            12 => self.redact(&who).await,
            13 | 14 => self.read(&who, &room).await,
            15 | 16 => self.tell(&who, &whom, n as u64).await,
            17 => self.tag(&who, &room, n).await,
            18 => {
                let content = json!({"name": format!("room {n}")});
                self.state(&who, &room, "m.room.name", "", content).await;
            }
            _ => {
                let content = format!("{{\"msgtype\":\"m.text\",\"body\":\"{n}\"}}").into_bytes();
                let kind = "m.room.message".to_owned();
                let message = skerry_room::Message {
                    kind,
                    content,
                    txn: None,
                    sticky_ms: None,
                    ts: None,
                };
                if let Ok(id) = rooms.send(who.who(), &room, message).await {
                    self.messages.push((room, id));
                }
            }
        }
    }

    async fn state(&self, who: &Person, room: &str, kind: &str, key: &str, content: Value) {
        let content = serde_json::to_vec(&content).unwrap();
        let state = StateEvent {
            kind: kind.to_owned(),
            key: key.to_owned(),
            content,
            sticky_ms: None,
            ts: None,
        };
        let _ = self.house.rooms.set_state(who.who(), room, state).await;
    }

    /// Somebody of another server says something that comes after what was some time ago.
    async fn fork(&mut self, room: &str, whom: &Person, n: usize) {
        let (what, back) = (self.pick(6), self.pick(7));
        let key = format!("{}", n % 3);
        let said: Said<'_> = match what {
            0 | 1 => ("x.state", Some(&key), json!({"n": n})),
            2 => ("m.room.name", Some(""), json!({"name": format!("{n}")})),
            3 => (
                "m.room.member",
                Some(&*whom.id),
                json!({"membership": "leave"}),
            ),
            _ => ("m.room.message", None, json!({"body": format!("{n}")})),
        };
        let house = &self.house;
        house.rex(room, said, back, &mut self.dice).await;
    }

    async fn redact(&mut self, who: &Person) {
        if self.messages.is_empty() {
            return;
        }
        let at = self.pick(self.messages.len());
        let (room, target) = self.messages[at].clone();
        let redaction = Redaction {
            with_rel_types: Vec::new(),
            target,
            content: b"{}".to_vec(),
            txn: None,
        };
        let _ = self.house.rooms.redact(who.who(), &room, redaction).await;
    }

    async fn read(&mut self, who: &Person, room: &str) {
        let here: Vec<_> = self
            .messages
            .iter()
            .filter(|(r, _)| r == room)
            .cloned()
            .collect();
        if let Some((_, id)) = here.last() {
            let (public, id) = (self.dice.below(2) == 0, Some(id.clone()));
            let marks = ReadMarks {
                read: id.clone().filter(|_| public),
                private: id.filter(|_| !public),
                ..ReadMarks::default()
            };
            let _ = self.house.rooms.mark_read(who.viewer(), room, marks).await;
        }
    }

    async fn tag(&mut self, who: &Person, room: &str, n: usize) {
        let (kind, content) = match self.pick(4) {
            0 => ("m.tag", json!({"tags": {"u.a": {}}})),
            1 => ("m.tag", json!({"tags": {}})),
            2 => ("x.data", json!({})),
            _ => ("x.data", json!({"n": n})),
        };
        let accounts = &self.house.accounts;
        let _ = accounts
            .set_account_data(who.user, Some(room), kind, content)
            .await;
    }

    async fn tell(&mut self, who: &Person, whom: &Person, n: u64) {
        let txn = TxnKey::new(who.user, &who.device, "PUT", "/x", &format!("t{n}")).unwrap();
        let sender = Sender {
            user_id: who.id.clone(),
            user: who.user,
            txn,
        };
        let messages = json!({"messages": {&*whom.id: {"*": {"n": n}}}});
        let messages: Messages = serde_json::from_value(messages).unwrap();
        self.house
            .accounts
            .keys()
            .send_to_device(sender, "x.n", messages)
            .await
            .unwrap();
        let at = self
            .clients
            .iter()
            .position(|client| client.person.id == whom.id)
            .unwrap();
        self.sent[at].push(n);
    }

    /// A client syncs; the answer may be lost. All ways of finding what changed agree.
    async fn sync(&mut self, at: usize, may_lose: bool) {
        let full = may_lose && self.pick(12) == 0;
        let client = &self.clients[at];
        let mut request = client.person.request(client.since, client.filter);
        request.state_after = client.state_after;
        request.full_state = full;
        let mut answers = Vec::new();
        let house = &self.house;
        for sync in [&house.by_positions, &house.by_log, &house.sync] {
            let (presence, at_once) = (PresenceState::Offline, Duration::ZERO);
            answers.push(sync.wait(request.clone(), presence, at_once).await.unwrap());
        }
        let answer = answers.pop().unwrap();
        for other in answers {
            assert_eq!(format!("{answer:?}"), format!("{other:?}"));
        }
        if !(may_lose && self.pick(4) == 0) {
            self.clients[at].apply(&answer);
        }
    }

    /// Every client knows what is true of the rooms it is in.
    fn check(&self) {
        let snap = self.house.store.snapshot();
        for (client, sent) in self.clients.iter().zip(&self.sent) {
            let mut rooms = BTreeSet::new();
            let mut invited = BTreeSet::new();
            for (room, member) in self
                .house
                .rooms
                .rooms_of(&snap, client.person.user)
                .unwrap()
            {
                let id = self.house.store.room_id(room).unwrap();
                match member.membership {
                    Membership::Join => drop(rooms.insert(id.to_string())),
                    Membership::Invite => drop(invited.insert(id.to_string())),
                    _ => {}
                }
                if member.membership == Membership::Join {
                    let viewer = client.person.viewer();
                    let mut view = self.house.rooms.view(&snap, &viewer, room).unwrap();
                    self.check_room(client, &client.rooms[&*id], &mut view);
                    let known = &client.rooms[&*id].data;
                    assert_eq!(known, &self.data(&client.person, view.room()));
                }
            }
            let known: BTreeSet<_> = client.rooms.keys().cloned().collect();
            assert_eq!(known, rooms, "rooms of {}", client.person.id);
            assert_eq!(client.invited, invited);
            assert_eq!(&client.told, sent, "messages to {}", client.person.id);
        }
    }

    /// The state that a room has, as types, keys and ids.
    pub fn state_of(&self, room: RoomNid) -> BTreeMap<(String, String), String> {
        let snap = self.house.store.snapshot();
        let mut truth = BTreeMap::new();
        for (key, event) in self.house.rooms.state_now(&snap, room).unwrap() {
            let (kind, key) = self.house.store.state_key(key).unwrap();
            let id = self.house.store.event_id(event).unwrap();
            truth.insert((kind.to_string(), key.to_string()), id.to_string());
        }
        truth
    }

    /// A state event that somebody knows is the room's. Where a room forked, the resolution may
    /// also have left it without any for that key: sync has no way of saying so.
    pub fn holds_or_gone(
        &self,
        truth: &BTreeMap<(String, String), String>,
        key: &(String, String),
        id: &String,
        of: &str,
    ) {
        let now = truth.get(key);
        assert!(
            now == Some(id) || (now.is_none() && self.forks),
            "{key:?} of {of}: {id} is known, {now:?} is true"
        );
    }

    /// Somebody's account data of a room.
    pub fn data(&self, person: &Person, room: RoomNid) -> BTreeMap<String, String> {
        let snap = self.house.store.snapshot();
        let data = skerry_account::data::all(&snap, person.user, Some(room)).unwrap();
        data.into_iter()
            .map(|datum| (datum.kind, datum.json))
            .collect()
    }

    fn check_room(&self, client: &Client, known: &Known, view: &mut View) {
        let snap = self.house.store.snapshot();
        let truth = self.state_of(view.room());
        if client.is_lazy() {
            for (key, id) in &known.state {
                self.holds_or_gone(&truth, key, id, &client.person.id);
            }
            for event in &known.timeline {
                let key = ("m.room.member".to_owned(), text(&event["sender"]));
                assert!(known.state.contains_key(&key), "{key:?}");
            }
            let plain = |map: &BTreeMap<(String, String), String>| {
                map.keys().filter(|key| key.0 != "m.room.member").count()
            };
            assert_eq!(plain(&known.state), plain(&truth));
        } else {
            assert_eq!(known.state, truth, "state for {}", client.person.id);
        }
        let all = view.recent(Cut::START, Cut::END, 1_000, None).unwrap();
        let mut all: Vec<String> = all
            .events
            .iter()
            .filter(|e| !client.is_narrow() || e.event.event_type() == "m.room.message")
            .map(|e| e.event.event_id().to_owned())
            .collect();
        // State that held when it was told may be there though it was made out of sight.
        let (shown, unseen): (Vec<&Value>, Vec<&Value>) = known
            .timeline
            .iter()
            .partition(|event| all.contains(&id(event)));
        assert!(
            unseen.iter().all(|event| !event["state_key"].is_null()),
            "{unseen:?}"
        );
        let shown: Vec<String> = shown.into_iter().map(id).collect();
        let all = all.split_off(all.len().saturating_sub(shown.len()));
        assert_eq!(shown, all, "timeline for {}", client.person.id);
        let mut receipts = BTreeMap::new();
        for event in view.receipt_events(None).unwrap() {
            note_receipts(&serde_json::from_slice(&event).unwrap(), &mut receipts);
        }
        assert_eq!(known.receipts, receipts);
        let head = self.house.rooms.head(&snap, view.room()).unwrap().unwrap();
        assert_eq!(known.members, u64::from(head.joined));
        if !client.is_narrow() {
            assert_eq!(known.unread, view.unread().unwrap().total().notify);
        }
    }
}

/// Lets one history happen.
async fn live(house: House, seed: u64) -> House {
    let mut world = World::new(house, seed).await;
    for n in 0..STEPS {
        world.step(n).await;
        let at = world.pick(PEOPLE);
        match world.pick(6) {
            0 | 1 => world.sync(at, true).await,
            2 | 3 => world.slide(at, true).await,
            _ => {}
        }
    }
    for at in 0..PEOPLE {
        world.sync(at, false).await;
        world.sync(at, false).await;
        for _ in 0..3 {
            world.slide(at, false).await;
        }
    }
    world.check();
    for at in 0..PEOPLE {
        world.sliders[at].check(&world, &world.sent[at]);
        // Whoever begins anew comes to know the same.
        let client = &mut world.clients[at];
        client.since = None;
        client.rooms.clear();
        client.invited.clear();
        // What was acknowledged only now may come once more.
        let told = client.told.clone();
        world.sync(at, false).await;
        world.clients[at].told = told;
    }
    world.check();
    world.house
}

impl World {
    /// A client slides; the answer may be lost.
    async fn slide(&mut self, at: usize, may_lose: bool) {
        let request = self.sliders[at].request(&mut self.dice, may_lose);
        let sync = self.sliders[at].server(&self.house);
        let at_once = sync.slide(request, PresenceState::Offline, Duration::ZERO);
        let answer = at_once.await.unwrap();
        if !(may_lose && self.pick(4) == 0) {
            self.sliders[at].apply(answer);
        }
    }
}

/// Lets histories happen, each with another seed.
async fn histories(first: u64) {
    let mut house = House::new();
    for seed in first..first + SEEDS {
        println!("seed {seed}");
        if seed % PER_HOUSE == 0 {
            house = House::new();
        }
        house = live(house, seed).await;
    }
}

#[tokio::test]
async fn clients_come_to_know_what_is_true() {
    histories(0).await;
}

#[tokio::test]
async fn other_clients_come_to_know_what_is_true() {
    histories(1_000).await;
}

#[tokio::test]
async fn more_clients_come_to_know_what_is_true() {
    histories(2_000).await;
}

#[tokio::test]
async fn still_more_clients_come_to_know_what_is_true() {
    histories(3_000).await;
}
