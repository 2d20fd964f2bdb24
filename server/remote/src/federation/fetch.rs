//! Receiving events of a room whose past is not all here: what the room says is missing is fetched
//! from the server that sent them, and the room is asked again.
//!
//! First the events in between (`/get_missing_events`); where those do not reach what we have,
//! the state at the gap (`/state_ids`, then `/event` or `/state`); and whatever auth events rest
//! on (`/event_auth`, `/event`). Number, bytes and time are bounded for each event and, over a
//! longer time, for each server ([`super::budget`]).

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use http::Method;
use serde_json::json;
use skerry_core::StoredEvent;
use skerry_core::canonical::{Mode, Object};
use skerry_room::{Arrival, Gap, Missing, RoomError, Verdict};
use skerry_store::blocking;

use super::Federation;
use super::budget::Work;
use super::call::LARGE;
use super::fault::FederationError;
use super::gather::{EVENT_TIME, Errand};
use super::paths::Path;
use super::pieces::Field;
use super::stage::{Of, events};

/// How often events in between are asked for: each time some 20 come.
const ROUNDS: usize = 8;
/// Events in between that one event makes us ask for, at most.
const BETWEEN: usize = 200;
/// Events that one request asks for.
const AT_ONCE: usize = 50;

const BETWEEN_FIELDS: &[Field] = &[events("events", 100)];

impl Federation {
    /// Receives events of one room, in this order. They have been checked by [`super::Checker`];
    /// `origin` sent them, and is asked for what they rest on.
    ///
    /// Each event has its own outcome: `Budget` and `Incomplete` mean that it may be tried again
    /// later, and was not received.
    ///
    /// # Errors
    /// The store's; then nothing is known of those that have no outcome.
    pub async fn receive(
        &self,
        origin: &str,
        room_id: &str,
        events: Vec<Arc<StoredEvent>>,
    ) -> Result<Vec<Result<Verdict, FederationError>>, RoomError> {
        let mut fates: BTreeMap<usize, Result<Verdict, FederationError>> = BTreeMap::new();
        let mut open: Vec<usize> = (0..events.len()).collect();
        while !open.is_empty() {
            let batch = open.iter().filter_map(|at| events.get(*at).cloned());
            let batch = batch.map(|event| (event, Arrival::default())).collect();
            let verdicts = self.rooms.receive_all(room_id, batch).await?;
            // The first that lacks something is completed; those behind it may then lack nothing.
            let mut first = None;
            let mut rest = Vec::new();
            for (at, verdict) in open.drain(..).zip(verdicts) {
                match verdict {
                    Verdict::Missing(missing) if first.is_none() => first = Some((at, missing)),
                    Verdict::Missing(_) => rest.push(at),
                    verdict => {
                        fates.insert(at, Ok(verdict));
                    }
                }
            }
            if let Some((at, missing)) = first
                && let Some(event) = events.get(at)
            {
                fates.insert(at, self.complete(origin, room_id, event, missing).await);
            }
            open = rest;
        }
        // Who changed their profile says so in their rooms.
        for event in events.iter().filter(|event| is_own_member(event)) {
            self.asked.profiles.forget(event.sender());
        }
        Ok(fates.into_values().collect())
    }

    /// Fetches what an event rests on, and receives it.
    async fn complete(
        &self,
        origin: &str,
        room_id: &str,
        event: &Arc<StoredEvent>,
        missing: Missing,
    ) -> Result<Verdict, FederationError> {
        if !self.asked.budgets.has_left(origin) {
            return Err(FederationError::Budget {
                server: origin.to_owned(),
            });
        }
        let of = Of {
            room_id: room_id.into(),
            version: event.version(),
        };
        let errand = Errand::new(origin, &of);
        let begun = Instant::now();
        let done = tokio::time::timeout(EVENT_TIME, self.run(&errand, event, missing)).await;
        let wait_ms = begun.elapsed().as_millis() as f64;
        let work = Work {
            wait_ms,
            ..Work::default()
        };
        self.asked.budgets.spend(origin, work);
        done.unwrap_or_else(|_| Err(incomplete(event, "it took too long")))
    }

