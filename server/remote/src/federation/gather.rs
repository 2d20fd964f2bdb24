//! Fetching what events rest on: the state before them and the events that allow them. What comes
//! is checked and laid aside as outliers.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use http::Method;
use skerry_core::StoredEvent;
use skerry_core::names::MAX_ID_BYTES;
use skerry_room::Gap;
use skerry_store::{StoreError, blocking};

use super::budget::Work;
use super::call::{Ask, LARGE, PATIENT, QUICK, SMALL};
use super::fault::FederationError;
use super::paths::Path;
use super::pieces::{Field, Want};
use super::stage::{OF_STATE, Of, STAGED_MAX, events};
use super::{Federation, Limits};

/// How long one event may hold its room up while what it rests on is fetched.
pub(super) const EVENT_TIME: Duration = Duration::from_secs(180);
/// How many levels of missing auth events are gone down.
const AUTH_ROUNDS: usize = 12;
/// Events that are fetched one by one, at most; more of a state are fetched with the whole of it.
const ONE_BY_ONE: usize = 400;
/// Requests for single events under way at once.
const ABREAST: usize = 8;
/// The most ids of a state, and of what it rests on.
const MAX_IDS: usize = 250_000;
/// The largest answer of ids, in bytes.
const IDS_MAX: usize = 24 << 20;

const EVENT_FIELDS: &[Field] = &[events("pdus", 10)];
const AUTH_FIELDS: &[Field] = &[events("auth_chain", 20_000)];
const IDS_FIELDS: &[Field] = &[ids("pdu_ids"), ids("auth_chain_ids")];

const fn ids(name: &'static str) -> Field {
    Field {
        name,
        want: Want::Items(MAX_IDS),
        max_bytes: 6 * MAX_ID_BYTES + 2,
    }
}

/// What is fetched for one event, and whom it is fetched from.
pub(super) struct Errand<'a> {
    pub(super) server: &'a str,
    pub(super) of: Of,
    pub(super) until: Instant,
}

impl<'a> Errand<'a> {
    /// An errand that begins now.
    pub(super) fn new(server: &'a str, of: &Of) -> Errand<'a> {
        Errand {
            server,
            of: of.clone(),
            until: Instant::now() + EVENT_TIME,
        }
    }

    /// Limits of the next request.
    fn limits(&self, max_response: usize) -> Result<Limits, FederationError> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(FederationError::Unreachable {
                server: self.server.to_owned(),
                cause: "it took too long".to_owned(),
            });
        }
        let timeout = left.min(if max_response <= SMALL {
            QUICK
        } else {
            PATIENT
        });
        Ok(Limits::new(timeout, max_response))
    }
}

impl Federation {
    /// The state before an event whose own past is not here: fetched, as far as it is not here.
    pub(super) async fn bridge(
        &self,
        server: &str,
        of: &Of,
        prev_event: &str,
    ) -> Result<Gap, FederationError> {
        self.gap(&Errand::new(server, of), prev_event).await
    }

    pub(super) async fn gap(
        &self,
        errand: &Errand<'_>,
        prev_event: &str,
    ) -> Result<Gap, FederationError> {
        let path = Path::v1("state_ids")
            .part(&errand.of.room_id)
            .query("event_id", prev_event);
        let limits = errand.limits(IDS_MAX)?;
        let asked = self.lists(
            errand.server,
            (Method::GET, &path, None),
            IDS_FIELDS,
            limits,
        );
        let (mut state, mut chain) = (Vec::new(), Vec::new());
        for piece in asked.await? {
            let id = serde_json::from_slice::<String>(&piece.json);
            let id = id.map_err(|_| FederationError::answer(errand.server, "ids are no texts"))?;
            if piece.field == 0 {
                state.push(id);
            } else {
                chain.push(id);
            }
        }
        let work = Work {
            events: (state.len() + chain.len()) as f64 / 20.0,
            ..Work::default()
        };
        self.asked.budgets.spend(errand.server, work);
        let all = state.iter().chain(&chain).cloned().collect();
        let mut lacking = self.lacking(all).await?;
        if lacking.len() > ONE_BY_ONE {
            self.whole_state(errand, prev_event).await?;
            lacking = self.lacking(lacking).await?;
        }
        lacking.push(prev_event.to_owned());
        lacking.truncate(ONE_BY_ONE);
        self.one_by_one(errand, lacking).await?;
        let gone: HashSet<String> = self.lacking(state.clone()).await?.into_iter().collect();
        if !self.lacking(vec![prev_event.to_owned()]).await?.is_empty() {
            return Err(FederationError::Incomplete {
                event: prev_event.to_owned(),
                cause: "it is not given to us".to_owned(),
            });
        }
        if gone.len() * 10 > state.len() {
            return Err(FederationError::Incomplete {
                event: prev_event.to_owned(),
                cause: format!("{} events of the state are not given to us", gone.len()),
            });
        }
        // Old rooms have a few events that nobody can prove any more.
        state.retain(|id| !gone.contains(id));
        Ok(Gap {
            prev_event: prev_event.to_owned(),
            state,
        })
    }

    /// Takes in the whole state before an event.
    async fn whole_state(&self, errand: &Errand<'_>, event: &str) -> Result<(), FederationError> {
        let path = Path::v1("state")
            .part(&errand.of.room_id)
            .query("event_id", event);
        let limits = errand.limits(STAGED_MAX)?;
        let body = self.open(errand.server, (Method::GET, &path, None), limits);
        let staged = self
            .stage((errand.server, body.await?), &errand.of, OF_STATE)
            .await?;
        let work = Work {
            events: staged.state.len() as f64,
            bytes: staged.bytes as f64,
            ..Work::default()
        };
        self.asked.budgets.spend(errand.server, work);
        Ok(())
    }

