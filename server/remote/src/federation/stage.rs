//! Taking in the state of a room as another server gives it, however large: read while it comes,
//! checked in batches on all cores, and laid aside as outliers.

use std::sync::Arc;

use skerry_core::canonical::MAX_INPUT_BYTES;
use skerry_core::{RoomVersion, StoredEvent};
use tokio::task::JoinHandle;

use super::Federation;
use super::fault::FederationError;
use super::pieces::{Field, Piece, Pieces, Want};
use crate::http::Streamed;

/// The most events that a room's state may have.
const MAX_STATE: usize = 400_000;
/// The most events that they may rest on.
const MAX_AUTH: usize = 600_000;
/// The largest answer, in bytes: it is never held whole.
pub(super) const STAGED_MAX: usize = 1 << 30;
/// Events checked and kept at once.
const BATCH_EVENTS: usize = 1_000;
/// Bytes of events after which a batch is full.
const BATCH_BYTES: usize = 2 << 20;
/// Bytes that are read at once.
const CHUNK_BYTES: usize = 64 << 10;

/// Which of the fields is the state itself.
const STATE: usize = 0;
/// Which of the fields is what it rests on.
const AUTH: usize = 1;
/// Which of the fields of `/send_join` is the event as the other server signed it.
const EVENT: usize = 2;
/// Which of them says that members were left out.
const OMITTED: usize = 3;

/// The fields of an answer of `/send_join`.
pub(super) const OF_JOIN: &[Field] = &[
    events("state", MAX_STATE),
    events("auth_chain", MAX_AUTH),
    Field {
        name: "event",
        want: Want::Whole,
        max_bytes: MAX_INPUT_BYTES,
    },
    Field {
        name: "members_omitted",
        want: Want::Whole,
        max_bytes: 16,
    },
];

/// The fields of an answer of `/state`.
pub(super) const OF_STATE: &[Field] = &[events("pdus", MAX_STATE), events("auth_chain", MAX_AUTH)];

/// A list of events.
pub(super) const fn events(name: &'static str, most: usize) -> Field {
    Field {
        name,
        want: Want::Items(most),
        max_bytes: MAX_INPUT_BYTES,
    }
}

/// Of which room events are.
#[derive(Clone, Debug)]
pub(super) struct Of {
    pub(super) room_id: Arc<str>,
    pub(super) version: RoomVersion,
}

/// What was laid aside.
#[derive(Debug, Default)]
pub(super) struct Staged {
    /// Ids of the events that are the state, in the order in which they came.
    pub(super) state: Vec<String>,
    /// Ids of events that others rest on and that are not here; at most 1,000.
    pub(super) missing: Vec<String>,
    /// How many events were no events of the room, or not signed as they have to be.
    pub(super) refused: usize,
    /// How many bytes the answer had.
    pub(super) bytes: usize,
    /// The join event as the other server gave it back.
    pub(super) event: Option<Vec<u8>>,
    /// Members were left out, although they were asked for.
    pub(super) omitted: bool,
}

impl Federation {
    /// Takes in a state and what it rests on. Nothing of it is seen by anybody until something
    /// rests on it.
    pub(super) async fn stage(
        &self,
        (server, mut body): (&str, Streamed),
        of: &Of,
        fields: &'static [Field],
    ) -> Result<Staged, FederationError> {
        let mut reader = Pieces::new(fields);
        let mut stager = Stager::new(self, of);
        let mut pieces = Vec::new();
        loop {
            let next = body.next().await;
            let next = next.map_err(|error| FederationError::answer(server, error.to_string()))?;
            let Some(bytes) = next else { break };
            stager.staged.bytes += bytes.len();
            for part in bytes.chunks(CHUNK_BYTES) {
                let read = reader.feed(part, &mut pieces);
                read.map_err(|error| FederationError::unread(server, &error))?;
                for piece in pieces.drain(..) {
                    stager.take(piece).await?;
                }
            }
        }
        let ended = reader.end();
        ended.map_err(|error| FederationError::unread(server, &error))?;
        stager.end().await
    }

