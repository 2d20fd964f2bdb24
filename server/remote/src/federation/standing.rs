//! Which servers were reached lately, and which are left alone for a while.
//!
//! One memory for everything that is said to servers: what a query finds out, transactions need
//! not find out again. It is written to the store now and then, so that a restart neither forgets
//! nor storms; losing the last seconds of it costs a try.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use skerry_core::{Clock, DiceSource};
use skerry_store::outbox::{self, Dest, Standing};
use skerry_store::{Store, StoreError, Write};
use tokio::sync::Notify;

use crate::outbox::Backoff;

/// How pauses grow while a server is not reached.
const BACKOFF: Backoff = Backoff {
    first_ms: 2_000,
    longest_ms: 4 * 3_600_000,
};
/// As how many failures those of a server count that spoke to us: it is there, and pauses do not
/// go on growing from where they were.
const FAILURES_OF_HEARD: u32 = 4;
/// How many servers are remembered.
const REMEMBERED: usize = 20_000;
/// A success is noted in the store again when the one there is so much older, in ms.
const NOTED_EVERY_MS: u64 = 3_600_000;

/// What is known of all servers.
pub(crate) struct Standings {
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    dice: Arc<dyn DiceSource>,
    known: Mutex<Known>,
    /// Rings when a server was reached that was left alone.
    reached: Notify,
}

#[derive(Default)]
struct Known {
    servers: HashMap<Arc<str>, Standing>,
    /// What is not in the store yet.
    changed: HashSet<Arc<str>>,
    /// Those that were left alone and were reached since anybody asked.
    reached: HashSet<Arc<str>>,
}

const UNKNOWN: Standing = Standing {
    failures: 0,
    retry_at_ms: 0,
    failing_since_ms: 0,
    success_ms: None,
};

impl Standings {
    /// Reads what the store has.
    pub(crate) fn open(
        store: Arc<Store>,
        clock: Arc<dyn Clock>,
        dice: Arc<dyn DiceSource>,
    ) -> Result<Standings, StoreError> {
        let mut known = Known::default();
        // A time further away than any pause was noted by a clock that was wrong.
        let far = clock.now_ms().saturating_add(BACKOFF.longest_ms);
        for (dest, mut standing) in outbox::standings(&store.snapshot())? {
            if let Dest::Server(server) = dest {
                standing.retry_at_ms = Some(standing.retry_at_ms)
                    .filter(|at_ms| *at_ms <= far)
                    .unwrap_or(0);
                known.servers.insert(store.server_name(server)?, standing);
            }
        }
        Ok(Standings {
            store,
            clock,
            dice,
            known: Mutex::new(known),
            reached: Notify::new(),
        })
    }

    /// How it went with a server; nothing where it was never tried.
    pub(crate) fn of(&self, server: &str) -> Option<Standing> {
        self.known.lock().servers.get(server).cloned()
    }

    /// How it went with all servers that were tried.
    pub(crate) fn all(&self) -> Vec<(Arc<str>, Standing)> {
        let known = self.known.lock();
        let all = known.servers.iter();
        all.map(|(name, s)| (Arc::clone(name), s.clone())).collect()
    }

    /// Until when a server is left alone, in ms since the epoch; nothing where it is not.
    pub(crate) fn resting_until(&self, server: &str) -> Option<u64> {
        let until_ms = self.known.lock().servers.get(server)?.retry_at_ms;
        (until_ms > self.clock.now_ms()).then_some(until_ms)
    }

    /// A server answered.
    pub(crate) fn succeeded(&self, server: &str) {
        let now_ms = self.clock.now_ms();
        let mut known = self.known.lock();
        let before = known.servers.get(server).cloned().unwrap_or(UNKNOWN);
        let noted = before.success_ms.unwrap_or(0);
        if before.failures == 0 && noted.saturating_add(NOTED_EVERY_MS) > now_ms {
            return;
        }
        if before.failures > 0 {
            tracing::info!(server, failures = before.failures, "reached again");
        }
        let standing = Standing {
            success_ms: Some(now_ms),
            ..UNKNOWN
        };
        known.set(server, standing);
        if before.failures > 0 {
            known.reached.insert(server.into());
            self.reached.notify_one();
        }
    }

