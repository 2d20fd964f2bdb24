//! The disk as far as the store asks about it, and the points at which tests let it fail.

use std::fmt;
use std::io;
use std::path::Path;

/// A moment in the life of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Point {
    /// The batch is complete and about to be written.
    BeforeWrite,
    /// The batch is in the write-ahead log's buffer and visible to planners.
    AfterWrite,
    /// Everything up to here is about to be made durable.
    BeforeSync,
    /// It is durable, and not yet published.
    AfterSync,
    /// It is published, and waiters have been woken.
    AfterPublish,
}

/// Access to the disk. The real one is [`RealDisk`]; tests put theirs in its place to run out of
/// space, to fail an fsync, or to end the process at a point.
pub trait Disk: Send + Sync + fmt::Debug {
    /// How many bytes are free for us on the file system of `dir`.
    ///
    /// # Errors
    /// The system call failed.
    fn free_bytes(&self, dir: &Path) -> io::Result<u64>;

    /// Called at every point; an error is taken for an error of the operation.
    ///
    /// # Errors
    /// Whatever a test wants to see.
    fn at(&self, point: Point) -> io::Result<()> {
        let _ = point;
        Ok(())
    }
}

/// The disk itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(dir)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}
