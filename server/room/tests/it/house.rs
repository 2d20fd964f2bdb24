//! A server's rooms on a store in a directory of their own.

use std::sync::Arc;

use serde_json::{Value, json};
use skerry_account::{AccountSettings, Accounts, PasswordCost, TxnKey};
use skerry_core::fixtures::{FakeClock, SeededSource, signing_key};
use skerry_core::{EventNid, Membership, RoomNid, RoomVersion};
use skerry_room::{CreateRoom, Held, Message, Move, Preset, Retention, RoomError, Rooms};
use skerry_room::{RoomsConfig, StateEvent, Who};
use skerry_store::schema::room as t;
use skerry_store::{Scan, Snapshot, Store, StoreOptions};

pub const SERVER: &str = "skerry.test";

pub struct House {
    pub rooms: Rooms,
    pub accounts: Accounts,
    pub clock: Arc<FakeClock>,
    pub store: Arc<Store>,
    dir: tempfile::TempDir,
    starts: u64,
    retention: Option<Retention>,
    server: &'static str,
}

impl House {
    pub fn new() -> House {
        House::with_retention(None)
    }

    /// The house of a server of this name.
    pub fn of(server: &'static str) -> House {
        let (dir, clock) = (tempfile::tempdir().unwrap(), Arc::new(FakeClock::new()));
        House::open(dir, clock, 1, None, server)
    }

    pub fn with_retention(retention: Option<Retention>) -> House {
        let (dir, clock) = (tempfile::tempdir().unwrap(), Arc::new(FakeClock::new()));
        House::open(dir, clock, 1, retention, SERVER)
    }

    fn open(
        dir: tempfile::TempDir,
        clock: Arc<FakeClock>,
        starts: u64,
        retention: Option<Retention>,
        server: &'static str,
    ) -> House {
        let store = Store::open(dir.path(), StoreOptions::for_tests()).unwrap();
        let dice = Arc::new(SeededSource::new(starts));
        let mut settings = AccountSettings::new(server, [7; 32]);
        settings.password_cost = PasswordCost::Minimal;
        settings.guests = true;
        let accounts = Accounts::new(store.clone(), clock.clone(), dice.clone(), settings).unwrap();
        let config = RoomsConfig {
            server_name: server.into(),
            default_version: RoomVersion::DEFAULT,
            key: Arc::new(signing_key(server)),
            delays: skerry_room::Delays::default(),
            notices: None,
            search_all_users: false,
            cache_bytes: 16 << 20,
            redacted_keep_ms: 7 * 24 * 3_600_000,
            retention,
        };
        let rooms =
            Rooms::open(store.clone(), accounts.clone(), config, clock.clone(), dice).unwrap();
        House {
            rooms,
            accounts,
            clock,
            store,
            dir,
            starts,
            retention,
            server,
        }
    }

    /// The same directory under a new server.
    pub fn restart(self) -> House {
        let retention = self.retention;
        self.restart_with(retention)
    }

    pub fn restart_with(self, retention: Option<Retention>) -> House {
        let House {
            rooms,
            accounts,
            clock,
            store,
            dir,
            starts,
            server,
            ..
        } = self;
        store.close();
        drop((rooms, accounts, store));
        House::open(dir, clock, starts + 1, retention, server)
    }

