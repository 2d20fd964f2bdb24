//! Walks that are under way, by the tokens that clients hold.

use std::collections::HashMap;

use parking_lot::Mutex;
use skerry_core::{RoomNid, UserNid};

use super::{HierarchyAsk, Met};

/// How long a token is good for, in ms.
const GOOD_FOR_MS: u64 = 10 * 60 * 1000;
/// Most walks that are kept of one user; the oldest goes first.
const MAX_OF_USER: usize = 16;
/// Most rooms that all kept walks hold together; the oldest walks go first.
const MAX_ROOMS: usize = 500_000;

/// Where a walk stands.
#[derive(Clone, Debug)]
pub(crate) struct Walk {
    user: UserNid,
    root: RoomNid,
    suggested_only: bool,
    max_depth: Option<u32>,
    /// Rooms still to be visited, with their depths; the next one last.
    stack: Vec<(RoomNid, u32)>,
    met: Met,
}

impl Walk {
    pub(super) fn begin(user: UserNid, root: RoomNid, ask: &HierarchyAsk) -> Walk {
        Walk {
            user,
            root,
            suggested_only: ask.suggested_only,
            max_depth: ask.max_depth,
            stack: vec![(root, 0)],
            met: Met::default(),
        }
    }

    /// Whether it answers this question of this user.
    pub(super) fn fits(&self, user: UserNid, root: RoomNid, ask: &HierarchyAsk) -> bool {
        let asked = (self.suggested_only, self.max_depth);
        (self.user, self.root) == (user, root) && asked == (ask.suggested_only, ask.max_depth)
    }

    /// The next room not met before.
    pub(super) fn next(&mut self) -> Option<(RoomNid, u32)> {
        while let Some((room, depth)) = self.stack.pop() {
            if self.met.first(room) {
                return Some((room, depth));
            }
        }
        None
    }

    pub(super) fn push(&mut self, room: RoomNid, depth: u32) {
        if !self.met.0.contains(&room) && self.stack.len() < super::MAX_MET {
            self.stack.push((room, depth));
        }
    }

    /// Whether nothing new is left.
    pub(super) fn is_over(&self) -> bool {
        self.stack.iter().all(|(room, _)| self.met.0.contains(room))
    }

    fn rooms(&self) -> usize {
        self.stack.len() + self.met.0.len()
    }
}

/// Walks by token.
#[derive(Default)]
pub(crate) struct Walks(Mutex<HashMap<String, (u64, Walk)>>);

impl Walks {
    /// The walk of a token, if it is still kept.
    pub(super) fn get(&self, token: &str, now_ms: u64) -> Option<Walk> {
        let walks = self.0.lock();
        let (at_ms, walk) = walks.get(token)?;
        (now_ms.saturating_sub(*at_ms) < GOOD_FOR_MS).then(|| walk.clone())
    }

    /// Keeps a walk.
    pub(super) fn put(&self, token: String, walk: Walk, now_ms: u64) {
        let mut walks = self.0.lock();
        walks.retain(|_, (at_ms, _)| now_ms.saturating_sub(*at_ms) < GOOD_FOR_MS);
        let of_user = |(_, other): &(u64, Walk)| other.user == walk.user;
        if walks.values().filter(|held| of_user(held)).count() >= MAX_OF_USER {
            drop_oldest(&mut walks, of_user);
        }
        while !walks.is_empty()
            && walks.values().map(|(_, walk)| walk.rooms()).sum::<usize>() + walk.rooms()
                > MAX_ROOMS
        {
            drop_oldest(&mut walks, |_| true);
        }
        walks.insert(token, (now_ms, walk));
    }
}

fn drop_oldest(walks: &mut HashMap<String, (u64, Walk)>, of: impl Fn(&(u64, Walk)) -> bool) {
    let among = walks.iter().filter(|(_, held)| of(held));
    let oldest = among.min_by_key(|(_, held)| held.0);
    if let Some(token) = oldest.map(|(token, _)| token.clone()) {
        walks.remove(&token);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use skerry_core::{RoomNid, UserNid};

    use super::{GOOD_FOR_MS, MAX_OF_USER, Walk, Walks};
    use crate::HierarchyAsk;

    #[test]
    fn walks_end_with_time_and_number() {
        let walks = Walks::default();
        let ask = HierarchyAsk::default();
        let walk = |user| Walk::begin(UserNid(user), RoomNid(1), &ask);
        walks.put("other".into(), walk(2), 0);
        for n in 0..=MAX_OF_USER {
            walks.put(format!("t{n}"), walk(1), n as u64);
        }
        assert!(walks.get("t0", 100).is_none(), "the oldest went");
        assert!(walks.get("t1", 100).is_some());
        assert!(walks.get("other", 100).is_some(), "another user's stays");
        assert!(walks.get("t1", 1 + GOOD_FOR_MS).is_none());
    }

    #[test]
    fn a_walk_answers_one_question() {
        let ask = HierarchyAsk::default();
        let walk = Walk::begin(UserNid(1), RoomNid(1), &ask);
        assert!(walk.fits(UserNid(1), RoomNid(1), &ask));
        assert!(!walk.fits(UserNid(2), RoomNid(1), &ask));
        assert!(!walk.fits(UserNid(1), RoomNid(2), &ask));
        let deeper = HierarchyAsk {
            max_depth: Some(3),
            ..ask
        };
        assert!(!walk.fits(UserNid(1), RoomNid(1), &deeper));
    }
}
