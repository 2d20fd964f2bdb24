//! The folder of blobs: `ab/cd/<rest of the hash>`, written once and never changed.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use blake3::{Hash, Hasher};

const SPOOL: &str = "spool";

/// What [`Files::sweep`] removed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Swept {
    /// Uploads that were cut off.
    pub unfinished: u64,
    /// Whole files that no row names.
    pub orphans: u64,
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

    /// Removes what a crash left behind: unfinished uploads, and files for which `named` says no.
    pub fn sweep(&self, named: impl Fn(&Hash) -> io::Result<bool>) -> io::Result<Swept> {
        let mut swept = Swept::default();
        for entry in fs::read_dir(self.root.join(SPOOL))? {
            fs::remove_file(entry?.path())?;
            swept.unfinished += 1;
        }
        for first in shards(&self.root)? {
            for second in shards(&first)? {
                for entry in fs::read_dir(&second)? {
                    let path = entry?.path();
                    let Some(hash) = hash_of(&path) else { continue };
                    if !named(&hash)? {
                        fs::remove_file(&path)?;
                        swept.orphans += 1;
                    }
                }
            }
        }
        Ok(swept)
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

    /// Syncs the file and moves it to its place; both it and its name are on disk afterwards.
    /// A blob that is there already is kept, and this copy of it goes.
    pub fn keep(mut self, files: &Files) -> io::Result<(Hash, u64)> {
        let hash = self.hasher.finalize();
        let target = files.path(&hash);
        if fs::metadata(&target).is_ok_and(|there| there.len() == self.size) {
            // Whoever put it there may not have come to this yet.
            if let Some(dir) = target.parent() {
                sync_dir(dir)?;
            }
            return Ok((hash, self.size));
        }
        self.file.sync_all()?;
        make_shards(&files.root, &target)?;
        fs::rename(&self.path, &target)?;
        self.kept = true;
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
