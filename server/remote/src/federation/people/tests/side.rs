//! Two servers in one process that share a room, and the wire between them.
//!
//! The room's rows are put where they belong by hand: joining over federation is tested elsewhere.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use skerry_account::e2e::{ClaimRequest, KeyQuery, Owner};
use skerry_account::{
    AccountSettings, Accounts, LoginName, LoginRequest, NewDevice, PasswordCost, PasswordLogin,
};
use skerry_core::fixtures::{FakeClock, SeededSource, signing_key};
use skerry_core::{Membership, Order, Pos, RoomVersion, StateId, UserNid};
use skerry_room::{CreateRoom, Message, Move, Preset, Rooms, RoomsConfig, Viewer, Who};
use skerry_store::outbox::{self, Dest};
use skerry_store::schema::room as t;
use skerry_store::schema::room_read::Receipts;
use skerry_store::{Change, Scan, Store, StoreOptions, Write};
use tokio::sync::watch;

use crate::federation::people::follow;
use crate::federation::people::{Ask, People, Reach, Unanswered};

pub const HERE: &str = "here.test";
pub const THERE: &str = "there.test";
const PASSWORD: &str = "correct horse";

/// Waits until something holds.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..600 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("not within 15 s: {what}");
}

/// Something that lives for a moment, on its way.
struct Soon {
    from: &'static str,
    to: Arc<str>,
    kind: &'static str,
    content: String,
}

/// What lies between the servers.
#[derive(Default)]
pub struct Wire {
    sides: Mutex<HashMap<&'static str, Side>>,
    soon: Mutex<Vec<Soon>>,
    asked: AtomicUsize,
    down: AtomicBool,
}

impl Wire {
    /// How often anything was asked.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// Nobody answers.
    pub fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::SeqCst);
    }

    /// How many EDUs of a type wait to be carried.
    pub fn soon(&self, kind: &str) -> usize {
        let soon = self.soon.lock();
        soon.iter().filter(|edu| edu.kind == kind).count()
    }
}

/// One server's end of the wire.
struct End {
    name: &'static str,
    wire: Arc<Wire>,
}

impl Reach for End {
    fn ask<'a>(
        &'a self,
        server: &'a str,
        ask: Ask,
        _within: Duration,
    ) -> BoxFuture<'a, Result<Bytes, Unanswered>> {
        self.wire.asked.fetch_add(1, Ordering::SeqCst);
        let side = self.wire.sides.lock().get(server).cloned();
        let side = side.filter(|_| !self.wire.down.load(Ordering::SeqCst));
        Box::pin(async move {
            let gone = || Unanswered("nobody there".to_owned());
            side.ok_or_else(gone)?.answer(ask).await
        })
    }

    fn send_soon(&self, servers: &[Arc<str>], kind: &'static str, _key: String, content: String) {
        let from = self.name;
        self.wire.soon.lock().extend(servers.iter().map(|to| Soon {
            from,
            to: Arc::clone(to),
            kind,
            content: content.clone(),
        }));
    }
}

/// A server.
#[derive(Clone)]
pub struct Side {
    pub name: &'static str,
    pub store: Arc<Store>,
    pub accounts: Accounts,
    pub rooms: Rooms,
    pub people: People,
    _dir: Arc<tempfile::TempDir>,
}

/// Two servers, each with a user in one room; `here` has another one.
pub struct Pair {
    pub here: Side,
    pub there: Side,
    pub wire: Arc<Wire>,
    pub room: String,
    stop: watch::Sender<bool>,
}

impl Pair {
    pub async fn new(presence: bool) -> Pair {
        let wire = Arc::new(Wire::default());
        let here = Side::open(HERE, &wire, presence).await;
        let there = Side::open(THERE, &wire, presence).await;
        for name in ["alice", "carol"] {
            here.person(name).await;
        }
        there.person("bob").await;
        let request = CreateRoom {
            preset: Some(Preset::PublicChat),
            ..CreateRoom::default()
        };
        let room = here.rooms.create(here.who("alice"), request).await.unwrap();
        let carol = here.who("carol");
        here.rooms
            .join(carol, &room, Move::default())
            .await
            .unwrap();
        here.add_member(&room, "bob", THERE);
        there.copy_room(&room);
        for (name, server) in [("alice", HERE), ("carol", HERE), ("bob", THERE)] {
            there.add_member(&room, name, server);
        }
        Pair {
            here,
            there,
            wire,
            room,
            stop: watch::Sender::new(false),
        }
    }

