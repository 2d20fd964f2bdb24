//! Thumbnails on demand: made once, kept, and never more at a time than there are turns.

use std::{fs::File, io::Read as _, sync::Arc};

use blake3::Hash;
use skerry_store::{
    Expect, blocking,
    schema::media::{Blob, Media, Thumb, ThumbUse, ThumbUses},
};

use crate::{
    Blobs, MediaError, MediaId,
    thumbnail::{self, Thumbnail, Wanted},
};

/// Largest thumbnail kept in the store, in bytes. A picture of few pixels is its own thumbnail,
/// and its file may be large for all that; it lies on the disk once already.
pub(crate) const THUMB_KEPT_MAX: usize = 2 * 1024 * 1024;

/// What a thumbnail is kept under: hash, width, height, whether cut.
pub(crate) type ThumbKey = ([u8; 32], u32, u32, bool);

fn key_of(media: &Media, wanted: Wanted) -> ThumbKey {
    (media.hash, wanted.width, wanted.height, wanted.crop())
}

impl Blobs {
    /// A picture made smaller, or the file as it is where it is small enough already. Made
    /// thumbnails are kept. Decoding happens off the I/O threads, a bounded number at once.
    ///
    /// # Errors
    /// As [`Blobs::find`], and [`MediaError::NoThumbnail`].
    pub async fn thumbnail(
        self: &Arc<Self>,
        server: String,
        id: MediaId,
        wanted: Wanted,
    ) -> Result<Thumbnail, MediaError> {
        let this = Arc::clone(self);
        let (ready, media) = blocking(move || {
            let media = this.media(&server, &id)?;
            Ok::<_, MediaError>((this.made(&key_of(&media, wanted))?, media))
        })
        .await
        .map_err(MediaError::Store)??;
        if let Some(ready) = ready {
            return Ok(ready);
        }
        let key = key_of(&media, wanted);
        // First the lane, then the turn: who waits for somebody else's work takes no turn.
        let lane = self.thumbs.lock(key).await;
        let turn = Arc::clone(&self.decoders).acquire_owned().await;
        let this = Arc::clone(self);
        // Both end with the work, not with the request: who hangs up and asks again must not have
        // more pictures decoded at once than there are turns.
        blocking(move || {
            let (_turn, _lane) = (turn, lane);
            match this.made(&key)? {
                Some(ready) => Ok(ready),
                None => this.make(&media, wanted),
            }
        })
        .await
        .map_err(MediaError::Store)?
    }

    /// A thumbnail that was made before. One that a power cut takes back is made again, so nobody
    /// waits for it to be durable.
    fn made(&self, key: &ThumbKey) -> Result<Option<Thumbnail>, MediaError> {
        let row = self.store.newest().get::<Thumb>(key);
        let row = row.map_err(MediaError::Store)?;
        if row.is_some() {
            self.uses.thumbs.note(*key, self.clock.now_ms());
        }
        Ok(row.map(|(content_type, bytes)| Thumbnail {
            content_type,
            bytes: bytes.into(),
        }))
    }

    fn make(&self, media: &Media, wanted: Wanted) -> Result<Thumbnail, MediaError> {
        if media.size > thumbnail::SOURCE_MAX {
            return Err(MediaError::NoThumbnail(
                "the picture's file is too large".to_owned(),
            ));
        }
        #[cfg(test)]
        self.made.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = self.files.path(&Hash::from_bytes(media.hash));
        let mut bytes = Vec::new();
        let mut file = File::open(path).map_err(MediaError::file)?;
        file.read_to_end(&mut bytes).map_err(MediaError::file)?;
        let made = thumbnail::make(bytes, wanted).map_err(MediaError::NoThumbnail)?;
        if made.bytes.len() > THUMB_KEPT_MAX {
            return Ok(made);
        }
        let (mut w, now_ms) = (self.store.write(), self.clock.now_ms());
        let key = key_of(media, wanted);
        w.put::<Thumb>(&key, &(made.content_type.clone(), made.bytes.to_vec()));
        let used = ThumbUse {
            bytes: made.bytes.len() as u64,
            made_ms: now_ms,
            used_ms: now_ms,
        };
        w.put::<ThumbUses>(&key, &used);
        // Not for bytes that were deleted meanwhile: nothing would ever take it away again.
        w.expect::<Blob>(&media.hash, Expect::Present);
        // a thumbnail that does not get kept is made again next time
        if let Err(error) = self.store.commit(w) {
            tracing::debug!(%error, "a thumbnail was made but not kept");
        }
        Ok(made)
    }
}
