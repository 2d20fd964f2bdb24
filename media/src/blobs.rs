//! The facade: uploads in, downloads out.

use std::{io, ops::Range, path::Path, sync::Arc};

use blake3::Hash;
use skerry_core::{Clock, DiceSource, UserNid};
use skerry_store::{
    Applied, Lanes, Store, StoreError, Write, blocking,
    schema::media::{Blob, BlobRef, CorruptBlob, Media, MediaTable},
};
use tokio::sync::{Semaphore, watch};

use crate::{
    files::{Files, Stripes, Swept},
    mime::{CONTENT_TYPE_MAX, FILE_NAME_MAX},
    mxc::MediaId,
    prune::Orphans,
    quota::QuotaWords,
    s3::S3,
    spool::{Spool, Spooled},
    storage::{Content, Storage},
    thumbnail::Bounds,
    thumbs::Asked,
    uses::Uses,
    worker::{WorkerSettings, Workers},
};

/// The uploader of what the server fetched for itself; no person has this number.
pub(crate) const NOBODY: UserNid = UserNid(0);

/// How many pictures may wait for thumbnails in advance.
const IN_ADVANCE_MAX: usize = 64;

/// What the config says about media.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Our own server name, the first part of every `mxc://` made here.
    pub server_name: String,
    /// The largest file that may be uploaded, in bytes.
    pub max_upload: u64,
    /// How much each person may upload in all, in bytes; 0: no limit.
    pub user_quota: u64,
    /// What uploads leave free on the disk, in bytes.
    pub free_disk_floor: u64,
    /// Where people read about limits (`info_uri`).
    pub info_uri: String,
    /// How the administrator is reached, as a URI.
    pub admin_contact: Option<String>,
    /// How many pictures may be decoded at once.
    pub decoders: usize,
    /// What decoding one of them may take.
    pub pictures: Bounds,
    /// Whether the standard thumbnails of an uploaded picture are made before they are asked for.
    pub thumbnails_in_advance: bool,
    /// What decodes them; none: this process itself does.
    pub worker: Option<WorkerSettings>,
    /// What the old endpoints without a token give.
    pub unauthenticated: Unauthenticated,
    /// How long what was deleted can be brought back, in ms; 0: it goes at once.
    pub trash_ms: u64,
}

