//! Previews that were made: kept a while, and not too many.

use std::sync::Arc;

use skerry_store::schema::media::{KeptPreview, Preview, PreviewAge};
use skerry_store::{Scan, blocking};

use super::{PreviewError, Previews};
use crate::{MediaError, MediaId};

/// How long a preview is good, in ms.
pub(crate) const GOOD_FOR_MS: u64 = 60 * 60 * 1000;
/// How long a link that failed is not tried again, in ms.
pub const FAILED_FOR_MS: u64 = 60 * 1000;
/// How many are kept; the oldest go first.
pub const KEPT_MAX: usize = 4096;

/// What is known of a link.
pub enum Kept {
    /// Its preview.
    Fresh(Vec<u8>),
    /// It could not be fetched a moment ago.
    Failed,
    /// Nothing, or nothing that is still good; the picture it had.
    Old(Option<MediaId>),
}

impl Previews {
    pub(super) async fn kept(&self, key: [u8; 32]) -> Result<Kept, PreviewError> {
        let blobs = Arc::clone(&self.blobs);
        let row = blocking(move || {
            let row = blobs.store.newest().get::<Preview>(&key);
            row.map(|row| (row, blobs.clock.now_ms()))
        });
        let row = row.await.map_err(MediaError::Store)?;
        let (row, now) = row.map_err(MediaError::Store)?;
        let Some(row) = row else {
            return Ok(Kept::Old(None));
        };
        Ok(match row.json {
            Some(json) if row.made_ms + GOOD_FOR_MS > now => Kept::Fresh(json),
            None if row.made_ms + FAILED_FOR_MS > now => Kept::Failed,
            _ => Kept::Old(row.picture.as_deref().and_then(MediaId::parse)),
        })
    }

    /// Keeps a preview, or that there is none. Inside the lane of its link.
    pub(super) async fn keep(
        &self,
        key: [u8; 32],
        json: Option<Vec<u8>>,
        picture: Option<MediaId>,
    ) -> Result<(), PreviewError> {
        let blobs = Arc::clone(&self.blobs);
        let made_ms = blobs.clock.now_ms();
        let row = KeptPreview {
            json,
            picture: picture.map(|id| id.as_str().to_owned()),
            made_ms,
        };
        let lane = self.blobs.previews.lock(()).await;
        let done = blocking(move || {
            let _lane = lane;
            let snap = blobs.store.newest();
            let mut w = blobs.store.write();
            if let Some(before) = snap.get::<Preview>(&key)? {
                w.delete::<PreviewAge>(&(before.made_ms, key));
            }
            let ages = snap.scan::<PreviewAge>(Scan::all());
            let ages = ages.map(|row| row.map(|(key, ())| key));
            let mut ages = ages.collect::<Result<Vec<_>, _>>()?;
            ages.retain(|(_, other)| *other != key);
            let over = (ages.len() + 1).saturating_sub(KEPT_MAX);
            for old in ages.iter().take(over) {
                w.delete::<PreviewAge>(old);
                w.delete::<Preview>(&old.1);
            }
            w.put::<PreviewAge>(&(made_ms, key), &());
            w.put::<Preview>(&key, &row);
            blobs.store.commit(w).map(|_| ())
        });
        let done = done.await.map_err(MediaError::Store)?;
        Ok(done.map_err(MediaError::Store)?)
    }
}
