//! State resolution: one state out of the states after several events.
//!
//! Versions 2 and up run through ruma. It is given only what the outcome depends on: the conflicted
//! entries, and of the rest those that the rules look at; a room of 50,000 members with one
//! conflicted topic hands it a handful of events. The sets that need the graph of auth events (auth
//! difference, conflicted subgraph) are computed here on numbers.

use std::cell::RefCell;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use ruma_common::room_version_rules::StateResolutionV2Rules;
use ruma_common::{EventId, OwnedEventId};
use ruma_events::StateEventType;
use ruma_state_res::Event as _;
use ruma_state_res::utils::event_id_set::EventIdSet;

use super::StateMap;
use super::v1;
use crate::auth::auth_types;
use crate::event::RuledEvent;
use crate::ids::{EventNid, StateKeyNid};
use crate::room_version::RoomVersion;

/// Where resolution finds events; the store, or a test.
pub trait ResolveSource {
    /// Why something could not be read.
    type Error;

    /// The event, with whether it was rejected; `None` if it is not here.
    ///
    /// # Errors
    /// It could not be read.
    fn event(&self, event: EventNid) -> Result<Option<RuledEvent>, Self::Error>;

    /// The number of an event id; `None` if no event here has it.
    ///
    /// # Errors
    /// It could not be read.
    fn event_nid(&self, event_id: &str) -> Result<Option<EventNid>, Self::Error>;

    /// The type and state key behind a number; `None` if there is no such number.
    ///
    /// # Errors
    /// It could not be read.
    #[allow(clippy::type_complexity)] // A pair of names is no type of its own.
    fn state_key(&self, key: StateKeyNid) -> Result<Option<(Arc<str>, Arc<str>)>, Self::Error>;

    /// The number of a type and state key; `None` if there never was such an event.
    ///
    /// # Errors
    /// It could not be read.
    fn state_key_nid(&self, kind: &str, key: &str) -> Result<Option<StateKeyNid>, Self::Error>;

    /// The events that an event names as what allows it, as far as they are here. Worth
    /// overriding where the store knows these numbers without reading the event.
    ///
    /// # Errors
    /// They could not be read.
    fn auth_events(&self, event: EventNid) -> Result<Vec<EventNid>, Self::Error> {
        let Some(event) = self.event(event)? else {
            return Ok(Vec::new());
        };
        let mut nids = Vec::new();
        for id in event.auth_events() {
            nids.extend(self.event_nid(id.as_str())?);
        }
        Ok(nids)
    }
}

/// Why states could not be resolved.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError<E> {
    /// The source failed.
    #[error("reading events for state resolution failed")]
    Source(E),
    /// An event that a state names is not here.
    #[error("state names {0:?}, which is not here")]
    MissingEvent(EventNid),
    /// A state key that a state or event names is not known.
    #[error("state names an unknown key")]
    MissingKey,
    /// The rules could not be applied.
    #[error("state resolution failed: {0}")]
    Rules(String),
}

/// Resolves the states after several events into the state before their common successor. The
/// order of the states does not matter.
///
/// # Errors
/// The source fails, or something that the states name is missing in it.
pub fn resolve<S: ResolveSource>(
    version: RoomVersion,
    states: &[StateMap],
    source: &S,
) -> Result<StateMap, ResolveError<S::Error>> {
    let Some((first, rest)) = states.split_first() else {
        return Ok(StateMap::new());
    };
    let mut conflicted_keys = BTreeSet::new();
    for state in rest {
        let delta = first.diff(state);
        conflicted_keys.extend(delta.set.iter().map(|entry| entry.0));
        conflicted_keys.extend(delta.removed);
    }
    if conflicted_keys.is_empty() {
        return Ok(first.clone());
    }
    let run = Run {
        version,
        states,
        source,
        conflicted_keys,
        read: RefCell::default(),
    };
    let settled = first
        .iter()
        .filter(|(key, _)| !run.conflicted_keys.contains(key));
    let settled: StateMap = settled.collect();
    let resolved = match version.rules().state_res.v2_rules() {
        None => run.version_1(&settled)?,
        Some(rules) => run.version_2(&settled, rules)?,
    };
    // What is not conflicted stays, whatever the rules made of it on the way.
    Ok(resolved.into_iter().chain(settled.iter()).collect())
}

struct Run<'a, S> {
    version: RoomVersion,
    states: &'a [StateMap],
    source: &'a S,
    conflicted_keys: BTreeSet<StateKeyNid>,
    /// Events read so far.
    read: RefCell<HashMap<EventNid, Option<RuledEvent>>>,
}

type Entries = Vec<(StateKeyNid, EventNid)>;
type IdMap = ruma_state_res::StateMap<OwnedEventId>;

