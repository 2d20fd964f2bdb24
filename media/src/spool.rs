//! The folder of what is on its way in: written and hashed at the same time, never whole in memory.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use blake3::{Hash, Hasher};

const SPOOL: &str = "spool";

/// The folder of blobs on their way in. On the same filesystem as the folder of blobs.
#[derive(Debug)]
pub struct Spool {
    root: PathBuf,
    next: AtomicU64,
}

/// A blob on its way in. Dropped, it leaves nothing, unless it was moved away.
#[derive(Debug)]
pub struct Spooled {
    path: PathBuf,
    file: File,
    hasher: Hasher,
    size: u64,
    synced: bool,
    moved: bool,
}

impl Spool {
    /// Opens the folder below `root`, making it where it is missing.
    pub fn open(root: &Path) -> io::Result<Self> {
        let spool = root.join(SPOOL);
        fs::create_dir_all(&spool)?;
        sync_dir(root)?;
        Ok(Self {
            root: spool,
            next: AtomicU64::new(0),
        })
    }

    /// Starts a blob.
    pub fn begin(&self) -> io::Result<Spooled> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.root.join(format!("{}-{number}", std::process::id()));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)?;
        Ok(Spooled {
            path,
            file,
            hasher: Hasher::new(),
            size: 0,
            synced: false,
            moved: false,
        })
    }

    /// Removes uploads that a crash cut off; gives how many. Only at start, before the first
    /// upload.
    pub fn clear(&self) -> io::Result<u64> {
        let mut unfinished = 0;
        for entry in fs::read_dir(&self.root)? {
            fs::remove_file(entry?.path())?;
            unfinished += 1;
        }
        Ok(unfinished)
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

    /// Syncs the file, once.
    pub fn sync(&mut self) -> io::Result<()> {
        if !self.synced {
            self.file.sync_all()?;
            self.synced = true;
        }
        Ok(())
    }

    /// Moves the file to its place.
    pub fn move_to(&mut self, target: &Path) -> io::Result<()> {
        fs::rename(&self.path, target)?;
        self.moved = true;
        Ok(())
    }

    /// The file, at its beginning, to be read.
    pub fn rewound(&mut self) -> io::Result<&mut File> {
        self.file.seek(SeekFrom::Start(0))?;
        Ok(&mut self.file)
    }
}

impl Drop for Spooled {
    fn drop(&mut self) {
        if !self.moved {
            // a file that stays is removed by the next start's sweep
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Syncs a folder, so that what was made or renamed in it stays so.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
