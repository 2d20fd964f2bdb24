//! Versions of a room's state: their rows, and the one that several make together.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use skerry_core::event::RuledEvent;
use skerry_core::state::{self, ResolveError, ResolveSource};
use skerry_core::{EventNid, StateDelta, StateId, StateKeyNid, StateMap};
use skerry_store::schema::federation::AuthOf;
use skerry_store::schema::room as t;
use skerry_store::{Snapshot, StoreError, Table, Write};

use crate::Rooms;
use crate::base::damaged;
use crate::tip::{Fresh, Tip};

/// So many entries may change before it is asked whether a whole state is the smaller row.
const WHOLE_MIN: usize = 64;

/// A version of a room's state.
#[derive(Clone, Debug)]
pub(crate) struct Version {
    /// Its number; 0 for the empty state, which has none.
    pub(crate) id: StateId,
    /// Its place in the line of deltas.
    pub(crate) seq: u64,
    pub(crate) map: StateMap,
}

impl Version {
    /// The state before the create event.
    pub(crate) fn empty() -> Version {
        Version {
            id: StateId(0),
            seq: 0,
            map: StateMap::new(),
        }
    }
}

impl Rooms {
    /// A version by its number. Only inside the room's lane.
    pub(crate) fn version_of(
        &self,
        snap: &Snapshot,
        fresh: &Fresh,
        id: StateId,
    ) -> Result<Version, StoreError> {
        if id == StateId(0) {
            return Ok(Version::empty());
        }
        if let (Some(delta), Some(map)) = (fresh.deltas.get(&id), fresh.states.get(&id)) {
            let (seq, map) = (delta.seq, map.clone());
            return Ok(Version { id, seq, map });
        }
        let delta = self.delta_row(snap, id)?;
        Ok(Version {
            id,
            seq: delta.seq,
            map: self.state_map(snap, id)?,
        })
    }

    fn delta_row(&self, snap: &Snapshot, id: StateId) -> Result<t::StateDelta, StoreError> {
        snap.get::<t::State>(&id)?
            .ok_or_else(|| StoreError::missing(<t::State as Table>::NAME, id))
    }

    /// Adds the row of a version that follows another one; gives the new version.
    pub(crate) fn next_version(
        &self,
        w: &mut Write,
        snap: &Snapshot,
        fresh: &mut Fresh,
        from: &Version,
        change: StateDelta,
    ) -> Result<Version, StoreError> {
        let map = match change.set.as_slice() {
            [(key, event)] if change.removed.is_empty() => from.map.with(*key, *event),
            _ => from.map.apply(&change),
        };
        let delta = if change.len() > WHOLE_MIN && change.len() > map.len() / 2 {
            whole(&map)
        } else {
            self.delta(snap, fresh, from, change)?
        };
        let id = w.new_state();
        w.put::<t::State>(&id, &delta);
        let seq = delta.seq;
        fresh.deltas.insert(id, delta);
        fresh.states.insert(id, map.clone());
        Ok(Version { id, seq, map })
    }

    /// The version of a state that was put together: one of those it is close to, if it is the
    /// same, or else a new one that follows the closest.
    pub(crate) fn version_for(
        &self,
        w: &mut Write,
        snap: &Snapshot,
        fresh: &mut Fresh,
        near: &[Version],
        map: &StateMap,
    ) -> Result<Version, StoreError> {
        let mut best: Option<(StateDelta, &Version)> = None;
        for version in near {
            let change = version.map.diff(map);
            if change.is_empty() {
                return Ok(version.clone());
            }
            if best
                .as_ref()
                .is_none_or(|(least, _)| change.len() < least.len())
            {
                best = Some((change, version));
            }
        }
        match best {
            Some((change, from)) => self.next_version(w, snap, fresh, from, change),
            None => {
                let empty = Version::empty();
                let change = empty.map.diff(map);
                if change.is_empty() {
                    return Ok(empty);
                }
                self.next_version(w, snap, fresh, &empty, change)
            }
        }
    }

