//! The durable inbox: PDUs are taken with the answer to their transaction in one commit, and
//! judged afterwards, per room and in the order they came (`work.rs`).
//!
//! So a restart loses nothing that was acknowledged, a transaction that is repeated gets the
//! answer it got before, and a room that takes long holds up no other.

mod work;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use skerry_core::{Clock, RoomNid, ServerNid};
use skerry_store::schema::inbox::{
    Inbox as Rows, InboxAside, InboxAsideRow, InboxRow, InboxTxn, InboxTxnRow,
};
use skerry_store::{LaneGuard, Lanes, Scan, Snapshot, Store, StoreError, Write, blocking};
use tokio::sync::Notify;

pub use work::{Outcome, Patience, Pending, Receive};

/// How many PDUs of one server may wait; more are refused until some are judged.
const MAX_WAITING: usize = 5_000;

/// How many PDUs that were set aside are kept to be looked at.
const MAX_ASIDE: usize = 1_000;

/// How long the answer to a transaction is kept, in ms.
const TXN_KEPT_MS: u64 = 3 * 24 * 3_600_000;

/// What other servers sent and what is still to be judged. Cheap to clone.
#[derive(Clone)]
pub struct Inbox {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    /// One request at a time of each transaction.
    lanes: Lanes<(ServerNid, String)>,
    waiting: Mutex<Waiting>,
    bell: Notify,
}

/// What waits, by room and by server. A room may be listed that has nothing any more; looking
/// finds that out.
#[derive(Default)]
struct Waiting {
    queue: VecDeque<RoomNid>,
    /// The rooms of the queue.
    listed: HashSet<RoomNid>,
    of_server: HashMap<ServerNid, usize>,
}

impl Waiting {
    fn list(&mut self, room: RoomNid) {
        if self.listed.insert(room) {
            self.queue.push_back(room);
        }
    }

    fn count(&mut self, server: ServerNid, more: usize) {
        if more > 0 {
            *self.of_server.entry(server).or_default() += more;
        }
    }

    fn uncount(&mut self, server: ServerNid) {
        if let Some(count) = self.of_server.get_mut(&server) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.of_server.remove(&server);
            }
        }
    }
}

/// A transaction while it is being answered: an equal one waits for it.
pub struct Open {
    server: ServerNid,
    txn: String,
    _lane: LaneGuard<(ServerNid, String)>,
}

/// How a transaction begins.
pub enum Begun {
    /// It is new.
    New(Open),
    /// It was answered before, like this (JSON).
    Answered(Vec<u8>),
    /// The server has more waiting than anybody may.
    Busy,
}

impl Inbox {
    /// The inbox of a store; finds what waits in it.
    ///
    /// # Errors
    /// The store's.
    pub fn open(store: Arc<Store>, clock: Arc<dyn Clock>) -> Result<Inbox, StoreError> {
        let mut waiting = Waiting::default();
        for row in store.newest().scan::<Rows>(Scan::all()) {
            let ((room, _), row) = row?;
            waiting.list(room);
            waiting.count(row.origin, 1);
        }
        Ok(Inbox {
            inner: Arc::new(Inner {
                store,
                clock,
                lanes: Lanes::new(),
                waiting: Mutex::new(waiting),
                bell: Notify::new(),
            }),
        })
    }

    /// Begins a transaction of a server. The id may be any text of bounded length.
    ///
    /// # Errors
    /// The store's.
    pub async fn begin(&self, server: &str, txn: &str) -> Result<Begun, StoreError> {
        let inner = Arc::clone(&self.inner);
        let name = server.to_owned();
        let server = blocking(move || inner.store.intern_server(&name)).await??;
        let key = (server, txn.to_owned());
        let lane = self.inner.lanes.lock(key.clone()).await;
        let inner = Arc::clone(&self.inner);
        // What is published: an answer is repeated only once it is durable.
        let read = move || inner.store.snapshot().get::<InboxTxn>(&key);
        if let Some(row) = blocking(read).await?? {
            return Ok(Begun::Answered(row.answer));
        }
        let waiting = self.inner.waiting.lock();
        if waiting.of_server.get(&server).copied().unwrap_or(0) >= MAX_WAITING {
            return Ok(Begun::Busy);
        }
        Ok(Begun::New(Open {
            server,
            txn: txn.to_owned(),
            _lane: lane,
        }))
    }

