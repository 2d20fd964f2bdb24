//! How many requests are under way to one server.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many requests one server has to bear from us at a time; the others wait.
const AT_ONCE: usize = 8;

type Map = Mutex<HashMap<Arc<str>, Arc<Semaphore>>>;

/// A gate per server; one that nobody uses takes no memory.
#[derive(Default)]
pub(super) struct Gates {
    map: Arc<Map>,
}

/// The right to have one request under way.
pub(super) struct Pass {
    // Dropped in this order: first the place is given back, then the gate is cleaned up.
    _permit: Option<OwnedSemaphorePermit>,
    _entry: Entry,
}

struct Entry {
    map: Arc<Map>,
    server: Arc<str>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut map = self.map.lock();
        // Only the map's own handle is left: nobody is inside or waits.
        if map
            .get(&self.server)
            .is_some_and(|gate| Arc::strong_count(gate) == 1)
        {
            map.remove(&self.server);
        }
    }
}

impl Gates {
    /// Waits for a place.
    pub(super) async fn enter(&self, server: &str) -> Pass {
        let server: Arc<str> = server.into();
        // Made first, so that a caller who stops waiting cleans up too.
        let entry = Entry {
            map: Arc::clone(&self.map),
            server: Arc::clone(&server),
        };
        let gate = {
            let mut map = self.map.lock();
            let gate = map.entry(server);
            Arc::clone(gate.or_insert_with(|| Arc::new(Semaphore::new(AT_ONCE))))
        };
        Pass {
            // The semaphore is never closed.
            _permit: gate.acquire_owned().await.ok(),
            _entry: entry,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn so_many_pass_and_nothing_is_left_behind() {
        let gates = Gates::default();
        let mut inside = Vec::new();
        for _ in 0..AT_ONCE {
            inside.push(gates.enter("a.example").await);
        }
        assert!(gates.enter("a.example").now_or_never().is_none());
        assert!(gates.enter("b.example").now_or_never().is_some());
        inside.pop();
        inside.push(gates.enter("a.example").now_or_never().unwrap());
        inside.clear();
        assert!(gates.map.lock().is_empty());
    }
}
