//! The folder of blobs: `ab/cd/<rest of the hash>`, written once and never changed.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use blake3::Hash;

use crate::{
    MediaError,
    spool::{Spooled, sync_dir},
    storage::{Content, Each, Storage},
};

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
}

impl Files {
    /// Blobs below `root`, which is there.
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    fn path(&self, hash: &Hash) -> PathBuf {
        let [first, second, rest] = parts(hash);
        self.root.join(first).join(second).join(rest)
    }

    fn is_there(&self, spooled: &Spooled) -> bool {
        let path = self.path(&spooled.hash());
        fs::metadata(path).is_ok_and(|there| there.len() == spooled.size())
    }
}

impl Storage for Files {
    fn prepare(&self, spooled: &mut Spooled) -> Result<(), MediaError> {
        match self.is_there(spooled) {
            true => Ok(()),
            false => spooled.sync().map_err(MediaError::file),
        }
    }

    fn keep(&self, mut spooled: Spooled) -> Result<(), MediaError> {
        let target = self.path(&spooled.hash());
        if !self.is_there(&spooled) {
            spooled.sync().map_err(MediaError::file)?;
            make_shards(&self.root, &target).map_err(MediaError::file)?;
            spooled.move_to(&target).map_err(MediaError::file)?;
        }
        // Also where it was there: whoever put it there may not have come to this yet.
        match target.parent() {
            Some(dir) => sync_dir(dir).map_err(MediaError::file),
            None => Ok(()),
        }
    }

    fn open(&self, hash: &Hash, part: Range<u64>) -> Result<Option<Content>, MediaError> {
        let opened = File::open(self.path(hash)).and_then(|file| Content::of_file(file, &part));
        there(opened)
    }

    fn length(&self, hash: &Hash) -> Result<Option<u64>, MediaError> {
        there(fs::metadata(self.path(hash)).map(|there| there.len()))
    }

    fn seems_there(&self, hash: &Hash) -> bool {
        self.path(hash).exists()
    }

    fn is_far(&self) -> bool {
        false
    }

    fn remove(&self, hash: &Hash) -> Result<(), MediaError> {
        there(fs::remove_file(self.path(hash))).map(|_| ())
    }

    fn set_aside(&self, hash: &Hash) -> Result<(), MediaError> {
        let folder = self.root.join(CORRUPT);
        let made = match fs::create_dir(&folder) {
            Ok(()) => sync_dir(&self.root),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
        };
        let aside = || fs::rename(self.path(hash), folder.join(hash.to_hex().as_str()));
        made.and_then(|()| aside()).map_err(MediaError::file)
    }

    fn walk(&self, each: &mut Each<'_>) -> Result<(), MediaError> {
        for first in shards(&self.root).map_err(MediaError::file)? {
            for second in shards(&first).map_err(MediaError::file)? {
                for (hash, len) in blobs_in(&second).map_err(MediaError::file)? {
                    each(hash, len)?;
                }
            }
        }
        Ok(())
    }
}

/// None for what is not there.
fn there<T>(result: io::Result<T>) -> Result<Option<T>, MediaError> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(MediaError::file(error)),
    }
}

/// The three parts of a blob's path.
pub(crate) fn parts(hash: &Hash) -> [String; 3] {
    let hex = hash.to_hex();
    let (first, rest) = hex.split_at(2);
    let (second, rest) = rest.split_at(2);
    [first.to_owned(), second.to_owned(), rest.to_owned()]
}

/// The hash that these three parts are of.
pub(crate) fn hash_of(parts: [&str; 3]) -> Option<Hash> {
    let [first, second, _] = parts;
    let good = first.len() == 2 && second.len() == 2;
    good.then(|| Hash::from_hex(parts.concat()).ok())?
}

/// The blobs of one folder in order, with their lengths in bytes.
fn blobs_in(folder: &Path) -> io::Result<Vec<(Hash, u64)>> {
    let mut here = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let Some(hash) = hash_of_path(&path) else {
            continue;
        };
        match fs::metadata(&path) {
            Ok(there) => here.push((hash, there.len())),
            // Deleted since the folder was read.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    here.sort_unstable_by_key(|(hash, _)| *hash.as_bytes());
    Ok(here)
}

fn hash_of_path(path: &Path) -> Option<Hash> {
    let mut parts = path.iter().rev().map(|part| part.to_str());
    let (rest, second, first) = (parts.next()??, parts.next()??, parts.next()??);
    hash_of([first, second, rest])
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
