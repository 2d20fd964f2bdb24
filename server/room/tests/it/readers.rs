//! A server's rooms in a directory of their own, and people to fill them.

use std::sync::Arc;

use serde_json::Value;
use skerry_account::{AccountSettings, Accounts, PasswordCost};
use skerry_core::RoomVersion;
use skerry_core::fixtures::{FakeClock, SeededSource, signing_key};
use skerry_room::{CreateRoom, Message, Move, Preset, Redaction, Rooms, RoomsConfig, StateEvent};
use skerry_room::{Viewer, Who};
use skerry_store::{Snapshot, Store, StoreOptions};

pub const SERVER: &str = "test.example";

pub struct House {
    pub rooms: Rooms,
    pub store: Arc<Store>,
    pub accounts: Accounts,
    pub clock: Arc<FakeClock>,
    pub dir: tempfile::TempDir,
}

impl House {
    pub fn new() -> House {
        House::open(tempfile::tempdir().unwrap())
    }

    pub fn open(dir: tempfile::TempDir) -> House {
        let store = Store::open(dir.path(), StoreOptions::for_tests()).unwrap();
        let clock = Arc::new(FakeClock::new());
        let dice = Arc::new(SeededSource::new(7));
        let mut settings = AccountSettings::new(SERVER, [7; 32]);
        settings.password_cost = PasswordCost::Minimal;
        let accounts = Accounts::new(store.clone(), clock.clone(), dice.clone(), settings).unwrap();
        let config = RoomsConfig {
            server_name: SERVER.into(),
            default_version: RoomVersion::DEFAULT,
            key: Arc::new(signing_key(SERVER)),
            delays: skerry_room::Delays::default(),
            notices: None,
            search_all_users: false,
            cache_bytes: 16 << 20,
            redacted_keep_ms: 7 * 24 * 3_600_000,
            retention: None,
        };
        let rooms =
            Rooms::open(store.clone(), accounts.clone(), config, clock.clone(), dice).unwrap();
        House {
            rooms,
            store,
            accounts,
            clock,
            dir,
        }
    }

    /// The same directory, opened anew.
    pub fn reopen(self) -> House {
        let House {
            rooms,
            store,
            accounts,
            clock,
            dir,
        } = self;
        let now = skerry_core::Clock::now_ms(&*clock);
        store.close();
        drop((rooms, store, accounts, clock));
        let house = House::open(dir);
        house.clock.set(now);
        house
    }

    pub fn person(&self, name: &str) -> Who {
        let user_id: Arc<str> = format!("@{name}:{SERVER}").into();
        Who {
            user: self.store.intern_user(&user_id).unwrap(),
            user_id,
            device: "DEVICE".into(),
            guest: false,
            suspended: false,
            admin: false,
            appservice: None,
        }
    }

    pub fn snap(&self) -> Snapshot {
        self.store.snapshot()
    }

    pub async fn room(&self, who: &Who) -> String {
        let request = CreateRoom {
            preset: Some(Preset::PublicChat),
            ..CreateRoom::default()
        };
        self.rooms.create(who.clone(), request).await.unwrap()
    }

    /// A room with a history visibility of its own from the start.
    pub async fn room_with(&self, who: &Who, visibility: &str) -> String {
        let room = self.room(who).await;
        self.set_visibility(who, &room, visibility).await;
        room
    }

    pub async fn set_visibility(&self, who: &Who, room: &str, visibility: &str) {
        let content = format!(r#"{{"history_visibility":"{visibility}"}}"#);
        self.state(who, room, ("m.room.history_visibility", ""), &content)
            .await;
    }

    pub async fn state(
        &self,
        who: &Who,
        room: &str,
        (kind, key): (&str, &str),
        content: &str,
    ) -> String {
        self.clock.advance(1);
        let state = StateEvent {
            kind: kind.to_owned(),
            key: key.to_owned(),
            content: content.as_bytes().to_vec(),
            sticky_ms: None,
            ts: None,
        };
        self.rooms
            .set_state(who.clone(), room, state)
            .await
            .unwrap()
    }

    pub async fn join(&self, who: &Who, room: &str) {
        self.clock.advance(1);
        self.rooms
            .join(who.clone(), room, Move::default())
            .await
            .unwrap();
    }

    pub async fn leave(&self, who: &Who, room: &str) {
        self.clock.advance(1);
        self.rooms
            .leave(who.clone(), room, Move::default())
            .await
            .unwrap();
    }

    pub async fn invite(&self, who: &Who, room: &str, whom: &Who) {
        self.clock.advance(1);
        self.rooms
            .invite(who.clone(), room, &whom.user_id, Move::default())
            .await
            .unwrap();
    }

    /// Sends a text; gives the event's id.
    pub async fn say(&self, who: &Who, room: &str, body: &str) -> String {
        let content = serde_json::json!({ "msgtype": "m.text", "body": body });
        self.send(who, room, "m.room.message", &content).await
    }

    pub async fn send(&self, who: &Who, room: &str, kind: &str, content: &Value) -> String {
        self.clock.advance(1);
        let message = Message {
            kind: kind.to_owned(),
            content: content.to_string().into_bytes(),
            txn: None,
            sticky_ms: None,
            ts: None,
        };
        self.rooms.send(who.clone(), room, message).await.unwrap()
    }

    pub async fn redact(&self, who: &Who, room: &str, target: &str) -> String {
        self.clock.advance(1);
        let redaction = Redaction {
            with_rel_types: Vec::new(),
            target: target.to_owned(),
            content: b"{}".to_vec(),
            txn: None,
        };
        self.rooms
            .redact(who.clone(), room, redaction)
            .await
            .unwrap()
    }
}

pub fn viewer(who: &Who) -> Viewer {
    Viewer {
        user: who.user,
        user_id: who.user_id.clone(),
        device: who.device.clone(),
    }
}

pub fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes)
        .unwrap_or_else(|e| panic!("not JSON ({e}): {}", String::from_utf8_lossy(bytes)))
}

/// The value of one field of each event of a list.
pub fn field<'a>(events: &'a Value, pointer: &str) -> Vec<&'a str> {
    let events = events.as_array().unwrap().iter();
    events
        .map(|event| {
            event
                .pointer(pointer)
                .and_then(Value::as_str)
                .unwrap_or("-")
        })
        .collect()
}
