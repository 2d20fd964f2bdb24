//! History from before our time in a room, or from a time when we were away: fetched when somebody
//! pages back to where ours ends.

use std::collections::HashMap;
use std::sync::Arc;

use http::Method;
use skerry_core::StoredEvent;
use skerry_room::Gap;
use std::time::Duration;

use super::call::{LARGE, PATIENT};
use super::fault::FederationError;
use super::fetch::in_order;
use super::paths::Path;
use super::pieces::Field;
use super::stage::{Of, events};
use super::{Federation, Limits};

/// Events asked for at once.
const AT_ONCE: &str = "100";
/// Servers asked for one hole.
const MOST_SERVERS: usize = 5;
/// Prev events of one answer that are bridged; events that rest on more stay out.
const MOST_GAPS: usize = 8;
/// How long filling one hole may take.
const HOLE_TIME: Duration = Duration::from_secs(60);
/// For how long a hole is left alone that nobody could fill, in ms.
const BARREN_MS: u64 = 5 * 60_000;

const FIELDS: &[Field] = &[events("pdus", 300)];

impl Federation {
    /// Fetches events that come before a hole: an event of the room whose prev events are not
    /// here. Says whether some came. A hole that nobody fills is left alone for some minutes.
    ///
    /// # Errors
    /// The store's; other servers that fail are no error.
    pub async fn fill(&self, room_id: &str, hole: &str) -> Result<bool, FederationError> {
        if self.is_barren(hole) {
            return Ok(false);
        }
        let _lane = self.asked.filling.lock(room_id.to_owned()).await;
        if self.is_barren(hole) {
            return Ok(false);
        }
        let filled = tokio::time::timeout(HOLE_TIME, self.fill_now(room_id, hole)).await;
        let filled = filled.unwrap_or(Ok(false))?;
        if !filled {
            let now_ms = self.clock.now_ms();
            self.asked.barren.put(hole, (), now_ms + BARREN_MS, now_ms);
        }
        Ok(filled)
    }

    fn is_barren(&self, hole: &str) -> bool {
        self.asked.barren.get(hole, self.clock.now_ms()).is_some()
    }

    async fn fill_now(&self, room_id: &str, hole: &str) -> Result<bool, FederationError> {
        let (rooms, id) = (self.rooms.clone(), room_id.to_owned());
        let version =
            skerry_store::blocking(move || rooms.room_version(&rooms.store().snapshot(), &id));
        let Some(version) = version.await?? else {
            return Ok(false);
        };
        let of = Of {
            room_id: room_id.into(),
            version,
        };
        let servers = self.servers_of(room_id).await?;
        for server in servers.iter().take(MOST_SERVERS) {
            match self.fill_from(server, &of, hole).await {
                Ok(0) => {}
                Ok(_) => return Ok(true),
                Err(error @ (FederationError::Room(_) | FederationError::Stopped(_))) => {
                    return Err(error);
                }
                Err(error) => tracing::debug!(%error, room_id, "no history from this server"),
            }
        }
        Ok(false)
    }

    /// Asks one server; how many events came.
    async fn fill_from(&self, server: &str, of: &Of, hole: &str) -> Result<usize, FederationError> {
        let path = Path::v1("backfill")
            .part(&of.room_id)
            .query("v", hole)
            .query("limit", AT_ONCE);
        let ask = (Method::GET, &path, None);
        let pieces = self
            .lists(server, ask, FIELDS, Limits::new(PATIENT, LARGE))
            .await?;
        let raw = pieces.into_iter().map(|piece| piece.json).collect();
        let given: HashMap<String, Arc<StoredEvent>> = self
            .check(of, raw)
            .await?
            .into_iter()
            .flatten()
            .map(|event| (event.event_id().to_owned(), event))
            .collect();
        let mut order = in_order(given);
        order.reverse();
        if order.is_empty() {
            return Ok(0);
        }
        let gaps = self.gaps_below(server, of, &order).await?;
        let first = self
            .rooms
            .backfill(&of.room_id, hole, order.clone(), gaps.clone())
            .await?;
        if first.missing.auth.is_empty() {
            return Ok(first.added);
        }
        // Not all that they rest on came with the state: once more, with that.
        self.complete_state(server, of, first.missing.auth).await?;
        let second = self.rooms.backfill(&of.room_id, hole, order, gaps).await?;
        Ok(first.added + second.added)
    }

    /// The state below events whose own prev events are neither here nor among them.
    async fn gaps_below(
        &self,
        server: &str,
        of: &Of,
        events: &[Arc<StoredEvent>],
    ) -> Result<Vec<Gap>, FederationError> {
        let mut outside: Vec<String> = events
            .iter()
            .flat_map(|event| event.prev_events())
            .filter(|id| !events.iter().any(|event| event.event_id() == id))
            .collect();
        outside.sort_unstable();
        outside.dedup();
        let mut gaps = Vec::new();
        for prev in self.unplaced(outside).await?.into_iter().take(MOST_GAPS) {
            match self.bridge(server, of, &prev).await {
                Ok(gap) => gaps.push(gap),
                Err(error) if error.is_ours() => return Err(error),
                Err(error) => tracing::debug!(%error, "no state below an event of the past"),
            }
        }
        Ok(gaps)
    }
}