    /// Lets both follow what happens.
    pub fn run(&self) {
        for side in [&self.here, &self.there] {
            tokio::spawn(side.people.clone().run(self.stop.subscribe()));
        }
    }

    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Carries what waits; gives how many EDUs.
    pub async fn carry(&self) -> usize {
        let mut carried = 0;
        let soon = std::mem::take(&mut *self.wire.soon.lock());
        for edu in soon {
            let to = if &*edu.to == HERE {
                &self.here
            } else {
                &self.there
            };
            to.take_text(edu.from, edu.kind, &edu.content).await;
            carried += 1;
        }
        for (from, to) in [(&self.here, &self.there), (&self.there, &self.here)] {
            for edu in from.queued(to.name) {
                let kind = edu["edu_type"].as_str().unwrap();
                to.take(from.name, kind, &edu["content"]).await;
                carried += 1;
            }
        }
        carried
    }

    /// Loses what is queued; gives how many EDUs.
    pub fn lose(&self) -> usize {
        self.here.queued(THERE).len()
    }
}

impl Side {
    async fn open(name: &'static str, wire: &Arc<Wire>, presence: bool) -> Side {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), StoreOptions::for_tests()).unwrap();
        let clock = Arc::new(FakeClock::new());
        let dice = Arc::new(SeededSource::new(name.len() as u64));
        let mut settings = AccountSettings::new(name, [7; 32]);
        settings.password_cost = PasswordCost::Minimal;
        settings.federates = true;
        let accounts = Accounts::new(store.clone(), clock.clone(), dice.clone(), settings).unwrap();
        let config = RoomsConfig {
            server_name: name.into(),
            default_version: RoomVersion::DEFAULT,
            key: Arc::new(signing_key(name)),
            delays: skerry_room::Delays::default(),
            notices: None,
            search_all_users: false,
            cache_bytes: 16 << 20,
            redacted_keep_ms: 0,
            retention: None,
        };
        let rooms =
            Rooms::open(store.clone(), accounts.clone(), config, clock.clone(), dice).unwrap();
        follow::begin(&store).unwrap();
        let end = Arc::new(End {
            name,
            wire: Arc::clone(wire),
        });
        let people = People::new(
            accounts.clone(),
            rooms.clone(),
            end,
            clock.clone(),
            presence,
        );
        let side = Side {
            name,
            store,
            accounts,
            rooms,
            people,
            _dir: Arc::new(dir),
        };
        wire.sides.lock().insert(name, side.clone());
        side
    }

    /// What it answers another server.
    async fn answer(self, ask: Ask) -> Result<Bytes, Unanswered> {
        const USER: &str = "/_matrix/federation/v1/user/";
        let failed = |error: &dyn std::fmt::Display| Unanswered(error.to_string());
        let answer: Value = match ask {
            Ask::Get(path) => {
                let user = path.strip_prefix(&format!("{USER}devices/")).unwrap();
                let user = percent_encoding::percent_decode_str(user);
                let list = self.people.devices(&user.decode_utf8().unwrap()).await;
                json!(list.map_err(|error| failed(&error))?)
            }
            Ask::Post(path, body) if path.ends_with("/user/keys/query") => {
                let query: KeyQuery = serde_json::from_str(&body).unwrap();
                json!(
                    self.people
                        .query_keys(query)
                        .await
                        .map_err(|e| failed(&e))?
                )
            }
            Ask::Post(_, body) => {
                let body: Value = serde_json::from_str(&body).unwrap();
                let request: ClaimRequest =
                    serde_json::from_value(body["one_time_keys"].clone()).unwrap();
                json!(
                    self.people
                        .claim_keys(request)
                        .await
                        .map_err(|e| failed(&e))?
                )
            }
        };
        Ok(Bytes::from(answer.to_string()))
    }

    async fn person(&self, name: &str) {
        let password = PASSWORD.to_owned();
        self.accounts
            .create_user(name, password, None)
            .await
            .unwrap();
    }

