//! Opening: what is on disk is checked before RocksDB may cut anything off.

use std::path::Path;
use std::sync::Arc;

use skerry_core::Pos;

use crate::db::{Database, Mode};
use crate::marker::Marker;
use crate::options::Durability;
use crate::schema::store::{Head, HeadRow};
use crate::{Snapshot, StoreError, StoreOptions};

/// An open database and where it stands.
pub(crate) struct Opened {
    pub(crate) database: Arc<Database>,
    pub(crate) head: HeadRow,
    pub(crate) marker: Option<Marker>,
}

/// Opens or makes the database in `dir`.
pub(crate) fn open(dir: &Path, opts: &StoreOptions) -> Result<Opened, StoreError> {
    std::fs::create_dir_all(dir).map_err(|e| StoreError::io("making the data directory", e))?;
    let database = Database::open(dir, opts, Mode::Strict)
        .map_err(|error| StoreError::io("opening the database", error))?;
    let database = Arc::new(database);
    let head = Snapshot::take(database.clone(), Pos::ZERO, 0)
        .get::<Head>(&())?
        .unwrap_or(HeadRow { head: Pos::ZERO, next_event: 1, next_state: 1 });
    let marker = match opts.durability {
        Durability::Fsync => {
            Some(Marker::open(dir).map_err(|e| StoreError::io("opening the sync marker", e))?)
        }
        Durability::Os => None,
    };
    Ok(Opened { database, head, marker })
}
