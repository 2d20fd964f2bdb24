//! Events of users of other servers, made for a house's room.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::Value;
use skerry_core::auth::auth_types;
use skerry_core::build::{Draft, EventRef, Place, Signer, build};
use skerry_core::canonical::Object;
use skerry_core::fixtures::{SeededDice, signing_key};
use skerry_core::names::server_of;
use skerry_core::{RoomVersion, StoredEvent};
use skerry_room::{Arrival, Gap, Verdict};

use crate::house::House;

type State = BTreeMap<(String, String), Arc<StoredEvent>>;

/// What is said: type, state key, content.
pub type Said<'a> = (&'a str, Option<&'a str>, Value);

pub struct Abroad<'a> {
    pub house: &'a House,
    pub room: String,
    version: RoomVersion,
    clock: Cell<u64>,
    dice: RefCell<SeededDice>,
    after: RefCell<HashMap<String, State>>,
    events: RefCell<HashMap<String, Arc<StoredEvent>>>,
}

impl<'a> Abroad<'a> {
    pub fn new(house: &'a House, room: &str) -> Abroad<'a> {
        let snap = house.snap();
        let version = house.rooms.room_version(&snap, room).unwrap().unwrap();
        Abroad {
            house,
            room: room.to_owned(),
            version,
            clock: Cell::new(skerry_core::fixtures::FakeClock::START_MS),
            dice: RefCell::new(SeededDice::new(77)),
            after: RefCell::default(),
            events: RefCell::default(),
        }
    }

    /// The forward extremities of the house.
    pub fn ends(&self) -> Vec<String> {
        let (snap, nid) = (self.house.snap(), self.house.nid(&self.room));
        self.house.rooms.extremities(&snap, nid).unwrap().ids
    }

    pub fn event(&self, id: &str) -> Arc<StoredEvent> {
        if let Some(event) = self.events.borrow().get(id) {
            return event.clone();
        }
        Arc::new(self.house.event(id).event)
    }

    fn state_after(&self, id: &str) -> State {
        if let Some(state) = self.after.borrow().get(id) {
            return state.clone();
        }
        let snap = self.house.snap();
        let rooms = &self.house.rooms;
        let nid = self.house.store.event_nid(&snap, id).unwrap().unwrap();
        let meta = rooms.meta(&snap, nid).unwrap().unwrap();
        let map = rooms.state_map(&snap, meta.after).unwrap();
        let events = map
            .iter()
            .map(|(_, nid)| rooms.event(&snap, nid).unwrap().unwrap().event);
        events
            .map(|event| {
                let key = event.state_key().unwrap().to_owned();
                ((event.event_type().to_owned(), key), Arc::new(event))
            })
            .collect()
    }

    /// The ids of the state before an event made here.
    pub fn state_before(&self, event: &StoredEvent) -> Vec<String> {
        let state = self.state_after(&event.prev_events()[0]);
        state
            .values()
            .map(|event| event.event_id().to_owned())
            .collect()
    }

    /// An event after others; what allows it is looked up in the state after the first.
    pub fn make(&self, user: &str, said: Said<'_>, after: &[String]) -> Arc<StoredEvent> {
        let state = self.state_after(&after[0]);
        self.make_by(user, said, after, &state)
    }

    /// The same with a state that is said to allow it.
    pub fn make_by(
        &self,
        user: &str,
        (kind, key, content): Said<'_>,
        after: &[String],
        state: &State,
    ) -> Arc<StoredEvent> {
        let content = content.to_string().into_bytes();
        let content = Object::parse(&content, self.version.json_mode()).unwrap();
        let types = auth_types(self.version, kind, user, key, &content);
        let allow = types
            .into_iter()
            .filter_map(|(kind, key)| state.get(&(kind.to_owned(), key)));
        let auth: Vec<_> = allow.map(|event| EventRef::of(event)).collect();
        let prev: Vec<_> = after
            .iter()
            .map(|id| EventRef::of(&self.event(id)))
            .collect();
        self.clock.set(self.clock.get() + 1000);
        let redacts = (kind == "m.room.redaction").then(|| {
            let target = content.str("redacts").unwrap_or_default();
            target.to_owned()
        });
        let draft = Draft {
            room_id: Some(self.room.clone()),
            sender: user.to_owned(),
            event_type: kind.to_owned(),
            state_key: key.map(str::to_owned),
            content,
            redacts,
            sticky_ms: None,
        };
        let place = Place {
            version: self.version,
            prev: &prev,
            auth: &auth,
            origin_server_ts: self.clock.get(),
        };
        let server = server_of(user).unwrap();
        let key = signing_key(server);
        let signer = Signer { server, key: &key };
        let event = build(draft, place, signer, &mut *self.dice.borrow_mut()).unwrap();
        let event = Arc::new(event);
        let mut state = state.clone();
        if let Some(key) = event.state_key() {
            let key = (event.event_type().to_owned(), key.to_owned());
            state.insert(key, event.clone());
        }
        let id = event.event_id().to_owned();
        self.after.borrow_mut().insert(id.clone(), state);
        self.events.borrow_mut().insert(id, event.clone());
        event
    }

    pub async fn give(&self, event: &Arc<StoredEvent>) -> Verdict {
        let how = Arrival::default();
        let rooms = &self.house.rooms;
        rooms.receive(&self.room, event.clone(), how).await.unwrap()
    }

    pub async fn give_with(&self, event: &Arc<StoredEvent>, gaps: Vec<Gap>) -> Verdict {
        let how = Arrival {
            gaps,
            ..Arrival::default()
        };
        let rooms = &self.house.rooms;
        rooms.receive(&self.room, event.clone(), how).await.unwrap()
    }

    pub async fn keep(&self, events: Vec<Arc<StoredEvent>>) -> Vec<String> {
        let rooms = &self.house.rooms;
        rooms
            .keep_outliers(&self.room, self.version, events)
            .await
            .unwrap()
    }

    /// Makes an event after the forward extremities and gives it to the house.
    pub async fn say(&self, user: &str, said: Said<'_>) -> (String, Verdict) {
        let event = self.make(user, said, &self.ends());
        let verdict = self.give(&event).await;
        (event.event_id().to_owned(), verdict)
    }

    pub async fn join(&self, user: &str) -> String {
        let said = (
            "m.room.member",
            Some(user),
            serde_json::json!({"membership": "join"}),
        );
        let (id, verdict) = self.say(user, said).await;
        assert_eq!(verdict, Verdict::Accepted);
        id
    }
}

pub fn text(body: &str) -> Said<'static> {
    (
        "m.room.message",
        None,
        serde_json::json!({ "msgtype": "m.text", "body": body }),
    )
}
