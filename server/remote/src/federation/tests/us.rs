//! This server, as far as rooms and other servers go.

use std::sync::Arc;

use skerry_account::{AccountSettings, Accounts};
use skerry_core::canonical::Object;
use skerry_core::fixtures::{FakeClock, SeededSource, signing_key};
use skerry_core::{Membership, RoomVersion, StoredEvent};
use skerry_room::{CreateRoom, Delays, Preset, Rooms, RoomsConfig, Viewer, Who};
use skerry_store::schema::room::Timeline;
use skerry_store::{Scan, Store, StoreOptions};

use super::far::{FAR, Far};
use crate::federation::{Carry, Federation, FederationOptions, Policy, Revoked};

pub(super) const US: &str = "us.example";

pub(super) struct Us {
    pub(super) federation: Federation,
    pub(super) rooms: Rooms,
    pub(super) clock: Arc<FakeClock>,
    store: Arc<Store>,
    _dir: tempfile::TempDir,
}

impl Us {
    /// Talks with one other server.
    pub(super) fn with(far: &Arc<Far>) -> Us {
        let (dir, clock) = (tempfile::tempdir().unwrap(), Arc::new(FakeClock::new()));
        let store = Store::open(dir.path(), StoreOptions::for_tests()).unwrap();
        let dice = Arc::new(SeededSource::new(1));
        let settings = AccountSettings::new(US, [7; 32]);
        let accounts = Accounts::new(store.clone(), clock.clone(), dice.clone(), settings).unwrap();
        let key = Arc::new(signing_key(US));
        let config = RoomsConfig {
            server_name: US.into(),
            default_version: RoomVersion::V11,
            key: key.clone(),
            delays: Delays::default(),
            notices: None,
            search_all_users: false,
            cache_bytes: 16 << 20,
            redacted_keep_ms: 0,
            retention: None,
        };
        let rooms = Rooms::open(
            store.clone(),
            accounts.clone(),
            config,
            clock.clone(),
            dice.clone(),
        );
        let rooms = rooms.unwrap();
        let carry: Arc<dyn Carry> = far.clone();
        let federation = Federation::new(FederationOptions {
            own_name: US.into(),
            key,
            rooms: rooms.clone(),
            carry,
            policy: Policy::open(),
            trusted: Vec::new(),
            old_keys: Vec::new(),
            revoked: Revoked::load(None).unwrap(),
            desk: None,
            clock: clock.clone(),
            dice,
        })
        .unwrap();
        Us {
            federation,
            rooms,
            clock,
            store,
            _dir: dir,
        }
    }

    pub(super) fn person(&self, name: &str) -> Who {
        let user_id: Arc<str> = format!("@{name}:{US}").into();
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

    pub(super) fn bob(&self) -> Who {
        self.person("bob")
    }

    pub(super) fn viewer(&self) -> Viewer {
        let bob = self.bob();
        Viewer {
            user: bob.user,
            user_id: bob.user_id,
            device: bob.device,
        }
    }

    pub(super) async fn own_room(&self) -> String {
        let request = CreateRoom {
            preset: Some(Preset::PublicChat),
            ..CreateRoom::default()
        };
        self.rooms.create(self.bob(), request).await.unwrap()
    }

    /// What somebody is in a room by its state.
    pub(super) fn membership(&self, room_id: &str, user_id: &str) -> Option<Membership> {
        let id = self.state_id(room_id, "m.room.member", user_id)?;
        self.event(&id)?.membership()
    }

    /// What bob is in a room, also in one that is not here.
    pub(super) fn standing(&self, room_id: &str) -> Option<Membership> {
        let snap = self.store.snapshot();
        let room = self.store.room_nid(room_id).unwrap()?;
        let row = self.rooms.member_of(&snap, self.bob().user, room).unwrap();
        row.map(|row| row.membership)
    }

    pub(super) fn state_id(&self, room_id: &str, kind: &str, key: &str) -> Option<String> {
        let snap = self.store.snapshot();
        let room = self.rooms.room_nid(&snap, room_id).unwrap()?;
        let held = self.rooms.current_event(&snap, room, kind, key).unwrap()?;
        Some(held.event.event_id().to_owned())
    }

    pub(super) fn event(&self, id: &str) -> Option<StoredEvent> {
        let held = self.rooms.event_by_id(&self.store.snapshot(), id).unwrap();
        held.map(|held| held.event)
    }

    /// What was said in a room, in the order of its timeline.
    pub(super) fn bodies(&self, room_id: &str) -> Vec<String> {
        let snap = self.store.snapshot();
        let room = self.rooms.room_nid(&snap, room_id).unwrap().unwrap();
        let rows = snap.scan::<Timeline>(Scan::prefix(&room));
        let events = rows.map(|row| self.rooms.event(&snap, row.unwrap().1).unwrap().unwrap());
        let body = |event: StoredEvent| {
            let content = event.content_object().unwrap();
            content.str("body").map(str::to_owned)
        };
        events.filter_map(|held| body(held.event)).collect()
    }
}

/// An event that was changed, with hashes and the signature of the far server made anew.
pub(super) fn signed_again(mut event: Object, version: RoomVersion) -> serde_json::Value {
    use skerry_core::hash::{base64, content_hash, signable_text};
    event.remove("signatures");
    let mut hashes = Object::new();
    hashes.insert("sha256", base64(&content_hash(&event)));
    event.insert("hashes", hashes);
    let key = signing_key(FAR);
    let signature = key.sign(signable_text(&event, version).as_bytes());
    skerry_core::keys::add_signature(&mut event, FAR, key.id(), signature);
    event.to_json()
}