    /// Waits until a server was reached that was left alone. For one that waits.
    pub(crate) async fn bell(&self) {
        self.reached.notified().await;
    }

    /// The servers that were left alone and were reached since the last time.
    pub(crate) fn reached(&self) -> Vec<Arc<str>> {
        let mut known = self.known.lock();
        std::mem::take(&mut known.reached).into_iter().collect()
    }

    /// A pause after so many failures in a row, in ms.
    pub(crate) fn pause_ms(&self, backoff: Backoff, failures: u32) -> u64 {
        backoff.pause_ms(failures, &mut *self.dice.dice())
    }

    /// A server was not reached, or asked to be left alone for so long. Says until when it is
    /// left alone, in ms since the epoch. Of several requests that were under way when it
    /// failed, one counts.
    pub(crate) fn failed(&self, server: &str, why: &str, after: Option<Duration>) -> u64 {
        let now_ms = self.clock.now_ms();
        let mut known = self.known.lock();
        let before = known.servers.get(server).cloned().unwrap_or(UNKNOWN);
        if before.retry_at_ms > now_ms {
            return before.retry_at_ms;
        }
        let failures = before.failures.saturating_add(1);
        let asked = after.map_or(0, |after| u64::try_from(after.as_millis()).unwrap_or(0));
        let pause = self.pause_ms(BACKOFF, failures);
        let retry_at_ms = now_ms.saturating_add(pause.max(asked.min(BACKOFF.longest_ms)));
        if failures == 1 {
            tracing::info!(server, why, "not reached; tried again later");
        } else {
            tracing::debug!(server, failures, why, "still not reached");
        }
        let since_ms = before.failing_since_ms;
        let standing = Standing {
            failures,
            retry_at_ms,
            failing_since_ms: if since_ms == 0 { now_ms } else { since_ms },
            success_ms: before.success_ms,
        };
        known.set(server, standing);
        retry_at_ms
    }

    /// A server spoke to us: it is there, and need not be left alone any longer. Says whether it
    /// was.
    pub(crate) fn heard_from(&self, server: &str) -> bool {
        let mut known = self.known.lock();
        let Some(before) = known.servers.get(server).filter(|s| s.retry_at_ms > 0) else {
            return false;
        };
        let standing = Standing {
            retry_at_ms: 0,
            failures: before.failures.min(FAILURES_OF_HEARD),
            ..before.clone()
        };
        known.set(server, standing);
        true
    }

    /// Writes down what has changed since the last time, of servers that are named anywhere in
    /// the store.
    pub(crate) fn write(&self, w: &mut Write) -> Result<(), StoreError> {
        let changed: Vec<(Arc<str>, Standing)> = {
            let mut known = self.known.lock();
            let names = std::mem::take(&mut known.changed);
            let of = |name| known.servers.get_key_value::<str>(name);
            let found = names.iter().filter_map(|name| of(name));
            found.map(|(name, s)| (name.clone(), s.clone())).collect()
        };
        for (name, standing) in changed {
            if let Some(server) = self.store.server_nid(&name)? {
                outbox::set_standing(w, &Dest::Server(server), &standing);
            }
        }
        Ok(())
    }
}

impl Known {
    fn set(&mut self, server: &str, standing: Standing) {
        if self.servers.len() >= REMEMBERED && !self.servers.contains_key(server) {
            // Names come from whoever speaks to us. What is failing is worth more than the rest.
            self.servers.retain(|_, standing| standing.failures > 1);
            if self.servers.len() >= REMEMBERED {
                self.servers.clear();
            }
        }
        let name: Arc<str> = server.into();
        self.changed.insert(Arc::clone(&name));
        self.servers.insert(name, standing);
    }
}
