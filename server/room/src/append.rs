//! A new event takes its place: the list of everything that it touches.
//!
//! [`Rooms::append`] is called inside the room's lane with an event that has passed the rules,
//! and puts it behind all others; [`Rooms::place`] does the same where other servers have put it
//! elsewhere in the room's graph. Both only add to a write; [`Rooms::finish`] closes the write of
//! a room, and the commit makes all of it true at once.

mod members;
mod refer;

pub(crate) use refer::{await_event, is_event_id};

use std::sync::Arc;

use skerry_core::event::{MAX_PREV_EVENTS, RuledEvent};
use skerry_core::policy::POLICY;
use skerry_core::{EventNid, Order, Pos, StateDelta, StateId, StateKeyNid, StoredEvent};
use skerry_store::Change;
use skerry_store::schema::federation::{
    AuthOf, Awaits, HoleRow, Holes, Outliers, StateAt, Unjudged,
};
use skerry_store::schema::room as t;
use skerry_store::schema::room::{EventMeta, EventRow, SentBy};
use skerry_store::{Snapshot, StoreError, Table, Write};

use crate::state_version::Version;
use crate::tip::Tip;
use crate::{RoomError, Rooms};

/// Types of events that move a room to the top of a list (MSC4186).
const BUMPS: [&str; 8] = [
    "m.room.create",
    "m.room.message",
    "m.room.encrypted",
    "m.sticker",
    "m.call.invite",
    "m.poll.start",
    "org.matrix.msc3381.poll.start",
    "m.beacon_info",
];

/// Where an event stands in the graph of its room.
pub(crate) struct Placing {
    /// The state before it.
    pub(crate) before: Version,
    /// The forward extremities that it comes after.
    pub(crate) behind: Vec<EventNid>,
    /// Its previous events that are not here.
    pub(crate) missing: Vec<String>,
    /// Something that comes after it is here already: it is no forward extremity.
    pub(crate) covered: bool,
    /// Other servers are to get it although it is not of a user of this one.
    pub(crate) send_on: bool,
    /// The client call that made it.
    pub(crate) sent: Option<SentBy>,
}

/// An event that takes its place now.
#[derive(Clone, Copy)]
struct Newcomer<'a> {
    nid: EventNid,
    pos: Pos,
    event: &'a Arc<StoredEvent>,
    /// Its place in the state, if it is state.
    key: Option<StateKeyNid>,
}

/// What an event did to the state.
struct StateChange {
    /// The state after it, by its own past.
    after: Version,
    /// What became of the room's current state.
    now: StateDelta,
}

impl Rooms {
    /// Adds everything to the write that a new event behind all others of its room touches; gives
    /// its number.
    pub(crate) fn append(
        &self,
        w: &mut Write,
        snap: &Snapshot,
        tip: &mut Tip,
        event: Arc<StoredEvent>,
        sent: Option<SentBy>,
    ) -> Result<EventNid, RoomError> {
        let mut behind = tip.head.extremities.clone();
        let mut before = tip.now();
        if behind.len() > MAX_PREV_EVENTS {
            // It names the newest only (`compose.rs`).
            behind.drain(..behind.len() - MAX_PREV_EVENTS);
            before = self.state_after_all(w, snap, tip, &behind)?;
        }
        let placing = Placing {
            before,
            behind,
            missing: Vec::new(),
            covered: false,
            send_on: false,
            sent,
        };
        self.place(w, snap, tip, event, placing)
    }

    /// The same for an event anywhere in the graph of its room.
    pub(crate) fn place(
        &self,
        w: &mut Write,
        snap: &Snapshot,
        tip: &mut Tip,
        event: Arc<StoredEvent>,
        placing: Placing,
    ) -> Result<EventNid, RoomError> {
        self.begin_interest(snap, tip)?;
        let sender = self.user(event.sender())?;
        let nid = self.number(w, snap, tip, &event)?;
        // State resolution asks for it by its id.
        tip.fresh.ids.insert(event.event_id().to_owned(), nid);
        let pos = w.log(Change::Timeline {
            room: tip.room,
            event: nid,
            sender,
        });
        let order = Order::live(pos);
        let new = Newcomer {
            nid,
            pos,
            event: &event,
            key: self.key_of(&event)?,
        };
        let remote = tip.head.remote;
        let change = self.change_state(w, snap, tip, new, &placing)?;
        self.change_members(w, snap, tip, new, &change.now)?;
        for (key, by) in &change.now.set {
            let sender = match *by == nid {
                true => sender,
                false => self.user(self.ruled(snap, tip, *by)?.event().sender())?,
            };
            self.cancel_delayed_for(w, snap, (tip.room, *key), sender)?;
        }
        let after = change.after.id;
        let (mut flags, replaces) = (0, new.key.and_then(|key| placing.before.map.get(key)));
        if !placing.missing.is_empty() {
            flags |= EventMeta::AFTER_HOLE;
            self.dig(w, tip, (nid, order), placing.missing);
        }
        let meta = EventMeta {
            room: tip.room,
            order,
            depth: event.depth(),
            sender,
            // Before the create event there is no state, and so no number for it.
            before: match placing.before.id {
                StateId(0) => after,
                before => before,
            },
            after,
            state_key: new.key,
            replaces,
            flags,
        };
        w.put::<t::Meta>(&nid, &meta);
        w.put::<t::Timeline>(&(tip.room, order), &nid);
        if tip.head.state != after {
            w.put::<StateAt>(&(tip.room, pos), &tip.head.state);
        }
        tip.fresh.metas.insert(nid, meta);
        tip.fresh.events.insert(nid, event.clone());
        self.refer(w, snap, tip, (nid, pos), &event)?;
        self.stick(w, tip.room, (nid, pos), &event);
        self.store_event(w, tip, (nid, &event), placing.sent);
        self.tell_appservices(w, snap, tip, &event)?;
        tip.head.depth = tip.head.depth.max(event.depth());
        tip.head.last = pos;
        if BUMPS.contains(&event.event_type()) {
            tip.head.bump = pos;
        }
        self.tell_servers(w, snap, tip, new, (remote, placing.send_on))?;
        Ok(nid)
    }

