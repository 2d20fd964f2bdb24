//! One version of a room's state in memory: a sorted map that shares what did not change.
//!
//! A join into a room of 50,000 members makes a new version each time; copying the whole map for
//! it would cost more than everything else. So the entries lie in chunks, and a new version
//! copies one chunk and the list of chunks.

use std::sync::Arc;

use skerry_core::{EventNid, StateKeyNid};

/// Entries per chunk at which it is split in two.
const SPLIT: usize = 128;

type Entry = (StateKeyNid, EventNid);

/// From (event type, state key) to the state event, by number. Cheap to clone and to change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateMap {
    /// None is empty; the entries of all, one after the other, are sorted by key.
    chunks: Vec<Arc<Vec<Entry>>>,
    len: usize,
}

impl StateMap {
    /// The state of a room before its create event.
    #[must_use]
    pub fn new() -> StateMap {
        StateMap::default()
    }

    /// How many state events it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The event under a key.
    #[must_use]
    pub fn get(&self, key: StateKeyNid) -> Option<EventNid> {
        let chunk = self.chunks.get(self.chunk_of(key))?;
        let at = chunk.binary_search_by_key(&key, |entry| entry.0).ok()?;
        chunk.get(at).map(|entry| entry.1)
    }

    /// All entries, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = (StateKeyNid, EventNid)> + '_ {
        self.chunks.iter().flat_map(|chunk| chunk.iter().copied())
    }

    /// Sets a key; returns what was there.
    pub fn insert(&mut self, key: StateKeyNid, event: EventNid) -> Option<EventNid> {
        let index = self.chunk_of(key);
        let Some(chunk) = self.chunks.get_mut(index) else {
            self.chunks.push(Arc::new(vec![(key, event)]));
            self.len += 1;
            return None;
        };
        let entries = Arc::make_mut(chunk);
        match entries.binary_search_by_key(&key, |entry| entry.0) {
            Ok(at) => {
                let before = entries.get_mut(at)?;
                Some(std::mem::replace(&mut before.1, event))
            }
            Err(at) => {
                entries.insert(at, (key, event));
                self.len += 1;
                if entries.len() > SPLIT {
                    let upper = entries.split_off(SPLIT / 2);
                    self.chunks.insert(index + 1, Arc::new(upper));
                }
                None
            }
        }
    }

    /// Takes a key out; returns what was there.
    pub fn remove(&mut self, key: StateKeyNid) -> Option<EventNid> {
        let index = self.chunk_of(key);
        let chunk = self.chunks.get_mut(index)?;
        let at = chunk.binary_search_by_key(&key, |entry| entry.0).ok()?;
        let entries = Arc::make_mut(chunk);
        let (_, event) = entries.remove(at);
        if entries.is_empty() {
            self.chunks.remove(index);
        }
        self.len -= 1;
        Some(event)
    }

    /// What to change in `self` to get `to`: entries to set, keys to take out.
    #[must_use]
    pub fn difference(&self, to: &StateMap) -> (Vec<Entry>, Vec<StateKeyNid>) {
        let adds = to.iter().filter(|(key, event)| self.get(*key) != Some(*event)).collect();
        let removes =
            self.iter().map(|entry| entry.0).filter(|key| to.get(*key).is_none()).collect();
        (adds, removes)
    }

    /// Bytes of memory it holds, about, counting shared chunks as its own.
    #[must_use]
    pub fn weight(&self) -> usize {
        64 + self.chunks.len() * 48 + self.len * std::mem::size_of::<Entry>()
    }

    /// The chunk that holds the key, or that it belongs into.
    fn chunk_of(&self, key: StateKeyNid) -> usize {
        let after = self
            .chunks
            .partition_point(|chunk| chunk.first().is_some_and(|entry| entry.0 <= key));
        after.saturating_sub(1)
    }
}

impl FromIterator<Entry> for StateMap {
    fn from_iter<I: IntoIterator<Item = Entry>>(entries: I) -> StateMap {
        let mut map = StateMap::new();
        for (key, event) in entries {
            map.insert(key, event);
        }
        map
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use std::collections::BTreeMap;

    use super::*;

    /// Behaves as a plain map does, whatever the order of changes, and old versions stay as they
    /// were.
    #[test]
    fn like_a_btree_map() {
        let mut seed = 7_u64;
        let mut next = move || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            seed >> 33
        };
        let (mut map, mut model) = (StateMap::new(), BTreeMap::new());
        let mut old = Vec::new();
        for step in 0..5_000_u64 {
            let key = StateKeyNid(next() % 700 + 1);
            if next() % 4 == 0 {
                assert_eq!(map.remove(key), model.remove(&key));
            } else {
                let event = EventNid(step + 1);
                assert_eq!(map.insert(key, event), model.insert(key, event));
            }
            assert_eq!(map.len(), model.len());
            if step % 1_000 == 0 {
                old.push((map.clone(), model.clone()));
            }
        }
        old.push((map, model));
        for (map, model) in &old {
            assert!(map.iter().eq(model.iter().map(|(k, v)| (*k, *v))));
            assert!((1..=701).all(|k| {
                map.get(StateKeyNid(k)) == model.get(&StateKeyNid(k)).copied()
            }));
        }
        let (from, to) = (&old.first().unwrap().0, &old.last().unwrap().0);
        let (adds, removes) = from.difference(to);
        let mut built = from.clone();
        for (key, event) in adds {
            built.insert(key, event);
        }
        for key in removes {
            built.remove(key);
        }
        assert!(built.iter().eq(to.iter()));
    }
}
