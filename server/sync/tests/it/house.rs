//! A server's facades in a temporary directory, and people to sync as.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use skerry_account::{AccountSettings, Accounts, LoginName, LoginRequest, NewDevice, PasswordCost};
use skerry_account::{PasswordLogin, PresenceState};
use skerry_core::fixtures::{FakeClock, SeededSource, signing_key};
use skerry_core::{RoomVersion, UserNid};
use skerry_room::{CreateRoom, Message, Move, Preset, Rooms, RoomsConfig, StateEvent, Viewer, Who};
use skerry_store::{Store, StoreOptions};
use skerry_sync::{Delta, EventList, Filter, Request, RoomDelta, Sync, SyncError, Token};

pub const SERVER: &str = "skerry.test";
const PASSWORD: &str = "correct horse";

pub struct House {
    dir: tempfile::TempDir,
    pub store: Arc<Store>,
    pub accounts: Accounts,
    pub rooms: Rooms,
    pub sync: Sync,
    /// The same, but never looks into the log.
    pub by_positions: Sync,
    /// The same, but nobody follows the log for it.
    pub by_log: Sync,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Clone, Debug)]
pub struct Person {
    pub user: UserNid,
    pub id: Arc<str>,
    pub device: Arc<str>,
}

impl House {
    pub fn new() -> House {
        House::open(tempfile::tempdir().unwrap(), 1)
    }

    fn open(dir: tempfile::TempDir, seed: u64) -> House {
        let store = Store::open(dir.path(), StoreOptions::for_tests()).unwrap();
        let clock = Arc::new(FakeClock::new());
        let dice = Arc::new(SeededSource::new(seed));
        let mut settings = AccountSettings::new(SERVER, [7; 32]);
        settings.password_cost = PasswordCost::Minimal;
        let accounts = Accounts::new(store.clone(), clock.clone(), dice.clone(), settings).unwrap();
        let config = RoomsConfig {
            server_name: SERVER.into(),
            default_version: RoomVersion::V12,
            key: Arc::new(signing_key(SERVER)),
            delays: skerry_room::Delays::default(),
            notices: None,
            search_all_users: false,
            cache_bytes: 8 << 20,
            redacted_keep_ms: 7 * 24 * 3_600_000,
            retention: None,
        };
        let rooms =
            Rooms::open(store.clone(), accounts.clone(), config, clock.clone(), dice).unwrap();
        let sync = Sync::new(accounts.clone(), rooms.clone());
        let by_positions = Sync::with_log_reach(accounts.clone(), rooms.clone(), 0);
        let by_log = Sync::new(accounts.clone(), rooms.clone());
        let task = tokio::spawn(sync.clone().run());
        House {
            dir,
            store,
            accounts,
            rooms,
            sync,
            by_positions,
            by_log,
            task,
        }
    }