    async fn run(
        &self,
        errand: &Errand<'_>,
        event: &Arc<StoredEvent>,
        missing: Missing,
    ) -> Result<Verdict, FederationError> {
        let line = match missing.prev.is_empty() {
            true => Vec::new(),
            false => {
                let between = self.between(errand, event).await?;
                // Who sends an event has what comes right before it; one that does not show that
                // is not to say instead what the state there was.
                if !missing.prev.iter().all(|id| between.shows(id)) {
                    let cause = "its server does not show what comes right before it";
                    return Err(incomplete(event, cause));
                }
                between.line
            }
        };
        for before in &line {
            // One that cannot be received leaves a gap before the next, which is then bridged.
            match self.place(errand, before).await {
                Err(error) if error.is_ours() => return Err(error),
                Err(error) => tracing::debug!(%error, "an event in between is passed over"),
                Ok(verdict) => tracing::trace!(event = before.event_id(), ?verdict, "in between"),
            }
        }
        self.place(errand, event).await
    }

    /// Receives one event of those that lead up to another; bridges the gap before it, and fetches
    /// its auth events.
    async fn place(
        &self,
        errand: &Errand<'_>,
        event: &Arc<StoredEvent>,
    ) -> Result<Verdict, FederationError> {
        let mut gaps: Vec<Gap> = Vec::new();
        let mut before = Missing::default();
        loop {
            let how = Arrival {
                gaps: gaps.clone(),
                ..Arrival::default()
            };
            let received = self.rooms.receive(&errand.of.room_id, event.clone(), how);
            let missing = match received.await? {
                Verdict::Missing(missing) if missing == before => {
                    return Err(incomplete(event, "nobody gives it to us"));
                }
                Verdict::Missing(missing) => missing,
                verdict => return Ok(verdict),
            };
            for prev in &missing.prev {
                if !gaps.iter().any(|gap| gap.prev_event == *prev) {
                    gaps.push(self.gap(errand, prev).await?);
                }
            }
            if !missing.auth.is_empty() {
                self.auth_of(errand, event.event_id(), missing.auth.clone())
                    .await?;
            }
            before = missing;
        }
    }

    /// The events between what we have and an event, as far as they are given.
    async fn between(
        &self,
        errand: &Errand<'_>,
        event: &Arc<StoredEvent>,
    ) -> Result<Between, FederationError> {
        let rooms = self.rooms.clone();
        let room_id = errand.of.room_id.to_string();
        let ends = blocking(move || {
            let snap = rooms.store().snapshot();
            let room = rooms.room_nid(&snap, &room_id)?;
            room.map(|room| rooms.extremities(&snap, room)).transpose()
        });
        let Some(ends) = ends.await?? else {
            return Ok(Between::default());
        };
        let path = Path::v1("get_missing_events").part(&errand.of.room_id);
        let mut found: HashMap<String, Arc<StoredEvent>> = HashMap::new();
        let mut shown: Option<HashSet<String>> = None;
        let mut latest = vec![event.event_id().to_owned()];
        for _ in 0..ROUNDS {
            // No depth is named: what comes right before an event may lie below our ends, on
            // another branch, and is to be shown all the same.
            let body = json!({
                "limit": AT_ONCE,
                "earliest_events": ends.ids,
                "latest_events": latest,
            });
            let body = Object::from_json(&body, Mode::Lenient).unwrap_or_default();
            let ask = (Method::POST, &path, Some(&body));
            let asked = self.fetch(errand, ask, BETWEEN_FIELDS, LARGE);
            let given = match asked.await {
                Ok(given) => given,
                // Then the gap is bridged right before the event.
                Err(error) if found.is_empty() && !error.is_ours() => {
                    tracing::debug!(%error, "no events in between");
                    break;
                }
                Err(error) if error.is_ours() => return Err(error),
                Err(_) => break,
            };
            let before = found.len();
            // What is here already, in whatever form, is not in between.
            let ids: Vec<String> = given.iter().map(|e| e.event_id().to_owned()).collect();
            shown.get_or_insert_default().extend(ids.iter().cloned());
            let new: HashSet<String> = self.lacking(ids).await?.into_iter().collect();
            for given in given {
                let id = given.event_id();
                let is_between = id != event.event_id() && new.contains(id);
                if found.len() < BETWEEN && is_between {
                    found.insert(id.to_owned(), given);
                }
            }
            if found.len() == before || found.len() >= BETWEEN {
                break;
            }
            latest = self.open_ends(&found).await?;
            if latest.is_empty() {
                break;
            }
        }
        Ok(Between {
            line: in_order(leading_to(event, found)),
            shown,
        })
    }

