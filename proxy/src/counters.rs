//! What happens at the doors, counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What happened at all doors since the start.
#[derive(Debug, Default)]
pub struct Counters {
    accepted: AtomicU64,
    open: AtomicU64,
    handshakes: AtomicU64,
    failed_handshakes: AtomicU64,
    dropped: AtomicU64,
    refused: AtomicU64,
}

/// [`Counters`] as they stood.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Connections that were taken.
    pub accepted: u64,
    /// Those of them that are open.
    pub open: u64,
    /// TLS handshakes that came to a good end.
    pub handshakes: u64,
    /// Those that did not, or not in time.
    pub failed_handshakes: u64,
    /// Connections that were dropped because their address has too many or asks too much.
    pub dropped: u64,
    /// Requests that were refused because their address asks too much.
    pub refused: u64,
}

impl Counters {
    /// How they stand.
    #[must_use]
    pub fn counted(&self) -> Counted {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counted {
            accepted: read(&self.accepted),
            open: read(&self.open),
            handshakes: read(&self.handshakes),
            failed_handshakes: read(&self.failed_handshakes),
            dropped: read(&self.dropped),
            refused: read(&self.refused),
        }
    }

    /// A connection was taken.
    pub(crate) fn accept(self: &Arc<Self>) -> OpenConnection {
        self.accepted.fetch_add(1, Ordering::Relaxed);
        self.open.fetch_add(1, Ordering::Relaxed);
        OpenConnection(Arc::clone(self))
    }

    pub(crate) fn handshake(&self, good: bool) {
        let count = match good {
            true => &self.handshakes,
            false => &self.failed_handshakes,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn drop_one(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn refuse(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }
}

/// Counts as open as long as it lives.
pub(crate) struct OpenConnection(Arc<Counters>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}