    /// The row of a version that follows another by a change.
    ///
    /// Version number s of a line holds what changed since version s minus its lowest set bit, so
    /// a version is read from as many rows as its number has set bits, and a line of n changes
    /// takes n log n / 2 entries in all, however large the room. Lines may branch: what is said
    /// holds for the way from each version to its root.
    fn delta(
        &self,
        snap: &Snapshot,
        fresh: &Fresh,
        from: &Version,
        change: StateDelta,
    ) -> Result<t::StateDelta, StoreError> {
        let seq = from.seq + 1;
        let target = seq & (seq - 1);
        let mut merged: BTreeMap<StateKeyNid, EventNid> = change.set.into_iter().collect();
        let mut removes: BTreeSet<StateKeyNid> = change.removed.into_iter().collect();
        let mut parent = (from.id != StateId(0)).then_some(from.id);
        while let Some(id) = parent {
            let stored;
            let delta = match fresh.deltas.get(&id) {
                Some(delta) => delta,
                None => {
                    stored = self.delta_row(snap, id)?;
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
        Ok(t::StateDelta {
            parent,
            seq,
            adds,
            removes,
        })
    }

    /// The state that follows several states: theirs, resolved. Only inside the room's lane.
    pub(crate) fn merged(
        &self,
        w: &mut Write,
        snap: &Snapshot,
        tip: &mut Tip,
        states: Vec<Version>,
    ) -> Result<Version, StoreError> {
        let mut states: Vec<Version> = states;
        states.sort_unstable_by_key(|version| version.id);
        states.dedup_by_key(|version| version.id);
        if let [only] = states.as_slice() {
            return Ok(only.clone());
        }
        let of: Vec<StateId> = states.iter().map(|version| version.id).collect();
        if let Some((_, version)) = tip.merges.iter().find(|(other, _)| *other == of) {
            return Ok(version.clone());
        }
        let mut maps: Vec<StateMap> = Vec::with_capacity(states.len());
        for version in &states {
            if !maps.contains(&version.map) {
                maps.push(version.map.clone());
            }
        }
        let source = Source {
            rooms: self,
            snap,
            tip,
        };
        let map = state::resolve(tip.version, &maps, &source).map_err(|error| match error {
            ResolveError::Source(error) => error,
            other => damaged::<t::State>(&of, &other.to_string()),
        })?;
        states.push(tip.now());
        let version = self.version_for(w, snap, &mut tip.fresh, &states, &map)?;
        tip.hold_merge(of, version.clone());
        Ok(version)
    }
}

/// The row of a state that follows no other.
fn whole(map: &StateMap) -> t::StateDelta {
    t::StateDelta {
        parent: None,
        seq: 0,
        adds: map.entries().to_vec(),
        removes: Vec::new(),
    }
}

/// Where state resolution finds the events of a room that is being written.
struct Source<'a> {
    rooms: &'a Rooms,
    snap: &'a Snapshot,
    tip: &'a Tip,
}

impl ResolveSource for Source<'_> {
    type Error = StoreError;

    fn event(&self, event: EventNid) -> Result<Option<RuledEvent>, StoreError> {
        self.rooms.ruled(self.snap, self.tip, event).map(Some)
    }

    fn event_nid(&self, event_id: &str) -> Result<Option<EventNid>, StoreError> {
        self.rooms.number_of(self.snap, &self.tip.fresh, event_id)
    }

    fn state_key(&self, key: StateKeyNid) -> Result<Option<(Arc<str>, Arc<str>)>, StoreError> {
        self.rooms.store().state_key(key).map(Some)
    }

    fn state_key_nid(&self, kind: &str, key: &str) -> Result<Option<StateKeyNid>, StoreError> {
        self.rooms.store().state_key_nid(kind, key)
    }

    fn auth_events(&self, event: EventNid) -> Result<Vec<EventNid>, StoreError> {
        if !self.tip.fresh.ruled.contains_key(&event)
            && let Some(nids) = self.snap.get::<AuthOf>(&event)?
        {
            return Ok(nids);
        }
        let event = self.rooms.ruled(self.snap, self.tip, event)?;
        let mut nids = Vec::new();
        for id in event.event().auth_events() {
            nids.extend(self.event_nid(&id)?);
        }
        Ok(nids)
    }
}
