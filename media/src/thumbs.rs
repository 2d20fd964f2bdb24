//! Thumbnails on demand: made once, kept, and never more at a time than there are turns.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use blake3::Hash;
use skerry_store::{
    Expect, blocking,
    schema::media::{Blob, Media, Thumb, ThumbUse, ThumbUses},
};
use tokio::sync::OwnedSemaphorePermit;

use crate::{
    Blobs, MediaError, MediaId,
    blobs::Found,
    picture,
    thumbnail::{Drawn, Made, Order, SOURCE_MAX, Thumbnail, Wanted},
};

/// Largest thumbnail kept in the store, in bytes.
pub(crate) const THUMB_KEPT_MAX: usize = 2 * 1024 * 1024;
/// How many sizes are made of one decoding.
const SIZES_MAX: usize = 8;
/// How many pictures are noted as waited for.
const ASKED_MAX: usize = 10_000;
/// By how many bytes a file is known to be a picture, or not.
const HEAD: u64 = 64;

/// What a thumbnail is kept under: hash, width, height, form.
pub(crate) type ThumbKey = ([u8; 32], u32, u32, u8);

/// A form is made of these.
const CUT: u8 = 1;
const MOVES: u8 = 2;
const NO_WEBP: u8 = 4;

fn form_of(wanted: Wanted) -> u8 {
    let bit = |is: bool, bit: u8| if is { bit } else { 0 };
    bit(wanted.crop(), CUT) | bit(wanted.animated, MOVES) | bit(!wanted.webp, NO_WEBP)
}

fn key_of(hash: [u8; 32], wanted: Wanted) -> ThumbKey {
    (hash, wanted.width, wanted.height, form_of(wanted))
}

/// What is kept for a size: bytes with their type; for a file that serves as it is, its type alone;
/// and for what another form serves as well, that form alone.
#[derive(Debug, Clone)]
enum Kept {
    Thumbnail(Thumbnail),
    AsItIs(String),
    SeeForm(u8),
}

impl Kept {
    fn from_row((content_type, bytes): (String, Vec<u8>)) -> Self {
        match (content_type.is_empty(), &bytes[..]) {
            (true, [form, ..]) => Kept::SeeForm(*form),
            (_, []) => Kept::AsItIs(content_type),
            _ => Kept::Thumbnail(Thumbnail {
                content_type,
                bytes: bytes.into(),
            }),
        }
    }

    fn to_row(&self) -> (String, Vec<u8>) {
        match self {
            Kept::Thumbnail(made) => (made.content_type.clone(), made.bytes.to_vec()),
            Kept::AsItIs(content_type) => (content_type.clone(), Vec::new()),
            Kept::SeeForm(form) => (String::new(), vec![*form]),
        }
    }

    fn of(made: Made) -> Self {
        let Made {
            content_type,
            bytes,
            ..
        } = made;
        match bytes {
            Some(bytes) => Kept::Thumbnail(Thumbnail {
                content_type,
                bytes,
            }),
            None => Kept::AsItIs(content_type),
        }
    }
}

/// The plainest request that gets the same: what stands still is no other when it may move, and
/// what is no replacement of a WebP is the same for those who take WebPs.
fn plainest(wanted: Wanted, made: &Made) -> Wanted {
    let replaces = made.bytes.is_some() && made.content_type != "image/jpeg";
    wanted.in_form(wanted.animated && made.animated, wanted.webp || !replaces)
}