    /// Takes the PDUs of a transaction (room and JSON each) together with its answer. Durable
    /// when it returns.
    ///
    /// # Errors
    /// The store's; nothing was taken then.
    pub async fn take(
        &self,
        open: Open,
        pdus: Vec<(RoomNid, Vec<u8>)>,
        answer: Vec<u8>,
    ) -> Result<(), StoreError> {
        let this = self.clone();
        blocking(move || this.take_now(open, pdus, answer)).await?
    }

    fn take_now(
        &self,
        open: Open,
        pdus: Vec<(RoomNid, Vec<u8>)>,
        answer: Vec<u8>,
    ) -> Result<(), StoreError> {
        let inner = &*self.inner;
        let at_ms = inner.clock.now_ms();
        let origin = open.server;
        let mut w = inner.store.write();
        let mut rooms = Vec::with_capacity(pdus.len());
        for (room, pdu) in pdus {
            rooms.push(room);
            let pos = w.stamp();
            w.put::<Rows>(&(room, pos), &InboxRow { origin, at_ms, pdu });
        }
        let key = (origin, open.txn.clone());
        w.put::<InboxTxn>(&key, &InboxTxnRow { at_ms, answer });
        let applied = inner.store.commit(w)?;
        inner.store.wait_durable(&applied)?;
        let mut waiting = inner.waiting.lock();
        waiting.count(origin, rooms.len());
        for room in rooms {
            waiting.list(room);
        }
        drop(waiting);
        inner.bell.notify_one();
        Ok(())
    }

    /// Forgets what was answered to transactions that no server repeats any more.
    ///
    /// # Errors
    /// The store's.
    pub async fn sweep(&self) -> Result<(), StoreError> {
        let inner = Arc::clone(&self.inner);
        blocking(move || {
            let before_ms = inner.clock.now_ms().saturating_sub(TXN_KEPT_MS);
            let snap = inner.store.snapshot();
            let mut w = inner.store.write();
            for row in snap.scan::<InboxTxn>(Scan::all()) {
                let (key, row) = row?;
                if row.at_ms < before_ms {
                    w.delete::<InboxTxn>(&key);
                }
            }
            if !w.is_empty() {
                // Not waited for: losing it costs nothing but doing it again.
                let _ = inner.store.commit(w)?;
            }
            Ok(())
        })
        .await?
    }

    /// What was set aside, oldest first: server, reason and PDU.
    ///
    /// # Errors
    /// The store's.
    pub fn aside(&self, snap: &Snapshot) -> Result<Vec<(Arc<str>, InboxAsideRow)>, StoreError> {
        snap.scan::<InboxAside>(Scan::all())
            .map(|row| {
                let (_, row) = row?;
                Ok((self.inner.store.server_name(row.origin)?, row))
            })
            .collect()
    }

    /// How many PDUs wait to be judged.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.inner.waiting.lock().of_server.values().sum()
    }
}

/// Keeps a PDU on which no judgement could be come to, up to 1,000 in all.
fn set_aside(
    snap: &Snapshot,
    w: &mut Write,
    room: RoomNid,
    rows: Vec<InboxAsideRow>,
) -> Result<(), StoreError> {
    let mut kept = Vec::new();
    for row in snap.scan::<InboxAside>(Scan::all()) {
        kept.push(row?.0);
    }
    let surplus = (kept.len() + rows.len()).saturating_sub(MAX_ASIDE);
    for key in kept.into_iter().take(surplus) {
        w.delete::<InboxAside>(&key);
    }
    for row in rows {
        let pos = w.stamp();
        w.put::<InboxAside>(&(pos, room), &row);
    }
    Ok(())
}