    /// Closes the write of a room: the row that says where it now ends.
    pub(crate) fn finish(&self, w: &mut Write, tip: &Tip) {
        w.put::<t::Head>(&tip.room, &tip.head);
    }

    /// The number of an event that takes its place: a new one, or that which it had as an
    /// outlier.
    pub(crate) fn number(
        &self,
        w: &mut Write,
        snap: &Snapshot,
        tip: &Tip,
        event: &StoredEvent,
    ) -> Result<EventNid, StoreError> {
        let id = event.event_id();
        // What was made here has a name that nobody had before.
        if self.is_local(event.sender()) && !tip.fresh.received {
            return Ok(w.new_event(id));
        }
        match self.number_of(snap, &tip.fresh, id)? {
            Some(nid) => {
                w.delete::<Outliers>(&(tip.room, nid));
                w.delete::<Unjudged>(&(tip.room, nid));
                Ok(nid)
            }
            None => Ok(w.new_event(id)),
        }
    }

    /// An event's place in the state, if it is state.
    pub(crate) fn key_of(&self, event: &StoredEvent) -> Result<Option<StateKeyNid>, StoreError> {
        let key = event.state_key();
        key.map(|key| self.store().intern_state_key(event.event_type(), key))
            .transpose()
    }

    /// The event's own row; in its redacted form where it was redacted as it came.
    pub(crate) fn store_event(
        &self,
        w: &mut Write,
        tip: &Tip,
        (nid, event): (EventNid, &Arc<StoredEvent>),
        sent: Option<SentBy>,
    ) {
        if tip.fresh.redacted.contains(&nid) {
            return;
        }
        let row = EventRow {
            redacted_by: None,
            sent,
            event: event.encode(),
        };
        w.put::<t::Event>(&nid, &row);
    }

    /// Notes which events allow a state event.
    pub(crate) fn note_auth(
        &self,
        w: &mut Write,
        snap: &Snapshot,
        tip: &Tip,
        (nid, event): (EventNid, &StoredEvent),
    ) -> Result<(), StoreError> {
        let mut auth = Vec::new();
        for id in event.auth_events() {
            auth.extend(self.number_of(snap, &tip.fresh, &id)?);
        }
        w.put::<AuthOf>(&nid, &auth);
        Ok(())
    }

    /// The state after an event, and what the room's current state becomes with it.
    fn change_state(
        &self,
        w: &mut Write,
        snap: &Snapshot,
        tip: &mut Tip,
        new: Newcomer<'_>,
        placing: &Placing,
    ) -> Result<StateChange, StoreError> {
        let mut after = placing.before.clone();
        if let Some(key) = new.key {
            self.note_auth(w, snap, tip, (new.nid, new.event))?;
            let ruled = RuledEvent::new(new.event.clone(), false);
            tip.fresh.ruled.insert(new.nid, ruled);
            let set = StateDelta {
                set: vec![(key, new.nid)],
                removed: Vec::new(),
            };
            after = self.next_version(w, snap, &mut tip.fresh, &placing.before, set)?;
        }
        let follows = placing.before.id == tip.head.state;
        self.move_ends(tip, new, placing);
        let now = self.state_at_ends(w, snap, tip, (new.nid, &after))?;
        let delta = if follows && now.id == after.id {
            let set = new.key.map(|key| (key, new.nid)).into_iter().collect();
            StateDelta {
                set,
                removed: Vec::new(),
            }
        } else {
            tip.state.diff(&now.map)
        };
        for (key, event) in &delta.set {
            w.put::<t::StateNow>(&(tip.room, *key), event);
        }
        for key in &delta.removed {
            w.delete::<t::StateNow>(&(tip.room, *key));
        }
        if !delta.is_empty() {
            let own = delta.len() == 1 && delta.set.iter().all(|(_, by)| *by == new.nid);
            let kind = new.event.event_type();
            // What they say may be another thing now.
            if !own || kind == "m.room.create" {
                tip.create = None;
            }
            if !own || kind == "m.room.power_levels" {
                tip.power = None;
            }
            if !own || kind == POLICY {
                tip.policy = None;
            }
            tip.head.state_pos = new.pos;
        }
        tip.set_now(now);
        Ok(StateChange { after, now: delta })
    }

