//! A new event takes its place: the list of everything that it touches.
//!
//! [`Rooms::append`] is called inside the room's lane with an event that has passed the rules. It
//! only adds to a write; [`Rooms::finish`] closes the write of a room, and the commit makes all
//! of it true at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use skerry_core::event::RuledEvent;
use skerry_core::{EventNid, Membership, Order, Pos, StateId, StateKeyNid, StoredEvent, names};
use skerry_store::Change;
use skerry_store::schema::room as t;
use skerry_store::schema::room::{
    EventMeta, EventRow, Member, MemberOf, RelKind, Relation, SentBy, StateDelta,
};
use skerry_store::{Snapshot, StoreError, Table, Write};

use crate::read::notes;
use crate::tip::Tip;
use crate::{RoomError, Rooms, stripped};

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

/// What an event did to the state.
struct StateChange {
    key: StateKeyNid,
    before: StateId,
    after: StateId,
    replaces: Option<EventNid>,
}

impl Rooms {
    /// Adds everything to the write that a new event at the tip of its room touches; gives its
    /// number.
    pub(crate) fn append(
        &self,
        w: &mut Write,
        snap: &Snapshot,
        tip: &mut Tip,
        event: Arc<StoredEvent>,
        sent: Option<SentBy>,
    ) -> Result<EventNid, RoomError> {
        self.begin_interest(snap, tip)?;
        let sender = self.user(event.sender())?;
        let nid = w.new_event(event.event_id());
        let pos = w.log(Change::Timeline {
            room: tip.room,
            event: nid,
            sender,
        });
        let order = Order::live(pos);

        let change = self.change_state(w, snap, tip, nid, &event, pos)?;
        if change.is_some() && event.event_type() == "m.room.member" {
            self.change_member(w, snap, tip, nid, &event)?;
            self.redact_removed(w, snap, tip, nid, &event)?;
        }
        if let Some(change) = &change {
            self.cancel_delayed_for(w, snap, (tip.room, change.key), sender)?;
        }
        let (before, after) = match &change {
            Some(change) => (change.before, change.after),
            None => (tip.head.state, tip.head.state),
        };
        w.put::<t::Meta>(
            &nid,
            &EventMeta {
                room: tip.room,
                order,
                depth: event.depth(),
                sender,
                before,
                after,
                state_key: change.as_ref().map(|change| change.key),
                replaces: change.as_ref().and_then(|change| change.replaces),
                flags: 0,
            },
        );
        w.put::<t::Timeline>(&(tip.room, order), &nid);
        self.relate(w, snap, tip, nid, &event, pos)?;
        self.redact_target(w, snap, tip, (nid, pos), &event)?;
        self.stick(w, tip.room, (nid, pos), &event);
        let row = EventRow {
            redacted_by: None,
            sent,
            event: event.encode(),
        };
        w.put::<t::Event>(&nid, &row);

        self.tell_appservices(w, snap, tip, &event)?;

        tip.head.extremities = vec![nid];
        tip.head.depth = tip.head.depth.max(event.depth());
        tip.head.last = pos;
        if BUMPS.contains(&event.event_type()) {
            tip.head.bump = pos;
        }
        tip.ends = vec![event.clone()];
        tip.fresh.events.insert(nid, event);
        Ok(nid)
    }

    /// Closes the write of a room: the row that says where it now ends.
    pub(crate) fn finish(&self, w: &mut Write, tip: &Tip) {
        w.put::<t::Head>(&tip.room, &tip.head);
    }

    /// A state event makes a new version of the state, and becomes part of the current one.
    fn change_state(
        &self,
        w: &mut Write,
        snap: &Snapshot,
        tip: &mut Tip,
        nid: EventNid,
        event: &Arc<StoredEvent>,
        pos: Pos,
    ) -> Result<Option<StateChange>, StoreError> {
        let Some(state_key) = event.state_key() else {
            return Ok(None);
        };
        let key = self
            .store()
            .intern_state_key(event.event_type(), state_key)?;
        let (before, after) = (tip.head.state, w.new_state());
        let replaces = tip.state.get(key);
        let map = tip.state.with(key, nid);
        let delta = self.delta(snap, tip, vec![(key, nid)])?;
        w.put::<t::State>(&after, &delta);
        w.put::<t::StateNow>(&(tip.room, key), &nid);
        match event.event_type() {
            "m.room.create" => tip.create = None,
            "m.room.power_levels" => tip.power = None,
            _ => {}
        }
        tip.seq = delta.seq;
        tip.fresh.deltas.insert(after, delta);
        tip.fresh.states.insert(after, map.clone());
        tip.fresh
            .ruled
            .insert(nid, RuledEvent::new(event.clone(), false));
        tip.state = map;
        tip.head.state = after;
        tip.head.state_pos = pos;
        // Before the create event there is no state, and so no number for it.
        let before = if before == StateId(0) { after } else { before };
        Ok(Some(StateChange {
            key,
            before,
            after,
            replaces,
        }))
    }

