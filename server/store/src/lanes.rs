//! Lanes: one async mutex per key, for "one at a time in this room".

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

type Map<K> = Mutex<HashMap<K, Arc<AsyncMutex<()>>>>;

/// Mutexes by key. A key that nobody holds or waits for takes no memory. First come, first served.
pub struct Lanes<K: Eq + Hash + Clone> {
    map: Arc<Map<K>>,
}

/// Holds a lane. Owned, so that it can move into a blocking closure and stay held there to its
/// end, whoever hangs up.
pub struct LaneGuard<K: Eq + Hash + Clone> {
    // Dropped in this order: first the mutex is let go, then the entry is cleaned up.
    _held: OwnedMutexGuard<()>,
    _entry: Entry<K>,
}

/// Removes the key's mutex from the map once nobody else has it.
struct Entry<K: Eq + Hash + Clone> {
    map: Arc<Map<K>>,
    key: K,
}

impl<K: Eq + Hash + Clone> Drop for Entry<K> {
    fn drop(&mut self) {
        let mut map = self.map.lock();
        // Only the map's own handle is left: no holder, no waiter.
        if map
            .get(&self.key)
            .is_some_and(|lane| Arc::strong_count(lane) == 1)
        {
            map.remove(&self.key);
        }
    }
}

impl<K: Eq + Hash + Clone> Lanes<K> {
    /// No lane is held.
    #[must_use]
    pub fn new() -> Self {
        Self {
            map: Arc::default(),
        }
    }

    /// Waits until the lane of `key` is free, and takes it. Taking a lane that the same task
    /// already holds waits for ever.
    pub async fn lock(&self, key: K) -> LaneGuard<K> {
        // Made first, so that a caller who stops waiting cleans up too.
        let entry = Entry {
            map: self.map.clone(),
            key: key.clone(),
        };
        let lane = self.map.lock().entry(key).or_default().clone();
        let held = lane.lock_owned().await;
        LaneGuard {
            _held: held,
            _entry: entry,
        }
    }

    /// Takes the lanes of several keys, in sorted order and each once, so that two callers with
    /// keys in common cannot wait for each other.
    pub async fn lock_many(&self, mut keys: Vec<K>) -> Vec<LaneGuard<K>>
    where
        K: Ord,
    {
        keys.sort_unstable();
        keys.dedup();
        let mut guards = Vec::with_capacity(keys.len());
        for key in keys {
            guards.push(self.lock(key).await);
        }
        guards
    }

    /// How many lanes are held or waited for.
    #[must_use]
    pub fn len(&self) -> usize {
        self.map.lock().len()
    }

    /// Whether no lane is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<K: Eq + Hash + Clone> Default for Lanes<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Eq + Hash + Clone> Clone for Lanes<K> {
    fn clone(&self) -> Self {
        Self {
            map: self.map.clone(),
        }
    }
}

impl<K: Eq + Hash + Clone> fmt::Debug for Lanes<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lanes").field("held", &self.len()).finish()
    }
}

impl<K: Eq + Hash + Clone> fmt::Debug for LaneGuard<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LaneGuard")
    }
}
