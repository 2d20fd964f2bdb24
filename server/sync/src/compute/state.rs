//! What of a room's state has to be told so that a client, once it has applied the answer, has
//! the state that the room has.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use skerry_core::{EventNid, RoomNid, StateId, StateKeyNid, StateMap, UserNid};
use skerry_room::Placed;
use skerry_store::StoreError;

use super::{Query, RoomAsk};
use crate::lazy::Handed;

const MEMBER: &str = "m.room.member";
/// State events read in one go.
const CHUNK: usize = 512;

/// The states between which a room is told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Between {
    /// What the client has; `None`: nothing, or nothing that counts.
    pub known: Option<StateId>,
    /// What it had when it was last told, although it is told everything now: members that
    /// changed since are told even where the others are lazy-loaded.
    pub before: Option<StateId>,
    /// What the room has at the end of the timeline.
    pub end: StateId,
}

/// Who has to be told of because the client is to show them, beside the timeline's senders.
pub(super) struct Shown<'a> {
    /// The timeline.
    pub timeline: &'a [Arc<Placed>],
    /// Users the summary names.
    pub heroes: &'a [Arc<str>],
}

impl Query<'_> {
    /// The state events to tell, in no particular order.
    pub(super) fn state(
        &self,
        ask: &RoomAsk,
        between: Between,
        shown: &Shown<'_>,
        handed: &mut Vec<Handed>,
    ) -> Result<Vec<Arc<Placed>>, StoreError> {
        let filter = &self.req.filter.room.state;
        if !filter.wants_room(&ask.room_id) {
            return Ok(Vec::new());
        }
        let rooms = &self.sync.rooms;
        let lazy = self.req.filter.lazy();
        let end = rooms.state_map(self.snap, between.end)?;
        // Where the timeline starts; it is told of in `state` what was so then.
        let start = match shown.timeline.first() {
            Some(first) if !self.req.state_after => {
                rooms.state_map(self.snap, first.meta.before)?
            }
            _ => end.clone(),
        };
        let mut told = BTreeMap::new();
        if between.known != Some(between.end) {
            let map = |state: Option<StateId>| match state {
                Some(state) => rooms.state_map(self.snap, state),
                None => Ok(StateMap::new()),
            };
            let known = map(between.known)?;
            told = self.differences(&known, &start, &end, shown.timeline)?;
            if lazy && between.known.is_none() {
                let before = map(between.before)?;
                self.leave_members(&mut told, between.before.map(|_| &before), &end)?;
            }
        }
        if lazy {
            let in_timeline = |event| shown.timeline.iter().any(|shown| shown.nid == event);
            for (key, member) in self.wanted_members(ask, shown, between.known.is_none())? {
                // What the timeline tells by itself is told as it was before.
                let now = end
                    .get(key)
                    .filter(|now| self.req.state_after || !in_timeline(*now));
                let Some(event) = now.or_else(|| start.get(key)) else {
                    continue;
                };
                let handed = (ask.room, member, event);
                let (user, device) = (self.req.user, &self.req.device);
                if self.tells_all_members(ask) || !self.sync.lazy.knows(user, device, handed) {
                    told.entry(key).or_insert(event);
                }
            }
        }
        let events = self.filtered(ask.room, told.values().copied().collect())?;
        if lazy {
            self.note_members(ask.room, events.iter().chain(shown.timeline), handed)?;
        }
        Ok(events)
    }

    /// Whether members are told of again although the device knows them.
    fn tells_all_members(&self, ask: &RoomAsk) -> bool {
        self.req.filter.room.state.include_redundant_members
            || self.req.full_state
            || ask.after.is_none()
    }

    /// From the known state to that at the end, without what the timeline tells by itself.
    fn differences(
        &self,
        known: &StateMap,
        start: &StateMap,
        end: &StateMap,
        timeline: &[Arc<Placed>],
    ) -> Result<BTreeMap<StateKeyNid, EventNid>, StoreError> {
        let in_timeline: HashSet<EventNid> = timeline.iter().map(|event| event.nid).collect();
        let mut told = BTreeMap::new();
        for (key, event) in known.diff(end).set {
            if self.req.state_after || !in_timeline.contains(&event) {
                told.insert(key, event);
                continue;
            }
            let before = start
                .get(key)
                .filter(|before| !in_timeline.contains(before));
            if let Some(before) = before.filter(|before| known.get(key) != Some(*before)) {
                told.insert(key, before);
            }
        }
        Ok(told)
    }

    /// Takes out the members who did not change since `before`; all, where that is not known.
    fn leave_members(
        &self,
        told: &mut BTreeMap<StateKeyNid, EventNid>,
        before: Option<&StateMap>,
        end: &StateMap,
    ) -> Result<(), StoreError> {
        let mut members = Vec::new();
        for key in told.keys() {
            let changed = before.is_some_and(|before| before.get(*key) != end.get(*key));
            if !changed && *self.sync.rooms.store().state_key(*key)?.0 == *MEMBER {
                members.push(*key);
            }
        }
        for key in members {
            told.remove(&key);
        }
        Ok(())
    }

    /// The places in the state of those whom the client needs: senders, heroes, and the user
    /// where all of the state is told.
    fn wanted_members(
        &self,
        ask: &RoomAsk,
        shown: &Shown<'_>,
        all: bool,
    ) -> Result<Vec<(StateKeyNid, UserNid)>, StoreError> {
        let mut users: Vec<&str> = shown
            .timeline
            .iter()
            .map(|event| event.event.sender())
            .collect();
        users.extend(shown.heroes.iter().map(|user| &**user));
        if all || ask.after.is_none() {
            users.push(&self.req.user_id);
        }
        users.sort_unstable();
        users.dedup();
        let store = self.sync.rooms.store();
        let mut places = Vec::with_capacity(users.len());
        for user in users {
            let (key, nid) = (store.state_key_nid(MEMBER, user)?, store.user_nid(user)?);
            places.extend(key.zip(nid));
        }
        Ok(places)
    }

    /// The events themselves, without those the filter drops.
    fn filtered(&self, room: RoomNid, nids: Vec<EventNid>) -> Result<Vec<Arc<Placed>>, StoreError> {
        let filter = &self.req.filter.room.state;
        let mut events = Vec::with_capacity(nids.len());
        for chunk in nids.chunks(CHUNK) {
            let found = self.sync.rooms.placed_many(self.snap, room, chunk)?;
            let found = found.into_iter().flatten();
            events.extend(found.filter(|event| self.passes(filter, event)));
        }
        Ok(events)
    }

    /// Notes the member events among those that go out.
    fn note_members<'a>(
        &self,
        room: RoomNid,
        events: impl Iterator<Item = &'a Arc<Placed>>,
        handed: &mut Vec<Handed>,
    ) -> Result<(), StoreError> {
        for event in events.filter(|event| event.event.event_type() == MEMBER) {
            let Some(user) = event.event.state_key() else {
                continue;
            };
            if let Some(user) = self.sync.rooms.store().user_nid(user)? {
                handed.push((room, user, event.nid));
            }
        }
        Ok(())
    }
}
