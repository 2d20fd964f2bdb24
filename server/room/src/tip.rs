//! The newest end of a room while it is being written: what the next event builds on.
//!
//! A tip is taken inside the room's lane, from memory where the last writer left it there, and
//! put back once its write is applied. A refused or failed change drops its copy, so what lies in
//! memory is always true at the newest applied commit.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use skerry_core::event::RuledEvent;
use skerry_core::policy::PolicyServer;
use skerry_core::power::{CreateFacts, PowerLevels};
use skerry_core::{
    EventNid, Membership, Pos, RoomNid, RoomVersion, ServerNid, StateId, StateMap, StoredEvent,
    UserNid,
};
use skerry_store::schema::federation::{Awaits, HoleRow};
use skerry_store::schema::room as t;
use skerry_store::schema::room::{EventMeta, MemberOf, RoomHead, StateDelta};
use skerry_store::{Applied, Snapshot, StoreError, Table};

use crate::appservice::Interest;
use crate::state_version::Version;
use crate::{RoomError, Rooms};

/// States after several events that were resolved before, kept with a tip.
const MERGES_MAX: usize = 8;

/// A room as the next event finds it.
#[derive(Clone)]
pub(crate) struct Tip {
    pub(crate) room: RoomNid,
    pub(crate) room_id: Arc<str>,
    pub(crate) version: RoomVersion,
    pub(crate) head: RoomHead,
    /// The events behind `head.extremities`, in the same order.
    pub(crate) ends: Vec<Arc<StoredEvent>>,
    /// The current state, and its place in the line of deltas.
    pub(crate) state: StateMap,
    pub(crate) seq: u64,
    /// What the create event says; known once it was asked for.
    pub(crate) create: Option<Arc<CreateFacts>>,
    /// What the power levels say; known once it was asked for, until they change.
    pub(crate) power: Option<Arc<PowerLevels>>,
    /// The policy server that its state names; known once it was asked for, until that changes.
    pub(crate) policy: Option<Option<Arc<PolicyServer>>>,
    /// Which application services it concerns; known once it was asked for, where there are any.
    pub(crate) interest: Option<Arc<Interest>>,
    /// States that were resolved lately, by the sorted numbers of what they were made from.
    pub(crate) merges: Vec<(Vec<StateId>, Version)>,
    /// What this write made and no snapshot holds yet.
    pub(crate) fresh: Fresh,
}

/// Rows that a write not yet applied contains.
#[derive(Clone, Default)]
pub(crate) struct Fresh {
    pub(crate) events: HashMap<EventNid, Arc<StoredEvent>>,
    pub(crate) ids: HashMap<String, EventNid>,
    pub(crate) metas: HashMap<EventNid, EventMeta>,
    pub(crate) ruled: HashMap<EventNid, RuledEvent>,
    pub(crate) deltas: HashMap<StateId, StateDelta>,
    pub(crate) states: HashMap<StateId, StateMap>,
    pub(crate) members: HashMap<UserNid, MemberOf>,
    pub(crate) servers: HashMap<ServerNid, u32>,
    /// Servers whose last member was taken away.
    pub(crate) emptied: Vec<ServerNid>,
    /// Events that were redacted.
    pub(crate) redacted: HashSet<EventNid>,
    pub(crate) holes: HashMap<EventNid, HoleRow>,
    pub(crate) waiting: HashMap<String, Vec<(Awaits, EventNid)>>,
    /// Its events may be of other servers: others may have referred to them before.
    pub(crate) received: bool,
    /// Redactions were left for later.
    pub(crate) redactions_left: bool,
    /// The alias that the room is given.
    pub(crate) alias: Option<String>,
}

impl Tip {
    /// A room that has no event yet.
    pub(crate) fn new(room: RoomNid, room_id: Arc<str>, version: RoomVersion) -> Tip {
        let head = RoomHead {
            // Never read: the create event is a state event and sets it.
            state: StateId(0),
            extremities: Vec::new(),
            depth: 0,
            last: Pos::ZERO,
            state_pos: Pos::ZERO,
            joined: 0,
            invited: 0,
            remote: 0,
            bump: Pos::ZERO,
        };
        Tip {
            room,
            room_id,
            version,
            head,
            ends: Vec::new(),
            state: StateMap::new(),
            seq: 0,
            create: None,
            power: None,
            policy: None,
            interest: None,
            merges: Vec::new(),
            fresh: Fresh::default(),
        }
    }

    /// The current state, with its number.
    pub(crate) fn now(&self) -> Version {
        Version {
            id: self.head.state,
            seq: self.seq,
            map: self.state.clone(),
        }
    }

    /// Makes another state the current one.
    pub(crate) fn set_now(&mut self, now: Version) {
        self.head.state = now.id;
        self.seq = now.seq;
        self.state = now.map;
    }

    /// Keeps what states were resolved to.
    pub(crate) fn hold_merge(&mut self, of: Vec<StateId>, version: Version) {
        if self.merges.len() >= MERGES_MAX {
            self.merges.remove(0);
        }
        self.merges.push((of, version));
    }
}

