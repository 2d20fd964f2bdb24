//! A client of sliding sync that knows only what it is told, for the histories of `model`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use skerry_core::Membership;
use skerry_core::fixtures::SeededDice;
use skerry_room::{Cut, View};
use skerry_sync::Sync;
use skerry_sync::sliding::{
    Extensions, SlidingAnswer, SlidingAsk, SlidingRequest, SlidingRoom, SlidingTimeline,
};

use crate::house::{House, Person, events};
use crate::model::{World, id, note_data, note_receipts, text};

/// What a client wants of the state in the end.
const STATES: &[&str] = &[
    r#"[["*", "*"]]"#,
    r#"[["m.room.member", "$LAZY"], ["m.room.member", "$ME"], ["x.state", "*"],
        ["m.room.name", ""]]"#,
    r#"[["m.room.member", "*"], ["x.state", "*"]]"#,
];

/// What a client knows of a room.
#[derive(Default)]
struct Known {
    membership: Option<Membership>,
    state: BTreeMap<(String, String), String>,
    timeline: Vec<Value>,
    receipts: BTreeMap<(String, String), String>,
    data: BTreeMap<String, String>,
    name: Option<String>,
    unread: u64,
    members: u64,
}

pub struct Slider {
    person: Person,
    /// How its server finds out what changed.
    way: u64,
    /// Which of the states it wants in the end.
    state: &'static str,
    /// Whether it wants more and less of everything from time to time.
    fickle: bool,
    pos: Option<String>,
    messages: Option<String>,
    rooms: BTreeMap<String, Known>,
    told: Vec<u64>,
}

impl Slider {
    pub fn new(person: Person, dice: &mut SeededDice) -> Slider {
        Slider {
            person,
            way: dice.below(3),
            state: STATES[dice.below(STATES.len() as u64) as usize],
            fickle: dice.below(2) == 0,
            pos: None,
            messages: None,
            rooms: BTreeMap::new(),
            told: Vec::new(),
        }
    }

    fn is_lazy(&self) -> bool {
        self.state.contains("LAZY")
    }

