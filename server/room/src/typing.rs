//! Who is typing where. Lives in memory only and is allowed to be lost; its positions belong to
//! one run of the server.

use std::collections::HashMap;

use parking_lot::Mutex;
use skerry_core::{Clock, RoomNid, UserNid};
use skerry_store::Snapshot;
use tokio::sync::{Notify, watch};

use crate::{RoomError, Rooms};

/// The longest a user counts as typing after one call, in ms.
pub const TYPING_MAX_MS: u64 = 120_000;
/// How long a user counts as typing who does not say, in ms.
pub const TYPING_DEFAULT_MS: u64 = 30_000;
/// Rooms remembered in which nobody types any more; beyond this the oldest half is forgotten.
const QUIET_MAX: usize = 8_192;

/// Who is typing in which room.
pub struct Typing {
    inner: Mutex<Inner>,
    /// Position of the newest change.
    newest: watch::Sender<u64>,
    /// Raised when an earlier deadline than before is set.
    sooner: Notify,
}

#[derive(Default)]
struct Inner {
    rooms: HashMap<RoomNid, InRoom>,
    pos: u64,
    /// Changes up to here may be forgotten.
    floor: u64,
}

#[derive(Default)]
struct InRoom {
    /// Position of the newest change in the room.
    pos: u64,
    /// Those who type, with the time at which that ends.
    users: Vec<(UserNid, u64)>,
}

impl Default for Typing {
    fn default() -> Typing {
        Typing::new()
    }
}

impl Typing {
    /// Nobody types anywhere.
    #[must_use]
    pub fn new() -> Typing {
        let inner = Mutex::new(Inner::default());
        Typing {
            inner,
            newest: watch::Sender::new(0),
            sooner: Notify::new(),
        }
    }

    /// Position of the newest change; 0 before the first.
    #[must_use]
    pub fn pos(&self) -> u64 {
        *self.newest.borrow()
    }

    /// Follows the position of the newest change.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    /// A user types until `until_ms` (since the epoch). True if that is news to others.
    pub fn start(&self, room: RoomNid, user: UserNid, until_ms: u64) -> bool {
        let mut inner = self.inner.lock();
        let users = &mut inner.rooms.entry(room).or_default().users;
        let news = match users.iter_mut().find(|entry| entry.0 == user) {
            Some(entry) => {
                entry.1 = until_ms;
                false
            }
            None => {
                users.push((user, until_ms));
                true
            }
        };
        if news {
            self.changed(&mut inner, room);
        }
        drop(inner);
        self.sooner.notify_one();
        news
    }

    /// A user types no more. True if that is news to others.
    pub fn stop(&self, room: RoomNid, user: UserNid) -> bool {
        let mut inner = self.inner.lock();
        let Some(in_room) = inner.rooms.get_mut(&room) else {
            return false;
        };
        let before = in_room.users.len();
        in_room.users.retain(|entry| entry.0 != user);
        let news = in_room.users.len() < before;
        if news {
            self.changed(&mut inner, room);
        }
        news
    }

    /// Who types in a room, in the order of starting, and the position of the room's newest
    /// change. `None` if nothing has changed there since `since` (a position of this run; 0 for
    /// a reader of another run).
    #[must_use]
    pub fn since(&self, room: RoomNid, since: u64) -> Option<Vec<UserNid>> {
        let inner = self.inner.lock();
        match inner.rooms.get(&room) {
            Some(in_room) if in_room.pos > since => {
                Some(in_room.users.iter().map(|entry| entry.0).collect())
            }
            Some(_) => None,
            // What happened there may be forgotten, but then nobody types now.
            None => (since < inner.floor).then(Vec::new),
        }
    }

    /// Rooms in which something changed after `since`.
    #[must_use]
    pub fn rooms_since(&self, since: u64) -> Vec<RoomNid> {
        let inner = self.inner.lock();
        let news = inner
            .rooms
            .iter()
            .filter(|(_, in_room)| in_room.pos > since);
        news.map(|(room, _)| *room).collect()
    }

    /// Ends what has run out at `now_ms`; says when the next one runs out.
    pub fn expire(&self, now_ms: u64) -> Option<u64> {
        let mut inner = self.inner.lock();
        let mut ended = Vec::new();
        let mut next = None::<u64>;
        for (room, in_room) in &mut inner.rooms {
            let before = in_room.users.len();
            in_room.users.retain(|entry| entry.1 > now_ms);
            if in_room.users.len() < before {
                ended.push(*room);
            }
            let first = in_room.users.iter().map(|entry| entry.1).min();
            next = [next, first].into_iter().flatten().min();
        }
        for room in ended {
            self.changed(&mut inner, room);
        }
        next
    }

