//! What can go wrong in the store.

use std::sync::Arc;

/// An error of the store. Cheap to clone: one failed fsync answers many waiters.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// A row does not decode, or is missing where another row says it must be.
    #[error("table {table}: row {key} is damaged")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// The key, as hexadecimal digits or as text.
        key: Arc<str>,
    },
    /// A file of the database is damaged: bytes that were on disk for sure are not as written.
    #[error("damaged database file: {0}")]
    Damaged(Arc<str>),
    /// An expectation did not hold: somebody else was first. Read again and plan again.
    #[error("conflict in table {table}")]
    Conflict {
        /// The table of the row that was not as expected.
        table: &'static str,
    },
    /// The disk is full, or close to it. Nothing was written; reading goes on.
    #[error("no space left on the disk")]
    Full,
    /// An I/O error or a failed fsync: what is on disk is unknown, so nothing more is written.
    #[error("the database stopped writing: {0}")]
    Poisoned(Arc<str>),
    /// Opening or reading failed.
    #[error("{what}: {cause}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What the system or RocksDB said.
        cause: Arc<str>,
    },
    /// The data is of a version that this program does not know.
    #[error("the database has schema version {found}; this program knows up to {known}")]
    Schema {
        /// Version of the data.
        found: u64,
        /// Newest version known here.
        known: u64,
    },
    /// One write was too large to be kept in one batch.
    #[error("a write of {0} bytes is too large")]
    TooLarge(usize),
    /// The closure handed to `blocking` panicked.
    #[error("internal error: a task panicked")]
    Panicked,
    /// The store is closed.
    #[error("the database is closed")]
    Closed,
}

impl StoreError {
    /// A row that does not decode, by the bytes of its key.
    pub(crate) fn corrupt(table: &'static str, key: &[u8]) -> Self {
        use std::fmt::Write as _;
        let mut hex = String::with_capacity(key.len() * 2);
        for byte in key {
            // Cannot fail: writing to a String.
            let _ = write!(hex, "{byte:02x}");
        }
        Self::Corrupt {
            table,
            key: hex.into(),
        }
    }

    /// A row that another row says must exist, but does not.
    #[must_use]
    pub fn missing(table: &'static str, key: impl std::fmt::Debug) -> Self {
        Self::Corrupt {
            table,
            key: format!("{key:?} (missing)").into(),
        }
    }

    pub(crate) fn io(what: &'static str, cause: impl std::fmt::Display) -> Self {
        Self::Io {
            what,
            cause: cause.to_string().into(),
        }
    }

    /// An error of RocksDB while reading: damage keeps the file and offset that RocksDB names.
    pub(crate) fn read(error: &rocksdb::Error) -> Self {
        match error.kind() {
            rocksdb::ErrorKind::Corruption => Self::Damaged(error.to_string().into()),
            _ => Self::io("reading the database", error),
        }
    }
}