    pub fn server<'a>(&self, house: &'a House) -> &'a Sync {
        match self.way {
            0 => &house.sync,
            1 => &house.by_log,
            _ => &house.by_positions,
        }
    }

    /// The next request: of anything, while there is more to come.
    pub fn request(&self, dice: &mut SeededDice, on_the_way: bool) -> SlidingRequest {
        let fickle = self.fickle && on_the_way;
        let mut pick = |n: u64| if fickle { dice.below(n) } else { 0 };
        let limit = [8, 1, 3, 0][pick(4) as usize];
        let last = [99, 0, 1, 2][pick(4) as usize];
        let state: Value = serde_json::from_str(match pick(4) {
            0 | 1 => self.state,
            2 => "[]",
            _ => r#"[["x.state", "0"], ["m.room.member", "$ME"]]"#,
        })
        .unwrap();
        let filters = [
            json!({}),
            json!({"tags": ["u.a"]}),
            json!({"not_tags": ["u.a"]}),
        ];
        let filters = filters[pick(3) as usize].clone();
        let mut rooms = BTreeMap::new();
        for room in self.rooms.keys() {
            if pick(4) == 1 {
                let detail = json!({"timeline_limit": limit, "required_state": []});
                rooms.insert(room.clone(), detail);
            }
        }
        let on = pick(4) != 1;
        let ask = json!({
            "lists": {"all": {"ranges": [[0, last]], "timeline_limit": limit,
                "required_state": state, "filters": filters}},
            "room_subscriptions": rooms,
            "extensions": {
                "to_device": {"enabled": true, "since": self.messages},
                "receipts": {"enabled": on},
                "account_data": {"enabled": on},
            },
        });
        let ask: SlidingAsk = serde_json::from_value(ask).unwrap();
        ask.check().unwrap();
        SlidingRequest {
            user: self.person.user,
            user_id: self.person.id.clone(),
            device: self.person.device.clone(),
            pos: self.pos.clone(),
            ask,
        }
    }

    pub fn apply(&mut self, answer: SlidingAnswer) {
        self.pos = Some(answer.pos);
        for room in &answer.rooms {
            self.check_left(room);
            self.rooms
                .entry(room.room_id.to_string())
                .or_default()
                .apply(room);
        }
        self.apply_rest(&answer.extensions);
    }

    fn apply_rest(&mut self, extensions: &Extensions) {
        let messages = extensions.to_device.as_ref().unwrap();
        self.messages = Some(messages.next_batch.clone());
        for message in &messages.events {
            let message: Value = serde_json::from_str(message).unwrap();
            self.told.push(message["content"]["n"].as_u64().unwrap());
        }
        for (room, event) in extensions.receipts.iter().flatten() {
            let known = self.rooms.get_mut(&**room).unwrap();
            note_receipts(&serde_json::from_slice(event).unwrap(), &mut known.receipts);
        }
        let data = extensions.account_data.as_ref().map(|data| &data.rooms);
        for (room, events) in data.into_iter().flatten() {
            let known = self.rooms.get_mut(&**room).unwrap();
            for event in events {
                note_data(&event.kind, &event.content, &mut known.data);
            }
        }
    }

    /// Nothing comes after the event that ended it.
    fn check_left(&self, room: &SlidingRoom) {
        let Some(timeline) = &room.timeline else {
            return;
        };
        if room.membership == Membership::Join {
            return;
        }
        let own = |event: &Value| {
            event["type"] == "m.room.member" && event["state_key"] == *self.person.id
        };
        if let Some(last) = events(&timeline.events).last() {
            assert!(own(last), "{last}");
        }
    }

    /// It knows what is true of the rooms it is in.
    pub fn check(&self, world: &World, sent: &[u64]) {
        let snap = world.house.store.snapshot();
        let (mut joined, mut invited) = (BTreeSet::new(), BTreeSet::new());
        let rooms = &world.house.rooms;
        for (room, member) in rooms.rooms_of(&snap, self.person.user).unwrap() {
            let id = world.house.store.room_id(room).unwrap().to_string();
            match member.membership {
                Membership::Join => {
                    let mut view = rooms.view(&snap, &self.person.viewer(), room).unwrap();
                    self.check_room(world, &self.rooms[&id], &mut view);
                    joined.insert(id);
                }
                Membership::Invite => drop(invited.insert(id)),
                _ => {}
            }
        }
        let those = |what: Membership| -> BTreeSet<String> {
            let rooms = self.rooms.iter();
            let those = rooms.filter(|(_, known)| known.membership == Some(what));
            those.map(|(id, _)| id.clone()).collect()
        };
        assert_eq!(
            those(Membership::Join),
            joined,
            "rooms of {}",
            self.person.id
        );
        assert_eq!(
            those(Membership::Invite),
            invited,
            "invites of {}",
            self.person.id
        );
        assert_eq!(&self.told, sent, "messages to {}", self.person.id);
    }

    fn check_room(&self, world: &World, known: &Known, view: &mut View) {
        let snap = world.house.store.snapshot();
        let truth = world.state_of(view.room());
        self.check_state(world, known, &truth);
        self.check_timeline(known, view);
        self.check_receipts(known, view);
        assert_eq!(known.data, world.data(&self.person, view.room()));
        let head = world.house.rooms.head(&snap, view.room()).unwrap().unwrap();
        assert_eq!(known.members, u64::from(head.joined));
        assert_eq!(known.unread, view.unread().unwrap().total().notify);
        let name = ("m.room.name".to_owned(), String::new());
        assert_eq!(known.name.is_some(), truth.contains_key(&name));
    }

    fn check_state(
        &self,
        world: &World,
        known: &Known,
        truth: &BTreeMap<(String, String), String>,
    ) {
        let wanted = |(kind, _): &(String, String)| match self.state {
            all if all.contains(r#""*", "*""#) => true,
            _ if kind == "m.room.member" => !self.is_lazy(),
            named => named.contains(kind.as_str()),
        };
        for (key, id) in truth.iter().filter(|(key, _)| wanted(key)) {
            assert_eq!(
                known.state.get(key),
                Some(id),
                "{key:?} of {}",
                self.person.id
            );
        }
        if self.is_lazy() {
            let members = known
                .state
                .iter()
                .filter(|(key, _)| key.0 == "m.room.member");
            for (key, id) in members {
                world.holds_or_gone(truth, key, id, &self.person.id);
            }
            // What came while it did not want members came without them.
            for event in known.timeline.iter().filter(|_| !self.fickle) {
                let key = ("m.room.member".to_owned(), text(&event["sender"]));
                assert!(
                    known.state.contains_key(&key),
                    "{key:?} of {}",
                    self.person.id
                );
            }
        }
    }

    /// The timeline is the end of the room's, without a hole.
    fn check_timeline(&self, known: &Known, view: &mut View) {
        let all = view.recent(Cut::START, Cut::END, 1_000, None).unwrap();
        let all = all.events.iter().map(|e| e.event.event_id().to_owned());
        let mut all: Vec<String> = all.collect();
        let shown: Vec<String> = known.timeline.iter().map(id).collect();
        assert!(
            shown.len() >= all.len().min(8),
            "timeline for {}",
            self.person.id
        );
        let all = all.split_off(all.len().saturating_sub(shown.len()));
        assert_eq!(shown, all, "timeline for {}", self.person.id);
    }

    /// It knows its own receipts and those at events it shows, and nothing wrong.
    fn check_receipts(&self, known: &Known, view: &View) {
        let mut receipts = BTreeMap::new();
        for event in view.receipt_events(None).unwrap() {
            note_receipts(&serde_json::from_slice(&event).unwrap(), &mut receipts);
        }
        for (key, event) in &known.receipts {
            assert_eq!(receipts.get(key), Some(event), "{key:?}");
        }
        for (key, event) in &receipts {
            let shown = known.timeline.iter().any(|shown| id(shown) == *event);
            if shown || key.0 == *self.person.id {
                assert_eq!(known.receipts.get(key), Some(event), "{key:?}");
            }
        }
    }
}

impl Known {
    fn apply(&mut self, room: &SlidingRoom) {
        if room.initial {
            let data = std::mem::take(&mut self.data);
            *self = Known {
                data,
                ..Known::default()
            };
        }
        self.membership = Some(room.membership);
        for event in events(&room.required_state) {
            let key = (text(&event["type"]), text(&event["state_key"]));
            self.state.insert(key, id(&event));
        }
        if let Some(timeline) = &room.timeline {
            self.extend(timeline);
        }
        if room.heroes.is_some() {
            self.name = None;
        }
        self.name = room.name.clone().or(self.name.take());
        self.unread = room.unread.notify;
        self.members = room.joined.unwrap_or(self.members);
    }

    fn extend(&mut self, timeline: &SlidingTimeline) {
        let new = events(&timeline.events);
        let first = new.first().map(id);
        let at = self
            .timeline
            .iter()
            .position(|event| Some(id(event)) == first);
        if timeline.limited || timeline.expanded {
            match at {
                Some(at) if timeline.expanded => self.timeline.truncate(at),
                _ => self.timeline.clear(),
            }
        }
        self.timeline.extend(new);
    }
}
