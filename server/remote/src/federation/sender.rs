//! Telling other servers what happened: transactions (server-server API, "Transactions").
//!
//! An event that others are to get is one row, whoever they are. The sender goes through these
//! rows once, gives each to the queues of the servers that are to get it (in memory, a number per
//! event), and keeps in the store only how far it has come and which servers are behind, so that
//! an event in a room of 5,000 servers costs one row, and a small one for each server that is not
//! reached. A server that missed much is not sent it all: it is told of each room how it stands
//! now, and fetches the rest as it likes.
//!
//! EDUs come in two kinds: those that must arrive are rows of the outbox, written with the change
//! that calls for them; those that only help now (typing, receipts, presence) are kept in memory,
//! the newest of each.

mod keep;
mod prepare;
mod queue;
mod run;
mod soon;
mod source;
mod status;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use parking_lot::Mutex;
use skerry_core::{Clock, DiceSource};
use skerry_store::{Store, StoreError};
use tokio::sync::Notify;

use super::peers::Peers;
use crate::outbox::Backoff;
use queue::Queues;
use soon::SoonEdu;
pub(crate) use source::Source;
pub use status::SendStatus;

/// How pauses grow while a server is there and takes nothing from us.
const TURNED_AWAY: Backoff = Backoff {
    first_ms: 2_000,
    longest_ms: 5 * 60_000,
};

/// What a [`Sender`] is made of.
pub(crate) struct SenderOptions {
    /// What is to be sent of rooms.
    pub(crate) source: Arc<dyn Source>,
    /// Keeps what has not been sent.
    pub(crate) store: Arc<Store>,
    /// Whom to send it to.
    pub(crate) peers: Peers,
    /// The time.
    pub(crate) clock: Arc<dyn Clock>,
    /// Chance.
    pub(crate) dice: Arc<dyn DiceSource>,
}

/// Tells other servers what happened. A cheap handle: clone it freely.
#[derive(Clone)]
pub struct Sender {
    inner: Arc<Inner>,
}

struct Inner {
    source: Arc<dyn Source>,
    store: Arc<Store>,
    peers: Peers,
    clock: Arc<dyn Clock>,
    queues: Mutex<Queues>,
    /// Something may be sent that could not be before.
    bell: Notify,
    /// Part of the ids of transactions: none is given twice, also not after a restart under a
    /// clock that was set back. What has an id that was there before is taken for a repetition.
    born: u64,
    count: AtomicU64,
}

impl Sender {
    /// Sends nothing before it runs.
    #[must_use]
    pub(crate) fn new(options: SenderOptions) -> Sender {
        let mut born = [0; 8];
        options.dice.dice().fill(&mut born);
        Sender {
            inner: Arc::new(Inner {
                born: u64::from_le_bytes(born),
                source: options.source,
                store: options.store,
                peers: options.peers,
                clock: options.clock,
                queues: Mutex::default(),
                bell: Notify::new(),
                count: AtomicU64::new(0),
            }),
        }
    }

    /// A server spoke to us: what waits for it because it was not reached is sent now, and what
    /// waits because it turned us away is sent soon.
    ///
    /// # Errors
    /// The store's.
    pub fn heard_from(&self, server: &str) -> Result<(), StoreError> {
        let inner = &self.inner;
        let was_left_alone = inner.peers.standings().heard_from(server);
        if !was_left_alone && inner.queues.lock().rested_at().is_none() {
            return Ok(());
        }
        let Some(nid) = inner.store.server_nid(server)? else {
            return Ok(());
        };
        let changed = {
            let mut queues = inner.queues.lock();
            if was_left_alone {
                queues.hurry(nid);
            }
            let soon_ms = inner.clock.now_ms().saturating_add(TURNED_AWAY.first_ms);
            was_left_alone || queues.shorten(nid, soon_ms)
        };
        if changed {
            inner.bell.notify_one();
        }
        Ok(())
    }

    /// Sends an EDU that only helps now: it is kept in memory, and a later one of the same type
    /// and key takes its place. `content` is a JSON object. Servers with which this one does not
    /// talk are passed over.
    ///
    /// # Errors
    /// The store's.
    pub fn send_soon(
        &self,
        servers: &[Arc<str>],
        edu_type: &str,
        key: &str,
        content: &str,
    ) -> Result<(), StoreError> {
        let inner = &self.inner;
        let edu = Arc::new(SoonEdu::new(edu_type, key, content, inner.clock.now_ms()));
        for name in servers {
            if **name == **inner.peers.own_name() || !inner.peers.policy().permits(name) {
                continue;
            }
            let server = inner.store.intern_server(name)?;
            inner.queues.lock().add_soon(server, name, Arc::clone(&edu));
        }
        inner.bell.notify_one();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
