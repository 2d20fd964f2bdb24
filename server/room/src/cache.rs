//! A bounded cache in memory for things that never change under their key.

use std::collections::HashMap;
use std::hash::Hash;

use parking_lot::Mutex;

/// Keeps what was used lately, up to a budget in bytes.
///
/// Two generations: a hit in the old one moves the entry to the young one; when the young one is
/// half the budget, it becomes the old one and the old one is dropped. Nearly as good as an exact
/// order of use, without a list to maintain on each hit.
pub(crate) struct Cache<K, V> {
    half: usize,
    inner: Mutex<Generations<K, V>>,
}

struct Generations<K, V> {
    young: HashMap<K, (V, usize)>,
    old: HashMap<K, (V, usize)>,
    young_bytes: usize,
}

impl<K: Eq + Hash + Copy, V: Clone> Cache<K, V> {
    /// A cache that holds about `budget` bytes.
    pub(crate) fn new(budget: usize) -> Cache<K, V> {
        let inner = Generations {
            young: HashMap::new(),
            old: HashMap::new(),
            young_bytes: 0,
        };
        Cache {
            half: budget / 2,
            inner: Mutex::new(inner),
        }
    }

    /// The value under a key, if it is still held.
    pub(crate) fn get(&self, key: K) -> Option<V> {
        let mut inner = self.inner.lock();
        if let Some((value, _)) = inner.young.get(&key) {
            return Some(value.clone());
        }
        let (value, bytes) = inner.old.remove(&key)?;
        self.add(&mut inner, key, value.clone(), bytes);
        Some(value)
    }

    /// Holds a value of so many bytes.
    pub(crate) fn put(&self, key: K, value: V, bytes: usize) {
        let mut inner = self.inner.lock();
        inner.old.remove(&key);
        self.add(&mut inner, key, value, bytes);
    }

    /// Forgets what is under a key.
    pub(crate) fn remove(&self, key: K) {
        let mut inner = self.inner.lock();
        inner.old.remove(&key);
        if let Some((_, bytes)) = inner.young.remove(&key) {
            inner.young_bytes = inner.young_bytes.saturating_sub(bytes);
        }
    }

    /// Forgets everything.
    pub(crate) fn clear(&self) {
        let mut inner = self.inner.lock();
        inner.young.clear();
        inner.old.clear();
        inner.young_bytes = 0;
    }

    fn add(&self, inner: &mut Generations<K, V>, key: K, value: V, bytes: usize) {
        if let Some((_, before)) = inner.young.insert(key, (value, bytes)) {
            inner.young_bytes = inner.young_bytes.saturating_sub(before);
        }
        inner.young_bytes += bytes;
        if inner.young_bytes > self.half {
            inner.old = std::mem::take(&mut inner.young);
            inner.young_bytes = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn stays_in_its_budget_and_keeps_what_is_used() {
        let cache = Cache::new(1_000);
        for n in 0..1_000_u32 {
            cache.put(n, n, 10);
            assert_eq!(cache.get(0), Some(0));
            let inner = cache.inner.lock();
            assert!(inner.young.len() + inner.old.len() <= 102);
        }
        assert_eq!(cache.get(500), None);
        cache.remove(0);
        assert_eq!(cache.get(0), None);
        cache.put(0, 0, 10);
        cache.clear();
        assert_eq!(cache.get(0), None);
    }
}
