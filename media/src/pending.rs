//! Asynchronous uploads (content repository, 1.7): an id first, its content later, and those who
//! ask for it in between wait a while.

use std::sync::Arc;
use std::time::Duration;

use skerry_core::UserNid;
use skerry_store::{
    Applied, Scan, Snapshot, StoreError, Write, blocking,
    schema::media::{MediaTable, Pending, PendingMedia, PendingOf},
};

use crate::{Blobs, MediaError, MediaId, Upload, UploadInfo};

/// How many ids a person may have reserved and not filled.
pub const PENDING_MAX: usize = 100;
/// How long an id stays reserved.
pub const RESERVED_FOR: Duration = Duration::from_secs(24 * 60 * 60);
/// The longest that anybody waits for content, whatever they ask for.
pub const WAIT_MAX: Duration = Duration::from_secs(60);

impl Blobs {
    /// Reserves an id for content that comes later. Gives it with the time it lapses at, in ms
    /// since the epoch. It is durable when this returns.
    ///
    /// # Errors
    /// [`MediaError::TooManyPending`] or [`MediaError::Store`].
    pub async fn reserve(
        self: &Arc<Self>,
        uploader: UserNid,
    ) -> Result<(MediaId, u64), MediaError> {
        let lane = self.uploaders.lock(uploader).await;
        let this = Arc::clone(self);
        let reserved = blocking(move || {
            let _lane = lane;
            this.reserve_now(uploader)
        });
        let (id, expires_ms, applied) = reserved.await.map_err(MediaError::Store)??;
        let durable = self.store.durable(&applied).await;
        durable.map_err(MediaError::Store)?;
        Ok((id, expires_ms))
    }

    fn reserve_now(&self, uploader: UserNid) -> Result<(MediaId, u64, Applied), MediaError> {
        let now = self.clock.now_ms();
        let snap = self.store.newest();
        let mut w = self.store.write();
        let mut live = 0;
        let mut first_lapse = u64::MAX;
        for row in snap.scan::<PendingOf>(Scan::prefix(&uploader)) {
            let (key, ()) = row.map_err(MediaError::Store)?;
            if key.1 > now {
                live += 1;
                first_lapse = first_lapse.min(key.1);
            } else {
                w.delete::<Pending>(&key.2);
                w.delete::<PendingOf>(&key);
            }
        }
        if live >= PENDING_MAX {
            return Err(MediaError::TooManyPending(first_lapse - now));
        }
        let id = MediaId::random(self.dice.dice().as_mut());
        let expires_ms = now + u64::try_from(RESERVED_FOR.as_millis()).unwrap_or(u64::MAX / 2);
        let name = id.as_str().to_owned();
        let row = PendingMedia {
            uploader,
            expires_ms,
        };
        w.put::<Pending>(&name, &row);
        w.put::<PendingOf>(&(uploader, expires_ms, name), &());
        let applied = self.store.commit(w).map_err(MediaError::Store)?;
        Ok((id, expires_ms, applied))
    }

    /// Whether this person may now upload the content of this id.
    ///
    /// # Errors
    /// [`MediaError::Taken`], [`MediaError::NotYours`], [`MediaError::NotFound`] (never given out,
    /// or lapsed), [`MediaError::Store`].
    pub fn may_fill(&self, id: &MediaId, uploader: UserNid) -> Result<(), MediaError> {
        self.reservation(&self.store.newest(), id, uploader)
            .map(|_| ())
    }

    fn reservation(
        &self,
        snap: &Snapshot,
        id: &MediaId,
        uploader: UserNid,
    ) -> Result<PendingMedia, MediaError> {
        let name = id.as_str().to_owned();
        let pending = snap.get::<Pending>(&name).map_err(MediaError::Store)?;
        let Some(pending) = pending else {
            let key = (self.settings.server_name.clone(), name);
            let there = snap.get::<MediaTable>(&key).map_err(MediaError::Store)?;
            return Err(match there {
                Some(_) => MediaError::Taken,
                None => MediaError::NotFound,
            });
        };
        if pending.uploader != uploader {
            return Err(MediaError::NotYours);
        }
        if pending.expires_ms <= self.clock.now_ms() {
            return Err(MediaError::NotFound);
        }
        Ok(pending)
    }

    /// Ends the upload of a reserved id's content, as [`Blobs::finish`] does, and wakes those who
    /// wait for it.
    ///
    /// # Errors
    /// As [`Blobs::may_fill`] and [`Blobs::finish`].
    pub async fn fill(
        self: &Arc<Self>,
        upload: Upload,
        info: UploadInfo,
        uploader: UserNid,
        id: MediaId,
    ) -> Result<(), MediaError> {
        let upload = self.prepared(upload).await?;
        let lane = self.uploaders.lock(uploader).await;
        let this = Arc::clone(self);
        let filled = blocking(move || {
            let _lane = lane;
            let pending = this.reservation(&this.store.newest(), &id, uploader)?;
            let mut w: Write = this.store.write();
            let name = id.as_str().to_owned();
            w.delete::<Pending>(&name);
            w.delete::<PendingOf>(&(uploader, pending.expires_ms, name));
            this.commit(w, upload, info, uploader, (this.server_name(), &id))
        });
        let applied = filled.await.map_err(MediaError::Store)??;
        let durable = self.store.durable(&applied).await;
        durable.map_err(MediaError::Store)?;
        self.arrived.send_replace(());
        Ok(())
    }

    /// Waits until media of ours has its content, at most `patience` (and [`WAIT_MAX`]). Returns
    /// at once for everything that is not reserved.
    ///
    /// # Errors
    /// [`MediaError::NotYet`] when it did not come, [`MediaError::Store`].
    pub async fn wait_for(
        self: &Arc<Self>,
        id: &MediaId,
        patience: Duration,
    ) -> Result<(), MediaError> {
        let mut arrived = self.arrived.subscribe();
        let end = tokio::time::Instant::now() + patience.min(WAIT_MAX);
        loop {
            let this = Arc::clone(self);
            let name = id.as_str().to_owned();
            let pending = blocking(move || {
                let row = this.store.snapshot().get::<Pending>(&name)?;
                let now = this.clock.now_ms();
                Ok::<_, StoreError>(row.is_some_and(|row| row.expires_ms > now))
            });
            let pending = pending.await.map_err(MediaError::Store)?;
            if !pending.map_err(MediaError::Store)? {
                return Ok(());
            }
            if !matches!(
                tokio::time::timeout_at(end, arrived.changed()).await,
                Ok(Ok(()))
            ) {
                return Err(MediaError::NotYet);
            }
        }
    }
}
