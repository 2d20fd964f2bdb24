//! The inbox's worker: each room's PDUs in order, rooms beside each other.

use std::collections::HashSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use skerry_core::{Pos, RoomNid};
use skerry_store::schema::inbox::{Inbox as Rows, InboxAsideRow, InboxRow};
use skerry_store::{Scan, StoreError, blocking};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{Inbox, set_aside};

/// How many rooms are worked on at once. Most of the time of a slow one is waiting for servers.
const ROOMS: usize = 128;

/// How many PDUs of a room are judged together, at most.
const BATCH: usize = 100;
/// How many bytes of PDUs of a room are judged together; one PDU may be larger.
const BATCH_BYTES: usize = 256 * 1024;

/// How patient the inbox is.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// How long judging may take, be it one PDU or several.
    pub budget: Duration,
    /// How long a room waits after the store failed.
    pub retry_after: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience {
            budget: Duration::from_secs(60),
            retry_after: Duration::from_secs(5),
        }
    }
}

/// A PDU to be judged.
#[derive(Clone, Debug)]
pub struct Pending {
    /// The server whose transaction it came in.
    pub origin: Arc<str>,
    /// The PDU, as JSON.
    pub pdu: Vec<u8>,
}

/// What became of a PDU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was judged, for or against, and is done with.
    Judged,
    /// No judgement could be come to; says why. It is kept to be looked at.
    Aside(String),
    /// The store failed: it and what is behind it have to be tried again.
    Again,
}

/// Who judges PDUs.
pub trait Receive: Send + Sync {
    /// Judges PDUs of one room in order, and answers for each; or says why that went wrong, for
    /// all of them.
    fn receive<'a>(
        &'a self,
        room_id: &'a str,
        pdus: Vec<Pending>,
    ) -> BoxFuture<'a, Result<Vec<Outcome>, String>>;
}

/// A row of the inbox and its place.
type Waiting = (Pos, InboxRow);

impl Inbox {
    /// Judges what comes in until `stop` becomes true. What is not done by then is found again
    /// at the next start.
    pub async fn run(
        self,
        receive: Arc<dyn Receive>,
        patience: Patience,
        mut stop: watch::Receiver<bool>,
    ) {
        let mut running: JoinSet<RoomNid> = JoinSet::new();
        let mut busy = HashSet::new();
        loop {
            while running.len() < ROOMS
                && let Some(room) = self.next_room(&busy)
            {
                busy.insert(room);
                running.spawn(self.clone().turn(Arc::clone(&receive), patience, room));
            }
            let done = tokio::select! {
                () = self.inner.bell.notified() => continue,
                Some(done) = running.join_next(), if !running.is_empty() => done,
                _ = stop.wait_for(|stop| *stop) => return,
            };
            match done {
                Ok(room) => {
                    busy.remove(&room);
                }
                // Cannot happen: a turn catches what it calls.
                Err(error) => tracing::error!(%error, "a turn of the inbox ended badly"),
            }
        }
    }

    /// The next room that nobody works on.
    fn next_room(&self, busy: &HashSet<RoomNid>) -> Option<RoomNid> {
        let mut waiting = self.inner.waiting.lock();
        let place = waiting.queue.iter().position(|room| !busy.contains(room))?;
        let room = waiting.queue.remove(place)?;
        waiting.listed.remove(&room);
        Some(room)
    }

    /// One room's turn: some of its PDUs; the room goes to the end of the queue if there are more.
    async fn turn(self, receive: Arc<dyn Receive>, patience: Patience, room: RoomNid) -> RoomNid {
        match self.work(&*receive, patience.budget, room).await {
            Ok(false) => {}
            Ok(true) => self.inner.waiting.lock().list(room),
            Err(error) => {
                if !matches!(error, StoreError::Closed | StoreError::Full) {
                    tracing::error!(%error, "PDUs have to be judged again");
                }
                tokio::time::sleep(patience.retry_after).await;
                self.inner.waiting.lock().list(room);
            }
        }
        room
    }

