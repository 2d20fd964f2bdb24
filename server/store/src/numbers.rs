//! Numbers for events and states: taken from counters in memory, kept in the head row.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use skerry_core::{EventNid, StateId};

/// The counters. Every commit stores both, so what a committed write took is never given out
/// again; what an abandoned write took may be lost, which leaves a hole and harms nothing.
#[derive(Debug, Clone)]
pub(crate) struct Numbers(Arc<(AtomicU64, AtomicU64)>);

impl Numbers {
    /// Counters that go on from the head row.
    pub(crate) fn new(next_event: u64, next_state: u64) -> Self {
        Self(Arc::new((
            AtomicU64::new(next_event.max(1)),
            AtomicU64::new(next_state.max(1)),
        )))
    }

    pub(crate) fn next_event(&self) -> EventNid {
        EventNid(self.0.0.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn next_state(&self) -> StateId {
        StateId(self.0.1.fetch_add(1, Ordering::Relaxed))
    }

    /// Both counters, as the head row keeps them.
    pub(crate) fn upcoming(&self) -> (u64, u64) {
        (
            self.0.0.load(Ordering::Relaxed),
            self.0.1.load(Ordering::Relaxed),
        )
    }
}
