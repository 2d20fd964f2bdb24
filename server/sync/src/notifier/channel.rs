//! One user's channel: a bell, and notes of what rang it.

use std::collections::VecDeque;

use skerry_core::{Pos, RoomNid, UserNid};
use tokio::sync::watch;

/// Notes kept for one user.
const NOTES_MAX: usize = 64;

/// What a waiting reader listens on: the position of the newest fact that concerns the user.
pub(crate) type Bell = watch::Receiver<Pos>;

/// What changed, as far as it concerns one user.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum About {
    /// Events or memberships in a room.
    Events(RoomNid),
    /// Receipts in a room.
    Receipts(RoomNid),
    /// The user's data of a room.
    RoomData(RoomNid),
    /// The user's global data.
    Data,
    /// Messages to a device of the user, or its keys.
    Device,
    /// Somebody's list of devices.
    List(UserNid),
    /// What only this user may see of others' keys.
    PrivateList,
    /// The user's subscriptions to threads.
    Subscriptions,
}

/// What changed and where in the log.
pub(super) type Notes = Vec<(Pos, About)>;

/// The channel.
pub(super) struct Channel {
    bell: watch::Sender<Pos>,
    /// All that concerns the user after this position is noted, as far as the log was followed.
    born: Pos,
    notes: VecDeque<(Pos, About)>,
}

impl Channel {
    /// A channel that knows of nothing up to `born`.
    pub(super) fn new(born: Pos) -> Channel {
        Channel {
            bell: watch::Sender::new(Pos::ZERO),
            born,
            notes: VecDeque::new(),
        }
    }

    pub(super) fn subscribe(&self) -> Bell {
        self.bell.subscribe()
    }

    pub(super) fn is_listened_to(&self) -> bool {
        self.bell.receiver_count() > 0
    }

    /// Whether nothing happened after `since`.
    pub(super) fn is_quiet(&self, since: Pos) -> bool {
        self.born <= since && self.notes.iter().all(|(pos, _)| *pos <= since)
    }

    /// What happened after `since`; `None` if that is too long ago.
    pub(super) fn news(&self, since: Pos) -> Option<Vec<About>> {
        if since < self.born {
            return None;
        }
        let new = self.notes.iter().filter(|(pos, _)| *pos > since);
        Some(new.map(|(_, about)| *about).collect())
    }

    /// Notes what happened, and rings.
    pub(super) fn raise(&mut self, news: Notes) {
        let newest = news.iter().map(|(pos, _)| *pos).max().unwrap_or_default();
        self.notes.extend(news);
        while self.notes.len() > NOTES_MAX {
            if let Some((pos, _)) = self.notes.pop_front() {
                self.born = pos.max(self.born);
            }
        }
        self.bell.send_modify(|seen| *seen = newest.max(*seen));
    }

    /// Rings for something that has no position.
    pub(super) fn nudge(&self) {
        self.bell.send_modify(|_| ());
    }

    /// Rings because something may have happened up to `head`.
    pub(super) fn restart(&mut self, head: Pos) {
        self.notes.clear();
        self.born = head;
        self.bell.send_modify(|seen| *seen = head.max(*seen));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn notes_are_kept_until_there_are_too_many() {
        let mut channel = Channel::new(Pos(10));
        let bell = channel.subscribe();
        assert_eq!(channel.news(Pos(10)), Some(vec![]));
        channel.raise(vec![(Pos(12), About::Data), (Pos(11), About::Device)]);
        assert_eq!(*bell.borrow(), Pos(12));
        assert_eq!(channel.news(Pos(9)), None);
        assert_eq!(
            channel.news(Pos(10)),
            Some(vec![About::Data, About::Device])
        );
        assert_eq!(channel.news(Pos(11)), Some(vec![About::Data]));
        assert!(!channel.is_quiet(Pos(9)) && !channel.is_quiet(Pos(11)));
        assert!(channel.is_quiet(Pos(12)));
        for n in 0..NOTES_MAX as u64 {
            channel.raise(vec![(Pos(20 + n), About::Data)]);
        }
        assert_eq!(channel.news(Pos(11)), None);
        assert_eq!(channel.news(Pos(12)).unwrap().len(), NOTES_MAX);
        channel.restart(Pos(900));
        assert_eq!(
            (channel.news(Pos(899)), channel.news(Pos(900))),
            (None, Some(vec![]))
        );
    }
}