    /// Checks a batch of events and keeps those that are good.
    async fn keep(self, of: Of, batch: Batch) -> Result<Kept, FederationError> {
        let Batch { raw, is_state, .. } = batch;
        let total = raw.len();
        let checked = self.check(&of, raw).await?;
        let mut kept = Kept::default();
        let mut events = Vec::with_capacity(total);
        for (event, is_state) in checked.into_iter().zip(is_state) {
            let Some(event) = event else {
                kept.refused += 1;
                continue;
            };
            if is_state && event.is_state() {
                kept.state.push(event.event_id().to_owned());
            }
            events.push(event);
        }
        if !events.is_empty() {
            let keeping = self.rooms.keep_outliers(&of.room_id, of.version, events);
            keeping.await?;
        }
        Ok(kept)
    }

    /// The events among these that are of the room and genuine, each in its place.
    pub(super) async fn check(
        &self,
        of: &Of,
        raw: Vec<Vec<u8>>,
    ) -> Result<Vec<Option<Arc<StoredEvent>>>, FederationError> {
        let checked = self.checker.check_texts(of.version, raw).await?;
        let good = |checked: Result<Arc<StoredEvent>, _>| match checked {
            Ok(event) if event.room_id() == &*of.room_id => Some(event),
            Ok(event) => {
                tracing::debug!(
                    event = event.event_id(),
                    room = &*of.room_id,
                    "of another room"
                );
                None
            }
            Err(fault) => {
                tracing::debug!(%fault, room = &*of.room_id, "an event that was fetched is refused");
                None
            }
        };
        Ok(checked.into_iter().map(good).collect())
    }
}

/// Events that wait to be checked.
#[derive(Default)]
struct Batch {
    raw: Vec<Vec<u8>>,
    /// For each whether it is of the state.
    is_state: Vec<bool>,
    bytes: usize,
}

/// What became of a batch.
#[derive(Default)]
struct Kept {
    state: Vec<String>,
    refused: usize,
}

/// Fills batches; while one fills, the one before is checked and kept.
struct Stager<'a> {
    federation: &'a Federation,
    of: &'a Of,
    batch: Batch,
    running: Running,
    staged: Staged,
}

/// The batch that is being kept. Who gives up waiting gives it up too, at its next step.
#[derive(Default)]
struct Running(Option<JoinHandle<Result<Kept, FederationError>>>);

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(running) = &self.0 {
            running.abort();
        }
    }
}

impl Stager<'_> {
    fn new<'a>(federation: &'a Federation, of: &'a Of) -> Stager<'a> {
        Stager {
            federation,
            of,
            batch: Batch::default(),
            running: Running::default(),
            staged: Staged::default(),
        }
    }

    async fn take(&mut self, piece: Piece) -> Result<(), FederationError> {
        match piece.field {
            STATE | AUTH => {
                self.batch.bytes += piece.json.len();
                self.batch.is_state.push(piece.field == STATE);
                self.batch.raw.push(piece.json);
            }
            EVENT => self.staged.event = Some(piece.json),
            OMITTED => self.staged.omitted = piece.json == b"true",
            _ => {}
        }
        if self.batch.raw.len() >= BATCH_EVENTS || self.batch.bytes >= BATCH_BYTES {
            self.settle().await?;
            let keeping = self
                .federation
                .clone()
                .keep(self.of.clone(), std::mem::take(&mut self.batch));
            self.running.0 = Some(tokio::spawn(keeping));
        }
        Ok(())
    }

    /// Waits for the batch before.
    async fn settle(&mut self) -> Result<(), FederationError> {
        let Some(running) = &mut self.running.0 else {
            return Ok(());
        };
        let kept = running.await;
        self.running.0 = None;
        let kept = kept.map_err(|error| FederationError::Stopped(error.to_string()))??;
        self.staged.state.extend(kept.state);
        self.staged.refused += kept.refused;
        Ok(())
    }

    async fn end(mut self) -> Result<Staged, FederationError> {
        self.settle().await?;
        let last = std::mem::take(&mut self.batch);
        let keeping = self.federation.clone().keep(self.of.clone(), last);
        self.running.0 = Some(tokio::spawn(keeping));
        self.settle().await?;
        // All that was left to be judged until the rest is there.
        let Of { room_id, version } = self.of;
        let rooms = &self.federation.rooms;
        self.staged.missing = rooms.keep_outliers(room_id, *version, Vec::new()).await?;
        Ok(self.staged)
    }
}
