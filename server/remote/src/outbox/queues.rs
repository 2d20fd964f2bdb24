//! Which destinations have something waiting, and when their turn is.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use skerry_store::outbox::Dest;

/// Queues that are not known to be empty.
#[derive(Debug, Default)]
pub(super) struct Queues {
    states: HashMap<Dest, State>,
    /// Those whose turn it is, in order.
    ready: VecDeque<Dest>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ready,
    /// Nothing is sent before this time, in ms since the epoch.
    Waiting(u64),
    /// A task is at it; whether something was added meanwhile.
    Running(bool),
}

impl Queues {
    /// Something was added to this queue.
    pub(super) fn add(&mut self, dest: Dest) {
        match self.states.get_mut(&dest) {
            Some(State::Running(again)) => *again = true,
            Some(State::Ready | State::Waiting(_)) => {}
            None => {
                self.states.insert(dest.clone(), State::Ready);
                self.ready.push_back(dest);
            }
        }
    }

    /// A queue with something in it that is not sent before this time.
    pub(super) fn add_at(&mut self, dest: Dest, at_ms: u64) {
        self.states.entry(dest).or_insert(State::Waiting(at_ms));
    }

    /// Lets a queue that waits wait no more.
    pub(super) fn hurry(&mut self, dest: &Dest) {
        if let Some(State::Waiting(at_ms)) = self.states.get_mut(dest) {
            *at_ms = 0;
        }
    }

    /// The next queue whose turn it is. It counts as running from now on.
    pub(super) fn next(&mut self, now_ms: u64) -> Option<Dest> {
        if self.ready.is_empty() {
            for (dest, state) in &mut self.states {
                if matches!(state, State::Waiting(at_ms) if *at_ms <= now_ms) {
                    *state = State::Ready;
                    self.ready.push_back(dest.clone());
                }
            }
        }
        let dest = self.ready.pop_front()?;
        self.states.insert(dest.clone(), State::Running(false));
        Some(dest)
    }

    /// A task has ended: the queue is empty, or waits until then.
    pub(super) fn ended(&mut self, dest: &Dest, until_ms: Option<u64>) {
        let Some(state) = self.states.get_mut(dest) else {
            return;
        };
        match (*state, until_ms) {
            (_, Some(at_ms)) => *state = State::Waiting(at_ms),
            (State::Running(true), None) => {
                *state = State::Ready;
                self.ready.push_back(dest.clone());
            }
            (_, None) => {
                self.states.remove(dest);
            }
        }
    }

    /// How long it is until a waiting queue's turn comes.
    pub(super) fn sleep(&self, now_ms: u64) -> Option<Duration> {
        let waiting = self.states.values().filter_map(|state| match state {
            State::Waiting(at_ms) => Some(*at_ms),
            _ => None,
        });
        let first = waiting.min()?;
        // A moment more, so that it is surely over.
        Some(Duration::from_millis(first.saturating_sub(now_ms) + 1))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    fn dest(name: &str) -> Dest {
        Dest::Push(name.to_owned())
    }

    #[test]
    fn a_queue_runs_once_at_a_time_and_again_if_something_came() {
        let mut queues = Queues::default();
        queues.add(dest("a"));
        queues.add(dest("a"));
        assert_eq!(queues.next(0), Some(dest("a")));
        assert_eq!(queues.next(0), None);
        queues.add(dest("a"));
        assert_eq!(queues.next(0), None);
        queues.ended(&dest("a"), None);
        assert_eq!(queues.next(0), Some(dest("a")));
        queues.ended(&dest("a"), None);
        assert_eq!(queues.next(0), None);
        assert_eq!(queues.sleep(0), None);
    }

    #[test]
    fn what_failed_waits_whatever_comes() {
        let mut queues = Queues::default();
        queues.add_at(dest("a"), 100);
        queues.add(dest("a"));
        assert_eq!(queues.next(99), None);
        assert_eq!(queues.sleep(40), Some(Duration::from_millis(61)));
        assert_eq!(queues.next(100), Some(dest("a")));
        queues.ended(&dest("a"), Some(500));
        queues.add(dest("a"));
        assert_eq!(queues.next(200), None);
        queues.hurry(&dest("a"));
        assert_eq!(queues.next(200), Some(dest("a")));
    }
}