impl<S: ResolveSource> Run<'_, S> {
    fn read(&self, nid: EventNid) -> Result<Option<RuledEvent>, S::Error> {
        if let Some(known) = self.read.borrow().get(&nid) {
            return Ok(known.clone());
        }
        let event = self.source.event(nid)?;
        self.read.borrow_mut().insert(nid, event.clone());
        Ok(event)
    }

    fn event(&self, nid: EventNid) -> Result<RuledEvent, ResolveError<S::Error>> {
        let event = self.read(nid).map_err(ResolveError::Source)?;
        event.ok_or(ResolveError::MissingEvent(nid))
    }

    fn settled_event(
        &self,
        settled: &StateMap,
        kind: &str,
        state_key: &str,
    ) -> Result<Option<RuledEvent>, ResolveError<S::Error>> {
        let key = self
            .source
            .state_key_nid(kind, state_key)
            .map_err(ResolveError::Source)?;
        key.and_then(|key| settled.get(key))
            .map(|nid| self.event(nid))
            .transpose()
    }

    fn version_1(&self, settled: &StateMap) -> Result<Entries, ResolveError<S::Error>> {
        let mut entries = Vec::new();
        let mut conflicted = HashMap::new();
        let mut nids = HashMap::new();
        for &key in &self.conflicted_keys {
            let values: BTreeSet<_> = self.states.iter().filter_map(|s| s.get(key)).collect();
            if let (1, Some(&only)) = (values.len(), values.first()) {
                // Absent from some states is no conflict here.
                entries.push((key, only));
                continue;
            }
            let name = self.source.state_key(key).map_err(ResolveError::Source)?;
            let (kind, state_key) = name.ok_or(ResolveError::MissingKey)?;
            let mut events = Vec::with_capacity(values.len());
            for nid in values {
                let event = self.event(nid)?;
                nids.insert(event.event().event_id().to_owned(), (key, nid));
                events.push(event);
            }
            conflicted.insert((kind.to_string(), state_key.to_string()), events);
        }
        let settled: StateMap = settled.iter().chain(entries.iter().copied()).collect();
        let failed = RefCell::new(None);
        let look_up = |kind: &str, state_key: &str| {
            self.settled_event(&settled, kind, state_key)
                .unwrap_or_else(|error| {
                    failed.borrow_mut().get_or_insert(error);
                    None
                })
        };
        let resolved = v1::resolve(&conflicted, &look_up);
        if let Some(error) = failed.into_inner() {
            return Err(error);
        }
        let found = resolved
            .values()
            .filter_map(|event| nids.get(event.event().event_id()));
        entries.extend(found.copied());
        Ok(entries)
    }

    fn version_2(
        &self,
        settled: &StateMap,
        rules: &StateResolutionV2Rules,
    ) -> Result<Entries, ResolveError<S::Error>> {
        let conflicted: BTreeSet<EventNid> = self
            .states
            .iter()
            .flat_map(|state| self.conflicted_of(state))
            .collect();
        let graph = AuthGraph::above(&conflicted, self.source)?;
        let difference = self.auth_difference(settled, &graph)?;
        let subgraph = if rules.consider_conflicted_state_subgraph {
            graph.between(&conflicted)
        } else {
            BTreeSet::new()
        };

        let full: BTreeSet<_> = conflicted
            .iter()
            .chain(&difference)
            .chain(&subgraph)
            .collect();
        let base = self.settled_base(settled, &full)?;
        let mut maps = Vec::with_capacity(self.states.len());
        for state in self.states {
            let mut map = base.clone();
            for nid in self.conflicted_of(state) {
                let event = self.event(nid)?;
                map.insert(key_of(&event), event.event_id().clone());
            }
            maps.push(map);
        }
        let ids = |nids: &BTreeSet<EventNid>| {
            let ids = nids
                .iter()
                .map(|&nid| Ok(self.event(nid)?.event_id().clone()));
            ids.collect::<Result<EventIdSet<OwnedEventId>, ResolveError<S::Error>>>()
        };
        // Two chains whose difference is the one computed above.
        let chains = vec![ids(&difference)?, EventIdSet::new()];
        let subgraph = ids(&subgraph)?;
        let failed = RefCell::new(None);
        // Lends ruma the events it asks for, and remembers the first failure.
        let fetch = |id: &EventId| {
            let nid = self.source.event_nid(id.as_str());
            let read = nid.and_then(|nid| nid.map_or(Ok(None), |nid| self.read(nid)));
            read.unwrap_or_else(|error| {
                failed.borrow_mut().get_or_insert(error);
                None
            })
        };
        let outcome = ruma_state_res::resolve(
            &self.version.rules().authorization,
            rules,
            &maps,
            chains,
            fetch,
            |_| Some(subgraph.clone()),
        );
        if let Some(error) = failed.into_inner() {
            return Err(ResolveError::Source(error));
        }
        let resolved = outcome.map_err(|error| ResolveError::Rules(error.to_string()))?;
        self.to_nids(resolved)
    }

    /// Of what is settled, what the rules look at to judge the full conflicted set.
    fn settled_base(
        &self,
        settled: &StateMap,
        full: &BTreeSet<&EventNid>,
    ) -> Result<IdMap, ResolveError<S::Error>> {
        let mut wanted = BTreeSet::from([
            ("m.room.create".to_owned(), String::new()),
            ("m.room.power_levels".to_owned(), String::new()),
        ]);
        for &&nid in full {
            let event = self.event(nid)?;
            let event = event.event();
            let content = event.content_object().unwrap_or_default();
            let (kind, sender) = (event.event_type(), event.sender());
            let types = auth_types(self.version, kind, sender, event.state_key(), &content);
            wanted.extend(types.into_iter().map(|(kind, key)| (kind.to_owned(), key)));
        }
        let mut base = HashMap::new();
        for (kind, state_key) in wanted {
            if let Some(event) = self.settled_event(settled, &kind, &state_key)? {
                let id = event.event_id().clone();
                base.insert((StateEventType::from(kind.as_str()), state_key), id);
            }
        }
        Ok(base)
    }

    /// The conflicted events that this state holds.
    fn conflicted_of(&self, state: &StateMap) -> Vec<EventNid> {
        self.conflicted_keys
            .iter()
            .filter_map(|&key| state.get(key))
            .collect()
    }

    fn to_nids(&self, resolved: IdMap) -> Result<Entries, ResolveError<S::Error>> {
        let mut entries = Vec::with_capacity(resolved.len());
        for ((kind, state_key), id) in resolved {
            let key = self.source.state_key_nid(&kind.to_string(), &state_key);
            let event = self.source.event_nid(id.as_str());
            let key = key
                .map_err(ResolveError::Source)?
                .ok_or(ResolveError::MissingKey)?;
            let event = event
                .map_err(ResolveError::Source)?
                .ok_or(ResolveError::MissingKey)?;
            entries.push((key, event));
        }
        Ok(entries)
    }

    /// The events that are in the auth chain of some state but not of all.
    ///
    /// With U the chain of what is settled and Dᵢ that of state i's conflicted events, state i's
    /// chain is U ∪ Dᵢ, and the difference is (∪Dᵢ − ∩Dᵢ) − U. U is large (every member's chain),
    /// so it is walked only while it can still take something away.
    fn auth_difference(
        &self,
        settled: &StateMap,
        graph: &AuthGraph,
    ) -> Result<BTreeSet<EventNid>, ResolveError<S::Error>> {
        let mut seen_in: BTreeMap<EventNid, usize> = BTreeMap::new();
        for state in self.states {
            for nid in graph.chain_of(self.conflicted_of(state)) {
                *seen_in.entry(nid).or_default() += 1;
            }
        }
        let partly = seen_in
            .into_iter()
            .filter(|&(_, count)| count < self.states.len());
        let mut difference: BTreeSet<_> = partly.map(|(nid, _)| nid).collect();
        let mut seen = HashSet::new();
        let mut todo: Vec<_> = settled.iter().map(|(_, event)| event).collect();
        while let (Some(nid), false) = (todo.pop(), difference.is_empty()) {
            for auth in self.source.auth_events(nid).map_err(ResolveError::Source)? {
                if seen.insert(auth) {
                    difference.remove(&auth);
                    todo.push(auth);
                }
            }
        }
        Ok(difference)
    }
}

