//! How much other servers may make us fetch.
//!
//! What a server sends can rest on events that we do not have, and a hostile one can make up as
//! many of those as it likes. Each server has an allowance of events, bytes and time, which grows
//! back slowly. Who has used it up is not asked for more; what they send is put aside meanwhile,
//! and others are served as before.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use skerry_core::Clock;

/// How many servers are remembered; those that used least are forgotten first.
const REMEMBERED: usize = 4_096;

/// An amount of work.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Work {
    /// Events asked for or looked at.
    pub(super) events: f64,
    /// Bytes of answers.
    pub(super) bytes: f64,
    /// Time spent waiting, in ms.
    pub(super) wait_ms: f64,
}

/// What a server may use at once.
const ALLOWANCE: Work = Work {
    events: 60_000.0,
    bytes: 256.0 * 1024.0 * 1024.0,
    wait_ms: 10.0 * 60_000.0,
};
/// What grows back in one ms: all of it within an hour; of the time, a tenth.
const GROWTH: Work = Work {
    events: ALLOWANCE.events / 3_600_000.0,
    bytes: ALLOWANCE.bytes / 3_600_000.0,
    wait_ms: 0.1,
};

#[derive(Clone, Copy, Debug)]
struct Used {
    work: Work,
    at_ms: u64,
}

impl Used {
    /// What counts still at a later time.
    fn at(self, now_ms: u64) -> Work {
        let passed = now_ms.saturating_sub(self.at_ms) as f64;
        let left = |used: f64, growth: f64| (used - growth * passed).max(0.0);
        Work {
            events: left(self.work.events, GROWTH.events),
            bytes: left(self.work.bytes, GROWTH.bytes),
            wait_ms: left(self.work.wait_ms, GROWTH.wait_ms),
        }
    }
}

/// The largest part of the allowance that is used, of whatever kind.
fn share(work: Work) -> f64 {
    let events = work.events / ALLOWANCE.events;
    let bytes = work.bytes / ALLOWANCE.bytes;
    events.max(bytes).max(work.wait_ms / ALLOWANCE.wait_ms)
}

/// Who has used how much.
pub(super) struct Budgets {
    clock: Arc<dyn Clock>,
    used: Mutex<HashMap<String, Used>>,
}

impl Budgets {
    /// Nobody has used anything.
    pub(super) fn new(clock: Arc<dyn Clock>) -> Budgets {
        Budgets {
            clock,
            used: Mutex::default(),
        }
    }

    /// Whether a server has something left.
    pub(super) fn has_left(&self, server: &str) -> bool {
        let now_ms = self.clock.now_ms();
        let used = self.used.lock();
        used.get(server)
            .is_none_or(|used| share(used.at(now_ms)) < 1.0)
    }

    /// Takes from what a server has. What was begun may go a little beyond.
    pub(super) fn spend(&self, server: &str, work: Work) {
        let now_ms = self.clock.now_ms();
        let mut all = self.used.lock();
        if all.len() >= REMEMBERED && !all.contains_key(server) {
            forget(&mut all, now_ms);
        }
        let before = all.get(server).map(|used| used.at(now_ms));
        let before = before.unwrap_or_default();
        let used = Used {
            work: Work {
                events: before.events + work.events,
                bytes: before.bytes + work.bytes,
                wait_ms: before.wait_ms + work.wait_ms,
            },
            at_ms: now_ms,
        };
        all.insert(server.to_owned(), used);
    }
}

/// Makes room: for those first who used least.
fn forget(all: &mut HashMap<String, Used>, now_ms: u64) {
    let mut shares: Vec<f64> = all.values().map(|used| share(used.at(now_ms))).collect();
    shares.sort_by(f64::total_cmp);
    let middle = shares.get(shares.len() / 2).copied().unwrap_or_default();
    all.retain(|_, used| share(used.at(now_ms)) > middle);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use skerry_core::fixtures::FakeClock;

    use super::{ALLOWANCE, Budgets, REMEMBERED, Work};

    fn some(part: f64) -> Work {
        Work {
            events: ALLOWANCE.events * part,
            ..Work::default()
        }
    }

    #[test]
    fn who_uses_up_waits_and_nobody_else() {
        let clock = Arc::new(FakeClock::new());
        let budgets = Budgets::new(clock.clone());
        budgets.spend("a", some(0.6));
        assert!(budgets.has_left("a"));
        budgets.spend("a", some(0.6));
        assert!(!budgets.has_left("a"));
        assert!(budgets.has_left("b"));
        clock.advance(20 * 60_000);
        assert!(budgets.has_left("a"), "it grows back");
        let slow = Work {
            wait_ms: ALLOWANCE.wait_ms,
            ..Work::default()
        };
        budgets.spend("a", slow);
        assert!(!budgets.has_left("a"), "time counts too");
    }

    #[test]
    fn many_names_do_not_make_it_forget_who_used_much() {
        let budgets = Budgets::new(Arc::new(FakeClock::new()));
        budgets.spend("a", some(2.0));
        for n in 0..3 * REMEMBERED {
            budgets.spend(&format!("s{n}"), some(0.001));
        }
        assert!(!budgets.has_left("a"));
        assert!(budgets.used.lock().len() <= REMEMBERED);
    }
}