impl Rooms {
    /// The tip of a room at the newest commit. Only inside the room's lane.
    pub(crate) fn tip(&self, snap: &Snapshot, room: RoomNid) -> Result<Option<Tip>, StoreError> {
        if let Some(tip) = self.inner.tips.get(room) {
            return Ok(Some(Tip::clone(&tip)));
        }
        let (Some(facts), Some(head)) = (self.facts(snap, room)?, self.head(snap, room)?) else {
            return Ok(None);
        };
        let mut ends = Vec::with_capacity(head.extremities.len());
        for nid in &head.extremities {
            let held = self
                .event(snap, *nid)?
                .ok_or_else(|| StoreError::missing(<t::Event as Table>::NAME, nid))?;
            ends.push(Arc::new(held.event));
        }
        let delta = snap
            .get::<t::State>(&head.state)?
            .ok_or_else(|| StoreError::missing(<t::State as Table>::NAME, head.state))?;
        Ok(Some(Tip {
            room,
            room_id: self.store().room_id(room)?,
            version: facts.version,
            ends,
            state: self.state_map(snap, head.state)?,
            seq: delta.seq,
            create: None,
            power: None,
            policy: None,
            interest: None,
            merges: Vec::new(),
            head,
            fresh: Fresh::default(),
        }))
    }

    /// Notes in memory what a write of this tip made of the room, now that it is applied. Still
    /// inside the room's lane.
    pub(crate) fn settle(&self, mut tip: Tip, applied: &Applied) {
        tip.head.last = applied.pos(tip.head.last);
        tip.head.state_pos = applied.pos(tip.head.state_pos);
        tip.head.bump = applied.pos(tip.head.bump);
        let fresh = std::mem::take(&mut tip.fresh);
        for (id, map) in &fresh.states {
            self.hold_state(*id, map);
        }
        for (nid, event) in &fresh.ruled {
            self.hold_auth_event(*nid, event);
        }
        if fresh.redactions_left {
            self.inner.redactions.ring();
        }
        self.inner.last.set(tip.room, tip.head.last);
        self.hold_interest(&tip);
        let ends: usize = tip.ends.iter().map(|event| event.memory_bytes()).sum();
        // The map itself is shared with the cache of states, and mostly with its neighbours.
        let bytes = 512 + ends + tip.state.memory_bytes() / 4;
        self.inner.tips.put(tip.room, Arc::new(tip), bytes);
    }

    /// The same for a write that added no event to the room, but redacted some.
    pub(crate) fn settle_redacted(&self, tip: &Tip) {
        for (nid, event) in &tip.fresh.ruled {
            self.hold_auth_event(*nid, event);
        }
        if !tip.fresh.ruled.is_empty() {
            // What it knows of power levels may come from their unredacted form.
            self.inner.tips.remove(tip.room);
        }
    }

    /// An event that the tip's state points to, to authorise another by.
    pub(crate) fn ruled(
        &self,
        snap: &Snapshot,
        tip: &Tip,
        nid: EventNid,
    ) -> Result<RuledEvent, StoreError> {
        self.ruled_event(snap, &tip.fresh, nid)
    }

    /// The state event under a type and key at the tip.
    pub(crate) fn tip_state(
        &self,
        snap: &Snapshot,
        tip: &Tip,
        kind: &str,
        key: &str,
    ) -> Result<Option<RuledEvent>, StoreError> {
        match self.in_state(&tip.state, kind, key)? {
            Some(nid) => self.ruled(snap, tip, nid).map(Some),
            None => Ok(None),
        }
    }

    /// What the create event of the tip's room says.
    pub(crate) fn create_facts(
        &self,
        snap: &Snapshot,
        tip: &mut Tip,
    ) -> Result<Arc<CreateFacts>, RoomError> {
        if let Some(facts) = &tip.create {
            return Ok(facts.clone());
        }
        let event = self.tip_state(snap, tip, "m.room.create", "")?;
        let facts = event.and_then(|event| CreateFacts::of(event.event()));
        let facts = Arc::new(facts.ok_or_else(|| RoomError::NotFound("unknown room".into()))?);
        tip.create = Some(facts.clone());
        Ok(facts)
    }

    /// The power levels at the tip.
    pub(crate) fn power(
        &self,
        snap: &Snapshot,
        tip: &mut Tip,
    ) -> Result<Arc<PowerLevels>, RoomError> {
        if let Some(power) = &tip.power {
            return Ok(power.clone());
        }
        let create = self.create_facts(snap, tip)?;
        let event = self.tip_state(snap, tip, "m.room.power_levels", "")?;
        let power = PowerLevels::of(&create, event.as_ref().map(|event| &**event.event()))
            .map_err(|error| RoomError::Forbidden(error.to_string()))?;
        let power = Arc::new(power);
        tip.power = Some(power.clone());
        Ok(power)
    }

    /// A user's membership at the tip.
    pub(crate) fn tip_membership(
        &self,
        snap: &Snapshot,
        tip: &Tip,
        user_id: &str,
    ) -> Result<Option<Membership>, StoreError> {
        let event = self.tip_state(snap, tip, "m.room.member", user_id)?;
        Ok(event.and_then(|event| event.event().membership()))
    }

    /// A user's number, given one if it has none.
    pub(crate) fn user(&self, user_id: &str) -> Result<UserNid, StoreError> {
        self.store().intern_user(user_id)
    }
}
