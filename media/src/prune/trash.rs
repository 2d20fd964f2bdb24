//! The trash: what lies there, bringing it back, and noticing by itself that something in it is
//! named again.

use std::{sync::Arc, time::Duration};

use serde::Serialize;
use skerry_store::{Scan, Snapshot, StoreError, blocking, schema::media::Trash};
use tokio::sync::watch;

use super::{
    PruneError, Pruner,
    carry::{Done, Doomed, Watch, Way},
};
use crate::{MediaError, parse_mxc};

/// How many are brought back in one commit.
const BATCH: usize = 64;
/// How often it is looked for names of what lies in the trash, while anything does.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Something in the trash.
#[derive(Debug, Clone, Serialize)]
pub struct TrashEntry {
    /// Its `mxc://` URI.
    pub mxc: String,
    /// Its type, as the uploader gave it.
    pub content_type: String,
    /// Its name, as the uploader gave it.
    pub name: Option<String>,
    /// Length in bytes.
    pub bytes: u64,
    /// When it came, in ms since the epoch.
    pub created_ms: u64,
    /// When it was deleted, in ms since the epoch.
    pub trashed_ms: u64,
    /// When it may go for good, in ms since the epoch.
    pub until_ms: u64,
}

impl Pruner {
    /// What lies in the trash, after the one whose URI is given, at most so many.
    ///
    /// # Errors
    /// [`PruneError`].
    pub async fn trash(
        &self,
        after: Option<String>,
        limit: usize,
    ) -> Result<Vec<TrashEntry>, PruneError> {
        let blobs = Arc::clone(&self.blobs);
        let grace_ms = blobs.settings.trash_ms;
        let listed = blocking(move || {
            let after = after.as_deref().and_then(parse_mxc);
            let scan = match after {
                Some((server, id)) => {
                    Scan::all().after(&(server.to_owned(), id.as_str().to_owned()))
                }
                None => Scan::all(),
            };
            let snap = blobs.store.snapshot();
            let rows = snap.scan::<Trash>(scan.limit(limit));
            rows.map(|row| {
                row.map(|((server, id), row)| TrashEntry {
                    mxc: format!("mxc://{server}/{id}"),
                    content_type: row.media.content_type,
                    name: row.media.name,
                    bytes: row.media.size,
                    created_ms: row.media.created_ms,
                    trashed_ms: row.trashed_ms,
                    until_ms: row.trashed_ms.saturating_add(grace_ms),
                })
            })
            .collect::<Result<Vec<_>, StoreError>>()
        });
        Ok(listed.await??)
    }

    /// Brings media back from the trash: what is named, or all of it. Gives how many came back.
    ///
    /// # Errors
    /// [`PruneError`]; [`PruneError::Ask`] for something that is no URI.
    pub async fn restore(&self, mxcs: Option<Vec<String>>) -> Result<u64, PruneError> {
        let keys = match mxcs {
            Some(mxcs) => {
                let key = |mxc: &String| match parse_mxc(mxc) {
                    Some((server, id)) => Ok((server.to_owned(), id.as_str().to_owned())),
                    None => Err(PruneError::Ask(format!("{mxc} is no mxc:// URI"))),
                };
                mxcs.iter().map(key).collect::<Result<Vec<_>, _>>()?
            }
            None => {
                let blobs = Arc::clone(&self.blobs);
                let keys = blocking(move || {
                    let snap = blobs.store.newest();
                    let rows = snap.scan::<Trash>(Scan::all());
                    rows.map(|row| row.map(|(key, _)| key))
                        .collect::<Result<Vec<_>, StoreError>>()
                });
                keys.await??
            }
        };
        self.bring_back(keys).await
    }

    async fn bring_back(&self, keys: Vec<(String, String)>) -> Result<u64, PruneError> {
        let mut back = Done::default();
        for keys in keys.chunks(BATCH) {
            let doomed = |key: &(String, String)| Doomed {
                key: key.clone(),
                to: Way::Back,
            };
            let batch: Vec<Doomed> = keys.iter().map(doomed).collect();
            let this = self.clone();
            let done = blocking(move || {
                let store = &this.blobs.store;
                let refs = Arc::clone(&this.refs);
                let mut watch = Watch::new(refs, store.newest(), store.generation());
                this.blobs.remove(&mut watch, &batch, &*this.told)
            });
            back.add(done.await??);
        }
        Ok(back.revived)
    }

    /// Brings back what comes to be named while it lies in the trash, until `stop` is true. While
    /// the trash is empty it does nothing.
    pub async fn follow(&self, mut stop: watch::Receiver<bool>) {
        let mut published = self.blobs.store.published();
        let mut seen: Option<Snapshot> = None;
        loop {
            published.borrow_and_update();
            match self.revive(seen.take()).await {
                Ok(upto) => seen = upto,
                Err(PruneError::Media(MediaError::Store(StoreError::Closed))) => return,
                Err(error) => tracing::warn!(%error, "the trash was not looked through"),
            }
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                changed = published.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Brings back what was named after `seen`; without it, whatever is named. Gives up to where
    /// it looked; none while the trash is empty.
    ///
    /// # Errors
    /// [`PruneError`].
    pub async fn revive(&self, seen: Option<Snapshot>) -> Result<Option<Snapshot>, PruneError> {
        let this = self.clone();
        let found = blocking(move || {
            let snap = this.blobs.store.snapshot();
            let mut any = snap.scan::<Trash>(Scan::all().limit(1));
            if any.next().transpose()?.is_none() {
                return Ok(None);
            }
            drop(any);
            let mut named = Vec::new();
            let mut tell = |server: &str, id: &str, _| {
                named.push((server.to_owned(), id.to_owned()));
            };
            let known = match &seen {
                Some(seen) => this.refs.since(seen, &snap, &mut tell)?,
                None => false,
            };
            if known {
                let mut back = Vec::new();
                for key in named {
                    if snap.has::<Trash>(&key)? {
                        back.push(key);
                    }
                }
                return Ok(Some((snap, back)));
            }
            let back = this.named_in_trash(&snap)?;
            Ok::<_, StoreError>(Some((snap, back)))
        });
        let Some((snap, back)) = found.await?? else {
            return Ok(None);
        };
        if !back.is_empty() {
            let count = self.bring_back(back).await?;
            tracing::info!(count, "deleted media is named again and was brought back");
        }
        Ok(Some(snap))
    }

    /// What in the trash is named anywhere.
    fn named_in_trash(&self, snap: &Snapshot) -> Result<Vec<(String, String)>, StoreError> {
        let mut watch = Watch::new(Arc::clone(&self.refs), snap.clone(), 0);
        watch.learn_all(snap)?;
        let mut back = Vec::new();
        for row in snap.scan::<Trash>(Scan::all()) {
            let (key, _) = row?;
            if watch.is_named(&key) {
                back.push(key);
            }
        }
        Ok(back)
    }
}