    /// The row of the version that follows the tip's.
    ///
    /// Version number s of a line holds what changed since version s minus its lowest set bit, so
    /// a version is read from as many rows as its number has set bits, and a line of n changes
    /// takes n log n / 2 entries in all, however large the room.
    fn delta(
        &self,
        snap: &Snapshot,
        tip: &Tip,
        adds: Vec<(StateKeyNid, EventNid)>,
    ) -> Result<StateDelta, StoreError> {
        let seq = tip.seq + 1;
        let target = seq & (seq - 1);
        let mut merged: BTreeMap<StateKeyNid, EventNid> = adds.into_iter().collect();
        let mut removes = BTreeSet::new();
        let mut parent = (tip.seq > 0).then_some(tip.head.state);
        while let Some(id) = parent {
            let stored;
            let delta = match tip.fresh.deltas.get(&id) {
                Some(delta) => delta,
                None => {
                    stored = snap
                        .get::<t::State>(&id)?
                        .ok_or_else(|| StoreError::missing(<t::State as Table>::NAME, id))?;
                    &stored
                }
            };
            if delta.seq <= target {
                break;
            }
            for (key, event) in delta.adds.iter().filter(|(key, _)| !removes.contains(key)) {
                merged.entry(*key).or_insert(*event);
            }
            removes.extend(delta.removes.iter().filter(|key| !merged.contains_key(key)));
            parent = delta.parent;
        }
        let (adds, removes) = (merged.into_iter().collect(), removes.into_iter().collect());
        Ok(StateDelta {
            parent,
            seq,
            adds,
            removes,
        })
    }

    /// A member event moves a user: rows by room and by user, counts, the user's stripped state.
    fn change_member(
        &self,
        w: &mut Write,
        snap: &Snapshot,
        tip: &mut Tip,
        nid: EventNid,
        event: &StoredEvent,
    ) -> Result<(), RoomError> {
        let (Some(user_id), Some(now)) = (event.state_key(), event.membership()) else {
            return Ok(());
        };
        let user = self.user(user_id)?;
        let pos = w.log(Change::Member {
            room: tip.room,
            user,
            membership: now,
        });
        let was = self.membership_before(snap, tip, event)?;
        let row = Member {
            membership: now,
            event: nid,
            pos,
            forgotten: false,
        };
        w.put::<t::MemberTable>(&(tip.room, user), &row);
        let since = match was {
            Some(was) if was == now => {
                let of = self.member_of(snap, user, tip.room)?;
                of.filter(|of| of.membership == now)
                    .map_or(pos, |of| of.since)
            }
            _ => pos,
        };
        let row = MemberOf {
            membership: now,
            event: nid,
            pos,
            since,
        };
        w.put::<t::MemberOfTable>(&(user, tip.room), &row);
        self.count(w, snap, tip, user_id, was, now)?;
        if matches!(now, Membership::Invite | Membership::Knock) {
            let stripped = self.stripped_now(snap, tip, event)?;
            w.put::<t::Stripped>(&(user, tip.room), &stripped);
        } else if matches!(was, Some(Membership::Invite | Membership::Knock)) {
            w.delete::<t::Stripped>(&(user, tip.room));
        }
        Ok(())
    }

    /// The membership that the event's user had before it.
    fn membership_before(
        &self,
        snap: &Snapshot,
        tip: &Tip,
        event: &StoredEvent,
    ) -> Result<Option<Membership>, StoreError> {
        // The tip's state holds the event already; the prior one is what it replaced, and that
        // was the user's member row, unless this very write made it.
        let Some(user_id) = event.state_key() else {
            return Ok(None);
        };
        let earlier = tip.fresh.events.values().filter(|other| {
            other.is("m.room.member", user_id) && other.event_id() != event.event_id()
        });
        if let Some(last) = earlier.max_by_key(|other| other.depth()) {
            return Ok(last.membership());
        }
        match self.store().user_nid(user_id)? {
            Some(user) => Ok(self.member(snap, tip.room, user)?.map(|row| row.membership)),
            None => Ok(None),
        }
    }

