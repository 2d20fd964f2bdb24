//! Reading the write-ahead log before RocksDB does.
//!
//! RocksDB can cut a log off at the first bad record, or refuse to open; it cannot tell a torn
//! tail from damage. So the log is checked here first, byte by byte, without changing anything:
//! where is the first bad record, and what was the last good one? `open` then decides.
//!
//! The format: blocks of 32 KiB; records of checksum (4), length (2), type (1) and body, none of
//! which crosses a block; a batch is one record, or a first, some middle and a last one; a batch
//! begins with its first sequence number (8) and how many it has (4).

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::crc::{crc32c, masked};

const BLOCK: usize = 32 << 10;
const HEADER: usize = 7;
/// Types from here up may be skipped by a reader that does not know them.
const IGNORABLE: u8 = 128;

/// What the log holds.
#[derive(Debug, Default)]
pub(crate) struct Wal {
    /// Sequence number up to which every record is good; none if there is no good record.
    pub(crate) last: Option<u64>,
    /// The first bad place.
    pub(crate) bad: Option<Bad>,
}

/// The first bad place of the log. Nothing behind it is used.
#[derive(Debug)]
pub(crate) struct Bad {
    pub(crate) file: PathBuf,
    /// Number of the file.
    pub(crate) number: u64,
    /// Where the bad record begins in it, in bytes.
    pub(crate) offset: u64,
    pub(crate) reason: &'static str,
}

/// The log files of a database by number, oldest first.
pub(crate) fn files(dir: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let number = path
            .extension()
            .filter(|extension| *extension == "log")
            .and_then(|_| path.file_stem()?.to_str()?.parse().ok());
        if let Some(number) = number {
            files.push((number, path));
        }
    }
    files.sort_unstable();
    Ok(files)
}

/// Checks all log files in `dir`.
pub(crate) fn scan(dir: &Path) -> io::Result<Wal> {
    let mut wal = Wal::default();
    for (number, path) in files(dir)? {
        let mut reader = Reader {
            wal: &mut wal,
            batch: None,
        };
        if let Some((offset, reason)) = reader.file(&mut File::open(&path)?)? {
            wal.bad = Some(Bad {
                file: path,
                number,
                offset,
                reason,
            });
            break;
        }
    }
    Ok(wal)
}

/// A place and what is wrong there.
type Fault = (u64, &'static str);

struct Reader<'a> {
    wal: &'a mut Wal,
    /// Offset and first bytes of a batch whose last record has not come yet.
    batch: Option<(u64, Vec<u8>)>,
}

impl Reader<'_> {
    fn file(&mut self, file: &mut File) -> io::Result<Option<Fault>> {
        let mut block = vec![0; BLOCK];
        let mut start = 0;
        loop {
            let filled = fill(file, &mut block)?;
            let bytes = block.get(..filled).unwrap_or_default();
            if let Some(fault) = self.block(bytes, start, filled < BLOCK) {
                return Ok(Some(fault));
            }
            if filled < BLOCK {
                break;
            }
            start += BLOCK as u64;
        }
        Ok(self
            .batch
            .as_ref()
            .map(|(offset, _)| (*offset, "an unfinished record")))
    }

    fn block(&mut self, mut bytes: &[u8], start: u64, last: bool) -> Option<Fault> {
        let whole = bytes.len();
        loop {
            let offset = start + (whole - bytes.len()) as u64;
            let Some((header, rest)) = bytes.split_first_chunk::<HEADER>() else {
                // Fewer than seven bytes are left over at the end of a block: zeros.
                let torn = last && !bytes.is_empty();
                return torn.then_some((offset, "an unfinished header"));
            };
            let [c0, c1, c2, c3, l0, l1, kind] = *header;
            let length = usize::from(u16::from_le_bytes([l0, l1]));
            if kind == 0 && length == 0 {
                return Some((offset, "zeros where a record should be"));
            }
            let Some((body, rest)) = rest.split_at_checked(length) else {
                return Some((offset, "a record longer than its block"));
            };
            if masked(crc32c(&[&[kind], body])) != u32::from_le_bytes([c0, c1, c2, c3]) {
                return Some((offset, "a checksum that does not match"));
            }
            if let Some(reason) = self.record(kind, body, offset) {
                return Some((offset, reason));
            }
            bytes = rest;
        }
    }

    fn record(&mut self, kind: u8, body: &[u8], offset: u64) -> Option<&'static str> {
        // Only the first twelve bytes of a batch matter here.
        let head = |body: &[u8]| body.get(..body.len().min(12)).unwrap_or_default().to_vec();
        match (kind, self.batch.take()) {
            (1, None) => self.batch(&head(body)),
            (2, None) => {
                self.batch = Some((offset, head(body)));
                None
            }
            (3, Some((at, mut first))) => {
                first.extend(head(body));
                self.batch = Some((at, first));
                None
            }
            (4, Some((_, mut first))) => {
                first.extend(head(body));
                self.batch(&first)
            }
            (kind, batch) if kind >= IGNORABLE => {
                self.batch = batch;
                None
            }
            _ => Some("a record out of place"),
        }
    }

    fn batch(&mut self, head: &[u8]) -> Option<&'static str> {
        let parts = head.split_first_chunk::<8>();
        let Some((first, Some(count))) = parts.map(|(f, rest)| (f, rest.first_chunk::<4>())) else {
            return Some("a batch without a head");
        };
        let first = u64::from_le_bytes(*first);
        let count = u64::from(u32::from_le_bytes(*count));
        if self.wal.last.is_some_and(|last| first > last + 1) {
            return Some("a gap before this record");
        }
        let last = (first + count).saturating_sub(1);
        self.wal.last = Some(self.wal.last.map_or(last, |before| before.max(last)));
        None
    }
}

/// Reads until the block is full or the file ends.
fn fill(file: &mut File, block: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = block.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read(rest)? {
            0 => break,
            n => filled += n,
        }
    }
    Ok(filled)
}
