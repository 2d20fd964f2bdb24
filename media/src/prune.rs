//! Pruning: what may be deleted, deleting it, and taking that back.
//!
//! A [`Plan`] is computed in one pass over one snapshot and can be read before it is carried out;
//! [`References`] tells it what must stay. `carry.rs` carries it out, and is the only place where
//! media is deleted, whoever wants it: the command, the schedule, the cache's budget.
//!
//! Start reading at `plan.rs`.

mod carry;
mod check;
pub mod cli;
mod items;
mod job;
mod order;
mod plan;
mod refs;
mod report;
mod schedule;
mod trash;

use std::sync::{Arc, Mutex, PoisonError};

use skerry_store::{StoreError, blocking};

pub(crate) use check::Orphans;
pub use check::Verified;
pub use items::{Rule, Verdict};
pub use job::{Job, Outcome, Progress};
pub use order::{By, Emptying, Order, Target};
pub use plan::Plan;
pub use refs::{Readable, References, RoomPeople, Spot, Tell};
pub use report::{Listed, OrphanSums, Page, Report, Sum};
pub use schedule::Schedule;
pub use trash::TrashEntry;

use crate::{Blobs, MediaError, parse_mxc};

/// Why nothing was planned or done.
#[derive(Debug, thiserror::Error)]
pub enum PruneError {
    /// It cannot be asked so.
    #[error("{0}")]
    Ask(String),
    /// There is no such plan, or it is too old.
    #[error("there is no such plan any more")]
    NoPlan,
    /// Another prune is under way.
    #[error("another prune is under way")]
    Busy,
    /// The store or the disk failed.
    #[error("{0}")]
    Media(#[source] MediaError),
}

impl From<MediaError> for PruneError {
    fn from(error: MediaError) -> Self {
        Self::Media(error)
    }
}

impl From<StoreError> for PruneError {
    fn from(error: StoreError) -> Self {
        Self::Media(MediaError::Store(error))
    }
}

/// A step of carrying a plan out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The plan is there, and nothing was touched.
    Planned,
    /// A batch was found to be named nowhere; it is about to be committed.
    Checked,
    /// A batch's rows are gone, not durably yet.
    Committed,
    /// The same durably; its files are about to go.
    BeforeUnlink,
    /// A batch is over.
    Done(Progress),
}

/// How long a plan can be asked about and carried out, in ms.
const PLAN_GOOD_MS: u64 = 30 * 60 * 1000;

/// Prunes of one store of media. Cheap to clone.
#[derive(Clone)]
pub struct Pruner {
    blobs: Arc<Blobs>,
    refs: Arc<dyn References>,
    state: Arc<Mutex<State>>,
    /// Hears of every step; tests look in between.
    told: Arc<dyn Fn(Step) + Send + Sync>,
}

#[derive(Default)]
struct State {
    next: u64,
    /// The newest plan.
    plan: Option<(u64, Arc<Plan>)>,
    /// The newest run.
    job: Option<Job>,
}

impl Pruner {
    /// Prunes of these blobs, of which `refs` knows who needs them.
    #[must_use]
    pub fn new(blobs: Arc<Blobs>, refs: Arc<dyn References>) -> Self {
        Self {
            blobs,
            refs,
            state: Arc::default(),
            told: Arc::new(|_| {}),
        }
    }

    /// The same, and `told` hears of every step on the thread that takes it.
    #[must_use]
    pub fn told(mut self, told: Arc<dyn Fn(Step) + Send + Sync>) -> Self {
        self.told = told;
        self
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a plan, and keeps it for half an hour under the number that is given with it; the one
    /// before is forgotten.
    ///
    /// # Errors
    /// [`PruneError`].
    pub async fn plan(&self, order: Order) -> Result<(u64, Arc<Plan>), PruneError> {
        let plan = Arc::new(self.make(order, None).await?);
        (self.told)(Step::Planned);
        let mut state = self.state();
        state.next += 1;
        let number = state.next;
        state.plan = Some((number, Arc::clone(&plan)));
        Ok((number, plan))
    }

    async fn make(
        &self,
        order: Order,
        about: Option<(String, String)>,
    ) -> Result<Plan, PruneError> {
        let (blobs, refs) = (Arc::clone(&self.blobs), Arc::clone(&self.refs));
        let made = blocking(move || {
            let about = about
                .as_ref()
                .map(|(server, id)| (server.as_str(), id.as_str()));
            plan::plan(&blobs, &*refs, order, about)
        });
        made.await?
    }

    /// A plan that was made before.
    ///
    /// # Errors
    /// [`PruneError::NoPlan`].
    pub fn planned(&self, number: u64) -> Result<Arc<Plan>, PruneError> {
        let now_ms = self.blobs.clock.now_ms();
        let mut state = self.state();
        let old = |plan: &Plan| plan.now_ms.saturating_add(PLAN_GOOD_MS) < now_ms;
        if state.plan.as_ref().is_some_and(|(_, plan)| old(plan)) {
            state.plan = None;
        }
        match &state.plan {
            Some((kept, plan)) if *kept == number => Ok(Arc::clone(plan)),
            _ => Err(PruneError::NoPlan),
        }
    }

    /// Why one `mxc://` stays or goes: a sentence, and the places that name it.
    ///
    /// # Errors
    /// [`PruneError`].
    pub async fn explain(
        &self,
        order: Order,
        mxc: &str,
    ) -> Result<(String, Vec<String>), PruneError> {
        let parsed = parse_mxc(mxc);
        let (server, id) =
            parsed.ok_or_else(|| PruneError::Ask(format!("{mxc} is no mxc:// URI")))?;
        let about = (server.to_owned(), id.as_str().to_owned());
        let plan = self.make(order, Some(about)).await?;
        let said = plan.explain(server, id.as_str());
        let places = plan.spots.iter().map(|spot| self.refs.describe(*spot));
        Ok((said, places.collect()))
    }
}

impl Pruner {
    /// Quarantines all media that the readable events of a room name, of this server and of
    /// others, but what is protected. Gives how many were not quarantined before, and how much of
    /// the room could be read: what encrypted events name is not covered.
    ///
    /// # Errors
    /// [`PruneError::Ask`] for an unknown room, [`PruneError::Media`].
    pub async fn quarantine_room(&self, room_id: String) -> Result<(usize, Readable), PruneError> {
        let this = self.clone();
        let named = blocking(move || {
            let snap = this.blobs.store.snapshot();
            let mut keys = std::collections::BTreeSet::new();
            let read = this.refs.in_room(&snap, &room_id, &mut |server, id, _| {
                keys.insert((server.to_owned(), id.to_owned()));
            })?;
            let unknown = || PruneError::Ask(format!("no room {room_id} here"));
            Ok::<_, PruneError>((keys, read.ok_or_else(unknown)?))
        });
        let (keys, read) = named.await??;
        let count = self.blobs.block_listed(keys.into_iter().collect()).await?;
        Ok((count, read))
    }
}

#[cfg(test)]
pub(crate) mod tests;
