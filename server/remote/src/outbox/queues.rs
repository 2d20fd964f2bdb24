//! Which destinations have something waiting, and when their turn is.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use skerry_store::outbox::Dest;

/// Queues that are not known to be empty.
#[derive(Debug, Default)]
pub(super) struct Queues {
    states: HashMap<Dest, State>,
    /// Those whose turn it is, in order, by lane.
    ready: [VecDeque<Dest>; 3],
}

/// What a destination counts against. Users choose push gateways, and one that answers slowly
/// must not hold up the others, nor what the operator chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// Whom the operator chose: mail, application services, other servers.
    Chosen = 0,
    /// Push gateways.
    Push = 1,
    /// Push gateways that did not get done in their turn.
    Slow = 2,
}

impl Lane {
    const ALL: [Lane; 3] = [Lane::Chosen, Lane::Push, Lane::Slow];

    fn of(dest: &Dest) -> Lane {
        match dest {
            Dest::Push(_) => Lane::Push,
            _ => Lane::Chosen,
        }
    }
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
            None => self.make_ready(dest.clone(), Lane::of(&dest)),
        }
    }

    fn make_ready(&mut self, dest: Dest, lane: Lane) {
        self.states.insert(dest.clone(), State::Ready);
        if let Some(ready) = self.ready.get_mut(lane as usize) {
            ready.push_back(dest);
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

    /// Those that have waited long enough get their turn.
    pub(super) fn wake(&mut self, now_ms: u64) {
        let due = |state: &State| matches!(state, State::Waiting(at_ms) if *at_ms <= now_ms);
        let woken = self.states.iter().filter(|(_, state)| due(state));
        let woken: Vec<Dest> = woken.map(|(dest, _)| dest.clone()).collect();
        for dest in woken {
            let lane = Lane::of(&dest);
            self.make_ready(dest, lane);
        }
    }

    /// The next queue whose turn it is, in a lane that is open. It counts as running from now on.
    pub(super) fn next(&mut self, open: impl Fn(Lane) -> bool) -> Option<(Dest, Lane)> {
        for lane in Lane::ALL.into_iter().filter(|lane| open(*lane)) {
            let ready = self.ready.get_mut(lane as usize)?;
            if let Some(dest) = ready.pop_front() {
                self.states.insert(dest.clone(), State::Running(false));
                return Some((dest, lane));
            }
        }
        None
    }

    /// A task has ended: the queue is empty, or waits until then.
    pub(super) fn ended(&mut self, dest: &Dest, until_ms: Option<u64>) {
        let Some(state) = self.states.get_mut(dest) else {
            return;
        };
        match (*state, until_ms) {
            (_, Some(at_ms)) => *state = State::Waiting(at_ms),
            (State::Running(true), None) => self.make_ready(dest.clone(), Lane::of(dest)),
            (_, None) => {
                self.states.remove(dest);
            }
        }
    }

    /// A task has ended because its turn was over: there is more.
    pub(super) fn slow(&mut self, dest: &Dest) {
        if self.states.contains_key(dest) {
            let lane = match Lane::of(dest) {
                Lane::Chosen => Lane::Chosen,
                Lane::Push | Lane::Slow => Lane::Slow,
            };
            self.make_ready(dest.clone(), lane);
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

    fn next(queues: &mut Queues, now_ms: u64) -> Option<Dest> {
        queues.wake(now_ms);
        queues.next(|_| true).map(|(dest, _)| dest)
    }

    #[test]
    fn a_queue_runs_once_at_a_time_and_again_if_something_came() {
        let mut queues = Queues::default();
        queues.add(dest("a"));
        queues.add(dest("a"));
        assert_eq!(next(&mut queues, 0), Some(dest("a")));
        assert_eq!(next(&mut queues, 0), None);
        queues.add(dest("a"));
        assert_eq!(next(&mut queues, 0), None);
        queues.ended(&dest("a"), None);
        assert_eq!(next(&mut queues, 0), Some(dest("a")));
        queues.ended(&dest("a"), None);
        assert_eq!(next(&mut queues, 0), None);
        assert_eq!(queues.sleep(0), None);
    }

    #[test]
    fn what_failed_waits_whatever_comes() {
        let mut queues = Queues::default();
        queues.add_at(dest("a"), 100);
        queues.add(dest("a"));
        assert_eq!(next(&mut queues, 99), None);
        assert_eq!(queues.sleep(40), Some(Duration::from_millis(61)));
        assert_eq!(next(&mut queues, 100), Some(dest("a")));
        queues.ended(&dest("a"), Some(500));
        queues.add(dest("a"));
        assert_eq!(next(&mut queues, 200), None);
        queues.hurry(&dest("a"));
        assert_eq!(next(&mut queues, 200), Some(dest("a")));
    }

    #[test]
    fn who_is_slow_holds_up_nobody_else() {
        let mut queues = Queues::default();
        queues.add(dest("slow"));
        assert_eq!(next(&mut queues, 0), Some(dest("slow")));
        queues.slow(&dest("slow"));
        queues.add(dest("slow"));
        queues.add(dest("a"));
        queues.add(Dest::Mail);
        assert_eq!(next(&mut queues, 0), Some(Dest::Mail), "before all others");
        assert_eq!(next(&mut queues, 0), Some(dest("a")));
        assert_eq!(queues.next(|lane| lane != Lane::Slow), None);
        assert_eq!(
            queues.next(|lane| lane == Lane::Slow),
            Some((dest("slow"), Lane::Slow))
        );
        queues.ended(&dest("slow"), None);
        queues.add(dest("slow"));
        assert_eq!(
            queues.next(|lane| lane == Lane::Push).map(|got| got.0),
            Some(dest("slow"))
        );
    }
}