fn key_of(event: &RuledEvent) -> (StateEventType, String) {
    let stored = event.event();
    let state_key = stored.state_key().unwrap_or_default().to_owned();
    (StateEventType::from(stored.event_type()), state_key)
}

/// The graph of auth events above some events.
struct AuthGraph(HashMap<EventNid, Vec<EventNid>>);

impl AuthGraph {
    fn above<S: ResolveSource>(
        events: &BTreeSet<EventNid>,
        source: &S,
    ) -> Result<Self, ResolveError<S::Error>> {
        let mut edges = HashMap::new();
        let mut todo: Vec<_> = events.iter().copied().collect();
        while let Some(nid) = todo.pop() {
            if let Entry::Vacant(entry) = edges.entry(nid) {
                let auth = source.auth_events(nid).map_err(ResolveError::Source)?;
                todo.extend(&auth);
                entry.insert(auth);
            }
        }
        Ok(AuthGraph(edges))
    }

    /// All events above these; these themselves only where they are above each other.
    fn chain_of(&self, events: Vec<EventNid>) -> HashSet<EventNid> {
        let mut chain = HashSet::new();
        let mut todo = events;
        while let Some(nid) = todo.pop() {
            for &auth in self.0.get(&nid).map(Vec::as_slice).unwrap_or_default() {
                if chain.insert(auth) {
                    todo.push(auth);
                }
            }
        }
        chain
    }

    /// These events and everything on a path from one of them to another. The whole graph is above
    /// them, so what is below one of them is on such a path.
    fn between(&self, events: &BTreeSet<EventNid>) -> BTreeSet<EventNid> {
        let mut below: HashMap<EventNid, Vec<EventNid>> = HashMap::new();
        for (&nid, auth) in &self.0 {
            for &above in auth {
                below.entry(above).or_default().push(nid);
            }
        }
        let mut found = events.clone();
        let mut todo: Vec<_> = events.iter().copied().collect();
        while let Some(nid) = todo.pop() {
            for &next in below.get(&nid).map(Vec::as_slice).unwrap_or_default() {
                if found.insert(next) {
                    todo.push(next);
                }
            }
        }
        found
    }
}
