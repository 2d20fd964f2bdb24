//! The sidecar: how far the write-ahead log was synced.
//!
//! After a power cut the end of the log may be torn, and that is no loss: nobody was told of it.
//! A flipped byte in the middle looks the same to RocksDB, and cutting the log off there would
//! silently lose what was acknowledged. So after each sync the place it reached is written into
//! this file of two slots. The file itself is not synced each time: after a power cut it may say
//! less than was synced, never more, and after a crash of the program it is exact. `open`
//! compares it with what the log still holds.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::wal;

const NAME: &str = "SYNCED";
const SLOT: usize = 32;

/// How far the log was synced, at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Synced {
    /// RocksDB's sequence number.
    pub(crate) sequence: u64,
    /// Number of the newest log file.
    pub(crate) file: u64,
    /// Its length in bytes.
    pub(crate) bytes: u64,
}

/// The open sidecar.
#[derive(Debug)]
pub(crate) struct Marker {
    dir: PathBuf,
    file: File,
    /// Which of the two slots is written next.
    turn: bool,
    noted: Synced,
    /// The newest log file.
    log: Option<(u64, File)>,
}

impl Marker {
    /// Opens the sidecar in `dir`, and makes it if it is missing.
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(dir.join(NAME))?;
        let noted = (0..2)
            .filter_map(|n| read_slot(&file, n * SLOT as u64))
            .max();
        let noted = noted.unwrap_or_default();
        Ok(Self {
            dir: dir.to_owned(),
            file,
            turn: false,
            noted,
            log: None,
        })
    }

    /// The furthest place that is known to be synced; zeros when nothing is known.
    pub(crate) fn synced(&self) -> Synced {
        self.noted
    }

    /// Notes that everything up to `sequence` is synced.
    pub(crate) fn note(&mut self, sequence: u64) -> io::Result<()> {
        if sequence <= self.noted.sequence {
            return Ok(());
        }
        let (file, bytes) = self.log_end()?;
        self.put(Synced {
            sequence,
            file,
            bytes,
        })
    }

    /// Number and length of the newest log file. RocksDB does not say when it starts another
    /// one, but then the one known here has stopped growing.
    fn log_end(&mut self) -> io::Result<(u64, u64)> {
        if let Some((number, log)) = &self.log {
            let bytes = log.metadata()?.len();
            if *number != self.noted.file || bytes > self.noted.bytes {
                return Ok((*number, bytes));
            }
        }
        let Some((number, path)) = wal::files(&self.dir)?.pop() else {
            return Ok((0, 0));
        };
        let log = File::open(path)?;
        let bytes = log.metadata()?.len();
        self.log = Some((number, log));
        Ok((number, bytes))
    }

    fn put(&mut self, synced: Synced) -> io::Result<()> {
        let offset = if self.turn { SLOT as u64 } else { 0 };
        self.turn = !self.turn;
        self.file.write_all_at(&encode(synced), offset)?;
        self.noted = synced;
        Ok(())
    }

    /// Writes the newest place, or that nothing is known, into both slots, and syncs the file.
    pub(crate) fn settle(&mut self, synced: Synced) -> io::Result<()> {
        self.put(synced)?;
        self.put(synced)?;
        self.file.sync_all()
    }
}

fn encode(synced: Synced) -> [u8; SLOT] {
    let mut slot = [0; SLOT];
    let parts = [synced.sequence, synced.file, synced.bytes];
    for (part, chunk) in parts.into_iter().zip(slot.chunks_exact_mut(8)) {
        chunk.copy_from_slice(&part.to_be_bytes());
    }
    let (body, check) = slot.split_at_mut(SLOT - 8);
    let hash = blake3::hash(body);
    check.copy_from_slice(hash.as_bytes().first_chunk::<8>().unwrap_or(&[0; 8]));
    slot
}

fn read_slot(file: &File, offset: u64) -> Option<Synced> {
    let mut slot = [0; SLOT];
    file.read_exact_at(&mut slot, offset).ok()?;
    let mut parts = slot
        .as_chunks::<8>()
        .0
        .iter()
        .map(|part| u64::from_be_bytes(*part));
    let synced = Synced {
        sequence: parts.next()?,
        file: parts.next()?,
        bytes: parts.next()?,
    };
    (encode(synced) == slot).then_some(synced)
}
