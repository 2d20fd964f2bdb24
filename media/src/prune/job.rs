//! Runs: a plan carried out, piece by piece, beside everything else.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use skerry_store::{Scan, blocking, schema::media::ThumbUses};
use tokio::sync::watch;

use super::{
    PruneError, Pruner, Step,
    carry::{Done, Doomed, Watch, Way},
    check::Verified,
    items::Verdict,
    plan::Plan,
};
use crate::{Blobs, MediaError, thumbs::ThumbKey};

/// How many items go in one commit.
const BATCH: usize = 64;
/// The same of thumbnails, which have no files.
const THUMB_BATCH: usize = 512;

/// How far a run is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Items that were looked at.
    pub done: u64,
    /// Items there are.
    pub total: u64,
    /// Items that went, also into the trash.
    pub removed: u64,
    /// Items that stayed or came back because they were named meanwhile.
    pub revived: u64,
    /// Bytes that are free now.
    pub freed_bytes: u64,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It goes on.
    Running,
    /// It did all of it.
    Done,
    /// It could not go on; what was done stays done.
    Failed(String),
}

/// A run under way, or over.
#[derive(Clone)]
pub struct Job {
    /// Its number.
    pub number: u64,
    seen: watch::Receiver<(Progress, Outcome)>,
    verified: Arc<std::sync::Mutex<Option<Verified>>>,
}

impl Job {
    /// How far it is, and whether it is over.
    #[must_use]
    pub fn state(&self) -> (Progress, Outcome) {
        self.seen.borrow().clone()
    }

    /// What a verification found, once it is over.
    #[must_use]
    pub fn verified(&self) -> Option<Verified> {
        let verified = self.verified.lock();
        verified
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone()
    }

    /// Waits for its end.
    pub async fn ended(&self) -> (Progress, Outcome) {
        let mut seen = self.seen.clone();
        match seen
            .wait_for(|(_, outcome)| *outcome != Outcome::Running)
            .await
        {
            Ok(state) => state.clone(),
            Err(_) => self.state(),
        }
    }
}

/// How fast a run may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// As fast as the disk does it.
    Full,
    /// It rests so many times as long as it worked.
    Gentle(u32),
}

impl Pruner {
    /// Starts to carry out a plan; the run goes on by itself.
    ///
    /// # Errors
    /// [`PruneError::NoPlan`], or [`PruneError::Busy`] while another is under way.
    pub fn start(&self, number: u64) -> Result<Job, PruneError> {
        let plan = self.planned(number)?;
        let job = self.begin(move |this, progress| async move {
            this.carry_out(&plan, Pace::Full, &progress).await
        })?;
        self.state().plan = None;
        Ok(job)
    }

