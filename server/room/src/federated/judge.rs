//! The questions that are asked of every event of another server before it counts.

use std::cell::RefCell;
use std::collections::HashSet;

use skerry_core::auth::{self, AuthState, Refusal};
use skerry_core::canonical::Object;
use skerry_core::event::RuledEvent;
use skerry_core::{EventNid, StateMap, StoredEvent};
use skerry_store::schema::room::EventMeta;
use skerry_store::{Snapshot, StoreError};

use super::Missing;
use crate::Rooms;
use crate::tip::{Fresh, Tip};

/// How far up the graph of auth events it is looked for what is missing.
const LOOK_MAX: usize = 2_000;
/// Most ids that are named as missing at once.
pub(super) const MISSING_MAX: usize = 1_000;

/// The events that an event names as what allows it.
pub(super) struct Allowing(Vec<(EventNid, RuledEvent)>);

/// Why the rules refuse; the store may fail instead.
pub(super) type Ruling = Result<Result<(), Refusal>, StoreError>;

impl Rooms {
    /// The events that allow an event, as far as it names them. What is not here, or rests on
    /// something that is not, is added to `missing`.
    pub(super) fn allowing(
        &self,
        snap: &Snapshot,
        fresh: &Fresh,
        event: &StoredEvent,
        missing: &mut Missing,
    ) -> Result<Allowing, StoreError> {
        let mut found = Vec::new();
        for id in allowing_ids(event) {
            let Some(nid) = self.number_of(snap, fresh, &id)? else {
                missing.auth.push(id);
                continue;
            };
            let meta = self.meta_held(snap, fresh, nid)?;
            if meta.flags & EventMeta::UNJUDGED != 0 {
                self.missing_above(snap, fresh, nid, missing)?;
                continue;
            }
            found.push((nid, self.ruled_event(snap, fresh, nid)?));
        }
        Ok(Allowing(found))
    }

    /// What an outlier that could not be judged waits for.
    pub(super) fn missing_above(
        &self,
        snap: &Snapshot,
        fresh: &Fresh,
        nid: EventNid,
        missing: &mut Missing,
    ) -> Result<(), StoreError> {
        let (mut todo, mut seen) = (vec![nid], HashSet::from([nid]));
        while let Some(nid) = todo.pop() {
            let Some(held) = self.event(snap, nid)? else {
                continue;
            };
            for id in allowing_ids(&held.event) {
                if missing.auth.len() >= MISSING_MAX || seen.len() >= LOOK_MAX {
                    return Ok(());
                }
                match self.number_of(snap, fresh, &id)? {
                    None if !missing.auth.contains(&id) => missing.auth.push(id),
                    Some(above) if seen.insert(above) => {
                        let meta = self.meta_held(snap, fresh, above)?;
                        if meta.flags & EventMeta::UNJUDGED != 0 {
                            todo.push(above);
                        }
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Whether an event names exactly those of its room's current state that it has to name, so
    /// that what they allow is what the current state allows.
    pub(super) fn names_what_holds(
        &self,
        event: &RuledEvent,
        named: &Allowing,
        tip: &Tip,
    ) -> Result<bool, StoreError> {
        let stored = event.event();
        if auth::is_special(stored.event_type(), tip.version) {
            return Ok(false);
        }
        let (kind, sender) = (stored.event_type(), stored.sender());
        let mut wanted = 0;
        for (kind, key) in auth::auth_types(tip.version, kind, sender, None, &Object::new()) {
            let Some(nid) = self.in_state(&tip.state, kind, &key)? else {
                continue;
            };
            wanted += 1;
            if !named.0.iter().any(|(other, _)| *other == nid) {
                return Ok(false);
            }
        }
        let create = usize::from(tip.version.room_id_is_create_event_id());
        Ok(named.0.len() == wanted + create)
    }

    /// Whether an event is allowed by the events it names for that. `as_now`: these are known to
    /// allow what the current state allows, which is asked too.
    pub(super) fn check_named(
        &self,
        event: &RuledEvent,
        named: &Allowing,
        as_now: bool,
    ) -> Result<(), Refusal> {
        let by_id = |id: &str| {
            let mut all = named.0.iter();
            all.find(|(_, other)| other.event().event_id() == id)
                .map(|(_, other)| other.clone())
        };
        auth::check_auth_events_ruled(event, by_id)?;
        if as_now {
            return Ok(());
        }
        let by_key = |kind: &str, key: &str| {
            let mut all = named.0.iter();
            all.find(|(_, other)| other.event().is(kind, key))
                .map(|(_, other)| other.clone())
        };
        auth::check_ruled(event, by_key)
    }

    /// Whether an event is allowed by a state of its room. Only inside the room's lane.
    pub(super) fn check_by_state(
        &self,
        snap: &Snapshot,
        fresh: &Fresh,
        event: &RuledEvent,
        state: &StateMap,
    ) -> Ruling {
        let failed = RefCell::new(None);
        let lookup = |kind: &str, key: &str| {
            let found = self.in_state(state, kind, key).and_then(|nid| {
                let event = nid.map(|nid| self.ruled_event(snap, fresh, nid));
                event.transpose()
            });
            found.unwrap_or_else(|error| {
                failed.borrow_mut().get_or_insert(error);
                None
            })
        };
        let verdict = auth::check_ruled(event, lookup);
        match failed.into_inner() {
            Some(error) => Err(error),
            None => Ok(verdict),
        }
    }

    /// The same by the room's current state, of which the tip knows the important parts.
    pub(super) fn check_by_tip(
        &self,
        snap: &Snapshot,
        tip: &mut Tip,
        event: &RuledEvent,
    ) -> Ruling {
        let stored = event.event();
        if !auth::is_special(stored.event_type(), tip.version) {
            let known = (self.create_facts(snap, tip), self.power(snap, tip));
            if let (Ok(create), Ok(power)) = known {
                let state = AuthState {
                    create: &create,
                    power: &power,
                    sender: self.tip_membership(snap, tip, stored.sender())?,
                };
                if let Some(verdict) = auth::check_ordinary(stored, state) {
                    return Ok(verdict);
                }
            }
        }
        self.check_by_state(snap, &tip.fresh, event, &tip.state)
    }
}

/// The ids of the events that allow an event: those it names, and from version 12 on the create
/// event, which its room is named after.
pub(super) fn allowing_ids(event: &StoredEvent) -> Vec<String> {
    let mut ids = event.auth_events();
    if event.version().room_id_is_create_event_id() && !event.is_create() {
        let create = create_id(event.room_id());
        if !ids.contains(&create) {
            ids.push(create);
        }
    }
    ids
}

/// The id of the create event of a room of version 12.
fn create_id(room_id: &str) -> String {
    format!("${}", room_id.strip_prefix('!').unwrap_or(room_id))
}