    /// Stops the server and starts it again.
    pub async fn restart(self) -> House {
        let House {
            dir,
            store,
            accounts,
            rooms,
            sync,
            by_positions,
            by_log,
            task,
            ..
        } = self;
        task.abort();
        let _ = task.await;
        drop((accounts, rooms, sync, by_positions, by_log));
        store.close();
        // What the notifier was just doing on another thread holds it a little longer.
        for _ in 0..200 {
            if Arc::strong_count(&store) == 1 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        drop(store);
        House::open(dir, 2)
    }

    pub async fn person(&self, name: &str) -> Person {
        self.accounts
            .create_user(name, PASSWORD.to_owned(), None)
            .await
            .unwrap();
        self.device(name, "PHONE").await
    }

    /// One more device of somebody.
    pub async fn device(&self, name: &str, device: &str) -> Person {
        let by = PasswordLogin {
            who: LoginName::User(name.to_owned()),
            password: PASSWORD.to_owned(),
        };
        let device_id = Some(device.to_owned());
        let device = NewDevice {
            device_id,
            ..NewDevice::default()
        };
        let grant = self
            .accounts
            .log_in(LoginRequest { by, device })
            .await
            .unwrap();
        let id: Arc<str> = format!("@{name}:{SERVER}").into();
        let user = self.store.user_nid(&id).unwrap().unwrap();
        Person {
            user,
            id,
            device: grant.device.into(),
        }
    }

    pub async fn room(&self, creator: &Person) -> String {
        self.room_with(creator, Preset::PublicChat).await
    }

    pub async fn room_with(&self, creator: &Person, preset: Preset) -> String {
        let request = CreateRoom {
            preset: Some(preset),
            ..CreateRoom::default()
        };
        self.rooms.create(creator.who(), request).await.unwrap()
    }

    pub async fn join(&self, person: &Person, room: &str) {
        self.rooms
            .join(person.who(), room, Move::default())
            .await
            .unwrap();
    }

    pub async fn leave(&self, person: &Person, room: &str) {
        self.rooms
            .leave(person.who(), room, Move::default())
            .await
            .unwrap();
    }

    pub async fn invite(&self, by: &Person, room: &str, whom: &Person) {
        self.rooms
            .invite(by.who(), room, &whom.id, Move::default())
            .await
            .unwrap();
    }

    pub async fn kick(&self, by: &Person, room: &str, whom: &Person) {
        self.rooms
            .kick(by.who(), room, &whom.id, Move::default())
            .await
            .unwrap();
    }

    pub async fn say(&self, person: &Person, room: &str, text: &str) -> String {
        let content = json!({"msgtype": "m.text", "body": text});
        self.send(person, room, "m.room.message", content).await
    }

    pub async fn send(&self, person: &Person, room: &str, kind: &str, content: Value) -> String {
        let content = serde_json::to_vec(&content).unwrap();
        let message = Message {
            kind: kind.to_owned(),
            content,
            txn: None,
            sticky_ms: None,
            ts: None,
        };
        self.rooms.send(person.who(), room, message).await.unwrap()
    }

    pub async fn set(&self, person: &Person, room: &str, kind: &str, key: &str, content: Value) {
        let content = serde_json::to_vec(&content).unwrap();
        let state = StateEvent {
            kind: kind.to_owned(),
            key: key.to_owned(),
            content,
            sticky_ms: None,
            ts: None,
        };
        self.rooms
            .set_state(person.who(), room, state)
            .await
            .unwrap();
    }

    pub async fn ask(&self, request: Request) -> Result<Delta, SyncError> {
        self.sync
            .wait(request, PresenceState::Offline, Duration::ZERO)
            .await
    }

    /// Syncs at once, with this filter.
    pub async fn sync(&self, person: &Person, since: Option<Token>, filter: &str) -> Delta {
        self.ask(person.request(since, filter)).await.unwrap()
    }

    /// Syncs once there is something.
    pub async fn wait(&self, person: &Person, since: Token) -> Delta {
        let request = person.request(Some(since), r#"{"room":{"timeline":{"limit":100}}}"#);
        self.sync
            .wait(request, PresenceState::Offline, Duration::from_secs(20))
            .await
            .unwrap()
    }
}

impl Person {
    pub fn who(&self) -> Who {
        Who {
            user_id: self.id.clone(),
            user: self.user,
            device: self.device.clone(),
            guest: false,
            suspended: false,
            admin: false,
            appservice: None,
        }
    }

    pub fn viewer(&self) -> Viewer {
        Viewer {
            user: self.user,
            user_id: self.id.clone(),
            device: self.device.clone(),
        }
    }

    pub fn request(&self, since: Option<Token>, filter: &str) -> Request {
        Request {
            user: self.user,
            user_id: self.id.clone(),
            device: self.device.clone(),
            since,
            filter: Arc::new(Filter::parse(filter.as_bytes()).unwrap()),
            full_state: false,
            state_after: false,
        }
    }
}

/// Rendered events, parsed.
pub fn events(list: &EventList) -> Vec<Value> {
    let events: Vec<Value> = serde_json::from_slice(&list.json).unwrap();
    assert_eq!(events.len(), list.count);
    events
}

pub fn timeline(room: &RoomDelta) -> Vec<Value> {
    events(&room.timeline.events)
}

pub fn state(room: &RoomDelta) -> Vec<Value> {
    events(room.state.events())
}

/// `body`s of messages, and `type` or `membership` of the rest.
pub fn words(events: &[Value]) -> Vec<String> {
    let word = |event: &Value| {
        let text = event["content"]["body"].as_str();
        let text = text.or(event["content"]["membership"].as_str());
        text.or(event["type"].as_str()).unwrap().to_owned()
    };
    events.iter().map(word).collect()
}

/// State keys of member events, sorted.
pub fn members(events: &[Value]) -> Vec<String> {
    let members = events
        .iter()
        .filter(|event| event["type"] == "m.room.member");
    let mut members: Vec<String> = members
        .map(|event| event["state_key"].as_str().unwrap().to_owned())
        .collect();
    members.sort();
    members
}

pub fn joined<'a>(delta: &'a Delta, room: &str) -> &'a RoomDelta {
    find(&delta.joined, room).expect("the room is not among the joined")
}

pub fn left<'a>(delta: &'a Delta, room: &str) -> &'a RoomDelta {
    find(&delta.left, room).expect("the room is not among the left")
}

pub fn find<'a>(rooms: &'a [RoomDelta], room: &str) -> Option<&'a RoomDelta> {
    rooms.iter().find(|found| *found.room_id == *room)
}
