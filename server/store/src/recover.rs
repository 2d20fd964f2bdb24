//! Going on after the disk was full.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::RwLockWriteGuard;

use crate::commit::Committer;
use crate::db::{Database, Mode};
use crate::marker::Synced;
use crate::store::{Health, Shared};
use crate::{Snapshot, StoreError, open, wal};

/// Readers get so long to finish with their snapshots: so many rounds of a pause.
const ROUNDS: u32 = 200;
const PAUSE: Duration = Duration::from_millis(10);
/// Opening writes some files, so that much has to be free without any floor.
const LEAST_FREE: u64 = 16 << 20;

/// Reopens the database when there is space again. While that goes on no snapshot is handed out;
/// if readers keep theirs for too long, it is left for the next try.
pub(crate) fn try_recover(shared: &Arc<Shared>, synced: Synced) -> Result<(), StoreError> {
    let floor = shared.opts.free_disk_floor_bytes.max(LEAST_FREE);
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
    wait_for_readers(&newest, &published)?;
    step_aside(shared, &lane, &mut newest, &mut published)?;
    let (database, head) = open::open_checked(&shared.dir, &shared.opts, synced)?;
    shared.names.reload(&database)?;
    lane.head = head.head;
    lane.unchecked = 0;
    let view = Snapshot::take(database, head.head, lane.ticket);
    *newest = view.clone();
    *published = view;
    shared.generation.fetch_add(1, Ordering::AcqRel);
    shared.health.send_replace(Health::Good);
    drop((published, newest, lane));
    shared.head.send_replace(head.head);
    tracing::info!("there is space again; the store takes writes");
    Ok(())
}

fn wait_for_readers(newest: &Snapshot, published: &Snapshot) -> Result<(), StoreError> {
    for _ in 0..ROUNDS {
        if Snapshot::are_alone(newest, published) {
            return Ok(());
        }
        std::thread::sleep(PAUSE);
    }
    Err(StoreError::io(
        "reopening the database",
        "readers still hold snapshots",
    ))
}

/// Closes the database, and puts a read-only one in its place: if opening fails, reading goes on.
fn step_aside(
    shared: &Arc<Shared>,
    lane: &Committer,
    newest: &mut RwLockWriteGuard<'_, Snapshot>,
    published: &mut RwLockWriteGuard<'_, Snapshot>,
) -> Result<(), StoreError> {
    // What the log files hold may include changes that nobody was told of. Once it is synced,
    // it may be shown.
    let sync = || -> std::io::Result<()> {
        for (_, path) in wal::files(&shared.dir)? {
            std::fs::File::open(path)?.sync_all()?;
        }
        Ok(())
    };
    sync().map_err(|error| StoreError::io("syncing the write-ahead log", error))?;
    let reader = Database::open(&shared.dir, &shared.opts, Mode::ReadOnly)
        .map_err(|error| StoreError::io("opening the database for reading", error))?;
    let reader = Arc::new(reader);
    let head = open::read_head(&reader)?.head;
    let view = Snapshot::take(reader, head, lane.ticket);
    **newest = view.clone();
    // The last handle on the old database goes here, which closes it.
    **published = view;
    Ok(())
}
