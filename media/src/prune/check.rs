//! The disk and the rows compared: files that nothing names, rows without a file, and files whose
//! bytes are not those that they were.

use blake3::Hash;
use serde::{Deserialize, Serialize};
use skerry_store::{
    Scan, Snapshot, StoreError,
    schema::media::{Blob, BlobRef, CorruptBlob},
};

use super::report::OrphanSums;
use crate::{Blobs, MediaError};

/// How many lost `mxc://` are named in a report.
const NAMED_MAX: usize = 100;

/// What does not fit together.
#[derive(Debug, Default)]
pub(crate) struct Orphans {
    /// Files that no row names, and their lengths.
    files: Vec<(Hash, u64)>,
    /// Other servers' media whose file is not there.
    pub(crate) remote: Vec<(String, String)>,
    /// Media of this server whose file is not there.
    lost: Vec<(String, String)>,
}

/// Files whose bytes are not what their names say.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Verified {
    /// How many files were read.
    pub read: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Those that are corrupt, and the `mxc://` URIs that name them.
    pub corrupt: Vec<(String, Vec<String>)>,
}

impl Orphans {
    /// Goes through files and rows side by side.
    pub(crate) fn find(blobs: &Blobs, snap: &Snapshot) -> Result<Self, MediaError> {
        let mut found = Self::default();
        let mut rows = snap.scan::<Blob>(Scan::all()).peekable();
        blobs.storage.walk(&mut |hash, len| {
            let met = found.meet(blobs, snap, &mut rows, Some((hash, len)));
            met.map_err(MediaError::Store)
        })?;
        let rest = found.meet(blobs, snap, &mut rows, None);
        rest.map_err(MediaError::Store)?;
        Ok(found)
    }

    /// Passes the rows before a file; without one, all that are left.
    fn meet<'a>(
        &mut self,
        blobs: &Blobs,
        snap: &Snapshot,
        rows: &mut std::iter::Peekable<skerry_store::Rows<'a, Blob>>,
        file: Option<(Hash, u64)>,
    ) -> Result<(), StoreError> {
        let upto = file.map(|(hash, _)| *hash.as_bytes());
        while let Some(row) = rows.next_if(|row| match (row, &upto) {
            (Ok((hash, _)), Some(upto)) => hash <= upto,
            _ => true,
        }) {
            let (hash, _) = row?;
            if Some(hash) == upto {
                return Ok(());
            }
            self.without_file(blobs, snap, &hash)?;
        }
        self.files.extend(file);
        Ok(())
    }

    fn without_file(
        &mut self,
        blobs: &Blobs,
        snap: &Snapshot,
        hash: &[u8; 32],
    ) -> Result<(), StoreError> {
        for row in snap.scan::<BlobRef>(Scan::prefix(hash)) {
            let ((_, server, id), ()) = row?;
            if server == blobs.settings.server_name {
                self.lost.push((server, id));
            } else {
                self.remote.push((server, id));
            }
        }
        Ok(())
    }

    /// Deletes the files that nothing names; gives how many.
    pub(crate) fn clear_files(&self, blobs: &Blobs) -> Result<u64, MediaError> {
        let mut cleared = 0;
        for (hash, _) in &self.files {
            // Somebody may just have put it there, and is about to name it.
            let _lock = blobs.stripes.lock(hash.as_bytes());
            let named = blobs.store.newest().has::<Blob>(hash.as_bytes());
            if !named.map_err(MediaError::Store)? {
                blobs.storage.remove(hash)?;
                cleared += 1;
            }
        }
        Ok(cleared)
    }

    /// How many things are to be removed.
    pub(crate) fn count(&self) -> u64 {
        (self.files.len() + self.remote.len()) as u64
    }

    /// How many rows have no file.
    pub(crate) fn missing(&self) -> u64 {
        (self.remote.len() + self.lost.len()) as u64
    }

    pub(crate) fn sums(&self) -> OrphanSums {
        let lost = self.lost.iter().take(NAMED_MAX);
        OrphanSums {
            files: self.files.len() as u64,
            file_bytes: self.files.iter().map(|(_, len)| len).sum(),
            remote_rows: self.remote.len() as u64,
            lost: lost
                .map(|(server, id)| format!("mxc://{server}/{id}"))
                .collect(),
            lost_rows: self.lost.len() as u64,
        }
    }
}

impl Blobs {
    /// Deletes a blob that was put into its place and then not named. Under its lock.
    pub(crate) fn forget(&self, hash: &[u8; 32]) {
        let named = self.store.newest().has::<Blob>(hash);
        let blob = Hash::from_bytes(*hash);
        if matches!(named, Ok(false))
            && let Err(error) = self.storage.remove(&blob)
        {
            // The next look for orphans finds it.
            tracing::debug!(%error, "a file that nothing names stays");
        }
    }

    /// Reads every file and compares it with its hash. One that is corrupt is set aside and said;
    /// other servers' media can then be fetched again. `told` hears how many were read.
    pub(crate) fn verify(&self, told: &mut dyn FnMut(u64)) -> Result<Verified, MediaError> {
        let snap = self.store.newest();
        let mut verified = Verified::default();
        for row in snap.scan::<Blob>(Scan::all()) {
            let (hash, _) = row.map_err(MediaError::Store)?;
            let Some((found, len)) = self.hash_of(&hash)? else {
                continue;
            };
            verified.read += 1;
            verified.bytes += len;
            if *found.as_bytes() != hash {
                let names = self.set_aside(&snap, &hash)?;
                verified.corrupt.push((super::report::hex(&hash), names));
            }
            told(verified.read);
        }
        Ok(verified)
    }

    /// The hash of a blob's file as it is; none if there is no file.
    fn hash_of(&self, hash: &[u8; 32]) -> Result<Option<(Hash, u64)>, MediaError> {
        let hash = Hash::from_bytes(*hash);
        let Some(len) = self.storage.length(&hash)? else {
            return Ok(None);
        };
        let Some(content) = self.storage.open(&hash, 0..len)? else {
            return Ok(None);
        };
        let mut hasher = blake3::Hasher::new();
        let read = content.each(&mut |piece| {
            hasher.update(piece);
        });
        read.map_err(MediaError::file)?;
        Ok(Some((hasher.finalize(), len)))
    }

    fn set_aside(&self, snap: &Snapshot, hash: &[u8; 32]) -> Result<Vec<String>, MediaError> {
        let _lock = self.stripes.lock(hash);
        self.storage.set_aside(&Hash::from_bytes(*hash))?;
        let mut w = self.store.write();
        w.put::<CorruptBlob>(hash, &self.clock.now_ms());
        let _ = self.store.commit(w).map_err(MediaError::Store)?;
        let mut names = Vec::new();
        for row in snap.scan::<BlobRef>(Scan::prefix(hash)) {
            let ((_, server, id), ()) = row.map_err(MediaError::Store)?;
            names.push(format!("mxc://{server}/{id}"));
        }
        tracing::error!(?names, "a media file is corrupt and was set aside");
        Ok(names)
    }
}