    fn user(&self, name: &str, server: &str) -> UserNid {
        self.store
            .intern_user(&format!("@{name}:{server}"))
            .unwrap()
    }

    pub fn owner(&self, name: &str) -> Owner {
        Owner {
            user_id: format!("@{name}:{}", self.name).into(),
            user: self.user(name, self.name),
        }
    }

    fn who(&self, name: &str) -> Who {
        let Owner { user_id, user } = self.owner(name);
        Who {
            user_id,
            user,
            device: "A1".into(),
            guest: false,
            suspended: false,
            admin: false,
            appservice: None,
        }
    }

    pub fn viewer(&self, owner: &Owner) -> Viewer {
        Viewer {
            user: owner.user,
            user_id: owner.user_id.clone(),
            device: "A1".into(),
        }
    }

    /// Logs a device in and uploads its keys.
    pub async fn device(&self, owner: &Owner, device: &str) {
        let by = PasswordLogin {
            who: LoginName::User(owner.user_id.to_string()),
            password: PASSWORD.to_owned(),
        };
        let new = NewDevice {
            device_id: Some(device.to_owned()),
            display_name: None,
            refresh: false,
        };
        let request = LoginRequest { by, device: new };
        self.accounts.log_in(request).await.unwrap();
        let key = signing_key(device);
        let keys = json!({
            "user_id": &*owner.user_id,
            "device_id": device,
            "algorithms": ["m.olm.v1.curve25519-aes-sha2"],
            "keys": { format!("ed25519:{device}"): STANDARD_NO_PAD.encode(key.public_key()) },
            "signatures": {},
        });
        self.upload(owner, device, json!({ "device_keys": keys }))
            .await;
    }

    pub async fn one_time(&self, owner: &Owner, device: &str, ids: &[&str]) {
        for id in ids {
            let id = format!("signed_curve25519:{id}");
            let keys = json!({ "one_time_keys": { id: { "key": "key" } } });
            self.upload(owner, device, keys).await;
        }
    }

    async fn upload(&self, owner: &Owner, device: &str, body: Value) {
        let body = serde_json::from_str(&body.to_string()).unwrap();
        let keys = self.accounts.keys();
        keys.upload(owner, device, body).await.unwrap();
    }

    pub async fn say(&self, owner: &Owner, room: &str) -> String {
        let name = owner.user_id.split([':', '@']).nth(1).unwrap();
        let message = Message {
            kind: "m.room.message".into(),
            content: json!({ "body": "hello" }).to_string().into_bytes(),
            txn: None,
            sticky_ms: None,
            ts: None,
        };
        self.rooms
            .send(self.who(name), room, message)
            .await
            .unwrap()
    }

    /// Queues at once what a server is not yet told of a user's devices.
    pub fn tell_now(&self, owner: &Owner, server: &str) {
        let server = self.store.intern_server(server).unwrap();
        let (snap, mut w) = (self.store.newest(), self.store.write());
        let keys = self.accounts.keys();
        keys.tell_servers(&snap, &mut w, owner.user, &[server])
            .unwrap();
        self.commit(w);
    }

    /// What is queued for a server, taken off.
    fn queued(&self, server: &str) -> Vec<Value> {
        let Some(server) = self.store.server_nid(server).unwrap() else {
            return Vec::new();
        };
        let dest = Dest::Server(server);
        let items = outbox::pending(&self.store.newest(), &dest, 1_000).unwrap();
        let mut w = self.store.write();
        for (pos, _) in &items {
            outbox::sent(&mut w, &dest, *pos);
        }
        if !items.is_empty() {
            self.commit(w);
        }
        let parsed = items.iter().map(|(_, item)| serde_json::from_slice(item));
        parsed.collect::<Result<_, _>>().unwrap()
    }

    pub async fn take(&self, origin: &str, kind: &str, content: &Value) {
        self.take_text(origin, kind, &content.to_string()).await;
    }

    async fn take_text(&self, origin: &str, kind: &str, content: &str) {
        let content = RawValue::from_string(content.to_owned()).unwrap();
        self.people.take(origin, kind, &content).await.unwrap();
    }

    /// Who types in a room.
    pub fn typists(&self, room: &str) -> Vec<String> {
        let room = self.store.room_nid(room).unwrap().unwrap();
        let users = self.rooms.typing().since(room, 0).unwrap_or_default();
        let ids = users
            .into_iter()
            .map(|user| self.store.user_id(user).unwrap());
        ids.map(|id| id.to_string()).collect()
    }

