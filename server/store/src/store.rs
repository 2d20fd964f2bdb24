//! The store: opening, committing, and waiting until what was committed is on the disk.

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use parking_lot::{Mutex, RwLock};
use skerry_core::Pos;
use tokio::sync::watch;

use crate::commit::Committer;
use crate::names::Names;
use crate::numbers::Numbers;
use crate::open::{self, Opened};
use crate::syncer::{self, Done};
use crate::{Snapshot, StoreError, StoreOptions, Write};

/// The database of one server. Handed around as `Arc<Store>`.
pub struct Store {
    pub(crate) shared: Arc<Shared>,
    syncer: Mutex<Option<JoinHandle<()>>>,
    /// Keeps other processes out.
    _lock: File,
}

/// What committers, readers and the syncer have in common.
pub(crate) struct Shared {
    pub(crate) dir: PathBuf,
    pub(crate) opts: StoreOptions,
    /// The commit lane.
    pub(crate) committer: Mutex<Committer>,
    /// What is applied, durable or not.
    pub(crate) newest: RwLock<Snapshot>,
    /// What is durable.
    pub(crate) published: RwLock<Snapshot>,
    pub(crate) head: watch::Sender<Pos>,
    pub(crate) done: watch::Sender<Done>,
    pub(crate) health: watch::Sender<Health>,
    pub(crate) names: Names,
    pub(crate) numbers: Numbers,
    /// Raised whenever applied changes were lost and caches of them must go.
    pub(crate) generation: AtomicU64,
    pub(crate) syncer: syncer::Bell,
    /// Which queues of the outbox got something.
    pub(crate) queued: crate::outbox::Queued,
}

/// What may be asked of the newest view in the middle of a commit.
pub type Check<'a> = dyn FnMut(&Snapshot) -> Result<bool, StoreError> + 'a;

/// Whether the store takes writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It does.
    Good,
    /// A write failed for lack of space. Reading goes on; the store tries again by itself.
    Full,
    /// An I/O error. Nothing is written any more; the process should say why and stop.
    Poisoned(Arc<str>),
    /// It was closed.
    Closed,
}

/// A commit that is visible to planners. It is not durable before [`Store::durable`] says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "an answer has to wait until what it tells of is durable"]
pub struct Applied {
    pub(crate) ticket: u64,
    pub(crate) base: Pos,
}

impl Applied {
    /// The real position behind a placeholder of the write that was committed.
    #[must_use]
    pub fn pos(&self, placeholder: Pos) -> Pos {
        if placeholder.is_stamp() {
            Pos(self.base.0 + 1 + (placeholder.0 - Pos::STAMP_BASE))
        } else {
            placeholder
        }
    }
}

impl Store {
    /// Opens the store in `dir`, which is made if it is missing. Only one process can have it
    /// open at a time. What was in the write-ahead log beyond the last sync and is torn is cut
    /// off; damage to anything that was synced is an error.
    ///
    /// # Errors
    /// `Damaged` with file and offset, `Schema` for data of a newer version, or `Io`.
    pub fn open(dir: &Path, opts: StoreOptions) -> Result<Arc<Self>, StoreError> {
        let Opened {
            database,
            head,
            marker,
            lock,
        } = open::open(dir, &opts)?;
        let numbers = Numbers::new(head.next_event, head.next_state);
        let names = Names::open(&database, opts.memory().names_bytes)?;
        let first = Snapshot::take(database, head.head, 0);
        let shared = Arc::new(Shared {
            dir: dir.to_owned(),
            committer: Mutex::new(Committer {
                head: head.head,
                ticket: 0,
                unchecked: 0,
            }),
            newest: RwLock::new(first.clone()),
            published: RwLock::new(first),
            head: watch::Sender::new(head.head),
            done: watch::Sender::new(Done::default()),
            health: watch::Sender::new(Health::Good),
            names,
            numbers,
            generation: AtomicU64::new(0),
            syncer: syncer::Bell::default(),
            queued: crate::outbox::Queued::default(),
            opts,
        });
        let syncer = syncer::start(shared.clone(), marker)?;
        Ok(Arc::new(Self {
            shared,
            syncer: Mutex::new(Some(syncer)),
            _lock: lock,
        }))
    }

