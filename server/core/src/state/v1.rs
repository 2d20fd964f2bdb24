//! State resolution of room version 1, which ruma does not have (rooms/v1, "State resolution").
//!
//! Where the text leaves a choice it follows what published servers do, because all servers of a
//! room must agree: each conflicted key is resolved by itself, in a state that holds what is not
//! conflicted and what earlier passes resolved; and where none of the other events passes, the one
//! of least depth stays.

use std::collections::HashMap;

use super::sha1::sha1;
use crate::auth::check_ruled;
use crate::event::RuledEvent;

/// (type, state key)
pub(super) type Key = (String, String);

/// Resolves the conflicted keys. `settled` answers for keys without a conflict.
pub(super) fn resolve(
    conflicted: &HashMap<Key, Vec<RuledEvent>>,
    settled: &dyn Fn(&str, &str) -> Option<RuledEvent>,
) -> HashMap<Key, RuledEvent> {
    let mut resolved: HashMap<Key, RuledEvent> = HashMap::new();
    for pass in ["m.room.power_levels", "m.room.join_rules", "m.room.member"] {
        let mut found = Vec::new();
        for (key, events) in conflicted.iter().filter(|(key, _)| is_in_pass(key, pass)) {
            let lookup = |kind: &str, state_key: &str| look_up(&resolved, settled, kind, state_key);
            found.extend(last_of_chain(events, &lookup).map(|event| (key.clone(), event)));
        }
        resolved.extend(found);
    }
    let mut found = Vec::new();
    for (key, events) in conflicted
        .iter()
        .filter(|(key, _)| !resolved.contains_key(*key))
    {
        let lookup = |kind: &str, state_key: &str| look_up(&resolved, settled, kind, state_key);
        let ordered = ordered(events);
        let allowed = ordered
            .iter()
            .rev()
            .find(|event| check_ruled(event, lookup).is_ok());
        found.extend(
            allowed
                .or(ordered.first())
                .map(|event| (key.clone(), event.clone())),
        );
    }
    resolved.extend(found);
    resolved
}

fn is_in_pass((kind, state_key): &Key, pass: &str) -> bool {
    kind == pass && (pass != "m.room.power_levels" || state_key.is_empty())
}

fn look_up(
    resolved: &HashMap<Key, RuledEvent>,
    settled: &dyn Fn(&str, &str) -> Option<RuledEvent>,
    kind: &str,
    state_key: &str,
) -> Option<RuledEvent> {
    let found = resolved
        .get(&(kind.to_owned(), state_key.to_owned()))
        .cloned();
    found.or_else(|| settled(kind, state_key))
}

/// By ascending depth, then descending SHA-1 of the id.
fn ordered(events: &[RuledEvent]) -> Vec<RuledEvent> {
    let mut keyed: Vec<_> = events
        .iter()
        .map(|event| {
            let stored = event.event();
            (
                stored.depth(),
                std::cmp::Reverse(sha1(stored.event_id().as_bytes())),
                event.clone(),
            )
        })
        .collect();
    keyed.sort_by_key(|entry| (entry.0, entry.1));
    keyed.into_iter().map(|(_, _, event)| event).collect()
}

/// The first event counts in any case; each next one if the rules allow it in a state with the one
/// before it; the first that they do not allow ends it.
fn last_of_chain(
    events: &[RuledEvent],
    lookup: &dyn Fn(&str, &str) -> Option<RuledEvent>,
) -> Option<RuledEvent> {
    let mut ordered = ordered(events).into_iter();
    let mut current = ordered.next()?;
    for event in ordered {
        let with_current = |kind: &str, state_key: &str| {
            if current.event().is(kind, state_key) {
                Some(current.clone())
            } else {
                lookup(kind, state_key)
            }
        };
        if check_ruled(&event, with_current).is_err() {
            break;
        }
        current = event;
    }
    Some(current)
}