    /// Ends typing when its time runs out; never returns. Costs nothing while nobody types.
    pub async fn run(&self, clock: &dyn Clock) {
        loop {
            let now = clock.now_ms();
            match self.expire(now) {
                None => self.sooner.notified().await,
                Some(next) => {
                    let wait = std::time::Duration::from_millis(next.saturating_sub(now).max(10));
                    let _ = tokio::time::timeout(wait, self.sooner.notified()).await;
                }
            }
        }
    }

    fn changed(&self, inner: &mut Inner, room: RoomNid) {
        inner.pos += 1;
        let pos = inner.pos;
        inner.rooms.entry(room).or_default().pos = pos;
        if inner.rooms.len() > QUIET_MAX {
            inner.forget_half();
        }
        self.newest.send_replace(pos);
    }
}

impl Rooms {
    /// Who is typing where.
    #[must_use]
    pub fn typing(&self) -> &Typing {
        &self.inner.reads.typing
    }

    /// A user types in a room for so many ms (at most two minutes), or stops.
    ///
    /// # Errors
    /// [`RoomError::Forbidden`] if the user is not in the room; the store's.
    pub fn set_typing(
        &self,
        snap: &Snapshot,
        user: UserNid,
        room_id: &str,
        for_ms: Option<u64>,
    ) -> Result<(), RoomError> {
        let room = self.room_nid(snap, room_id)?;
        let joined = room
            .map(|room| self.is_joined(snap, room, user))
            .transpose()?;
        let Some(room) = room.filter(|_| joined == Some(true)) else {
            return Err(RoomError::Forbidden("You are not in this room".to_owned()));
        };
        match for_ms {
            Some(ms) => {
                let until = self
                    .inner
                    .clock
                    .now_ms()
                    .saturating_add(ms.min(TYPING_MAX_MS));
                self.typing().start(room, user, until);
            }
            None => {
                self.typing().stop(room, user);
            }
        }
        Ok(())
    }
}

impl Inner {
    /// Forgets the older half of the rooms in which nobody types.
    fn forget_half(&mut self) {
        let quiet = self
            .rooms
            .values()
            .filter(|in_room| in_room.users.is_empty());
        let mut positions: Vec<u64> = quiet.map(|in_room| in_room.pos).collect();
        positions.sort_unstable();
        let Some(middle) = positions.get(positions.len() / 2).copied() else {
            return;
        };
        self.rooms
            .retain(|_, in_room| !in_room.users.is_empty() || in_room.pos > middle);
        self.floor = self.floor.max(middle);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    const ROOM: RoomNid = RoomNid(1);
    const ALICE: UserNid = UserNid(1);
    const BOB: UserNid = UserNid(2);

    #[test]
    fn starts_stops_and_runs_out() {
        let typing = Typing::new();
        assert!(typing.start(ROOM, ALICE, 100));
        assert!(!typing.start(ROOM, ALICE, 200), "a longer time is no news");
        assert!(typing.start(ROOM, BOB, 150));
        assert_eq!(typing.since(ROOM, 0), Some(vec![ALICE, BOB]));
        assert_eq!(typing.since(ROOM, typing.pos()), None);
        let seen = typing.pos();
        assert_eq!(typing.expire(150), Some(200));
        assert_eq!(typing.since(ROOM, seen), Some(vec![ALICE]));
        assert_eq!(typing.rooms_since(seen), vec![ROOM]);
        assert!(typing.stop(ROOM, ALICE));
        assert!(!typing.stop(ROOM, ALICE));
        assert_eq!(typing.since(ROOM, seen), Some(vec![]));
        assert_eq!(typing.expire(1_000), None);
    }

    #[test]
    fn what_is_forgotten_is_told_as_quiet() {
        let typing = Typing::new();
        for n in 1..=u64::try_from(QUIET_MAX).unwrap() + 1 {
            typing.start(RoomNid(n), ALICE, 100);
            typing.stop(RoomNid(n), ALICE);
        }
        assert_eq!(typing.since(ROOM, 1), Some(vec![]));
        assert_eq!(typing.since(ROOM, typing.pos()), None);
        assert!(typing.inner.lock().rooms.len() <= QUIET_MAX);
    }
}
