//! The sidecar: how far the write-ahead log was synced.
//!
//! After a power cut the end of the log may be torn, and that is no loss: nobody was told of it.
//! A flipped byte in the middle looks the same to RocksDB, and cutting the log off there would
//! silently lose what was acknowledged. So after each sync the sequence number it reached is
//! written into this file of two slots. The file itself is not synced each time: after a power
//! cut it may say less than was synced, never more, and after a crash of the program it is
//! exact. `open` compares it with what the log still holds.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

const NAME: &str = "SYNCED";
const SLOT: usize = 32;

/// The open sidecar.
#[derive(Debug)]
pub(crate) struct Marker {
    file: File,
    /// Which of the two slots is written next.
    turn: bool,
    noted: u64,
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
        Ok(Self { file, turn: false, noted: 0 })
    }

    /// The largest sequence number that is known to be synced; 0 when nothing is known.
    pub(crate) fn read(&self) -> u64 {
        (0..2).filter_map(|slot| self.slot(slot * SLOT as u64)).max().unwrap_or(0)
    }

    fn slot(&self, offset: u64) -> Option<u64> {
        let mut slot = [0; SLOT];
        self.file.read_exact_at(&mut slot, offset).ok()?;
        let (number, rest) = slot.split_first_chunk::<8>()?;
        let (check, _) = rest.split_first_chunk::<16>()?;
        (checksum(*number) == *check).then(|| u64::from_be_bytes(*number))
    }

    /// Notes that everything up to `sequence` is synced.
    pub(crate) fn note(&mut self, sequence: u64) -> io::Result<()> {
        if sequence <= self.noted {
            return Ok(());
        }
        self.put(sequence)?;
        self.noted = sequence;
        Ok(())
    }

    fn put(&mut self, sequence: u64) -> io::Result<()> {
        let number = sequence.to_be_bytes();
        let mut slot = [0; SLOT];
        if let Some((head, rest)) = slot.split_first_chunk_mut::<8>() {
            *head = number;
            if let Some(check) = rest.first_chunk_mut::<16>() {
                *check = checksum(number);
            }
        }
        let offset = if self.turn { SLOT as u64 } else { 0 };
        self.turn = !self.turn;
        self.file.write_all_at(&slot, offset)
    }

    /// Notes it in both slots, and syncs the file itself. 0: nothing is known from here on.
    pub(crate) fn settle(&mut self, sequence: u64) -> io::Result<()> {
        self.put(sequence)?;
        self.put(sequence)?;
        self.noted = sequence;
        self.file.sync_all()
    }
}

fn checksum(number: [u8; 8]) -> [u8; 16] {
    let hash = blake3::hash(&number);
    let mut check = [0; 16];
    check.copy_from_slice(hash.as_bytes().first_chunk::<16>().unwrap_or(&[0; 16]));
    check
}
