//! Reading a room's past, where not all of it is here: what is missing is fetched first.

use std::sync::Arc;
use std::time::Duration;

use skerry_room::{ContextAsk, MessagesAsk, RoomError, Rooms, Told, Viewer};
use skerry_store::{Snapshot, blocking};

use super::Federation;
use super::ask::Timed;
use super::fault::FederationError;

/// How often one answer fetches history.
const FILLS: usize = 3;
/// Servers that are asked for an event by its time.
const MOST_SERVERS: usize = 3;
/// How long an answer that has something waits for more of it: who asks on from its end waits
/// longer.
const CUT_SHORT: Duration = Duration::from_secs(10);

impl Federation {
    /// A page of a room's timeline, as `Rooms::messages_json` has it.
    ///
    /// # Errors
    /// `Forbidden` to who may not look into the room; the store's. Where other servers do not give
    /// what is missing, the page does without.
    pub async fn messages(
        &self,
        viewer: Viewer,
        room_id: String,
        ask: MessagesAsk,
    ) -> Result<Vec<u8>, FederationError> {
        self.told(room_id, move |rooms, snap, room_id| {
            rooms.messages_json(snap, &viewer, room_id, &ask)
        })
        .await
    }

    /// What stands around an event, as `Rooms::context_json` has it.
    ///
    /// # Errors
    /// As [`Federation::messages`], and `NotFound` if they may not see the event.
    pub async fn context(
        &self,
        viewer: Viewer,
        room_id: String,
        ask: ContextAsk,
    ) -> Result<Vec<u8>, FederationError> {
        self.told(room_id, move |rooms, snap, room_id| {
            rooms.context_json(snap, &viewer, room_id, &ask)
        })
        .await
    }

    /// Reads, fetches what the answer lacks, and reads again.
    async fn told(
        &self,
        room_id: String,
        read: impl Fn(&Rooms, &Snapshot, &str) -> Result<Told, RoomError> + Send + Sync + 'static,
    ) -> Result<Vec<u8>, FederationError> {
        let read = Arc::new(read);
        let mut fills = 0;
        loop {
            let (rooms, read, id) = (self.rooms.clone(), Arc::clone(&read), room_id.clone());
            let told = blocking(move || read(&rooms, &rooms.store().snapshot(), &id));
            let told = told.await??;
            let Some(hole) = told.hole.filter(|_| fills < FILLS) else {
                return Ok(told.json);
            };
            fills += 1;
            let fill = self.fill(&room_id, &hole);
            let filled = match told.cut_short {
                true => tokio::time::timeout(CUT_SHORT, fill)
                    .await
                    .unwrap_or(Ok(false))?,
                false => fill.await?,
            };
            if !filled {
                return Ok(told.json);
            }
        }
    }

    /// The event of a room closest to a time (ms since the epoch), at or after it or, going back,
    /// at or before it: its id and its time. Where history is missing there, other servers are
    /// asked too.
    ///
    /// # Errors
    /// `Forbidden` to who may not look into the room; `NotFound` if nobody knows such an event.
    pub async fn event_at(
        &self,
        viewer: Viewer,
        room_id: String,
        (ts, back): (u64, bool),
    ) -> Result<(String, u64), FederationError> {
        let mut fills = 0;
        loop {
            let (rooms, viewer, id) = (self.rooms.clone(), viewer.clone(), room_id.clone());
            let read = blocking(move || {
                let snap = rooms.store().snapshot();
                let found = rooms.event_at_time(&snap, &viewer, &id, ts, back);
                Ok::<_, RoomError>((found, rooms.hole_at_time(&snap, &id, ts)?))
            });
            let (found, hole) = read.await??;
            let (found, hole) = match (found, hole) {
                (found @ (Ok(_) | Err(RoomError::NotFound(_))), Some(hole)) => (found, hole),
                (found, _) => return Ok(found?),
            };
            let elsewhere = self.timed_elsewhere(&room_id, (ts, back)).await?;
            let distance = |at: u64| at.abs_diff(ts);
            let nearest = match (&found, elsewhere) {
                (Ok((_, at)), Some(other)) if distance(other.origin_server_ts) >= distance(*at) => {
                    None
                }
                (_, other) => other,
            };
            let Some(nearest) = nearest else {
                return Ok(found?);
            };
            // With what lies between, so that clients can go there.
            fills += 1;
            if fills > FILLS || !self.fill(&room_id, &hole).await? {
                return Ok((nearest.event_id, nearest.origin_server_ts));
            }
        }
    }

    /// The nearest event that other servers know.
    async fn timed_elsewhere(
        &self,
        room_id: &str,
        (ts, back): (u64, bool),
    ) -> Result<Option<Timed>, FederationError> {
        let servers = self.servers_of(room_id).await?;
        for server in servers.iter().take(MOST_SERVERS) {
            match self.timed_by(server, room_id, (ts, back)).await {
                Ok(found) => return Ok(Some(found)),
                Err(error) => tracing::debug!(%error, room_id, "no event by time"),
            }
        }
        Ok(None)
    }
}
