//! The prune that goes on by itself once a day, and the trash that makes room when the disk fills.

use skerry_store::{Disk as _, RealDisk};
use std::sync::Arc;
use tokio::sync::watch;

use super::{
    Emptying, Order, Outcome, PruneError, Pruner, Target,
    job::{GENTLE, LOOK_EVERY, Progress},
};
use crate::MediaError;

const MINUTE_MS: u64 = 60 * 1000;
const DAY_MS: u64 = 24 * 60 * MINUTE_MS;

/// What is deleted without being asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// When, in minutes after midnight, UTC.
    pub at_minute: u64,
    /// Other servers' media that nobody looked at for so long goes, in ms; none: it stays.
    pub remote_older_than_ms: Option<u64>,
    /// The same of media of this server.
    pub local_older_than_ms: Option<u64>,
    /// The same of thumbnails.
    pub thumbnails_older_than_ms: Option<u64>,
    /// How much of other servers' media stays, in bytes; none: as much as there is.
    pub remote_bytes: Option<u64>,
}

impl Schedule {
    /// What is done each day, one after the other.
    fn orders(&self) -> Vec<Order> {
        let mut orders = vec![Order {
            trash: Emptying::Due,
            ..Order::default()
        }];
        if let Some(older_than_ms) = self.remote_older_than_ms {
            orders.push(Order {
                remote: true,
                older_than_ms,
                ..Order::default()
            });
        }
        if let Some(older_than_ms) = self.local_older_than_ms {
            orders.push(Order {
                local: true,
                older_than_ms,
                ..Order::default()
            });
        }
        if let Some(older_than_ms) = self.thumbnails_older_than_ms {
            orders.push(Order {
                thumbnails: true,
                older_than_ms,
                ..Order::default()
            });
        }
        if let Some(bytes) = self.remote_bytes {
            orders.push(Order {
                remote: true,
                target: Some(Target::Remote(bytes)),
                ..Order::default()
            });
        }
        orders
    }

    /// The next time after `now_ms`, both in ms since the epoch.
    fn next(&self, now_ms: u64) -> u64 {
        let today = now_ms - now_ms % DAY_MS + (self.at_minute * MINUTE_MS) % DAY_MS;
        if today > now_ms {
            today
        } else {
            today + DAY_MS
        }
    }
}

impl Pruner {
    /// Keeps to a schedule until `stop` is true. It is slow on purpose.
    pub async fn keep_to(&self, schedule: Schedule, mut stop: watch::Receiver<bool>) {
        let mut next = schedule.next(self.blobs.clock.now_ms());
        loop {
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            let now_ms = self.blobs.clock.now_ms();
            let outcome = if now_ms >= next {
                next = schedule.next(now_ms);
                self.daily(&schedule).await.map(|_| ())
            } else {
                self.make_room().await
            };
            if let Err(error) = outcome {
                tracing::warn!(%error, "media was not pruned");
            }
        }
    }

    /// Everything of one day.
    ///
    /// # Errors
    /// [`PruneError`].
    pub async fn daily(&self, schedule: &Schedule) -> Result<Progress, PruneError> {
        let mut all = Progress::default();
        for order in schedule.orders() {
            let done = self.quietly(order).await?;
            all.done += done.done;
            all.removed += done.removed;
            all.revived += done.revived;
            all.freed_bytes += done.freed_bytes;
        }
        if all.removed > 0 {
            let (removed, freed_bytes) = (all.removed, all.freed_bytes);
            tracing::info!(removed, freed_bytes, "media was pruned");
        }
        Ok(all)
    }

    /// Keeps other servers' media within so many bytes until `stop` is true: whenever a sixteenth of
    /// that has come, what was looked at longest ago goes.
    pub async fn keep_budget(&self, bytes: u64, mut stop: watch::Receiver<bool>) {
        let (mut came, step) = (self.blobs.came.subscribe(), (bytes / 16).max(1));
        let mut seen = 0;
        loop {
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                grown = came.wait_for(|came| came.saturating_sub(seen) >= step) => match grown {
                    Ok(came) => seen = *came,
                    Err(_) => return,
                },
            }
            // As much below as may come before the next look.
            let order = Order {
                remote: true,
                target: Some(Target::Remote(bytes.saturating_sub(step))),
                ..Order::default()
            };
            if let Err(error) = self.quietly(order).await {
                tracing::warn!(%error, "other servers' media is not kept within its budget");
            }
        }
    }

    /// Where less than the floor is free on the disk, the oldest of the trash goes.
    async fn make_room(&self) -> Result<(), PruneError> {
        let blobs = Arc::clone(&self.blobs);
        let free = skerry_store::blocking(move || RealDisk.free_bytes(blobs.store.dir()));
        let free = free.await?.map_err(MediaError::File)?;
        let floor = self.blobs.settings.free_disk_floor;
        if free >= floor || self.trash(None, 1).await?.is_empty() {
            return Ok(());
        }
        let order = Order {
            trash: Emptying::Oldest(floor - free),
            ..Order::default()
        };
        let done = self.quietly(order).await?;
        let freed_bytes = done.freed_bytes;
        tracing::warn!(
            freed_bytes,
            "the disk is nearly full: trash went before its time"
        );
        Ok(())
    }

    pub(crate) async fn quietly(&self, order: Order) -> Result<Progress, PruneError> {
        let plan = Arc::new(self.make(order, None).await?);
        let (sender, seen) = watch::channel((Progress::default(), Outcome::Running));
        self.carry_out(&plan, GENTLE, &sender).await?;
        let progress = seen.borrow().0;
        Ok(progress)
    }
}

#[cfg(test)]
mod tests {
    use super::{DAY_MS, MINUTE_MS, Schedule};

    #[test]
    fn it_is_once_a_day() {
        let schedule = Schedule {
            at_minute: 210,
            remote_older_than_ms: Some(1),
            local_older_than_ms: None,
            thumbnails_older_than_ms: None,
            remote_bytes: None,
        };
        let at = 210 * MINUTE_MS;
        assert_eq!(schedule.next(0), at);
        assert_eq!(schedule.next(at), DAY_MS + at);
        assert_eq!(schedule.next(5 * DAY_MS + at - 1), 5 * DAY_MS + at);
        assert_eq!(schedule.orders().len(), 2);
    }
}