    /// Keeps the counts of members.
    fn count(
        &self,
        w: &mut Write,
        snap: &Snapshot,
        tip: &mut Tip,
        user_id: &str,
        was: Option<Membership>,
        now: Membership,
    ) -> Result<(), RoomError> {
        if was == Some(now) {
            return Ok(());
        }
        Rooms::move_interest(tip, user_id, was, now);
        let head = &mut tip.head;
        match was {
            Some(Membership::Join) => head.joined = head.joined.saturating_sub(1),
            Some(Membership::Invite) => head.invited = head.invited.saturating_sub(1),
            _ => {}
        }
        match now {
            Membership::Join => head.joined += 1,
            Membership::Invite => head.invited += 1,
            _ => {}
        }
        let joined = i64::from(now == Membership::Join) - i64::from(was == Some(Membership::Join));
        if joined == 0 || self.is_local(user_id) {
            return Ok(());
        }
        let Some(server) = names::server_of(user_id) else {
            return Ok(());
        };
        let key = (tip.room, self.store().intern_server(server)?);
        let before = snap.get::<t::RoomServer>(&key)?.unwrap_or(0);
        let after = before.saturating_add_signed(if joined > 0 { 1 } else { -1 });
        tip.head.remote = tip
            .head
            .remote
            .saturating_add_signed(if joined > 0 { 1 } else { -1 });
        if after == 0 {
            w.delete::<t::RoomServer>(&key);
        } else {
            w.put::<t::RoomServer>(&key, &after);
        }
        Ok(())
    }

    /// What an invited or knocking user may know of the room, the event itself included.
    fn stripped_now(
        &self,
        snap: &Snapshot,
        tip: &Tip,
        event: &StoredEvent,
    ) -> Result<Vec<u8>, StoreError> {
        let mut events = Vec::new();
        for kind in stripped::KINDS {
            events.extend(self.tip_state(snap, tip, kind, "")?);
        }
        if event.state_key() != Some(event.sender()) {
            events.extend(self.tip_state(snap, tip, "m.room.member", event.sender())?);
        }
        let all = events.iter().map(|ruled| &**ruled.event()).chain([event]);
        Ok(stripped::list(all))
    }

    /// An event that relates to another of the room is found from there.
    fn relate(
        &self,
        w: &mut Write,
        snap: &Snapshot,
        tip: &Tip,
        nid: EventNid,
        event: &StoredEvent,
        pos: Pos,
    ) -> Result<(), StoreError> {
        let Some((kind, parent)) = self.relation(snap, tip, event)? else {
            return Ok(());
        };
        let sender = self.user(event.sender())?;
        let row = Relation {
            child: nid,
            sender,
            pos,
        };
        w.put::<t::Relations>(&(parent, kind, Order::live(pos)), &row);
        notes::relation(w, tip.room, kind, parent);
        Ok(())
    }

    /// How an event relates to which known event of its room.
    pub(crate) fn relation(
        &self,
        snap: &Snapshot,
        tip: &Tip,
        event: &StoredEvent,
    ) -> Result<Option<(RelKind, EventNid)>, StoreError> {
        // A state event does not aggregate, and most events name no relation at all.
        if event.is_state() || !event.content().contains("\"m.relates_to\"") {
            return Ok(None);
        }
        let Ok(content) = event.content_object() else {
            return Ok(None);
        };
        let Some(relates) = content.object("m.relates_to") else {
            return Ok(None);
        };
        let (Some(kind), Some(id)) = (relates.str("rel_type"), relates.str("event_id")) else {
            return Ok(None);
        };
        let Some(parent) = self.store().event_nid(snap, id)? else {
            return Ok(None);
        };
        let same_room = self
            .meta(snap, parent)?
            .is_some_and(|meta| meta.room == tip.room);
        let kind = match kind {
            "m.annotation" => RelKind::Annotation,
            "m.replace" => RelKind::Replace,
            "m.thread" => RelKind::Thread,
            "m.reference" => RelKind::Reference,
            _ => RelKind::Other,
        };
        Ok(same_room.then_some((kind, parent)))
    }
}