    /// Fetches the auth events of an event, and what those rest on.
    pub(super) async fn auth_of(
        &self,
        errand: &Errand<'_>,
        event: &str,
        missing: Vec<String>,
    ) -> Result<(), FederationError> {
        let path = Path::v1("event_auth").part(&errand.of.room_id).part(event);
        let asked = self.fetch(errand, (Method::GET, &path, None), AUTH_FIELDS, 4 * LARGE);
        let mut missing = match asked.await {
            Ok(events) => {
                let mut still = self.keep_events(errand, events).await?;
                still.extend(missing);
                self.lacking(still).await?
            }
            Err(error) if error.is_ours() => return Err(error),
            Err(error) => {
                tracing::debug!(%error, "no auth chain");
                missing
            }
        };
        if !missing.is_empty() {
            missing.truncate(ONE_BY_ONE);
            self.one_by_one(errand, missing).await?;
        }
        Ok(())
    }

    /// Fetches single events and what their auth events are, level by level, and lays them aside.
    async fn one_by_one(
        &self,
        errand: &Errand<'_>,
        mut wanted: Vec<String>,
    ) -> Result<(), FederationError> {
        let mut asked: HashSet<String> = HashSet::new();
        for _ in 0..AUTH_ROUNDS {
            wanted.retain(|id| asked.len() < 2 * ONE_BY_ONE && asked.insert(id.clone()));
            if wanted.is_empty() {
                return Ok(());
            }
            let mut events = Vec::new();
            for ids in wanted.chunks(ABREAST) {
                let fetching: Vec<_> = ids.iter().map(|id| self.single(errand, id)).collect();
                for event in join_all(fetching).await {
                    match event {
                        Ok(event) => events.extend(event),
                        Err(error) if error.is_ours() => return Err(error),
                        Err(error) => tracing::debug!(%error, "an event is not given"),
                    }
                }
            }
            wanted = self.keep_events(errand, events).await?;
            if wanted.is_empty() {
                // What was left to be judged until the rest is there may want more.
                wanted = self.keep_events(errand, Vec::new()).await?;
            }
        }
        Ok(())
    }

    /// One event by its id.
    async fn single(
        &self,
        errand: &Errand<'_>,
        event_id: &str,
    ) -> Result<Option<Arc<StoredEvent>>, FederationError> {
        let path = Path::v1("event").part(event_id);
        let given = self.fetch(errand, (Method::GET, &path, None), EVENT_FIELDS, SMALL);
        let mut given = given.await?.into_iter();
        Ok(given.find(|event| event.event_id() == event_id))
    }

    /// Lays events aside; gives ids of auth events that are not here.
    async fn keep_events(
        &self,
        errand: &Errand<'_>,
        events: Vec<Arc<StoredEvent>>,
    ) -> Result<Vec<String>, FederationError> {
        let of = &errand.of;
        let kept = self.rooms.keep_outliers(&of.room_id, of.version, events);
        Ok(kept.await?)
    }

    /// Asks for a list of events; those that are genuine and of the room.
    pub(super) async fn fetch(
        &self,
        errand: &Errand<'_>,
        ask: Ask<'_>,
        fields: &'static [Field],
        max_bytes: usize,
    ) -> Result<Vec<Arc<StoredEvent>>, FederationError> {
        if !self.asked.budgets.has_left(errand.server) {
            return Err(FederationError::Budget {
                server: errand.server.to_owned(),
            });
        }
        let limits = errand.limits(max_bytes)?;
        let pieces = self.lists(errand.server, ask, fields, limits).await?;
        let raw: Vec<Vec<u8>> = pieces.into_iter().map(|piece| piece.json).collect();
        let work = Work {
            events: raw.len() as f64,
            bytes: raw.iter().map(Vec::len).sum::<usize>() as f64,
            ..Work::default()
        };
        self.asked.budgets.spend(errand.server, work);
        let checked = self.check(&errand.of, raw).await?;
        Ok(checked.into_iter().flatten().collect())
    }

    /// Those of some events that are not here in any form.
    pub(super) async fn lacking(&self, ids: Vec<String>) -> Result<Vec<String>, FederationError> {
        if ids.is_empty() {
            return Ok(ids);
        }
        let rooms = self.rooms.clone();
        let lacking = blocking(move || rooms.lacks(&rooms.store().snapshot(), &ids));
        Ok(lacking.await??)
    }

    /// Those of some events whose past is not here: lacking, or known only because others rest on
    /// them.
    pub(super) async fn unplaced(&self, ids: Vec<String>) -> Result<Vec<String>, FederationError> {
        if ids.is_empty() {
            return Ok(ids);
        }
        let rooms = self.rooms.clone();
        let unplaced = blocking(move || {
            let snap = rooms.store().snapshot();
            let mut unplaced = Vec::new();
            for id in ids {
                let meta = match rooms.store().event_nid(&snap, &id)? {
                    Some(nid) => rooms.meta(&snap, nid)?,
                    None => None,
                };
                if meta.is_none_or(|meta| meta.is_outlier()) {
                    unplaced.push(id);
                }
            }
            Ok::<_, StoreError>(unplaced)
        });
        Ok(unplaced.await??)
    }

    /// Fetches what a state that was taken in rests on, as far as it is not here.
    pub(super) async fn complete_state(
        &self,
        server: &str,
        of: &Of,
        mut missing: Vec<String>,
    ) -> Result<(), FederationError> {
        missing.truncate(ONE_BY_ONE);
        self.one_by_one(&Errand::new(server, of), missing).await
    }
}