    /// Those of some events that have prev events which are neither here in any form nor among
    /// them.
    async fn open_ends(
        &self,
        found: &HashMap<String, Arc<StoredEvent>>,
    ) -> Result<Vec<String>, FederationError> {
        let prevs: HashSet<String> = found
            .values()
            .flat_map(|event| event.prev_events())
            .filter(|id| !found.contains_key(id))
            .collect();
        let lacking = self.lacking(prevs.into_iter().collect()).await?;
        let lacking: HashSet<String> = lacking.into_iter().collect();
        let open = found.values().filter(|event| {
            let prevs = event.prev_events();
            prevs.iter().any(|id| lacking.contains(id))
        });
        Ok(open
            .map(|event| event.event_id().to_owned())
            .take(20)
            .collect())
    }
}

/// Those of some events from which prev events among them lead to another: on whatever branch, but
/// not what lies behind events that are here, which is history.
fn leading_to(
    event: &StoredEvent,
    mut found: HashMap<String, Arc<StoredEvent>>,
) -> HashMap<String, Arc<StoredEvent>> {
    let mut leading = HashMap::new();
    let mut next = event.prev_events();
    while let Some(id) = next.pop() {
        if let Some(before) = found.remove(&id) {
            next.extend(before.prev_events());
            leading.insert(id, before);
        }
    }
    leading
}

/// What a server gave of the events before one that it sent.
#[derive(Default)]
struct Between {
    /// Those that are to be received, oldest first.
    line: Vec<Arc<StoredEvent>>,
    /// The ids of all that it gave; nothing where it did not answer, or was not asked.
    shown: Option<HashSet<String>>,
}

impl Between {
    /// Whether it gave an event, or may have it but does not answer such questions.
    fn shows(&self, id: &str) -> bool {
        self.shown.as_ref().is_none_or(|shown| shown.contains(id))
    }
}

fn incomplete(event: &StoredEvent, cause: &str) -> FederationError {
    FederationError::Incomplete {
        event: event.event_id().to_owned(),
        cause: cause.to_owned(),
    }
}

/// Events such that each comes after its prev events among them. What is in a circle (possible
/// where ids are chosen) is left out.
pub(super) fn in_order(mut events: HashMap<String, Arc<StoredEvent>>) -> Vec<Arc<StoredEvent>> {
    let mut waits: HashMap<String, usize> = HashMap::new();
    let mut next: HashMap<String, Vec<String>> = HashMap::new();
    for (id, event) in &events {
        let prevs: HashSet<String> = event.prev_events().into_iter().collect();
        let inside = prevs.into_iter().filter(|prev| events.contains_key(prev));
        let mut count = 0;
        for prev in inside {
            next.entry(prev).or_default().push(id.clone());
            count += 1;
        }
        waits.insert(id.clone(), count);
    }
    // By depth, then id: the same order each time.
    let key = |events: &HashMap<String, Arc<StoredEvent>>, id: &str| {
        events.get(id).map_or(0, |event| event.depth())
    };
    let mut free: BTreeSet<(u64, String)> = waits
        .iter()
        .filter(|(_, count)| **count == 0)
        .map(|(id, _)| (key(&events, id), id.clone()))
        .collect();
    let mut ordered = Vec::with_capacity(events.len());
    while let Some((_, id)) = free.pop_first() {
        for after in next.remove(&id).unwrap_or_default() {
            let Some(count) = waits.get_mut(&after) else {
                continue;
            };
            *count -= 1;
            if *count == 0 {
                free.insert((key(&events, &after), after));
            }
        }
        ordered.extend(events.remove(&id));
    }
    ordered
}

/// Whether an event is a membership of whoever sent it.
fn is_own_member(event: &StoredEvent) -> bool {
    event.event_type() == "m.room.member" && event.state_key() == Some(event.sender())
}
