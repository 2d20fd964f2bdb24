//! Emptying the outbox: one ordered queue per destination, retries, back-off.
//!
//! A change leaves what it has to tell others as rows in its own batch (`skerry_store::outbox`).
//! [`Outbox::run`] looks once at what is there, then sleeps until a commit queues something. Each
//! destination with rows is drained by one task, at most [`MAX_RUNNING`] of them at a time; how a
//! batch of rows is sent is up to a [`Deliver`]. What arrived is taken off in one commit. When a
//! destination fails, all its rows wait, longer each time; how long is stored, so that a restart
//! neither forgets nor storms.

mod backoff;
mod deliver;
mod drain;
mod queues;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use skerry_core::{Clock, DiceSource};
use skerry_store::outbox::Dest;
use skerry_store::{Store, StoreError, blocking, outbox};
use tokio::sync::{Notify, watch};
use tokio::task::{Id, JoinError, JoinSet};

pub use backoff::Backoff;
pub use deliver::{Deliver, Next, Report, Row};

use drain::{Ended, drain};
use queues::{Lane, Queues};

/// How many destinations are talked to at a time.
pub const MAX_RUNNING: usize = 64;
/// How many of them may be push gateways, which users choose.
const MAX_PUSH: usize = 48;
/// How many of these may be such as do not get done in their turn.
const MAX_SLOW: usize = 16;
/// How long the turn of a push gateway is. What is under way then ends; the rest has to wait for
/// another turn.
pub(crate) const TURN: Duration = Duration::from_secs(10);
/// How long a sleep lasts at most: the clock may be set meanwhile.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// How long deliveries get to end when the server stops.
const END_WITHIN: Duration = Duration::from_secs(5);
/// How long a destination is left alone when sending to it broke off by a fault of ours, in ms.
const BROKEN_PAUSE_MS: u64 = 60_000;
/// How long what is known of a destination is kept after its last use, in ms.
const FORGET_AFTER_MS: u64 = 30 * 24 * 3_600_000;

/// The workers that empty the outbox. A cheap handle: clone it freely.
#[derive(Clone)]
pub struct Outbox {
    inner: Arc<Inner>,
}

/// What is being sent, and to whom.
#[derive(Default)]
struct Tasks {
    running: JoinSet<Ended>,
    dests: HashMap<Id, (Dest, Lane)>,
}

impl Tasks {
    /// Whether there is a place for one more in a lane.
    fn is_open(&self, lane: Lane) -> bool {
        let among = |lanes: &[Lane]| {
            let lanes = self.dests.values().filter(|(_, lane)| lanes.contains(lane));
            lanes.count()
        };
        self.running.len() < MAX_RUNNING
            && match lane {
                Lane::Chosen => true,
                Lane::Push => among(&[Lane::Push, Lane::Slow]) < MAX_PUSH,
                Lane::Slow => {
                    among(&[Lane::Push, Lane::Slow]) < MAX_PUSH && among(&[Lane::Slow]) < MAX_SLOW
                }
            }
    }
}

struct Inner {
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    dice: Arc<dyn DiceSource>,
    delivers: Vec<Arc<dyn Deliver>>,
    /// Destinations to be tried whatever their back-off says.
    now: Mutex<Vec<Dest>>,
    look: Notify,
}

impl Outbox {
    /// An outbox whose rows go out by these; of several that serve a destination, the first does.
    /// Rows that none of them serves stay where they are.
    #[must_use]
    pub fn new(
        store: Arc<Store>,
        clock: Arc<dyn Clock>,
        dice: Arc<dyn DiceSource>,
        delivers: Vec<Arc<dyn Deliver>>,
    ) -> Outbox {
        Outbox {
            inner: Arc::new(Inner {
                store,
                clock,
                dice,
                delivers,
                now: Mutex::default(),
                look: Notify::new(),
            }),
        }
    }

    /// Lets a destination be tried at once, whatever its back-off says: it was heard of.
    pub fn try_now(&self, dest: Dest) {
        self.inner.now.lock().push(dest);
        self.inner.look.notify_one();
    }

    /// Looks at the clock again: it was set.
    pub fn look_again(&self) {
        self.inner.look.notify_one();
    }

