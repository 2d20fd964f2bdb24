//! Somebody of another server, whose events come after older ones: the rooms they are in fork, and
//! their state changes without an event that says so.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use skerry_core::auth::auth_types;
use skerry_core::build::{Draft, EventRef, Place, Signer, build};
use skerry_core::canonical::Object;
use skerry_core::fixtures::{SeededDice, signing_key};
use skerry_core::{EventNid, Membership, StoredEvent};
use skerry_room::{Arrival, Verdict};
use skerry_store::Scan;
use skerry_store::schema::room as t;

use crate::house::House;

pub const REX: &str = "@rex:elsewhere.org";
const SERVER: &str = "elsewhere.org";

/// What rex says: type, state key, content.
pub type Said<'a> = (&'a str, Option<&'a str>, Value);

impl House {
    /// Rex says something after the event that stands so many places before the newest; or comes
    /// into the room, if he was not in it there.
    pub async fn rex(
        &self,
        room: &str,
        said: Said<'_>,
        back: usize,
        dice: &mut SeededDice,
    ) -> Verdict {
        let snap = self.store.snapshot();
        let nid = self.store.room_nid(room).unwrap().unwrap();
        let rows = snap.scan::<t::Timeline>(Scan::prefix(&nid).rev().limit(back + 1));
        let rows: Vec<EventNid> = rows.map(|row| row.unwrap().1).collect();
        let prev = *rows.last().unwrap();
        let meta = self.rooms.meta(&snap, prev).unwrap().unwrap();
        let map = self.rooms.state_map(&snap, meta.after).unwrap();
        let held = |nid| self.rooms.event(&snap, nid).unwrap().unwrap().event;
        let state: BTreeMap<(String, String), StoredEvent> = map
            .iter()
            .map(|(_, nid)| {
                let event = held(nid);
                let key = event.state_key().unwrap().to_owned();
                ((event.event_type().to_owned(), key), event)
            })
            .collect();
        let own = state.get(&("m.room.member".to_owned(), REX.to_owned()));
        let joined = own.and_then(StoredEvent::membership) == Some(Membership::Join);
        let (kind, key, content) = match joined {
            true => said,
            false => ("m.room.member", Some(REX), json!({"membership": "join"})),
        };
        let prev = held(prev);
        let version = prev.version();
        let content = content.to_string().into_bytes();
        let content = Object::parse(&content, version.json_mode()).unwrap();
        let types = auth_types(version, kind, REX, key, &content).into_iter();
        let allow = types.filter_map(|(kind, key)| state.get(&(kind.to_owned(), key)));
        let auth: Vec<_> = allow.map(EventRef::of).collect();
        let draft = Draft {
            room_id: Some(room.to_owned()),
            sender: REX.to_owned(),
            event_type: kind.to_owned(),
            state_key: key.map(str::to_owned),
            content,
            redacts: None,
            sticky_ms: None,
        };
        let place = Place {
            version,
            prev: &[EventRef::of(&prev)],
            auth: &auth,
            origin_server_ts: prev.origin_server_ts() + dice.below(5_000),
        };
        let signer = Signer {
            server: SERVER,
            key: &signing_key(SERVER),
        };
        let event = Arc::new(build(draft, place, signer, dice).unwrap());
        let taken = self.rooms.receive(room, event, Arrival::default());
        taken.await.unwrap()
    }
}
