//! Quarantine: what an administrator has blocked is not given out, and its bytes are not taken in
//! again, under whatever name. Nothing is deleted, so that it can be undone.

use std::sync::Arc;

use skerry_core::UserNid;
use skerry_store::{
    Applied, Scan, Snapshot, StoreError, Write, blocking,
    schema::media::{BlockedBlob, BlockedMedia, Media, MediaTable, ProtectedMedia},
};

use crate::{Blobs, MediaError, MediaId};

/// How many files are blocked in one commit.
const CHUNK: usize = 1000;

impl Blobs {
    /// Blocks an `mxc://`, whether or not it is known here, and the bytes it names. What is
    /// protected stays as it is. Durable when this returns.
    ///
    /// # Errors
    /// [`MediaError::Store`].
    pub async fn block(self: &Arc<Self>, server: String, id: MediaId) -> Result<(), MediaError> {
        let key = (server, id.as_str().to_owned());
        self.change_blocks(move |snap, w, now| {
            if snap.has::<ProtectedMedia>(&key)? {
                return Ok(());
            }
            w.put::<BlockedMedia>(&key, &now);
            if let Some(media) = snap.get::<MediaTable>(&key)? {
                w.put::<BlockedBlob>(&media.hash, &now);
            }
            Ok(())
        })
        .await
    }

    /// Takes that back, also for the bytes.
    ///
    /// # Errors
    /// [`MediaError::Store`].
    pub async fn unblock(self: &Arc<Self>, server: String, id: MediaId) -> Result<(), MediaError> {
        let key = (server, id.as_str().to_owned());
        self.change_blocks(move |snap, w, _| {
            w.delete::<BlockedMedia>(&key);
            if let Some(media) = snap.get::<MediaTable>(&key)? {
                w.delete::<BlockedBlob>(&media.hash);
            }
            Ok(())
        })
        .await
    }

    /// Blocks bytes by their BLAKE3 hash, or takes that back.
    ///
    /// # Errors
    /// [`MediaError::Store`].
    pub async fn block_hash(
        self: &Arc<Self>,
        hash: [u8; 32],
        blocked: bool,
    ) -> Result<(), MediaError> {
        self.change_blocks(move |_, w, now| {
            if blocked {
                w.put::<BlockedBlob>(&hash, &now);
            } else {
                w.delete::<BlockedBlob>(&hash);
            }
            Ok(())
        })
        .await
    }

    /// Protects media of ours from being blocked, or ends that. What is protected is given out
    /// even where others block the same bytes.
    ///
    /// # Errors
    /// [`MediaError::Store`].
    pub async fn protect(self: &Arc<Self>, id: MediaId, protected: bool) -> Result<(), MediaError> {
        let key = (self.settings.server_name.clone(), id.as_str().to_owned());
        self.change_blocks(move |_, w, _| {
            if protected {
                w.put::<ProtectedMedia>(&key, &());
            } else {
                w.delete::<ProtectedMedia>(&key);
            }
            Ok(())
        })
        .await
    }

    /// Blocks all that a person has uploaded but what is protected, in pieces: what was done
    /// before a crash stays, and the rest is done by asking again. Gives how many were blocked
    /// that were not before.
    ///
    /// # Errors
    /// [`MediaError::Store`].
    pub async fn block_uploads(self: &Arc<Self>, uploader: UserNid) -> Result<usize, MediaError> {
        let this = Arc::clone(self);
        let (count, applied) = blocking(move || this.block_uploads_now(uploader))
            .await
            .map_err(MediaError::Store)?
            .map_err(MediaError::Store)?;
        let durable = self.store.durable(&applied).await;
        durable.map_err(MediaError::Store)?;
        Ok(count)
    }

    fn block_uploads_now(&self, uploader: UserNid) -> Result<(usize, Applied), StoreError> {
        let snap = self.store.newest();
        let rows = snap.scan::<MediaTable>(Scan::all());
        let of_them = rows.filter(|row| match row {
            Ok((_, media)) => media.uploader == uploader,
            Err(_) => true,
        });
        self.block_rows(&snap, of_them)
    }