    /// The newest durable view: what readers see, and what may be shown to anybody.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.shared.published.read().clone()
    }

    /// The newest view, durable or not: only for planning a write, inside its lane. An answer
    /// decided on it waits for [`Store::durable`] of the commit or of [`Store::barrier`].
    #[must_use]
    pub fn newest(&self) -> Snapshot {
        self.shared.newest.read().clone()
    }

    /// An empty write.
    #[must_use]
    pub fn write(&self) -> Write {
        Write::new(self.shared.numbers.clone())
    }

    /// Applies a write: checks its expectations, gives it its positions, and makes it visible to
    /// planners, all at once or not at all. Does not wait for the disk.
    ///
    /// # Errors
    /// `Conflict`, `Full`, `Poisoned`, `TooLarge`, or `Closed`; nothing is applied then.
    pub fn commit(&self, write: Write) -> Result<Applied, StoreError> {
        self.shared.commit(write, None)
    }

    /// The same, if `check` says yes: it is asked with the newest view, and no other commit comes
    /// between its answer and this one. Everybody's commits wait for it meanwhile, so it looks at
    /// little: at what came after a view that was looked at before.
    ///
    /// # Errors
    /// As [`Store::commit`]; `Conflict` when it says no, and what it fails with.
    pub fn commit_if(&self, write: Write, check: &mut Check<'_>) -> Result<Applied, StoreError> {
        self.shared.commit(write, Some(check))
    }

    /// Stands for all that is applied now: for an answer that writes nothing but was decided on
    /// the newest view.
    pub fn barrier(&self) -> Applied {
        let newest = self.shared.newest.read();
        Applied {
            ticket: newest.ticket(),
            base: newest.head(),
        }
    }

    /// Waits until a commit is durable and published, so that every reader sees it.
    ///
    /// # Errors
    /// `Full` or `Poisoned` when it could not be made durable. It may still turn out to have
    /// been written: the caller does not know, as after a lost connection.
    pub async fn durable(&self, applied: &Applied) -> Result<(), StoreError> {
        let ticket = applied.ticket;
        if let Some(outcome) = self.shared.done.borrow().outcome(ticket) {
            return outcome;
        }
        let mut done = self.shared.done.subscribe();
        match done.wait_for(|done| done.outcome(ticket).is_some()).await {
            Ok(done) => done.outcome(ticket).unwrap_or(Ok(())),
            // Cannot happen while `self` holds the sender.
            Err(_) => Err(StoreError::Closed),
        }
    }

    /// [`Store::durable`] for threads: blocks.
    ///
    /// # Errors
    /// As [`Store::durable`].
    pub fn wait_durable(&self, applied: &Applied) -> Result<(), StoreError> {
        // On a thread that runs a task of the runtime, the task's budget would run out after some
        // of these and never be filled again, since nothing is given back to the runtime.
        let waiting = tokio::task::unconstrained(self.durable(applied));
        let mut waiting = std::pin::pin!(waiting);
        let waker = std::task::Waker::from(Arc::new(Unpark(std::thread::current())));
        let mut context = std::task::Context::from_waker(&waker);
        loop {
            if let std::task::Poll::Ready(outcome) = waiting.as_mut().poll(&mut context) {
                return outcome;
            }
            std::thread::park();
        }
    }

    /// The head of the published view, as it moves.
    #[must_use]
    pub fn published(&self) -> watch::Receiver<Pos> {
        self.shared.head.subscribe()
    }

    /// Whether the store takes writes, as it changes.
    #[must_use]
    pub fn health(&self) -> watch::Receiver<Health> {
        self.shared.health.subscribe()
    }

    /// A number that changes whenever applied changes were lost (the disk was full). A cache of
    /// what planners saw must be emptied when it differs from the one it was filled under.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.shared.generation.load(Ordering::Acquire)
    }

    /// Where the database lies.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.shared.dir
    }

    /// Makes everything durable and stops. Later writes fail with `Closed`; reading goes on
    /// until the store is dropped. Dropping the store does the same.
    pub fn close(&self) {
        self.shared.health.send_if_modified(|health| {
            let open = *health == Health::Good;
            if open {
                *health = Health::Closed;
            }
            open
        });
        self.shared.syncer.stop();
        if let Some(syncer) = self.syncer.lock().take()
            && syncer.join().is_err()
        {
            tracing::error!("the store's syncer panicked");
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("dir", &self.shared.dir)
            .finish_non_exhaustive()
    }
}

/// Wakes a thread that waits for a future.
struct Unpark(std::thread::Thread);

impl std::task::Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
