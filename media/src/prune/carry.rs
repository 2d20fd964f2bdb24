//! Carrying a plan out, the only place where media is deleted.
//!
//! Each deletion is checked again in the commit that removes its rows, against everything that was
//! logged since the plan's snapshot; and once more before a file goes, since a name may have come
//! between. What is found named again stays, or comes back.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use blake3::Hash;
use skerry_core::UserNid;
use skerry_store::{
    Applied, Expect, Scan, Snapshot, StoreError, Write,
    schema::media::{
        Accessed, Blob, BlobRef, CorruptBlob, Media, MediaTable, ProtectedMedia, Thumb, ThumbUses,
        Trash, Trashed, Usage,
    },
};

use super::{Step, plan::shown, refs::References};
use crate::{Blobs, MediaError, blobs::NOBODY, mxc::fingerprint, thumbs::ThumbKey};

/// How often a batch is tried again because something was named meanwhile.
const TRIES: usize = 100;

/// Follows what is named while a plan is carried out.
pub(crate) struct Watch {
    refs: Arc<dyn References>,
    seen: Snapshot,
    generation: u64,
    named: HashSet<u128>,
}

/// One `mxc://` that is to go.
#[derive(Debug, Clone)]
pub(crate) struct Doomed {
    pub(crate) key: (String, String),
    pub(crate) to: Way,
}

/// From where to where it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// It goes at once.
    Away,
    /// It goes into the trash.
    IntoTrash,
    /// It is in the trash, and goes.
    OutOfTrash,
    /// It is in the trash, and comes back.
    Back,
}

/// What was done.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Done {
    /// Items that went, also into the trash.
    pub(crate) removed: u64,
    /// Items that stayed or came back because they are named again.
    pub(crate) revived: u64,
    /// Bytes that are free.
    pub(crate) freed: u64,
}

impl Done {
    pub(crate) fn add(&mut self, other: Done) {
        self.removed += other.removed;
        self.revived += other.revived;
        self.freed += other.freed;
    }
}

/// A row that was removed for good; it can still be written again.
struct Gone {
    key: (String, String),
    media: Media,
    used_ms: Option<u64>,
}

/// A batch's write and what it means.
struct Removal {
    w: Write,
    done: Done,
    /// Everything that goes: if one is named before the commit, the batch is made anew.
    prints: Vec<u128>,
    gone: Vec<Gone>,
    /// Blobs that nothing names afterwards.
    blobs: Vec<[u8; 32]>,
}

impl Watch {
    pub(crate) fn new(refs: Arc<dyn References>, seen: Snapshot, generation: u64) -> Self {
        Self {
            refs,
            seen,
            generation,
            named: HashSet::new(),
        }
    }

    /// Learns what was named since the last time.
    pub(crate) fn catch_up(&mut self, newest: &Snapshot) -> Result<(), StoreError> {
        if newest.head() == self.seen.head() {
            return Ok(());
        }
        let named = &mut self.named;
        let mut tell = |server: &str, id: &str, _| {
            named.insert(fingerprint(server, id));
        };
        if !self.refs.since(&self.seen, newest, &mut tell)? {
            self.refs.all(newest, &mut tell)?;
        }
        self.seen = newest.clone();
        Ok(())
    }

    pub(crate) fn is_named(&self, (server, id): &(String, String)) -> bool {
        self.named.contains(&fingerprint(server, id))
    }

    /// Learns everything that is named.
    pub(crate) fn learn_all(&mut self, snap: &Snapshot) -> Result<(), StoreError> {
        let named = &mut self.named;
        self.refs.all(snap, &mut |server, id, _| {
            named.insert(fingerprint(server, id));
        })
    }
}

impl Blobs {
    /// Who uploaded these: their lanes are held while their sums change.
    pub(crate) fn uploaders_of(&self, batch: &[Doomed]) -> Result<Vec<UserNid>, StoreError> {
        let snap = self.store.newest();
        let mut uploaders = Vec::new();
        for doomed in batch {
            uploaders.extend(row_of(&snap, doomed)?.map(|(media, _)| media.uploader));
        }
        Ok(uploaders)
    }

    /// Removes a batch: rows first, and when that is durable the files. Inside the lanes of its
    /// uploaders. `told` hears of each step.
    pub(crate) fn remove(
        &self,
        watch: &mut Watch,
        batch: &[Doomed],
        told: &dyn Fn(Step),
    ) -> Result<Done, MediaError> {
        let failed = MediaError::Store;
        let hashes = self.hashes_of(batch).map_err(failed)?;
        let locks = self.stripes.lock_all(hashes.iter());
        let (removal, applied) = self.commit_removal(watch, batch, told).map_err(failed)?;
        drop(locks);
        told(Step::Committed);
        self.store.wait_durable(&applied).map_err(failed)?;
        for doomed in batch {
            self.uses.media.forget(&doomed.key);
        }
        let mut done = removal.done;
        told(Step::BeforeUnlink);
        for hash in &removal.blobs {
            let of_it = || removal.gone.iter().filter(|gone| gone.media.hash == *hash);
            match self.unlink(watch, hash, &mut of_it())? {
                Unlinked::Freed(bytes) => done.freed += bytes,
                Unlinked::Named => {}
                Unlinked::Revived(count) => {
                    done.revived += count;
                    done.removed = done.removed.saturating_sub(count);
                }
            }
        }
        Ok(done)
    }

