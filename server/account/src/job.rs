//! What a change of an account leaves to be done in the user's rooms.
//!
//! A new display name or avatar has to show in the member event of each joined room, and a
//! deactivated account leaves all its rooms. This crate knows no rooms, so the change writes a
//! row in its own batch, and a worker above drains the rows:
//!
//! 1. wait on [`Accounts::jobs_bell`] (and look once at the start),
//! 2. read [`pending`],
//! 3. do the work, each step of which may be repeated without harm,
//! 4. put [`done`] into a write of its own: if the account changed again meanwhile, the commit
//!    fails with a conflict and the job is simply still there.

use skerry_core::{Pos, UserNid};
use skerry_store::schema::account as t;
use skerry_store::{Expect, Scan, Snapshot, StoreError, Write};
use tokio::sync::watch;

pub use skerry_store::schema::account::RoomJob;

use crate::Accounts;

/// Raised whenever there is new work for rooms.
#[derive(Default)]
pub(crate) struct JobBell(watch::Sender<u64>);

impl JobBell {
    pub(crate) fn ring(&self) {
        self.0.send_modify(|n| *n += 1);
    }
}

/// A piece of work: what, for whom, and the newest change that asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    /// Whose rooms.
    pub user: UserNid,
    /// What to do in them.
    pub kind: RoomJob,
    /// The newest change that asked for it.
    pub pos: Pos,
}

/// At most `limit` pieces of work that are waiting.
///
/// # Errors
/// Those of the store.
pub fn pending(snap: &Snapshot, limit: usize) -> Result<Vec<Job>, StoreError> {
    pending_after(snap, None, limit)
}

/// The same, behind a piece of work that was looked at before.
///
/// # Errors
/// Those of the store.
pub fn pending_after(
    snap: &Snapshot,
    after: Option<Job>,
    limit: usize,
) -> Result<Vec<Job>, StoreError> {
    let scan = Scan::all().limit(limit);
    let scan = match after {
        Some(job) => scan.after(&(job.user, job.kind)),
        None => scan,
    };
    snap.scan::<t::RoomJobs>(scan)
        .map(|row| row.map(|((user, kind), pos)| Job { user, kind, pos }))
        .collect()
}

/// Takes a finished piece of work out; the commit conflicts if there is newer work of its kind.
pub fn done(w: &mut Write, job: Job) {
    w.expect::<t::RoomJobs>(&(job.user, job.kind), Expect::Is(&job.pos));
    w.delete::<t::RoomJobs>(&(job.user, job.kind));
    if job.kind == RoomJob::Profile {
        w.delete_range::<t::FaceChanges>(job.user);
    }
}

impl Accounts {
    /// Raised whenever there is new work for rooms.
    #[must_use]
    pub fn jobs_bell(&self) -> watch::Receiver<u64> {
        self.inner.bell.0.subscribe()
    }
}
