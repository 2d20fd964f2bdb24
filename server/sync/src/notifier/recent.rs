//! The newest facts of the log in memory, so that woken readers need not read them from the store.

use std::collections::VecDeque;

use skerry_core::Pos;
use skerry_store::Change;

/// Facts kept.
const FACTS_MAX: usize = 8_192;

/// All facts in `(from, upto]`.
pub(super) struct Recent {
    from: Pos,
    upto: Pos,
    facts: VecDeque<(Pos, Change)>,
}

impl Recent {
    /// Nothing, at a position.
    pub(super) fn new(at: Pos) -> Recent {
        Recent {
            from: at,
            upto: at,
            facts: VecDeque::new(),
        }
    }

    /// The position up to which the log has been read.
    pub(super) fn upto(&self) -> Pos {
        self.upto
    }

    /// Forgets everything and goes on from a position.
    pub(super) fn restart(&mut self, at: Pos) {
        *self = Recent::new(at);
    }

    /// Adds what follows, up to and including `upto`.
    pub(super) fn push(&mut self, facts: Vec<(Pos, Change)>, upto: Pos) {
        self.facts.extend(facts);
        self.upto = upto;
        while self.facts.len() > FACTS_MAX {
            if let Some((pos, _)) = self.facts.pop_front() {
                self.from = pos;
            }
        }
    }

    /// The facts after `since` up to `head`, and how far they reach: to `head`, unless that has
    /// not been read yet. `None` if they are not all here.
    pub(super) fn between(&self, since: Pos, head: Pos) -> Option<(Vec<Change>, Pos)> {
        if since < self.from {
            return None;
        }
        let start = self.facts.partition_point(|(pos, _)| *pos <= since);
        let end = self.facts.partition_point(|(pos, _)| *pos <= head);
        let facts = self.facts.range(start..end.max(start));
        Some((
            facts.map(|(_, fact)| fact.clone()).collect(),
            self.upto.min(head).max(since),
        ))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use skerry_core::UserNid;

    fn fact(n: u64) -> (Pos, Change) {
        (Pos(n), Change::Profile { user: UserNid(n) })
    }

    #[test]
    fn gives_what_lies_between_and_says_how_far_it_reaches() {
        let mut recent = Recent::new(Pos(10));
        recent.push(vec![fact(11), fact(13)], Pos(14));
        assert_eq!(recent.between(Pos(9), Pos(14)), None);
        let all = vec![fact(11).1, fact(13).1];
        assert_eq!(
            recent.between(Pos(10), Pos(14)),
            Some((all.clone(), Pos(14)))
        );
        assert_eq!(recent.between(Pos(10), Pos(20)), Some((all, Pos(14))));
        assert_eq!(recent.between(Pos(11), Pos(12)), Some((vec![], Pos(12))));
        assert_eq!(recent.between(Pos(16), Pos(20)), Some((vec![], Pos(16))));
    }

    #[test]
    fn forgets_the_oldest() {
        let mut recent = Recent::new(Pos(0));
        for n in 1..=(FACTS_MAX as u64 + 5) {
            recent.push(vec![fact(n)], Pos(n));
        }
        assert_eq!(recent.facts.len(), FACTS_MAX);
        assert_eq!(recent.between(Pos(4), Pos(9)), None);
        assert_eq!(
            recent.between(Pos(5), Pos(6)),
            Some((vec![fact(6).1], Pos(6)))
        );
    }
}