/// What a request for a thumbnail gets.
#[derive(Debug)]
pub enum Served {
    /// A thumbnail.
    Made(Thumbnail),
    /// The file, which is small enough or wanted in its own size, and its type by its bytes.
    Original {
        /// The type.
        content_type: String,
        /// The file.
        found: Found,
    },
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
    ) -> Result<Served, MediaError> {
        let this = Arc::clone(self);
        let name = (server.clone(), id.clone());
        let (ready, media) = on_disk(move || {
            let (server, id) = name;
            let media = this.media(&server, &id)?;
            this.uses
                .media
                .note((server, id.as_str().to_owned()), this.clock.now_ms());
            Ok((this.kept(media.hash, wanted)?, media))
        })
        .await?;
        let kept = match ready {
            Some(ready) => ready,
            None => {
                self.asked.add(media.hash, wanted);
                self.in_turn(media, move |this, media| {
                    match this.kept(media.hash, wanted)? {
                        Some(ready) => Ok(ready),
                        None => this.make(media, wanted),
                    }
                })
                .await?
            }
        };
        let content_type = match kept {
            Kept::Thumbnail(made) => return Ok(Served::Made(made)),
            Kept::AsItIs(content_type) => content_type,
            Kept::SeeForm(_) => return Err(no_thumbnail("there is none")),
        };
        let this = Arc::clone(self);
        let found = on_disk(move || this.find(&server, &id)).await?;
        Ok(Served::Original {
            content_type,
            found,
        })
    }

    /// What there is to do with a file that was just uploaded, if it is a picture: its blurhash
    /// where that is asked for, which is waited for, and thumbnails in advance where the operator
    /// wants them, which are not.
    pub(crate) async fn was_uploaded(
        self: &Arc<Self>,
        id: &MediaId,
        blurhash: bool,
    ) -> Option<String> {
        let advance = self.settings.thumbnails_in_advance;
        if !blurhash && !advance {
            return None;
        }
        let (this, id) = (Arc::clone(self), id.clone());
        let media = on_disk(move || {
            let media = this.media(this.server_name(), &id)?;
            let head = this.bytes_of(&media, HEAD)?;
            Ok(image::guess_format(&head).is_ok().then_some(media))
        });
        let media = media.await.ok()??;
        if blurhash {
            return self.drawn(media, advance, true).await;
        }
        // What does not fit into the queue is made when it is asked for.
        let place = Arc::clone(&self.in_advance).try_acquire_owned().ok()?;
        let this = Arc::clone(self);
        tokio::spawn(async move {
            let _place: OwnedSemaphorePermit = place;
            this.drawn(media, true, false).await;
        });
        None
    }

    /// Draws a new picture; gives its blurhash.
    async fn drawn(self: &Arc<Self>, media: Media, sizes: bool, blurhash: bool) -> Option<String> {
        let drawn = self.in_turn(media, move |this, media| {
            let mut sizes = match sizes {
                true => Wanted::all_standard(),
                false => Vec::new(),
            };
            let row = |wanted: &Wanted| this.kept(media.hash, *wanted);
            let mut missing = Vec::new();
            for wanted in sizes.drain(..) {
                if row(&wanted)?.is_none() {
                    missing.push(wanted);
                }
            }
            this.draw(media, missing, blurhash)
        });
        match drawn.await {
            Ok(drawn) => drawn.1,
            Err(error) => {
                tracing::debug!(%error, "a picture that was uploaded cannot be drawn");
                None
            }
        }
    }

    /// Works on a picture alone, when it is its turn.
    async fn in_turn<T: Send + 'static>(
        self: &Arc<Self>,
        media: Media,
        work: impl FnOnce(&Self, &Media) -> Result<T, MediaError> + Send + 'static,
    ) -> Result<T, MediaError> {
        // First the lane, then the turn: who waits for somebody else's work takes no turn.
        let lane = self.thumbs.lock(media.hash).await;
        let turn = Arc::clone(&self.decoders).acquire_owned().await;
        let this = Arc::clone(self);
        // Both end with the work, not with the request: who hangs up and asks again must not have
        // more pictures decoded at once than there are turns.
        on_disk(move || {
            let (_turn, _lane) = (turn, lane);
            work(&this, &media)
        })
        .await
    }

    /// What was made before. A thumbnail that a power cut takes back is made again, so nobody
    /// waits for it to be durable.
    fn kept(&self, hash: [u8; 32], wanted: Wanted) -> Result<Option<Kept>, MediaError> {
        let snap = self.store.newest();
        let mut key = key_of(hash, wanted);
        // A form refers to a plainer one, and that to none.
        for _ in 0..2 {
            let row = snap.get::<Thumb>(&key).map_err(MediaError::Store)?;
            let Some(row) = row else { return Ok(None) };
            self.uses.thumbs.note(key, self.clock.now_ms());
            match Kept::from_row(row) {
                Kept::SeeForm(form) => key.3 = form,
                kept => return Ok(Some(kept)),
            }
        }
        Ok(None)
    }

    /// Makes a size, and with it those that others wait for.
    fn make(&self, media: &Media, wanted: Wanted) -> Result<Kept, MediaError> {
        let mut sizes = vec![wanted];
        let others = self.asked.take(&media.hash);
        sizes.extend(others.into_iter().filter(|other| *other != wanted));
        sizes.truncate(SIZES_MAX);
        let (mut made, _) = self.draw(media, sizes, false)?;
        match made.is_empty() {
            false => Ok(made.swap_remove(0)),
            true => Err(no_thumbnail("there is none")),
        }
    }

    /// Has a picture decoded, and keeps what comes of it.
    fn draw(
        &self,
        media: &Media,
        sizes: Vec<Wanted>,
        blurhash: bool,
    ) -> Result<(Vec<Kept>, Option<String>), MediaError> {
        if sizes.is_empty() && !blurhash {
            return Ok((Vec::new(), None));
        }
        if media.size > SOURCE_MAX {
            return Err(no_thumbnail("the picture's file is too large"));
        }
        #[cfg(test)]
        self.made.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let source = self.bytes_of(media, media.size)?;
        let order = Order {
            sizes,
            blurhash,
            bounds: self.settings.pictures,
        };
        let drawn = match &self.workers {
            Some(workers) => workers.make(&source, &order),
            None => picture::make(&source, &order),
        };
        drop(source);
        let Drawn { made, blurhash } = drawn.map_err(MediaError::NoThumbnail)?;
        let mut rows = Vec::new();
        let mut all = Vec::new();
        for (wanted, made) in order.sizes.into_iter().zip(made) {
            let plain = plainest(wanted, &made);
            let kept = Kept::of(made);
            if plain != wanted {
                rows.push((wanted, Kept::SeeForm(form_of(plain))));
            }
            rows.push((plain, kept.clone()));
            all.push(kept);
        }
        self.keep_thumbs(media, &rows);
        Ok((all, blurhash))
    }

    /// The first bytes of a file.
    fn bytes_of(&self, media: &Media, most: u64) -> Result<Vec<u8>, MediaError> {
        let hash = Hash::from_bytes(media.hash);
        let content = self.storage.open(&hash, 0..most.min(media.size))?;
        let content = content.ok_or(MediaError::NotFound)?;
        content.all().map_err(MediaError::file)
    }

    fn keep_thumbs(&self, media: &Media, made: &[(Wanted, Kept)]) {
        let (mut w, now_ms) = (self.store.write(), self.clock.now_ms());
        for (wanted, kept) in made {
            let row = kept.to_row();
            if row.1.len() > THUMB_KEPT_MAX {
                continue;
            }
            let key = key_of(media.hash, *wanted);
            let used = ThumbUse {
                bytes: row.1.len() as u64,
                made_ms: now_ms,
                used_ms: now_ms,
            };
            w.put::<Thumb>(&key, &row);
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

fn no_thumbnail(why: &str) -> MediaError {
    MediaError::NoThumbnail(why.to_owned())
}

async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, MediaError> + Send + 'static,
) -> Result<T, MediaError> {
    blocking(work).await.map_err(MediaError::Store)?
}
