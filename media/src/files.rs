//! The folder of blobs: `ab/cd/<rest of the hash>`, written once and never changed.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use blake3::{Hash, Hasher};

const SPOOL: &str = "spool";
const CORRUPT: &str = "corrupt";

/// What a start removed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Swept {
    /// Uploads that were cut off.
    pub unfinished: u64,
    /// Whole files that no row names.
    pub orphans: u64,
    /// Entries whose file is not there. They stay: a backup may have the file.
    pub lost: u64,
}

/// The folder of blobs.
#[derive(Debug)]
pub struct Files {
    root: PathBuf,
    next: AtomicU64,
}

/// A blob on its way in. Dropped before [`Spooled::keep`], it leaves nothing.
#[derive(Debug)]
pub struct Spooled {
    path: PathBuf,
    file: File,
    hasher: Hasher,
    size: u64,
    synced: bool,
    kept: bool,
}

impl Files {
    /// Opens the folder, making it where it is missing.
    pub fn open(root: &Path) -> io::Result<Self> {
        fs::create_dir_all(root.join(SPOOL))?;
        sync_dir(root)?;
        Ok(Self {
            root: root.to_owned(),
            next: AtomicU64::new(0),
        })
    }

    /// Starts a blob.
    pub fn spool(&self) -> io::Result<Spooled> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self
            .root
            .join(SPOOL)
            .join(format!("{}-{number}", std::process::id()));
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)?;
        Ok(Spooled {
            path,
            file,
            hasher: Hasher::new(),
            size: 0,
            synced: false,
            kept: false,
        })
    }

    /// Where the blob of this hash lies.
    pub fn path(&self, hash: &Hash) -> PathBuf {
        let hex = hash.to_hex();
        let (first, rest) = hex.split_at(2);
        let (second, rest) = rest.split_at(2);
        self.root.join(first).join(second).join(rest)
    }

    /// Removes uploads that a crash cut off; gives how many. Only at start, before the first
    /// upload.
    pub fn clear_spool(&self) -> io::Result<u64> {
        let mut unfinished = 0;
        for entry in fs::read_dir(self.root.join(SPOOL))? {
            fs::remove_file(entry?.path())?;
            unfinished += 1;
        }
        Ok(unfinished)
    }

    /// Tells of every blob in the order of the hashes, with its length in bytes.
    pub fn walk(&self, each: &mut dyn FnMut(Hash, u64) -> io::Result<()>) -> io::Result<()> {
        for first in shards(&self.root)? {
            for second in shards(&first)? {
                let mut here = Vec::new();
                for entry in fs::read_dir(&second)? {
                    let path = entry?.path();
                    if let Some(hash) = hash_of(&path) {
                        here.push((hash, path));
                    }
                }
                here.sort_unstable_by_key(|(hash, _)| *hash.as_bytes());
                for (hash, path) in here {
                    match fs::metadata(&path) {
                        Ok(there) => each(hash, there.len())?,
                        // Deleted since the folder was read.
                        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether a blob is there.
    pub fn has(&self, hash: &[u8; 32]) -> bool {
        self.path(&Hash::from_bytes(*hash)).exists()
    }

    /// Deletes a blob; false if it was not there.
    pub fn remove(&self, hash: &Hash) -> io::Result<bool> {
        match fs::remove_file(self.path(hash)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Moves a blob out of the way: its bytes are not those that its name says. It lies in
    /// `corrupt` then, for whoever wants to look at it.
    pub fn set_aside(&self, hash: &Hash) -> io::Result<()> {
        let folder = self.root.join(CORRUPT);
        match fs::create_dir(&folder) {
            Ok(()) => sync_dir(&self.root)?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        fs::rename(self.path(hash), folder.join(hash.to_hex().as_str()))
    }
}

/// Locks by hash. Whoever puts a blob into its place and names it, and whoever finds that nothing
/// names it and deletes it, holds the lock of its hash meanwhile.
#[derive(Debug)]
pub struct Stripes([Mutex<()>; 64]);

impl Stripes {
    /// Nothing is locked.
    pub fn new() -> Self {
        Self(std::array::from_fn(|_| Mutex::new(())))
    }

    /// Locks one hash.
    pub fn lock(&self, hash: &[u8; 32]) -> MutexGuard<'_, ()> {
        let [first, ..] = hash;
        // Cannot miss: six bits.
        let lock = &self.0[usize::from(*first & 63)];
        lock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks several, in an order that all keep to.
    pub fn lock_all<'a>(
        &self,
        hashes: impl Iterator<Item = &'a [u8; 32]>,
    ) -> Vec<MutexGuard<'_, ()>> {
        let numbers: BTreeSet<u8> = hashes.map(|[first, ..]| first & 63).collect();
        let locks = numbers.into_iter();
        locks.map(|number| self.lock(&[number; 32])).collect()
    }
}

impl Spooled {
    /// Adds a piece; the whole is never in memory.
    pub fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        self.file.write_all(piece)?;
        self.hasher.update(piece);
        self.size += piece.len() as u64;
        Ok(())
    }

    /// Bytes so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The hash of the bytes so far.
    pub fn hash(&self) -> Hash {
        self.hasher.finalize()
    }

    /// Syncs the file, unless its blob is there already. To be called before the blob's lock is
    /// taken, which would be held for long otherwise.
    pub fn sync(&mut self, files: &Files) -> io::Result<()> {
        if !self.synced && !self.is_there(files) {
            self.file.sync_all()?;
            self.synced = true;
        }
        Ok(())
    }

    fn is_there(&self, files: &Files) -> bool {
        fs::metadata(files.path(&self.hash())).is_ok_and(|there| there.len() == self.size)
    }

    /// Moves the file to its place; both it and its name are on disk afterwards. A blob that is
    /// there already is kept, and this copy of it goes. Under the blob's lock.
    pub fn keep(mut self, files: &Files) -> io::Result<(Hash, u64)> {
        let hash = self.hash();
        let target = files.path(&hash);
        if !self.is_there(files) {
            if !self.synced {
                self.file.sync_all()?;
            }
            make_shards(&files.root, &target)?;
            fs::rename(&self.path, &target)?;
            self.kept = true;
        }
        // Also where it was there: whoever put it there may not have come to this yet.
        if let Some(dir) = target.parent() {
            sync_dir(dir)?;
        }
        Ok((hash, self.size))
    }
}

impl Drop for Spooled {
    fn drop(&mut self) {
        if !self.kept {
            // a file that stays is removed by the next start's sweep
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Makes the two levels above `target`, syncing each folder that got a new entry.
fn make_shards(root: &Path, target: &Path) -> io::Result<()> {
    let Some(second) = target.parent() else {
        return Ok(());
    };
    let Some(first) = second.parent() else {
        return Ok(());
    };
    for (folder, above) in [(first, root), (second, first)] {
        match fs::create_dir(folder) {
            Ok(()) => sync_dir(above)?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn shards(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let two_digits = path
            .file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| name.len() == 2 && name.bytes().all(|b| b.is_ascii_hexdigit()));
        if two_digits {
            found.push(path);
        }
    }
    found.sort_unstable();
    Ok(found)
}

fn hash_of(path: &Path) -> Option<Hash> {
    let parts: Vec<_> = path
        .iter()
        .rev()
        .take(3)
        .map(|part| part.to_str())
        .collect();
    match parts.as_slice() {
        [Some(rest), Some(second), Some(first)] => {
            Hash::from_hex(format!("{first}{second}{rest}")).ok()
        }
        _ => None,
    }
}