    /// The threads in which a user has public receipts; empty for all of the room.
    pub fn receipts(&self, room: &str, owner: &Owner) -> Vec<String> {
        let room = self.store.room_nid(room).unwrap().unwrap();
        let user = self.store.intern_user(&owner.user_id).unwrap();
        let snap = self.store.snapshot();
        let rows = snap.scan::<Receipts>(Scan::prefix(&(room, user)));
        rows.map(|row| row.unwrap().0.3).collect()
    }

    fn commit(&self, w: Write) {
        let applied = self.store.commit(w).unwrap();
        self.store.wait_durable(&applied).unwrap();
    }

    /// The rows of a room that is of another server.
    fn copy_room(&self, room_id: &str) {
        let room = self.store.intern_room(room_id).unwrap();
        let creator = self.user("alice", HERE);
        let mut w = self.store.write();
        let create = w.new_event("$create");
        let row = t::RoomRow {
            version: RoomVersion::DEFAULT.number(),
            create,
            creator,
            room_type: None,
            since_ms: 0,
        };
        w.put::<t::Room>(&room, &row);
        let pos = w.stamp();
        let head = t::RoomHead {
            state: StateId(0),
            extremities: vec![create],
            depth: 1,
            last: pos,
            state_pos: pos,
            joined: 0,
            invited: 0,
            remote: 0,
            bump: pos,
        };
        w.put::<t::Head>(&room, &head);
        self.commit(w);
    }

    /// Joins a user to a room by rows alone.
    pub fn add_member(&self, room_id: &str, name: &str, server: &str) {
        self.set_member(room_id, (name, server), Membership::Join);
    }

    /// Takes a user out of a room by rows alone.
    pub fn part(&self, room_id: &str, name: &str, server: &str) {
        self.set_member(room_id, (name, server), Membership::Leave);
        // Nobody else of that server is in it who counts here.
        self.set_member(room_id, ("carol", server), Membership::Leave);
    }

    fn set_member(&self, room_id: &str, (name, server): (&str, &str), membership: Membership) {
        let room = self.store.room_nid(room_id).unwrap().unwrap();
        let user = self.user(name, server);
        let snap = self.store.newest();
        let mut head = snap.get::<t::Head>(&room).unwrap().unwrap();
        let mut w = self.store.write();
        let pos = w.log(Change::Member {
            room,
            user,
            membership,
        });
        let event = w.new_event(&format!("${name}{membership:?}"));
        let member = t::Member {
            membership,
            event,
            pos,
            forgotten: false,
        };
        w.put::<t::MemberTable>(&(room, user), &member);
        let of = t::MemberOf {
            membership,
            event,
            pos,
            since: pos,
        };
        w.put::<t::MemberOfTable>(&(user, room), &of);
        let more = membership == Membership::Join;
        let step = |n: u32| if more { n + 1 } else { n - 1 };
        head.joined = step(head.joined);
        if server != self.name {
            head.remote = step(head.remote);
            let key = (room, self.store.intern_server(server).unwrap());
            let before = snap.get::<t::RoomServer>(&key).unwrap().unwrap_or(0);
            w.put::<t::RoomServer>(&key, &step(before));
        }
        w.put::<t::Head>(&room, &head);
        self.commit(w);
    }

    /// An event of another server takes its place in the room.
    pub fn copy_event(&self, room_id: &str, event_id: &str, sender: &Owner) {
        let room = self.store.room_nid(room_id).unwrap().unwrap();
        let sender = self.store.intern_user(&sender.user_id).unwrap();
        let mut w = self.store.write();
        let event = w.new_event(event_id);
        let pos = w.log(Change::Timeline {
            room,
            event,
            sender,
        });
        let meta = t::EventMeta {
            room,
            order: Order {
                anchor: pos,
                n: i64::MAX,
            },
            depth: 2,
            sender,
            before: StateId(0),
            after: StateId(0),
            state_key: None,
            replaces: None,
            flags: 0,
        };
        w.put::<t::Meta>(&event, &meta);
        self.commit(w);
        assert_ne!(pos, Pos::ZERO);
    }
}
