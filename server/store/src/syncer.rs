//! The syncer: one thread that makes durable what was committed, and then shows it to readers.
//!
//! Its round: take the newest view; write the log's buffer out and sync it, once for all commits
//! up to that view and more; note in the sidecar how far that went; publish the view with its
//! head; answer those who wait. While it syncs, further commits gather for the next round.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::disk::Point;
use crate::marker::Marker;
use crate::options::Durability;
use crate::store::{Health, Shared};
use crate::{Snapshot, StoreError, recover};

/// How long the syncer sleeps between looks at a full disk.
const FULL_POLL: Duration = Duration::from_millis(500);

/// Where several committers are at work, a round begins this much later: more of them share one
/// sync, and the last page of the log is written again less often. A lone committer never waits.
const GATHER: Duration = Duration::from_micros(300);
/// As many commits in the last round mean that several are at work.
const BUSY: u64 = 3;

/// How far the syncer has come.
#[derive(Debug, Clone, Default)]
pub(crate) struct Done {
    /// Every commit up to this one is durable or in `lost`.
    pub(crate) ticket: u64,
    /// Commits that were applied but could not be made durable: first and last of each run.
    pub(crate) lost: Vec<(u64, u64)>,
    /// Why nothing more will become durable.
    pub(crate) failure: Option<StoreError>,
}

impl Done {
    /// What became of a commit; none while that is open.
    pub(crate) fn outcome(&self, ticket: u64) -> Option<Result<(), StoreError>> {
        if self
            .lost
            .iter()
            .any(|(first, last)| (*first..=*last).contains(&ticket))
        {
            return Some(Err(StoreError::Full));
        }
        if ticket <= self.ticket {
            return Some(Ok(()));
        }
        self.failure.clone().map(Err)
    }
}

/// Wakes the syncer.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    state: Mutex<Ring>,
    rung: Condvar,
}

#[derive(Debug, Default)]
struct Ring {
    rung: bool,
    asleep: bool,
    stop: bool,
}

impl Bell {
    /// There is something to do.
    pub(crate) fn ring(&self) {
        let mut state = self.state.lock();
        state.rung = true;
        if state.asleep {
            self.rung.notify_one();
        }
    }

    /// The syncer shall do what is left and end.
    pub(crate) fn stop(&self) {
        self.state.lock().stop = true;
        self.rung.notify_one();
    }

    /// Sleeps until something happens; true when the syncer shall end.
    fn wait(&self, at_most: Option<Duration>) -> bool {
        let mut state = self.state.lock();
        if !state.rung && !state.stop {
            state.asleep = true;
            match at_most {
                Some(time) => {
                    self.rung.wait_for(&mut state, time);
                }
                None => self.rung.wait(&mut state),
            }
            state.asleep = false;
        }
        state.rung = false;
        state.stop
    }
}

/// Starts the syncer's thread.
pub(crate) fn start(
    shared: Arc<Shared>,
    marker: Option<Marker>,
) -> Result<JoinHandle<()>, StoreError> {
    std::thread::Builder::new()
        .name("store-syncer".to_owned())
        .spawn(move || {
            Syncer {
                shared,
                group: 0,
                marker,
            }
            .run()
        })
        .map_err(|error| StoreError::io("starting the syncer", error))
}

struct Syncer {
    shared: Arc<Shared>,
    /// How many commits the last round made durable.
    group: u64,
    /// None when syncing is left to the kernel: nothing is known then.
    marker: Option<Marker>,
}

impl Syncer {
    fn run(mut self) {
        let shared = self.shared.clone();
        loop {
            let health = shared.health.borrow().clone();
            let stop = match health {
                Health::Good | Health::Closed => shared.syncer.wait(None),
                Health::Full => {
                    self.give_up_unsynced();
                    let stop = shared.syncer.wait(Some(FULL_POLL));
                    if !stop && let Err(error) = self.recover() {
                        tracing::warn!(%error, "the store cannot resume yet");
                    }
                    stop
                }
                Health::Poisoned(why) => {
                    let failure = StoreError::Poisoned(why);
                    shared.done.send_modify(|done| done.failure = Some(failure));
                    shared.syncer.wait(None)
                }
            };
            if matches!(*shared.health.borrow(), Health::Good | Health::Closed) {
                self.round();
            }
            if stop {
                break;
            }
        }
        self.finish();
    }

    fn recover(&self) -> Result<(), StoreError> {
        let synced = self.marker.as_ref().map(Marker::synced).unwrap_or_default();
        recover::try_recover(&self.shared, synced)
    }

    /// Makes everything applied so far durable, and publishes it.
    fn round(&mut self) {
        loop {
            let view = self.shared.newest.read().clone();
            let done = self.shared.done.borrow().ticket;
            if view.ticket() <= done {
                return;
            }
            let view = self.gather(view, done);
            if self.sync(&view).is_err() {
                return;
            }
            self.publish(view);
        }
    }

    /// Lets a busy house gather: see [`GATHER`].
    fn gather(&mut self, view: Snapshot, done: u64) -> Snapshot {
        let view = if self.group >= BUSY && self.shared.opts.durability == Durability::Fsync {
            drop(view);
            std::thread::sleep(GATHER);
            self.shared.newest.read().clone()
        } else {
            view
        };
        self.group = view.ticket() - done;
        view
    }

    fn sync(&mut self, view: &Snapshot) -> Result<(), StoreError> {
        let shared = &self.shared;
        shared.disk_point(Point::BeforeSync)?;
        let fsync = shared.opts.durability == Durability::Fsync;
        view.database()
            .rocks
            .flush_wal(fsync)
            .map_err(|error| shared.write_failed(error.as_ref()))?;
        shared.disk_point(Point::AfterSync)?;
        if let Some(marker) = &mut self.marker {
            marker
                .note(view.sequence())
                .map_err(|error| shared.write_failed(&error.to_string()))?;
        }
        Ok(())
    }

    fn publish(&self, view: Snapshot) {
        let shared = &self.shared;
        let (head, ticket) = (view.head(), view.ticket());
        let old = std::mem::replace(&mut *shared.published.write(), view);
        shared
            .head
            .send_if_modified(|now| std::mem::replace(now, head) != head);
        shared.done.send_modify(|done| done.ticket = ticket);
        drop(old);
        // After this point nothing of the round is left to fail.
        let _ = shared.disk_point(Point::AfterPublish);
    }

    /// Tells those who wait that what they wait for could not be made durable.
    fn give_up_unsynced(&self) {
        let newest = self.shared.newest.read().ticket();
        self.shared.done.send_if_modified(|done| {
            let lost = newest > done.ticket;
            if lost {
                done.lost.push((done.ticket + 1, newest));
                done.ticket = newest;
            }
            lost
        });
    }

    /// The last act: nobody can commit any more.
    fn finish(mut self) {
        let shared = self.shared.clone();
        if *shared.health.borrow() == Health::Closed {
            self.round();
            if shared.opts.flush_on_close {
                let db = shared.newest.read().database().clone();
                if let Err(error) = db.flush_all() {
                    tracing::warn!(%error, "flushing the store at the end failed");
                }
            }
            if let Some(marker) = &mut self.marker {
                let synced = marker.synced();
                if let Err(error) = marker.settle(synced) {
                    tracing::warn!(%error, "writing the sync marker at the end failed");
                }
            }
        }
        shared.done.send_modify(|done| {
            done.failure.get_or_insert(StoreError::Closed);
        });
    }
}
