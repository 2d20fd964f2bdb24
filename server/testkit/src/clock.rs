//! A clock that can be moved.

use std::sync::atomic::{AtomicU64, Ordering};

use skerry_core::Clock;

/// Stands still until it is moved.
pub struct TestClock(AtomicU64);

impl TestClock {
    /// Begins on 21 November 2026.
    #[must_use]
    pub fn new() -> TestClock {
        TestClock(AtomicU64::new(1_795_219_200_000))
    }

    /// Moves the time on by so many milliseconds.
    pub fn advance(&self, ms: u64) {
        self.0.fetch_add(ms, Ordering::Relaxed);
    }
}

impl Default for TestClock {
    fn default() -> Self {
        TestClock::new()
    }
}

impl Clock for TestClock {
    /// One millisecond later each time it is asked, so that events have an order in time.
    fn now_ms(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}