    /// The event takes the place of the forward extremities that it comes after.
    fn move_ends(&self, tip: &mut Tip, new: Newcomer<'_>, placing: &Placing) {
        let kept = |nid: &EventNid| !placing.behind.contains(nid);
        if tip.head.extremities.iter().any(kept) {
            let ends = tip.ends.drain(..).zip(tip.head.extremities.iter());
            tip.ends = ends
                .filter(|(_, nid)| kept(nid))
                .map(|(end, _)| end)
                .collect();
            tip.head.extremities.retain(kept);
        } else {
            tip.head.extremities.clear();
            tip.ends.clear();
        }
        if !placing.covered || tip.head.extremities.is_empty() {
            tip.head.extremities.push(new.nid);
            tip.ends.push(new.event.clone());
        }
    }

    /// The current state: what the states after all forward extremities make together.
    fn state_at_ends(
        &self,
        w: &mut Write,
        snap: &Snapshot,
        tip: &mut Tip,
        (nid, after): (EventNid, &Version),
    ) -> Result<Version, StoreError> {
        if *tip.head.extremities == [nid] {
            return Ok(after.clone());
        }
        let others = tip.head.extremities.iter().filter(|end| **end != nid);
        let mut states = self.states_after(snap, tip, others)?;
        if tip.head.extremities.contains(&nid) {
            states.push(after.clone());
        }
        self.merged(w, snap, tip, states)
    }

    /// The state after several events, resolved.
    pub(crate) fn state_after_all(
        &self,
        w: &mut Write,
        snap: &Snapshot,
        tip: &mut Tip,
        events: &[EventNid],
    ) -> Result<Version, StoreError> {
        let states = self.states_after(snap, tip, events.iter())?;
        self.merged(w, snap, tip, states)
    }

    /// The states after several events; each once.
    fn states_after<'a>(
        &self,
        snap: &Snapshot,
        tip: &Tip,
        events: impl Iterator<Item = &'a EventNid>,
    ) -> Result<Vec<Version>, StoreError> {
        let mut states: Vec<Version> = Vec::new();
        for event in events {
            let meta = self.meta_of(snap, &tip.fresh, *event)?;
            let meta = meta.ok_or_else(|| StoreError::missing(t::Meta::NAME, event))?;
            if states.iter().all(|version| version.id != meta.after) {
                states.push(self.version_of(snap, &tip.fresh, meta.after)?);
            }
        }
        Ok(states)
    }

    /// Notes that something before an event is not here.
    pub(crate) fn dig(
        &self,
        w: &mut Write,
        tip: &mut Tip,
        (nid, order): (EventNid, Order),
        missing: Vec<String>,
    ) {
        for id in &missing {
            await_event(w, tip, id, (Awaits::Prev, nid));
        }
        let row = HoleRow {
            event: nid,
            missing,
        };
        w.put::<Holes>(&(tip.room, order), &row);
        tip.fresh.holes.insert(nid, row);
    }

    /// Something before an event is here now; `more` lies before that and is not.
    pub(crate) fn shrink_hole(
        &self,
        w: &mut Write,
        snap: &Snapshot,
        tip: &mut Tip,
        (nid, event_id, more): (EventNid, &str, &[String]),
    ) -> Result<(), StoreError> {
        let Some(meta) = self.meta_of(snap, &tip.fresh, nid)? else {
            return Ok(());
        };
        let place = (tip.room, meta.order);
        let row = match tip.fresh.holes.remove(&nid) {
            Some(row) => Some(row),
            None if meta.order.anchor.is_stamp() => None,
            None => snap.get::<Holes>(&place)?,
        };
        let Some(mut row) = row else {
            return Ok(());
        };
        row.missing.retain(|id| id != event_id);
        for id in more {
            if !row.missing.contains(id) {
                await_event(w, tip, id, (Awaits::Prev, nid));
                row.missing.push(id.clone());
            }
        }
        if row.missing.is_empty() {
            w.delete::<Holes>(&place);
        } else {
            w.put::<Holes>(&place, &row);
        }
        tip.fresh.holes.insert(nid, row);
        Ok(())
    }
}