    /// Empties the queues until `stop` becomes true. What is being sent then gets a few seconds
    /// to end; what does not end is sent again after the next start. To be run once.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let store = &self.inner.store;
        let (mut bell, mut head) = (store.queued_bell(), store.published());
        let mut queues = Queues::default();
        let mut tasks = Tasks::default();
        while let Err(error) = self.begin(&mut queues).await {
            if *stop.borrow() || matches!(error, StoreError::Closed) {
                return;
            }
            tracing::error!(%error, "what waits to be sent cannot be read");
            let stopped = stop.wait_for(|stop| *stop);
            let _ = tokio::time::timeout(LOOK_EVERY, stopped).await;
        }
        while !*stop.borrow() {
            bell.borrow_and_update();
            let published = *head.borrow_and_update();
            let (fresh, more) = store.queued(published, is_served);
            fresh.into_iter().for_each(|dest| queues.add(dest));
            for dest in self.inner.now.lock().drain(..) {
                queues.hurry(&dest);
            }
            let now_ms = self.inner.clock.now_ms();
            queues.wake(now_ms);
            while let Some(next) = queues.next(|lane| tasks.is_open(lane)) {
                self.start(&mut tasks, &mut queues, next);
            }
            let sleep = queues.sleep(now_ms).map(|wait| wait.min(LOOK_EVERY));
            tokio::select! {
                _ = bell.changed() => {}
                _ = head.changed(), if more => {}
                Some(ended) = tasks.running.join_next_with_id() => {
                    self.ended(&mut tasks, &mut queues, ended);
                }
                () = tokio::time::sleep(sleep.unwrap_or_default()), if sleep.is_some() => {}
                () = self.inner.look.notified() => {}
                _ = stop.wait_for(|stop| *stop) => {}
            }
        }
        let rest = async { while tasks.running.join_next().await.is_some() {} };
        if tokio::time::timeout(END_WITHIN, rest).await.is_err() {
            tracing::info!("what is being sent did not end in time and is sent again later");
        }
        tasks.running.shutdown().await;
    }

    fn start(&self, tasks: &mut Tasks, queues: &mut Queues, (dest, lane): (Dest, Lane)) {
        let inner = Arc::clone(&self.inner);
        let deliver = inner.delivers.iter().find(|deliver| deliver.serves(&dest));
        let Some(deliver) = deliver.cloned() else {
            queues.ended(&dest, None);
            return;
        };
        let to = dest.clone();
        let task = async move { drain(&inner, &*deliver, &to).await };
        let id = tasks.running.spawn(task).id();
        tasks.dests.insert(id, (dest, lane));
    }

    fn ended(&self, tasks: &mut Tasks, queues: &mut Queues, ended: Result<(Id, Ended), JoinError>) {
        let (id, until_ms) = match ended {
            Ok((id, Ended::Empty)) => (id, None),
            Ok((id, Ended::Until(at_ms))) => (id, Some(at_ms)),
            Ok((id, Ended::Slow)) => {
                if let Some((dest, _)) = tasks.dests.remove(&id) {
                    queues.slow(&dest);
                }
                return;
            }
            Err(error) => {
                tracing::error!(%error, "sending broke off");
                let later = self.inner.clock.now_ms().saturating_add(BROKEN_PAUSE_MS);
                (error.id(), Some(later))
            }
        };
        if let Some((dest, _)) = tasks.dests.remove(&id) {
            queues.ended(&dest, until_ms);
        }
    }

    /// What is in the queues, and since when each destination fails.
    async fn begin(&self, queues: &mut Queues) -> Result<(), StoreError> {
        let store = Arc::clone(&self.inner.store);
        let now_ms = self.inner.clock.now_ms();
        let found = blocking(move || {
            let snap = store.snapshot();
            let mut waiting = Vec::new();
            for dest in outbox::destinations(&snap)?.into_iter().filter(is_served) {
                let standing = outbox::standing(&snap, &dest)?;
                let at_ms = standing.map_or(0, |standing| standing.retry_at_ms);
                waiting.push((dest, at_ms));
            }
            let mut w = store.write();
            for (dest, standing) in outbox::standings(&snap)? {
                let used = standing.retry_at_ms.max(standing.success_ms.unwrap_or(0));
                let queued = waiting.iter().any(|(other, _)| *other == dest);
                if !queued && used.saturating_add(FORGET_AFTER_MS) < now_ms {
                    outbox::forget_standing(&mut w, &dest);
                }
            }
            if !w.is_empty() {
                let applied = store.commit(w)?;
                store.wait_durable(&applied)?;
            }
            Ok::<_, StoreError>(waiting)
        })
        .await??;
        for (dest, at_ms) in found {
            // A time further away than any back-off was noted by a clock that was wrong.
            let far = now_ms.saturating_add(Backoff::LONGEST_MS);
            queues.add_at(dest, if at_ms > far { 0 } else { at_ms });
        }
        Ok(())
    }
}

/// Other servers are sent to by `federation::Sender`.
fn is_served(dest: &Dest) -> bool {
    !matches!(dest, Dest::Server(_))
}

#[cfg(test)]
mod tests;