    /// Starts to read every file and to compare it with its hash.
    ///
    /// # Errors
    /// [`PruneError::Busy`] while another run is under way.
    pub fn verify(&self) -> Result<Job, PruneError> {
        let kept = Arc::new(std::sync::Mutex::new(None));
        let result = Arc::clone(&kept);
        let mut job = self.begin(move |this, progress| async move {
            let verified = this.verify_now(&progress).await?;
            *result
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner) = Some(verified);
            Ok(())
        })?;
        job.verified = kept;
        self.state().job = Some(job.clone());
        Ok(job)
    }

    /// The newest run.
    #[must_use]
    pub fn job(&self, number: u64) -> Option<Job> {
        self.state().job.clone().filter(|job| job.number == number)
    }

    fn begin<F>(
        &self,
        work: impl FnOnce(Pruner, watch::Sender<(Progress, Outcome)>) -> F,
    ) -> Result<Job, PruneError>
    where
        F: Future<Output = Result<(), PruneError>> + Send + 'static,
    {
        let mut state = self.state();
        let busy = |job: &Job| job.state().1 == Outcome::Running;
        if state.job.as_ref().is_some_and(busy) {
            return Err(PruneError::Busy);
        }
        let (sender, seen) = watch::channel((Progress::default(), Outcome::Running));
        state.next += 1;
        let job = Job {
            number: state.next,
            seen,
            verified: Arc::default(),
        };
        state.job = Some(job.clone());
        drop(state);
        let work = work(self.clone(), sender.clone());
        tokio::spawn(async move {
            let outcome = match work.await {
                Ok(()) => Outcome::Done,
                Err(error) => Outcome::Failed(error.to_string()),
            };
            sender.send_modify(|state| state.1 = outcome);
        });
        Ok(job)
    }

    /// Carries a plan out: media, thumbnails, the trash, orphans.
    pub(crate) async fn carry_out(
        &self,
        plan: &Arc<Plan>,
        pace: Pace,
        progress: &watch::Sender<(Progress, Outcome)>,
    ) -> Result<(), PruneError> {
        let total = plan.changes();
        progress.send_modify(|state| state.0.total = total);
        let refs = Arc::clone(&self.refs);
        let mut watch = Watch::new(refs, plan.snap.clone(), plan.generation);
        let mut at = 0;
        loop {
            let batch = next_batch(plan, &mut at);
            if batch.is_empty() {
                break;
            }
            watch = self.one_batch(watch, batch, pace, progress).await?;
        }
        if let Some(orphans) = &plan.orphans {
            for keys in orphans.remote.chunks(BATCH) {
                let away = |key: &(String, String)| Doomed {
                    key: key.clone(),
                    to: Way::Away,
                };
                let batch = keys.iter().map(away).collect();
                watch = self.one_batch(watch, batch, pace, progress).await?;
            }
            let (blobs, plan) = (Arc::clone(&self.blobs), Arc::clone(plan));
            let cleared = blocking(move || match &plan.orphans {
                Some(orphans) => orphans.clear_files(&blobs),
                None => Ok(0),
            });
            let removed = cleared.await??;
            let done = Done {
                removed,
                ..Done::default()
            };
            self.tell(progress, removed, done);
        }
        if let Some(upto_ms) = plan.thumbs_upto_ms {
            self.thumbs(plan, upto_ms, pace, progress).await?;
        }
        Ok(())
    }

    async fn one_batch(
        &self,
        mut watch: Watch,
        batch: Vec<Doomed>,
        pace: Pace,
        progress: &watch::Sender<(Progress, Outcome)>,
    ) -> Result<Watch, PruneError> {
        let began = Instant::now();
        let count = batch.len() as u64;
        let blobs = Arc::clone(&self.blobs);
        let batch = Arc::new(batch);
        let asked = Arc::clone(&batch);
        let uploaders = blocking(move || blobs.uploaders_of(&asked)).await??;
        let lanes = self.blobs.uploaders.lock_many(uploaders).await;
        let (blobs, told) = (Arc::clone(&self.blobs), Arc::clone(&self.told));
        let (watch, done) = blocking(move || {
            let _lanes = lanes;
            let done = blobs.remove(&mut watch, &batch, &*told)?;
            Ok::<_, MediaError>((watch, done))
        })
        .await??;
        self.tell(progress, count, done);
        rest(pace, began).await;
        Ok(watch)
    }

    /// Thumbnails go by the same rule by which they were counted, one that was looked at since
    /// stays.
    async fn thumbs(
        &self,
        plan: &Arc<Plan>,
        upto_ms: u64,
        pace: Pace,
        progress: &watch::Sender<(Progress, Outcome)>,
    ) -> Result<(), PruneError> {
        let mut after: Option<ThumbKey> = None;
        loop {
            let began = Instant::now();
            let (blobs, plan) = (Arc::clone(&self.blobs), Arc::clone(plan));
            let step = blocking(move || thumb_batch(&blobs, &plan, upto_ms, after)).await??;
            let Some((last, done)) = step else {
                return Ok(());
            };
            after = Some(last);
            self.tell(progress, done.removed, done);
            rest(pace, began).await;
        }
    }

    async fn verify_now(
        &self,
        progress: &watch::Sender<(Progress, Outcome)>,
    ) -> Result<Verified, PruneError> {
        let (blobs, told) = (Arc::clone(&self.blobs), progress.clone());
        let verified = blocking(move || {
            blobs.verify(&mut |read| told.send_modify(|state| state.0.done = read))
        });
        let verified = verified.await??;
        // What other servers have is fetched from them again.
        let own = format!("mxc://{}/", self.blobs.server_name());
        let names = verified.corrupt.iter().flat_map(|(_, names)| names);
        let doomed: Vec<Doomed> = names
            .filter(|name| !name.starts_with(&own))
            .filter_map(|name| name.strip_prefix("mxc://")?.split_once('/'))
            .map(|(server, id)| Doomed {
                key: (server.to_owned(), id.to_owned()),
                to: Way::Away,
            })
            .collect();
        let refs = Arc::clone(&self.refs);
        let (snap, generation) = (self.blobs.store.newest(), self.blobs.store.generation());
        let mut watch = Watch::new(refs, snap, generation);
        for batch in doomed.chunks(BATCH) {
            watch = self
                .one_batch(watch, batch.to_vec(), Pace::Full, progress)
                .await?;
        }
        Ok(verified)
    }

    fn tell(&self, progress: &watch::Sender<(Progress, Outcome)>, count: u64, done: Done) {
        let mut now = Progress::default();
        progress.send_modify(|(progress, _)| {
            progress.done += count;
            progress.removed += done.removed;
            progress.revived += done.revived;
            progress.freed_bytes += done.freed;
            now = *progress;
        });
        (self.told)(Step::Done(now));
    }
}

