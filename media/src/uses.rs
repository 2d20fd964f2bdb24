//! When media was last looked at: kept in memory and written now and then, so that looking at a
//! picture writes nothing to the disk.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, PoisonError},
};

use skerry_store::{
    StoreError, blocking,
    schema::media::{Accessed, MediaTable, ThumbUses},
};

use crate::{Blobs, MediaError, thumbs::ThumbKey};

/// How many are held at most; what comes beyond is counted by its last written time.
const HELD_MAX: usize = 20_000;
/// How many are written in one commit.
const CHUNK: usize = 1000;
/// A time that is written is not written again for so long, in ms.
const FINE_MS: u64 = 60 * 60 * 1000;

/// Times that were not written yet.
#[derive(Debug)]
pub(crate) struct Held<K>(Mutex<HashMap<K, u64>>);

impl<K: Hash + Eq> Held<K> {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(HashMap::new()))
    }

    /// Notes a look.
    pub(crate) fn note(&self, key: K, at_ms: u64) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if held.len() < HELD_MAX || held.contains_key(&key) {
            held.insert(key, at_ms);
        }
    }

    /// What was noted and not written yet.
    pub(crate) fn noted(&self, key: &K) -> Option<u64> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.get(key).copied()
    }

    /// Forgets what is gone.
    pub(crate) fn forget(&self, key: &K) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.remove(key);
    }

    fn take(&self) -> HashMap<K, u64> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// When media was looked at, and its thumbnails.
#[derive(Debug)]
pub(crate) struct Uses {
    pub(crate) media: Held<(String, String)>,
    pub(crate) thumbs: Held<ThumbKey>,
}

impl Uses {
    pub(crate) fn new() -> Self {
        Self {
            media: Held::new(),
            thumbs: Held::new(),
        }
    }
}

impl Blobs {
    /// Writes the times of looks that are new. They are not waited for: what a power cut takes
    /// back is no loss.
    ///
    /// # Errors
    /// [`MediaError::Store`].
    pub async fn write_uses(self: &std::sync::Arc<Self>) -> Result<(), MediaError> {
        let this = std::sync::Arc::clone(self);
        let written = blocking(move || this.write_uses_now());
        let written = written.await.map_err(MediaError::Store)?;
        written.map_err(MediaError::Store)
    }

    pub(crate) fn write_uses_now(&self) -> Result<(), StoreError> {
        let media: Vec<_> = self.uses.media.take().into_iter().collect();
        for chunk in media.chunks(CHUNK) {
            let (snap, mut w) = (self.store.newest(), self.store.write());
            for (key, at_ms) in chunk {
                let before = snap.get::<Accessed>(key)?.unwrap_or(0);
                if before + FINE_MS <= *at_ms && snap.has::<MediaTable>(key)? {
                    w.put::<Accessed>(key, at_ms);
                }
            }
            let _ = self.store.commit(w)?;
        }
        let thumbs: Vec<_> = self.uses.thumbs.take().into_iter().collect();
        for chunk in thumbs.chunks(CHUNK) {
            let (snap, mut w) = (self.store.newest(), self.store.write());
            for (key, at_ms) in chunk {
                let row = snap.get::<ThumbUses>(key)?;
                if let Some(mut row) = row.filter(|row| row.used_ms + FINE_MS <= *at_ms) {
                    row.used_ms = *at_ms;
                    w.put::<ThumbUses>(key, &row);
                }
            }
            let _ = self.store.commit(w)?;
        }
        Ok(())
    }
}
