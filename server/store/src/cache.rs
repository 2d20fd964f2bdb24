//! A small cache with a budget in bytes.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

/// Keeps what was used lately, within a budget. Two generations: the older one is dropped as a
/// whole when the younger has filled half of the budget; what is put again stays. Looking
/// something up takes `&self`, so that readers do not wait for each other.
#[derive(Debug)]
pub struct Cache<K, V> {
    young: HashMap<K, (V, usize)>,
    old: HashMap<K, (V, usize)>,
    young_bytes: usize,
    old_bytes: usize,
    half: usize,
}

impl<K: Eq + Hash, V> Cache<K, V> {
    /// An empty cache of at most `budget_bytes`.
    #[must_use]
    pub fn new(budget_bytes: usize) -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
            young_bytes: 0,
            old_bytes: 0,
            half: budget_bytes / 2,
        }
    }

    /// What is kept under a key.
    pub fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.young
            .get(key)
            .or_else(|| self.old.get(key))
            .map(|(value, _)| value)
    }

    /// Keeps a value, which counts as `bytes`. One that is larger than half of the budget is
    /// not kept.
    pub fn put(&mut self, key: K, value: V, bytes: usize) {
        if bytes > self.half {
            self.remove(&key);
            return;
        }
        if self.young_bytes + bytes > self.half {
            self.old = std::mem::take(&mut self.young);
            self.old_bytes = std::mem::take(&mut self.young_bytes);
        }
        if let Some((_, before)) = self.young.insert(key, (value, bytes)) {
            self.young_bytes -= before;
        }
        self.young_bytes += bytes;
    }

    /// Forgets a key.
    pub fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
    {
        if let Some((_, bytes)) = self.young.remove(key) {
            self.young_bytes -= bytes;
        }
        if let Some((_, bytes)) = self.old.remove(key) {
            self.old_bytes -= bytes;
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
        self.young_bytes = 0;
        self.old_bytes = 0;
    }

    /// How many bytes are kept, by the sizes given.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.young_bytes + self.old_bytes
    }
}
