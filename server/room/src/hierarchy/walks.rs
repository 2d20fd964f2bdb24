//! Walks that are under way, by the tokens that clients hold.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use skerry_core::UserNid;

use super::children::{self, Child};
use super::{HierarchyAsk, HierarchyRoom, MAX_DEPTH, Met};
use crate::PublicRoom;

/// How long a token is good for, in ms.
const GOOD_FOR_MS: u64 = 10 * 60 * 1000;
/// Most walks that are kept of one user; the oldest goes first.
const MAX_OF_USER: usize = 16;
/// Most rooms that all kept walks hold together; the oldest walks go first.
const MAX_ROOMS: usize = 500_000;

/// A room on the way.
#[derive(Clone, Debug)]
pub struct Step {
    /// The room.
    pub room_id: Arc<str>,
    /// How far below the space that the walk began with.
    pub depth: u32,
    /// Servers that know it, as the space says that holds it.
    pub via: Arc<[String]>,
}

/// Where a walk stands.
#[derive(Clone, Debug)]
pub struct Walk {
    user: UserNid,
    root: Arc<str>,
    suggested_only: bool,
    max_depth: Option<u32>,
    /// Rooms still to be visited; the next one last.
    stack: Vec<Step>,
    met: Met,
}

impl Walk {
    pub(super) fn begin(user: UserNid, root: &str, ask: &HierarchyAsk) -> Walk {
        let root: Arc<str> = root.into();
        Walk {
            user,
            root: Arc::clone(&root),
            suggested_only: ask.suggested_only,
            max_depth: ask.max_depth,
            stack: vec![Step {
                room_id: root,
                depth: 0,
                via: Arc::default(),
            }],
            met: Met::default(),
        }
    }

    /// Whether it answers this question of this user.
    pub(super) fn fits(&self, user: UserNid, root: &str, ask: &HierarchyAsk) -> bool {
        let asked = (self.suggested_only, self.max_depth);
        (self.user, &*self.root) == (user, root) && asked == (ask.suggested_only, ask.max_depth)
    }

    /// Whether only rooms are wanted that their spaces suggest.
    pub(super) fn suggested_only(&self) -> bool {
        self.suggested_only
    }

    /// The next room not met before.
    pub(super) fn next(&mut self) -> Option<Step> {
        while let Some(step) = self.stack.pop() {
            if self.met.first(&step.room_id) {
                return Some(step);
            }
        }
        None
    }

    /// A room is shown; its children come next.
    pub(super) fn meet(
        &mut self,
        step: &Step,
        room: PublicRoom,
        children: &[Child],
    ) -> HierarchyRoom {
        if step.depth < self.max_depth.unwrap_or(MAX_DEPTH).min(MAX_DEPTH) {
            // The first child comes next: it goes onto the stack last.
            for child in children.iter().rev() {
                self.push(Step {
                    room_id: Arc::clone(&child.room_id),
                    depth: step.depth + 1,
                    via: Arc::clone(&child.via),
                });
            }
        }
        HierarchyRoom {
            room,
            children: children::stripped(children),
        }
    }

    fn push(&mut self, step: Step) {
        if !self.met.0.contains(&step.room_id) && self.stack.len() < super::MAX_MET {
            self.stack.push(step);
        }
    }

    /// Whether nothing new is left.
    pub(super) fn is_over(&self) -> bool {
        let met = |step: &Step| self.met.0.contains(&step.room_id);
        self.stack.iter().all(met)
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
    use skerry_core::UserNid;

    use super::{GOOD_FOR_MS, MAX_OF_USER, Walk, Walks};
    use crate::HierarchyAsk;

    #[test]
    fn walks_end_with_time_and_number() {
        let walks = Walks::default();
        let ask = HierarchyAsk::default();
        let walk = |user| Walk::begin(UserNid(user), "!a", &ask);
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
        let walk = Walk::begin(UserNid(1), "!a", &ask);
        assert!(walk.fits(UserNid(1), "!a", &ask));
        assert!(!walk.fits(UserNid(2), "!a", &ask));
        assert!(!walk.fits(UserNid(1), "!b", &ask));
        let deeper = HierarchyAsk {
            max_depth: Some(3),
            ..ask
        };
        assert!(!walk.fits(UserNid(1), "!a", &deeper));
    }
}