/// The next items of a plan that change.
fn next_batch(plan: &Plan, at: &mut usize) -> Vec<Doomed> {
    let mut batch = Vec::new();
    while let Some(item) = plan.items.list.get(*at)
        && batch.len() < BATCH
    {
        *at += 1;
        let to = match item.verdict {
            Verdict::Stays(_) => continue,
            Verdict::Goes if item.in_trash => Way::OutOfTrash,
            Verdict::Goes => Way::Away,
            Verdict::Trash => Way::IntoTrash,
            Verdict::Back => Way::Back,
        };
        let (server, id) = plan.items.name(item);
        let key = (server.to_owned(), id.to_owned());
        batch.push(Doomed { key, to });
    }
    batch
}

/// Deletes the next thumbnails; gives how far it came, none at the end.
fn thumb_batch(
    blobs: &Blobs,
    plan: &Plan,
    upto_ms: u64,
    after: Option<ThumbKey>,
) -> Result<Option<(ThumbKey, Done)>, PruneError> {
    let snap = blobs.store.newest();
    let scan = match after {
        Some(after) => Scan::all().after(&after),
        None => Scan::all(),
    };
    let (mut keys, mut last, mut done) = (Vec::new(), None, Done::default());
    for row in snap.scan::<ThumbUses>(scan.limit(THUMB_BATCH)) {
        let (key, row) = row?;
        last = Some(key);
        let used_ms = blobs.uses.thumbs.noted(&key).unwrap_or(0);
        let time_ms = plan.order.by.of_thumb(&row).max(used_ms);
        if time_ms <= upto_ms && row.bytes > plan.order.larger_than {
            done.removed += 1;
            done.freed += row.bytes;
            keys.push(key);
        }
    }
    if !keys.is_empty() {
        blobs.remove_thumbs(&keys)?;
    }
    Ok(last.map(|last| (last, done)))
}

async fn rest(pace: Pace, began: Instant) {
    if let Pace::Gentle(times) = pace {
        tokio::time::sleep(began.elapsed().saturating_mul(times)).await;
    }
}

/// Rests as long as it takes for a gentle run to be no burden; for the schedule.
pub(crate) const GENTLE: Pace = Pace::Gentle(4);
/// How long a schedule waits before it looks at the clock again.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(60);