    fn hashes_of(&self, batch: &[Doomed]) -> Result<Vec<[u8; 32]>, StoreError> {
        let snap = self.store.newest();
        let mut hashes = Vec::new();
        for doomed in batch {
            hashes.extend(row_of(&snap, doomed)?.map(|(media, _)| media.hash));
        }
        Ok(hashes)
    }

    fn commit_removal(
        &self,
        watch: &mut Watch,
        batch: &[Doomed],
        told: &dyn Fn(Step),
    ) -> Result<(Removal, Applied), StoreError> {
        for _ in 0..TRIES {
            if self.store.generation() != watch.generation {
                break;
            }
            let newest = self.store.newest();
            watch.catch_up(&newest)?;
            let mut removal = self.removal(&newest, watch, batch)?;
            told(Step::Checked);
            let w = std::mem::replace(&mut removal.w, self.store.write());
            let committed = self.store.commit_if(w, &mut |newest| {
                watch.catch_up(newest)?;
                Ok(!removal
                    .prints
                    .iter()
                    .any(|print| watch.named.contains(print)))
            });
            match committed {
                Ok(applied) => return Ok((removal, applied)),
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Err(StoreError::Conflict { table: "media" })
    }

    fn removal(
        &self,
        newest: &Snapshot,
        watch: &Watch,
        batch: &[Doomed],
    ) -> Result<Removal, StoreError> {
        let mut w = self.store.write();
        w.makes_room();
        let mut removal = Removal {
            w,
            done: Done::default(),
            prints: Vec::new(),
            gone: Vec::new(),
            blobs: Vec::new(),
        };
        let shown = shown(newest, self.clock.now_ms())?;
        for doomed in batch {
            let Some((media, used_ms)) = row_of(newest, doomed)? else {
                continue;
            };
            let own = doomed.key.0 == self.settings.server_name;
            let named = watch.is_named(&doomed.key)
                || newest.has::<ProtectedMedia>(&doomed.key)?
                || own && media.uploader == NOBODY && shown.contains(&doomed.key.1);
            removal.take(doomed, (media, used_ms), named, self.clock.now_ms());
        }
        self.drop_blobs(newest, &mut removal)?;
        self.lower_sums(newest, &mut removal)?;
        Ok(removal)
    }

    /// The blobs that lose their last reference go, with their thumbnails.
    fn drop_blobs(&self, newest: &Snapshot, removal: &mut Removal) -> Result<(), StoreError> {
        let mut leaving: BTreeMap<[u8; 32], usize> = BTreeMap::new();
        for gone in &removal.gone {
            *leaving.entry(gone.media.hash).or_default() += 1;
        }
        for (hash, count) in leaving {
            let refs = newest.scan::<BlobRef>(Scan::prefix(&hash).limit(count + 1));
            let mut left = 0;
            for row in refs {
                row?;
                left += 1;
            }
            if left <= count {
                removal.w.delete::<Blob>(&hash);
                removal.w.delete::<CorruptBlob>(&hash);
                removal.w.delete_range::<Thumb>(hash);
                removal.w.delete_range::<ThumbUses>(hash);
                removal.blobs.push(hash);
            }
        }
        Ok(())
    }

    /// What is gone for good counts for its uploader no more.
    fn lower_sums(&self, newest: &Snapshot, removal: &mut Removal) -> Result<(), StoreError> {
        let mut less: HashMap<UserNid, u64> = HashMap::new();
        for gone in &removal.gone {
            *less.entry(gone.media.uploader).or_default() += gone.media.size;
        }
        for (uploader, bytes) in less {
            if let Some(used) = newest.get::<Usage>(&uploader)? {
                removal
                    .w
                    .put::<Usage>(&uploader, &used.saturating_sub(bytes));
            }
        }
        Ok(())
    }

    /// Deletes a file that nothing names, unless that has changed in the last moment.
    fn unlink(
        &self,
        watch: &mut Watch,
        hash: &[u8; 32],
        gone: &mut dyn Iterator<Item = &Gone>,
    ) -> Result<Unlinked, MediaError> {
        let failed = MediaError::Store;
        let _lock = self.stripes.lock(hash);
        let newest = self.store.newest();
        if newest.has::<Blob>(hash).map_err(failed)? {
            return Ok(Unlinked::Named);
        }
        watch.catch_up(&newest).map_err(failed)?;
        let back: Vec<&Gone> = gone.filter(|gone| watch.is_named(&gone.key)).collect();
        let blob = Hash::from_bytes(*hash);
        let len = self.storage.length(&blob)?.unwrap_or(0);
        if back.is_empty() {
            self.storage.remove(&blob)?;
            return Ok(Unlinked::Freed(len));
        }
        let mut w = self.store.write();
        w.put::<Blob>(hash, &len);
        let mut more: HashMap<UserNid, u64> = HashMap::new();
        for gone in &back {
            let (server, id) = gone.key.clone();
            w.put::<BlobRef>(&(*hash, server, id), &());
            w.put::<MediaTable>(&gone.key, &gone.media);
            if let Some(used_ms) = gone.used_ms {
                w.put::<Accessed>(&gone.key, &used_ms);
            }
            *more.entry(gone.media.uploader).or_default() += gone.media.size;
        }
        for (uploader, bytes) in more {
            let used = newest.get::<Usage>(&uploader).map_err(failed)?.unwrap_or(0);
            w.put::<Usage>(&uploader, &used.saturating_add(bytes));
        }
        let applied = self.store.commit(w).map_err(failed)?;
        self.store.wait_durable(&applied).map_err(failed)?;
        Ok(Unlinked::Revived(back.len() as u64))
    }

    /// Deletes thumbnails; they can be made again.
    pub(crate) fn remove_thumbs(&self, keys: &[ThumbKey]) -> Result<(), MediaError> {
        let mut w = self.store.write();
        w.makes_room();
        for key in keys {
            w.delete::<Thumb>(key);
            w.delete::<ThumbUses>(key);
            self.uses.thumbs.forget(key);
        }
        let applied = self.store.commit(w).map_err(MediaError::Store)?;
        self.store.wait_durable(&applied).map_err(MediaError::Store)
    }
}

/// What became of a file.
enum Unlinked {
    /// So many bytes are free.
    Freed(u64),
    /// The same bytes were uploaded again meanwhile.
    Named,
    /// So many `mxc://` of it were named again, and are back.
    Revived(u64),
}

impl Removal {
    /// One `mxc://` of the batch. What is named stays where it is, or comes back from the trash.
    fn take(
        &mut self,
        doomed: &Doomed,
        (media, used_ms): (Media, Option<u64>),
        named: bool,
        now_ms: u64,
    ) {
        let key = &doomed.key;
        let w = &mut self.w;
        match (doomed.to, named) {
            (Way::Away | Way::IntoTrash, true) => {
                self.done.revived += 1;
                return;
            }
            (Way::OutOfTrash | Way::Back, true) | (Way::Back, false) => {
                w.expect::<Trash>(key, Expect::Present);
                w.delete::<Trash>(key);
                w.put::<MediaTable>(key, &media);
                if let Some(used_ms) = used_ms {
                    w.put::<Accessed>(key, &used_ms);
                }
                self.done.revived += 1;
                return;
            }
            (Way::Away | Way::IntoTrash, false) => {
                w.expect::<MediaTable>(key, Expect::Is(&media));
                w.delete::<MediaTable>(key);
                w.delete::<Accessed>(key);
            }
            (Way::OutOfTrash, false) => {
                w.expect::<Trash>(key, Expect::Present);
                w.delete::<Trash>(key);
            }
        }
        w.expect::<ProtectedMedia>(key, Expect::Absent);
        self.done.removed += 1;
        self.prints.push(fingerprint(&key.0, &key.1));
        if doomed.to == Way::IntoTrash {
            let row = Trashed {
                media,
                used_ms,
                trashed_ms: now_ms,
            };
            w.put::<Trash>(key, &row);
            return;
        }
        w.delete::<BlobRef>(&(media.hash, key.0.clone(), key.1.clone()));
        self.gone.push(Gone {
            key: key.clone(),
            media,
            used_ms,
        });
    }
}

/// The row of what is to go, with when it was last looked at; none if it is gone already.
fn row_of(snap: &Snapshot, doomed: &Doomed) -> Result<Option<(Media, Option<u64>)>, StoreError> {
    match doomed.to {
        Way::Away | Way::IntoTrash => {
            let Some(media) = snap.get::<MediaTable>(&doomed.key)? else {
                return Ok(None);
            };
            Ok(Some((media, snap.get::<Accessed>(&doomed.key)?)))
        }
        Way::OutOfTrash | Way::Back => {
            let row = snap.get::<Trash>(&doomed.key)?;
            Ok(row.map(|row| (row.media, row.used_ms)))
        }
    }
}
