//! Who computes when.
//!
//! One message wakes all readers of its room at once. A thread of its own for each answer would
//! cost more in waking and switching threads than the answers do, so short answers are worked off
//! from a queue by about as many threads as there are cores; a thread ends when the queue is empty.
//! Long answers (initial syncs) do not stand in that queue: a few of them run beside it.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use parking_lot::Mutex;
use skerry_store::StoreError;
use tokio::sync::{Semaphore, oneshot};

type Job = Box<dyn FnOnce() + Send>;

/// The queue of short answers, and the places for long ones.
pub(crate) struct Turns {
    queue: Arc<Queue>,
    long: Arc<Semaphore>,
}

struct Queue {
    inner: Mutex<Inner>,
    /// Threads that work it off at most.
    threads_max: usize,
}

#[derive(Default)]
struct Inner {
    jobs: VecDeque<Job>,
    /// Threads that are working it off.
    threads: usize,
}

impl Turns {
    /// For so many cores.
    pub(crate) fn new(cores: usize) -> Turns {
        // One more than cores, since an answer may have to wait for the disk.
        let queue = Queue {
            inner: Mutex::default(),
            threads_max: cores + 1,
        };
        Turns {
            queue: Arc::new(queue),
            long: Arc::new(Semaphore::new(cores + 1)),
        }
    }

    /// Runs something short, after what was asked for before. It is left out if whoever asked is
    /// gone by then.
    ///
    /// # Errors
    /// `Panicked` when `work` panics.
    pub(crate) async fn short<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let (answer, done) = oneshot::channel();
        let span = tracing::Span::current();
        let job: Job = Box::new(move || {
            if !answer.is_closed() {
                // Nobody may be left to take it.
                let _ = answer.send(span.in_scope(work));
            }
        });
        if self.queue.push(job) {
            let queue = Arc::clone(&self.queue);
            tokio::task::spawn_blocking(move || queue.work_off());
        }
        done.await.map_err(|_| StoreError::Panicked)
    }

    /// Runs something that may take long, when there is a place for it.
    ///
    /// # Errors
    /// `Panicked` when `work` panics.
    pub(crate) async fn long<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        // cannot fail: the semaphore is never closed
        let place = Arc::clone(&self.long).acquire_owned().await.ok();
        // The place is held by the work itself: a client that hangs up and asks again must not
        // have more of it done at once.
        skerry_store::blocking(move || {
            let _place = place;
            work()
        })
        .await
    }
}

impl Queue {
    /// Adds a job; true if one more thread is to work the queue off.
    fn push(&self, job: Job) -> bool {
        let mut inner = self.inner.lock();
        inner.jobs.push_back(job);
        let more = inner.threads < self.threads_max;
        inner.threads += usize::from(more);
        more
    }

    /// Does jobs until there are none.
    fn work_off(&self) {
        while let Some(job) = self.next() {
            if catch_unwind(AssertUnwindSafe(job)).is_err() {
                tracing::error!("a sync panicked");
            }
        }
    }

    /// The next job; without one, this thread is done.
    fn next(&self) -> Option<Job> {
        let mut inner = self.inner.lock();
        let job = inner.jobs.pop_front();
        if job.is_none() {
            inner.threads -= 1;
        }
        job
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn all_jobs_are_done_by_few_threads_at_once() {
        let turns = Arc::new(Turns::new(2));
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let asked: Vec<_> = (0..200)
            .map(|n| {
                let (turns, now, most) = (turns.clone(), now.clone(), most.clone());
                tokio::spawn(async move {
                    let work = move || {
                        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        std::thread::yield_now();
                        now.fetch_sub(1, Ordering::SeqCst);
                        n
                    };
                    turns.short(work).await.unwrap()
                })
            })
            .collect();
        for (n, job) in asked.into_iter().enumerate() {
            assert_eq!(job.await.unwrap(), n);
        }
        assert!(most.load(Ordering::SeqCst) <= 3);
        assert_eq!(turns.long(|| 7).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn a_panic_ends_one_job_alone() {
        let turns = Turns::new(1);
        let broken = turns.short(|| panic!("on purpose")).await;
        assert!(matches!(broken, Err::<(), _>(StoreError::Panicked)));
        assert_eq!(turns.short(|| 1).await.unwrap(), 1);
        // It took no thread with it that is still counted: all go once nothing is left to do.
        while turns.queue.inner.lock().threads > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        assert!(turns.queue.inner.lock().jobs.is_empty());
    }

    #[tokio::test]
    async fn who_hangs_up_keeps_the_place_until_the_work_is_done() {
        let turns = Turns::new(1);
        let (go_on, wait) = std::sync::mpsc::channel::<()>();
        let long = turns.long(move || wait.recv().is_ok());
        let hung_up = tokio::time::timeout(std::time::Duration::from_millis(50), long).await;
        assert!(hung_up.is_err());
        assert_eq!(turns.long.available_permits(), 1);
        drop(go_on);
        while turns.long.available_permits() < 2 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
}