    /// Judges the oldest PDUs of a room; whether there may be more.
    async fn work(
        &self,
        receive: &dyn Receive,
        budget: Duration,
        room: RoomNid,
    ) -> Result<bool, StoreError> {
        let this = self.clone();
        let (room_id, batch) = blocking(move || this.oldest(room)).await??;
        if batch.is_empty() {
            return Ok(false);
        }
        let mut pending = Vec::with_capacity(batch.len());
        for (_, row) in &batch {
            pending.push(Pending {
                origin: self.inner.store.server_name(row.origin)?,
                pdu: row.pdu.clone(),
            });
        }
        let outcomes = judge(receive, budget, &room_id, pending).await;
        let again = outcomes.contains(&Outcome::Again);
        let this = self.clone();
        blocking(move || this.clear(room, batch, outcomes)).await??;
        if again {
            return Err(StoreError::Full);
        }
        Ok(true)
    }

    fn oldest(&self, room: RoomNid) -> Result<(Arc<str>, Vec<Waiting>), StoreError> {
        let snap = self.inner.store.newest();
        let (mut batch, mut bytes) = (Vec::new(), 0);
        for row in snap.scan::<Rows>(Scan::prefix(&room).limit(BATCH)) {
            let ((_, pos), row) = row?;
            bytes += row.pdu.len();
            if bytes > BATCH_BYTES && !batch.is_empty() {
                break;
            }
            batch.push((pos, row));
        }
        Ok((self.inner.store.room_id(room)?, batch))
    }

    /// Takes away what was judged, up to the first PDU that has to be tried again.
    fn clear(
        &self,
        room: RoomNid,
        batch: Vec<Waiting>,
        outcomes: Vec<Outcome>,
    ) -> Result<(), StoreError> {
        let inner = &*self.inner;
        let mut w = inner.store.write();
        let (mut origins, mut aside) = (Vec::new(), Vec::new());
        for ((pos, row), outcome) in batch.into_iter().zip(outcomes) {
            let reason = match outcome {
                Outcome::Again => break,
                Outcome::Judged => None,
                Outcome::Aside(reason) => Some(reason),
            };
            w.delete::<Rows>(&(room, pos));
            origins.push(row.origin);
            if let Some(reason) = reason {
                tracing::info!(?room, ?pos, %reason, "a PDU was set aside");
                aside.push(InboxAsideRow {
                    origin: row.origin,
                    at_ms: inner.clock.now_ms(),
                    reason,
                    pdu: row.pdu,
                });
            }
        }
        if !aside.is_empty() {
            set_aside(&inner.store.newest(), &mut w, room, aside)?;
        }
        if !w.is_empty() {
            // Not waited for: what is lost is judged again, and known.
            let _ = inner.store.commit(w)?;
        }
        let mut waiting = inner.waiting.lock();
        for origin in origins {
            waiting.uncount(origin);
        }
        Ok(())
    }
}

/// Judges PDUs together; where that crashes or takes too long, one by one, so that only the one
/// whose fault it is is set aside.
async fn judge(
    receive: &dyn Receive,
    budget: Duration,
    room_id: &str,
    pending: Vec<Pending>,
) -> Vec<Outcome> {
    let count = pending.len();
    if count > 1 {
        match attempt(receive, budget, room_id, pending.clone()).await {
            Ok(outcomes) => return outcomes,
            Err(reason) => tracing::debug!(room_id, reason, "PDUs are judged one by one"),
        }
    }
    let mut outcomes = Vec::with_capacity(count);
    for one in pending {
        match attempt(receive, budget, room_id, vec![one]).await {
            Ok(one) => outcomes.extend(one),
            Err(reason) => outcomes.push(Outcome::Aside(reason)),
        }
        if outcomes.last() == Some(&Outcome::Again) {
            break;
        }
    }
    outcomes
}

/// One answer for each PDU, or why there is none.
async fn attempt(
    receive: &dyn Receive,
    budget: Duration,
    room_id: &str,
    pending: Vec<Pending>,
) -> Result<Vec<Outcome>, String> {
    let count = pending.len();
    let judging = AssertUnwindSafe(receive.receive(room_id, pending)).catch_unwind();
    match tokio::time::timeout(budget, judging).await {
        Ok(Ok(Ok(outcomes))) if outcomes.len() == count => Ok(outcomes),
        Ok(Ok(Ok(_))) => Err("not every PDU was judged".to_owned()),
        Ok(Ok(Err(reason))) => Err(reason),
        Ok(Err(_)) => {
            tracing::error!(room_id, "judging PDUs crashed");
            Err("judging it crashed".to_owned())
        }
        Err(_) => Err(format!("judging it took more than {budget:?}")),
    }
}