    /// The name of the server.
    pub fn name(&self) -> &'static str {
        self.server
    }

    pub fn person(&self, name: &str) -> Who {
        let user_id: Arc<str> = format!("@{name}:{}", self.server).into();
        let user = self.store.intern_user(&user_id).unwrap();
        Who {
            user_id,
            user,
            device: "DEVICE".into(),
            guest: false,
            suspended: false,
            admin: false,
            appservice: None,
        }
    }

    /// A person with an account.
    pub fn resident(&self, name: &str) -> Who {
        let who = self.person(name);
        let mut w = self.store.write();
        let row = skerry_store::schema::account::Account {
            password: None,
            admin: false,
            guest: false,
            deactivated: false,
            erased: false,
            created_ms: 0,
            terms: None,
            pos: w.stamp(),
        };
        w.put::<skerry_store::schema::account::Accounts>(&who.user, &row);
        let applied = self.store.commit(w).unwrap();
        self.store.wait_durable(&applied).unwrap();
        who
    }

    pub fn snap(&self) -> Snapshot {
        self.store.snapshot()
    }

    pub fn nid(&self, room: &str) -> RoomNid {
        self.store.room_nid(room).unwrap().unwrap()
    }

    pub async fn public_room(&self, who: &Who) -> String {
        let request = CreateRoom {
            preset: Some(Preset::PublicChat),
            ..def()
        };
        self.rooms.create(who.clone(), request).await.unwrap()
    }

    pub async fn say(
        &self,
        who: &Who,
        room: &str,
        body: &str,
        txn: Option<&str>,
    ) -> Result<String, RoomError> {
        self.send(who, room, "m.room.message", json!({ "body": body }), txn)
            .await
    }

    pub async fn send(
        &self,
        who: &Who,
        room: &str,
        kind: &str,
        content: Value,
        txn: Option<&str>,
    ) -> Result<String, RoomError> {
        let path = format!("/rooms/{room}/send/{kind}");
        let txn = txn.map(|id| {
            let key = TxnKey::new(who.user, &who.device, "PUT", &path, id).unwrap();
            (key, id.to_owned())
        });
        let content = content.to_string().into_bytes();
        self.rooms
            .send(
                who.clone(),
                room,
                Message {
                    kind: kind.into(),
                    content,
                    txn,
                    sticky_ms: None,
                    ts: None,
                },
            )
            .await
    }

    pub async fn set(
        &self,
        who: &Who,
        room: &str,
        kind: &str,
        key: &str,
        content: Value,
    ) -> Result<String, RoomError> {
        let content = content.to_string().into_bytes();
        let state = StateEvent {
            kind: kind.into(),
            key: key.into(),
            content,
            sticky_ms: None,
            ts: None,
        };
        self.rooms.set_state(who.clone(), room, state).await
    }

    pub async fn join(&self, who: &Who, room: &str) -> Result<String, RoomError> {
        self.rooms.join(who.clone(), room, Move::default()).await
    }

    pub async fn leave(&self, who: &Who, room: &str) -> Result<(), RoomError> {
        self.rooms.leave(who.clone(), room, Move::default()).await
    }

    pub async fn invite(&self, who: &Who, room: &str, whom: &Who) -> Result<(), RoomError> {
        self.rooms
            .invite(who.clone(), room, &whom.user_id, Move::default())
            .await
    }

    /// An event by id.
    pub fn event(&self, id: &str) -> Held {
        self.rooms.event_by_id(&self.snap(), id).unwrap().unwrap()
    }

    /// A current state event.
    pub fn state(&self, room: &str, kind: &str, key: &str) -> Option<Held> {
        self.rooms
            .current_event(&self.snap(), self.nid(room), kind, key)
            .unwrap()
    }

    /// The content of a current state event; null if there is none.
    pub fn content(&self, room: &str, kind: &str, key: &str) -> Value {
        let held = self.state(room, kind, key);
        held.map(|held| serde_json::from_str(held.event.content()).unwrap())
            .unwrap_or_default()
    }

    pub fn membership(&self, room: &str, who: &Who) -> Option<Membership> {
        let member = self
            .rooms
            .member(&self.snap(), self.nid(room), who.user)
            .unwrap();
        member.map(|member| member.membership)
    }

    /// The types of all events of a room, oldest first.
    pub fn timeline(&self, room: &str) -> Vec<String> {
        let snap = self.snap();
        let rows = snap.scan::<t::Timeline>(Scan::prefix(&self.nid(room)));
        let nids: Vec<EventNid> = rows.map(|row| row.unwrap().1).collect();
        let held = self.rooms.events(&snap, &nids).unwrap();
        held.into_iter()
            .map(|held| held.unwrap().event.event_type().to_owned())
            .collect()
    }
}

pub fn def() -> CreateRoom {
    CreateRoom::default()
}

/// The name of the refusal.
pub fn refusal<T: std::fmt::Debug>(answer: Result<T, RoomError>) -> String {
    let text = format!("{:?}", answer.unwrap_err());
    text.split(['(', ' ']).next().unwrap_or_default().to_owned()
}
