//! Thumbnails on demand: made once, kept, and never more at a time than there are turns.

use std::{
    collections::{BTreeSet, HashMap},
    fs::File,
    io::Read as _,
    sync::{Arc, Mutex, PoisonError},
};

use blake3::Hash;
use skerry_store::{
    Expect, blocking,
    schema::media::{Blob, Media, Thumb, ThumbUse, ThumbUses},
};

use crate::{
    Blobs, MediaError, MediaId,
    thumbnail::{self, Made, Thumbnail, Wanted},
};

/// Largest thumbnail kept in the store, in bytes. A picture of few pixels is its own thumbnail,
/// and its file may be large for all that; it lies on the disk once already.
pub(crate) const THUMB_KEPT_MAX: usize = 2 * 1024 * 1024;
/// How many sizes are made of one decoding.
const SIZES_MAX: usize = 8;

/// How many pictures are noted as waited for.
const ASKED_MAX: usize = 10_000;

/// What a thumbnail is kept under: hash, width, height, whether cut.
pub(crate) type ThumbKey = ([u8; 32], u32, u32, bool);

fn key_of(media: &Media, wanted: Wanted) -> ThumbKey {
    (media.hash, wanted.width, wanted.height, wanted.crop())
}

/// Which sizes of each picture are waited for.
#[derive(Debug, Default)]
pub(crate) struct Asked(Mutex<HashMap<[u8; 32], BTreeSet<Wanted>>>);

impl Asked {
    fn add(&self, hash: [u8; 32], wanted: Wanted) {
        let mut asked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Those who hang up leave theirs behind.
        if asked.len() >= ASKED_MAX {
            asked.clear();
        }
        asked.entry(hash).or_default().insert(wanted);
    }

    fn take(&self, hash: &[u8; 32]) -> BTreeSet<Wanted> {
        let mut asked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        asked.remove(hash).unwrap_or_default()
    }
}

impl Blobs {
    /// A picture made smaller, or the file as it is where it is small enough already. Made
    /// thumbnails are kept. Decoding happens off the I/O threads, a bounded number at once; who
    /// asks for another size meanwhile gets it from the same decoding.
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
            this.uses
                .media
                .note((server, id.as_str().to_owned()), this.clock.now_ms());
            Ok::<_, MediaError>((this.made(&key_of(&media, wanted))?, media))
        })
        .await
        .map_err(MediaError::Store)??;
        if let Some(ready) = ready {
            return Ok(ready);
        }
        self.asked.add(media.hash, wanted);
        // First the lane, then the turn: who waits for somebody else's work takes no turn.
        let lane = self.thumbs.lock(media.hash).await;
        let turn = Arc::clone(&self.decoders).acquire_owned().await;
        let this = Arc::clone(self);
        // Both end with the work, not with the request: who hangs up and asks again must not have
        // more pictures decoded at once than there are turns.
        blocking(move || {
            let (_turn, _lane) = (turn, lane);
            match this.made(&key_of(&media, wanted))? {
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

    /// Makes a size, and with it those that others wait for.
    fn make(&self, media: &Media, wanted: Wanted) -> Result<Thumbnail, MediaError> {
        if media.size > thumbnail::SOURCE_MAX {
            return Err(MediaError::NoThumbnail(
                "the picture's file is too large".to_owned(),
            ));
        }
        #[cfg(test)]
        self.made.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let mut sizes = vec![wanted];
        let others = self.asked.take(&media.hash);
        sizes.extend(others.into_iter().filter(|other| *other != wanted));
        sizes.truncate(SIZES_MAX);
        let path = self.files.path(&Hash::from_bytes(media.hash));
        let mut source = Vec::new();
        let mut file = File::open(path).map_err(MediaError::file)?;
        file.read_to_end(&mut source).map_err(MediaError::file)?;
        let made = match &self.workers {
            Some(workers) => workers.make(&source, &sizes),
            None => thumbnail::make(&source, &sizes),
        };
        let made = made.map_err(MediaError::NoThumbnail)?;
        let mut made = made.into_iter().map(|made| match made {
            Made::Thumbnail(made) => made,
            Made::AsItIs(content_type) => Thumbnail {
                content_type,
                bytes: source.clone().into(),
            },
        });
        let first = made.next();
        let first = first.ok_or_else(|| MediaError::NoThumbnail("there is none".to_owned()))?;
        let all = std::iter::once(first.clone()).chain(made);
        self.keep_thumbs(media, sizes.iter().copied().zip(all));
        Ok(first)
    }

    fn keep_thumbs(&self, media: &Media, made: impl Iterator<Item = (Wanted, Thumbnail)>) {
        let (mut w, now_ms) = (self.store.write(), self.clock.now_ms());
        let worth = |(wanted, made): &(Wanted, Thumbnail)| {
            // A whole picture lies on the disk already.
            *wanted != Wanted::WHOLE && made.bytes.len() <= THUMB_KEPT_MAX
        };
        for (wanted, made) in made.filter(worth) {
            let key = key_of(media, wanted);
            w.put::<Thumb>(&key, &(made.content_type.clone(), made.bytes.to_vec()));
            let used = ThumbUse {
                bytes: made.bytes.len() as u64,
                made_ms: now_ms,
                used_ms: now_ms,
            };
            w.put::<ThumbUses>(&key, &used);
        }
        if w.is_empty() {
            return;
        }
        // Not for bytes that were deleted meanwhile: nothing would ever take it away again.
        w.expect::<Blob>(&media.hash, Expect::Present);
        // a thumbnail that does not get kept is made again next time
        if let Err(error) = self.store.commit(w) {
            tracing::debug!(%error, "a thumbnail was made but not kept");
        }
    }
}
