//! Opening: what is on disk is checked before RocksDB may cut anything off.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::sync::Arc;

use skerry_core::Pos;

use crate::codec::{Buf, put_value};
use crate::db::{Database, Mode};
use crate::marker::{Marker, Synced};
use crate::options::Durability;
use crate::schema::store::{Facts, Head, HeadRow};
use crate::table::row_key;
use crate::wal::{self, Bad, Wal};
use crate::{Snapshot, StoreError, StoreOptions, Table};

/// Version of the schema as a whole: raised when a change is more than a new table or a new
/// version of a record.
pub(crate) const SCHEMA_VERSION: u64 = 1;
const SCHEMA_KEY: &str = "schema_version";
const LOCK: &str = "IN_USE";

/// An open database and where it stands.
pub(crate) struct Opened {
    pub(crate) database: Arc<Database>,
    pub(crate) head: HeadRow,
    /// None when syncing is left to the kernel.
    pub(crate) marker: Option<Marker>,
    /// Held until the store is dropped.
    pub(crate) lock: File,
}

/// Opens or makes the database in `dir`.
pub(crate) fn open(dir: &Path, opts: &StoreOptions) -> Result<Opened, StoreError> {
    std::fs::create_dir_all(dir).map_err(|e| StoreError::io("making the data directory", e))?;
    // RocksDB has a lock of its own, but the log is read here before it is opened.
    let lock = take_lock(dir)?;
    let mut marker = Marker::open(dir).map_err(|e| StoreError::io("opening the sync marker", e))?;
    let (database, head) = open_checked(dir, opts, marker.synced())?;
    check_schema(&database)?;
    let marker = match opts.durability {
        Durability::Fsync => Some(marker),
        Durability::Os => {
            // From now on the log may lose what it has, so nothing is known.
            if marker.synced() != Synced::default() {
                marker
                    .settle(Synced::default())
                    .map_err(|e| StoreError::io("writing the sync marker", e))?;
            }
            None
        }
    };
    Ok(Opened {
        database,
        head,
        marker,
        lock,
    })
}

fn take_lock(dir: &Path) -> Result<File, StoreError> {
    let what = "locking the database";
    let lock = File::options()
        .create(true)
        .write(true)
        .truncate(false)
        .open(dir.join(LOCK))
        .map_err(|error| StoreError::io(what, error))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(StoreError::io(what, "another process has it open")),
        Err(TryLockError::Error(error)) => Err(StoreError::io(what, error)),
    }
}

/// Opens the database, after making sure that nothing synced is lost by it.
pub(crate) fn open_checked(
    dir: &Path,
    opts: &StoreOptions,
    synced: Synced,
) -> Result<(Arc<Database>, HeadRow), StoreError> {
    let wal = wal::scan(dir).map_err(|e| StoreError::io("reading the write-ahead log", e))?;
    let mode = match &wal.bad {
        None => Mode::Strict,
        Some(bad) if was_synced(&wal, bad, synced) => {
            let place = format!(
                "{} at offset {}: {}",
                bad.file.display(),
                bad.offset,
                bad.reason
            );
            return Err(StoreError::Damaged(place.into()));
        }
        Some(bad) => {
            tracing::warn!(
                file = %bad.file.display(), offset = bad.offset, reason = bad.reason,
                "the write-ahead log ends in a torn record that was never synced; cutting it off"
            );
            Mode::CutTail
        }
    };
    let database = Database::open(dir, opts, mode).map_err(|error| match error.kind() {
        rocksdb::ErrorKind::Corruption => StoreError::Damaged(error.to_string().into()),
        _ => StoreError::io("opening the database", error),
    })?;
    let reached = database.rocks.latest_sequence_number();
    if reached < synced.sequence {
        let why = format!(
            "the write-ahead log in {} ends at change {reached}, but change {} was synced",
            dir.display(),
            synced.sequence
        );
        return Err(StoreError::Damaged(why.into()));
    }
    let database = Arc::new(database);
    let head = read_head(&database)?;
    Ok((database, head))
}

/// Whether the bad place lies in what was synced.
fn was_synced(wal: &Wal, bad: &Bad, synced: Synced) -> bool {
    match wal.last {
        // Every record of a log file that is still there and was synced has to be good.
        Some(last) => last < synced.sequence,
        // Not one good record: which changes the bad one held is unknown, its place is not.
        None => (bad.number, bad.offset) < (synced.file, synced.bytes),
    }
}

/// Where the database stands.
pub(crate) fn read_head(database: &Arc<Database>) -> Result<HeadRow, StoreError> {
    let row = Snapshot::take(database.clone(), Pos::ZERO, 0).get::<Head>(&())?;
    Ok(row.unwrap_or(HeadRow {
        head: Pos::ZERO,
        next_event: 1,
        next_state: 1,
    }))
}

fn check_schema(database: &Arc<Database>) -> Result<(), StoreError> {
    let snap = Snapshot::take(database.clone(), Pos::ZERO, 0);
    match snap.get::<Facts>(&SCHEMA_KEY.to_owned())? {
        Some(SCHEMA_VERSION) => Ok(()),
        Some(found) => Err(StoreError::Schema {
            found,
            known: SCHEMA_VERSION,
        }),
        None => {
            let key = row_key::<Facts>(&SCHEMA_KEY.to_owned());
            let mut value = Buf::new();
            put_value(&SCHEMA_VERSION, &mut value);
            database
                .rocks
                .put_cf(
                    database.family(Facts::PROFILE)?,
                    key.as_slice(),
                    value.as_slice(),
                )
                .map_err(|error| StoreError::io("writing the schema version", error))
        }
    }
}