    /// Blocks these `mxc://`, also those that are not here yet, but what is protected. Gives how
    /// many were blocked that were not before. Durable when this returns.
    ///
    /// # Errors
    /// [`MediaError::Store`].
    pub(crate) async fn block_listed(
        self: &Arc<Self>,
        keys: Vec<(String, String)>,
    ) -> Result<usize, MediaError> {
        let this = Arc::clone(self);
        let done = blocking(move || {
            let snap = this.store.newest();
            let (mut here, mut elsewhere) = (Vec::new(), Vec::new());
            for key in keys {
                match snap.get::<MediaTable>(&key)? {
                    Some(media) => here.push(Ok((key, media))),
                    None => elsewhere.push(key),
                }
            }
            let (mut count, mut applied) = this.block_rows(&snap, here.into_iter())?;
            let now_ms = this.clock.now_ms();
            for keys in elsewhere.chunks(CHUNK) {
                let mut w = this.store.write();
                for key in keys {
                    if !snap.has::<BlockedMedia>(key)? && !snap.has::<ProtectedMedia>(key)? {
                        w.put::<BlockedMedia>(key, &now_ms);
                        count += 1;
                    }
                }
                applied = this.store.commit(w)?;
            }
            Ok::<_, StoreError>((count, applied))
        });
        let (count, applied) = done
            .await
            .map_err(MediaError::Store)?
            .map_err(MediaError::Store)?;
        let durable = self.store.durable(&applied).await;
        durable.map_err(MediaError::Store)?;
        Ok(count)
    }

    fn block_rows(
        &self,
        snap: &Snapshot,
        rows: impl Iterator<Item = Result<((String, String), Media), StoreError>>,
    ) -> Result<(usize, Applied), StoreError> {
        let now = self.clock.now_ms();
        let mut w = self.store.write();
        let (mut count, mut in_write) = (0, 0);
        for row in rows {
            let (key, media) = row?;
            if snap.has::<BlockedMedia>(&key)? || snap.has::<ProtectedMedia>(&key)? {
                continue;
            }
            w.put::<BlockedMedia>(&key, &now);
            w.put::<BlockedBlob>(&media.hash, &now);
            count += 1;
            in_write += 1;
            if in_write == CHUNK {
                let full = std::mem::replace(&mut w, self.store.write());
                let _ = self.store.commit(full)?;
                in_write = 0;
            }
        }
        if !w.is_empty() {
            return Ok((count, self.store.commit(w)?));
        }
        Ok((count, self.store.barrier()))
    }

    /// Whether this may not be given out.
    pub(crate) fn is_blocked(
        &self,
        snap: &Snapshot,
        key: &(String, String),
        hash: &[u8; 32],
    ) -> Result<bool, StoreError> {
        let named = snap.has::<BlockedMedia>(key)? || snap.has::<BlockedBlob>(hash)?;
        Ok(named && !snap.has::<ProtectedMedia>(key)?)
    }

    /// Refuses bytes that are blocked.
    pub(crate) fn may_keep(&self, hash: &[u8; 32]) -> Result<(), MediaError> {
        let blocked = self.store.newest().has::<BlockedBlob>(hash);
        match blocked.map_err(MediaError::Store)? {
            true => Err(MediaError::Blocked),
            false => Ok(()),
        }
    }

    async fn change_blocks(
        self: &Arc<Self>,
        change: impl FnOnce(&Snapshot, &mut Write, u64) -> Result<(), StoreError> + Send + 'static,
    ) -> Result<(), MediaError> {
        let lane = self.blocks.lock(()).await;
        let this = Arc::clone(self);
        let applied = blocking(move || {
            let _lane = lane;
            let (snap, mut w) = (this.store.newest(), this.store.write());
            change(&snap, &mut w, this.clock.now_ms())?;
            if w.is_empty() {
                return Ok(this.store.barrier());
            }
            this.store.commit(w)
        });
        let applied = applied.await.map_err(MediaError::Store)?;
        let applied = applied.map_err(MediaError::Store)?;
        let durable = self.store.durable(&applied).await;
        durable.map_err(MediaError::Store)
    }
}