/// What may be fetched without an access token, by the endpoints that 1.11 deprecated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unauthenticated {
    /// Nothing.
    Off,
    /// What was uploaded while they were open.
    Frozen,
    /// Everything.
    Open,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum MediaError {
    /// Larger than an upload may be.
    #[error("the file is larger than {0} bytes")]
    TooLarge(u64),
    /// No such media here.
    #[error("no such media")]
    NotFound,
    /// The id is reserved; its content has not been uploaded yet.
    #[error("the file has not been uploaded yet")]
    NotYet,
    /// The id has content already.
    #[error("the media id has content already")]
    Taken,
    /// The id was reserved by somebody else.
    #[error("the media id belongs to somebody else")]
    NotYours,
    /// Too many ids are reserved; the first of them lapses in so many ms.
    #[error("too many uploads are pending")]
    TooManyPending(u64),
    /// A picture that cannot be decoded, or not within bounds.
    #[error("no thumbnail can be made: {0}")]
    NoThumbnail(String),
    /// The blob's file cannot be read or written.
    #[error("a media file cannot be read or written: {0}")]
    File(#[source] io::Error),
    /// The object store does not do what it should.
    #[error("the object store of media cannot be used: {0}")]
    Away(String),
    /// The disk is full.
    #[error("there is no space left for media")]
    Full,
    /// The upload would leave less free on the disk than the operator wants.
    #[error("there is not enough space left for media")]
    BelowFloor {
        /// How the administrator is reached, as a URI.
        admin_contact: Option<String>,
    },
    /// An administrator has blocked these bytes.
    #[error("these bytes are blocked")]
    Blocked,
    /// The person has no room left.
    #[error("nobody may upload more than {quota} bytes")]
    Quota {
        /// What each person may upload in all, in bytes.
        quota: u64,
        /// Where to read about it.
        info_uri: String,
    },
    /// The store failed.
    #[error("the store failed: {0}")]
    Store(#[source] StoreError),
}

impl MediaError {
    pub(crate) fn file(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::StorageFull {
            Self::Full
        } else {
            Self::File(error)
        }
    }
}

/// What an uploader says of a file.
#[derive(Debug, Clone, Default)]
pub struct UploadInfo {
    /// `Content-Type`; cut to nothing where it is longer than 128 bytes.
    pub content_type: String,
    /// File name; left out where it is longer than 255 bytes.
    pub name: Option<String>,
}

/// A file that was found: what is known of it, and what is in it.
#[derive(Debug)]
pub struct Found {
    /// What its `mxc://` says.
    pub media: Media,
    /// The blob.
    pub content: Content,
}

/// An upload under way. Dropped, it leaves nothing behind.
#[derive(Debug)]
pub struct Upload {
    spooled: Spooled,
    max: u64,
    /// How much the uploader may still upload; and what to say beyond it.
    left: Option<(u64, QuotaWords)>,
}

impl Upload {
    /// Adds a piece. Blocks on the disk.
    ///
    /// # Errors
    /// [`MediaError::TooLarge`] or [`MediaError::Quota`] beyond the limits, [`MediaError::Full`],
    /// [`MediaError::File`].
    pub fn write(&mut self, piece: &[u8]) -> Result<(), MediaError> {
        let size = self.spooled.size().saturating_add(piece.len() as u64);
        if size > self.max {
            return Err(MediaError::TooLarge(self.max));
        }
        match &self.left {
            Some((left, words)) if size > *left => return Err(words.refusal()),
            _ => {}
        }
        self.spooled.write(piece).map_err(MediaError::file)
    }

    /// Bytes so far.
    pub(crate) fn size(&self) -> u64 {
        self.spooled.size()
    }
}

/// The media store. Cheap to share.
pub struct Blobs {
    pub(crate) store: Arc<Store>,
    pub(crate) spool: Spool,
    /// Where blobs lie.
    pub(crate) storage: Box<dyn Storage>,
    pub(crate) settings: Settings,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) dice: Arc<dyn DiceSource>,
    pub(crate) decoders: Arc<Semaphore>,
    /// Locks by hash, see there.
    pub(crate) stripes: Stripes,
    /// When media was looked at, not yet written.
    pub(crate) uses: Uses,
    /// One at a time makes thumbnails of the same bytes; who waited finds them made.
    pub(crate) thumbs: Lanes<[u8; 32]>,
    /// Which sizes are waited for.
    pub(crate) asked: Asked,
    /// Places in the queue of pictures whose thumbnails are made in advance.
    pub(crate) in_advance: Arc<Semaphore>,
    /// Processes that decode; none: it is done in this one.
    pub(crate) workers: Option<Workers>,
    /// How many thumbnails were made.
    #[cfg(test)]
    pub(crate) made: std::sync::atomic::AtomicUsize,
    /// One change at a time of the ids a person has reserved.
    pub(crate) uploaders: Lanes<UserNid>,
    /// One change at a time of what is blocked.
    pub(crate) blocks: Lanes<()>,
    /// One change at a time of which previews are kept.
    pub(crate) previews: Lanes<()>,
    /// Rung when the content of a reserved id has come.
    pub(crate) arrived: watch::Sender<()>,
    /// Bytes that came from other servers since the start.
    pub(crate) came: watch::Sender<u64>,
}

impl Blobs {
    /// Opens the store of blobs in `dir`, see also [`Blobs::far`].
    ///
    /// # Errors
    /// [`MediaError::File`] if the folder cannot be made.
    pub fn open(
        dir: &Path,
        store: Arc<Store>,
        settings: Settings,
        clock: Arc<dyn Clock>,
        dice: Arc<dyn DiceSource>,
    ) -> Result<Self, MediaError> {
        let spool = Spool::open(dir).map_err(MediaError::file)?;
        let storage = Box::new(Files::new(dir));
        let decoders = Arc::new(Semaphore::new(settings.decoders.max(1)));
        let workers = settings.worker.clone().map(Workers::new);
        Ok(Self {
            store,
            spool,
            storage,
            settings,
            clock,
            dice,
            decoders,
            stripes: Stripes::new(),
            uses: Uses::new(),
            uploaders: Lanes::new(),
            thumbs: Lanes::new(),
            asked: Asked::default(),
            in_advance: Arc::new(Semaphore::new(IN_ADVANCE_MAX)),
            workers,
            #[cfg(test)]
            made: std::sync::atomic::AtomicUsize::new(0),
            blocks: Lanes::new(),
            previews: Lanes::new(),
            arrived: watch::Sender::new(()),
            came: watch::Sender::new(0),
        })
    }

    /// The same with the blobs in an object store; what is on its way in stays in the folder.
    #[must_use]
    pub fn far(mut self, s3: S3) -> Self {
        self.storage = Box::new(s3);
        self
    }

    /// What may be fetched without a token.
    #[must_use]
    pub fn unauthenticated(&self) -> Unauthenticated {
        self.settings.unauthenticated
    }

    #[cfg(test)]
    pub(crate) fn store(&self) -> &Arc<Store> {
        &self.store
    }

    #[cfg(test)]
    pub(crate) fn free_turns(&self) -> usize {
        self.decoders.available_permits()
    }

    /// The largest file that may be uploaded, in bytes.
    #[must_use]
    pub fn max_upload(&self) -> u64 {
        self.settings.max_upload
    }

    /// Our own server name.
    #[must_use]
    pub fn server_name(&self) -> &str {
        &self.settings.server_name
    }

    /// Removes what a crash left: unfinished uploads, and files that no row names unless they lie
    /// in an object store. Only at start, before the first upload.
    ///
    /// # Errors
    /// [`MediaError::File`] or [`MediaError::Store`].
    pub fn sweep(&self) -> Result<Swept, MediaError> {
        self.count_usage()?;
        let unfinished = self.spool.clear().map_err(MediaError::file)?;
        let swept = match self.is_far() {
            true => Swept::default(),
            false => self.sweep_storage()?,
        };
        Ok(Swept {
            unfinished,
            ..swept
        })
    }

    /// Whether blobs lie in an object store: [`Blobs::sweep_storage`] takes long there, and it may
    /// be out of reach when the server starts.
    #[must_use]
    pub fn is_far(&self) -> bool {
        self.storage.is_far()
    }

    /// Removes files that no row names; at any time. Blocks.
    ///
    /// # Errors
    /// [`MediaError::File`], [`MediaError::Away`] or [`MediaError::Store`].
    pub fn sweep_storage(&self) -> Result<Swept, MediaError> {
        let found = Orphans::find(self, &self.store.newest())?;
        let orphans = found.clear_files(self)?;
        Ok(Swept {
            unfinished: 0,
            orphans,
            lost: found.missing(),
        })
    }

    /// Starts an upload of this length, where it is known; what cannot be taken is refused before
    /// a byte of it is. Blocks on the disk.
    ///
    /// # Errors
    /// [`MediaError::TooLarge`], [`MediaError::Quota`], [`MediaError::BelowFloor`],
    /// [`MediaError::Full`], [`MediaError::File`] or [`MediaError::Store`].
    pub fn begin(&self, uploader: UserNid, length: Option<u64>) -> Result<Upload, MediaError> {
        let length = length.unwrap_or(0);
        let max = self.settings.max_upload;
        if length > max {
            return Err(MediaError::TooLarge(max));
        }
        let left = self.left(uploader)?;
        match &left {
            Some((left, words)) if length > *left => return Err(words.refusal()),
            _ => self.space_for(length)?,
        }
        let spooled = self.spool.begin().map_err(MediaError::file)?;
        Ok(Upload { spooled, max, left })
    }

    /// Starts to take in another server's file, of at most so many bytes. Blocks on the disk.
    ///
    /// # Errors
    /// [`MediaError::BelowFloor`], [`MediaError::File`].
    pub(crate) fn begin_remote(&self, max: u64) -> Result<Upload, MediaError> {
        self.space_for(0)?;
        let spooled = self.spool.begin().map_err(MediaError::file)?;
        Ok(Upload {
            spooled,
            max,
            left: None,
        })
    }

    /// Counts what came from other servers, for whoever keeps their budget.
    pub(crate) fn remote_came(&self, bytes: u64) {
        self.came
            .send_modify(|came| *came = came.saturating_add(bytes));
    }

    /// Ends an upload: the file is on disk under its hash, and the `mxc://` that names it is
    /// durable, when this returns.
    ///
    /// # Errors
    /// [`MediaError::Quota`], [`MediaError::Full`], [`MediaError::File`] or [`MediaError::Store`].
    pub async fn finish(
        self: &Arc<Self>,
        upload: Upload,
        info: UploadInfo,
        uploader: UserNid,
    ) -> Result<MediaId, MediaError> {
        let upload = self.prepared(upload).await?;
        let lane = self.uploaders.lock(uploader).await;
        let this = Arc::clone(self);
        let (id, applied) = blocking(move || {
            let _lane = lane;
            let id = MediaId::random(this.dice.dice().as_mut());
            let w = this.store.write();
            let name = (this.server_name(), &id);
            let applied = this.commit(w, upload, info, uploader, name)?;
            Ok::<_, MediaError>((id, applied))
        })
        .await
        .map_err(MediaError::Store)??;
        self.store
            .durable(&applied)
            .await
            .map_err(MediaError::Store)?;
        Ok(id)
    }

    /// Keeps a file that nobody uploaded: the server fetched it for itself. Where the same bytes
    /// are named by `before` already, they get no second name.
    ///
    /// # Errors
    /// As [`Blobs::finish`].
    pub(crate) async fn keep_own(
        self: &Arc<Self>,
        upload: Upload,
        info: UploadInfo,
        before: Option<MediaId>,
    ) -> Result<MediaId, MediaError> {
        if let Some(before) = before {
            let this = Arc::clone(self);
            let (hash, id) = (upload.spooled.hash(), before.clone());
            let named = blocking(move || this.media(&this.settings.server_name, &id));
            match named.await.map_err(MediaError::Store)? {
                Ok(media) if media.hash == *hash.as_bytes() => return Ok(before),
                Ok(_) | Err(MediaError::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        self.finish(upload, info, NOBODY).await
    }

    /// Does of an upload's end what takes long, before anybody has to wait for it.
    pub(crate) async fn prepared(
        self: &Arc<Self>,
        mut upload: Upload,
    ) -> Result<Upload, MediaError> {
        let this = Arc::clone(self);
        let prepared = blocking(move || {
            this.may_keep(upload.spooled.hash().as_bytes())?;
            this.storage.prepare(&mut upload.spooled)?;
            Ok(upload)
        });
        prepared.await.map_err(MediaError::Store)?
    }

    /// Puts the file into its place and, with whatever `w` holds already, the rows that name it.
    /// Inside the uploader's lane.
    pub(crate) fn commit(
        &self,
        mut w: Write,
        upload: Upload,
        info: UploadInfo,
        uploader: UserNid,
        (server, id): (&str, &MediaId),
    ) -> Result<Applied, MediaError> {
        let Upload { spooled, .. } = upload;
        let (hash, size) = (*spooled.hash().as_bytes(), spooled.size());
        let _lock = self.stripes.lock(&hash);
        let kept = self
            .charge(&mut w, uploader, size)
            .and_then(|()| self.may_keep(&hash))
            .and_then(|()| self.storage.keep(spooled));
        if let Err(error) = kept {
            self.forget(&hash);
            return Err(error);
        }
        let UploadInfo { content_type, name } = info;
        let media = Media {
            hash,
            size,
            content_type: Some(content_type)
                .filter(|kind| kind.len() <= CONTENT_TYPE_MAX)
                .unwrap_or_default(),
            name: name.filter(|name| !name.is_empty() && name.len() <= FILE_NAME_MAX),
            uploader,
            created_ms: self.clock.now_ms(),
            unauthenticated: self.settings.unauthenticated == Unauthenticated::Open,
        };
        let server = server.to_owned();
        w.put::<Blob>(&hash, &size);
        // Bytes that were lost are there again.
        w.delete::<CorruptBlob>(&hash);
        w.put::<BlobRef>(&(hash, server.clone(), id.as_str().to_owned()), &());
        w.put::<MediaTable>(&(server, id.as_str().to_owned()), &media);
        self.store.commit(w).map_err(MediaError::Store)
    }

    /// Finds a file by its `mxc://`. Blocks.
    ///
    /// # Errors
    /// [`MediaError::NotFound`], [`MediaError::File`], [`MediaError::Away`] or
    /// [`MediaError::Store`].
    pub fn find(&self, server: &str, id: &MediaId) -> Result<Found, MediaError> {
        let media = self.media(server, id)?;
        let content = self.content(&media, 0..media.size)?;
        self.looked_at(server, id);
        Ok(Found { media, content })
    }

    /// Notes that somebody looked at it.
    pub(crate) fn looked_at(&self, server: &str, id: &MediaId) {
        let key = (server.to_owned(), id.as_str().to_owned());
        self.uses.media.note(key, self.clock.now_ms());
    }

    /// A part of a file that was found. Blocks.
    ///
    /// # Errors
    /// As [`Blobs::find`].
    pub(crate) fn content(&self, media: &Media, part: Range<u64>) -> Result<Content, MediaError> {
        let hash = Hash::from_bytes(media.hash);
        if let Some(content) = self.storage.open(&hash, part)? {
            return Ok(content);
        }
        tracing::warn!(%hash, "a file of media is not there");
        self.lost(&media.hash)?;
        Err(MediaError::NotFound)
    }

    /// Notes that a blob is not where it should be, where a look at that costs too much to be done
    /// each time: what came from another server is then fetched again.
    fn lost(&self, hash: &[u8; 32]) -> Result<(), MediaError> {
        if !self.is_far() {
            return Ok(());
        }
        let _lock = self.stripes.lock(hash);
        if self.storage.length(&Hash::from_bytes(*hash))?.is_some() {
            return Ok(());
        }
        let mut w = self.store.write();
        w.put::<CorruptBlob>(hash, &self.clock.now_ms());
        // Nobody waits for it: another look finds the same.
        self.store.commit(w).map(|_| ()).map_err(MediaError::Store)
    }

    pub(crate) fn media(&self, server: &str, id: &MediaId) -> Result<Media, MediaError> {
        let key = (server.to_owned(), id.as_str().to_owned());
        let snap = self.store.snapshot();
        let row = snap.get::<MediaTable>(&key).map_err(MediaError::Store)?;
        let media = row.ok_or(MediaError::NotFound)?;
        match self.is_blocked(&snap, &key, &media.hash) {
            Ok(false) => Ok(media),
            Ok(true) => Err(MediaError::NotFound),
            Err(error) => Err(MediaError::Store(error)),
        }
    }
}
