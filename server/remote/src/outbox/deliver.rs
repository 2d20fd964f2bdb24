//! What a kind of destination has to say about sending.

use std::time::Duration;

use futures_util::future::BoxFuture;
use skerry_core::Pos;
use skerry_store::Write;
use skerry_store::outbox::Dest;

use super::backoff::Backoff;

/// One item of a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its place in the queue; unique, and growing.
    pub pos: Pos,
    /// What was queued.
    pub item: Vec<u8>,
}

/// What happens next with a queue.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// The next rows.
    Go,
    /// The destination failed: what was not done is tried again after a pause, which grows.
    Failed {
        /// For the log.
        why: String,
        /// What the destination asked for; else, or if that is shorter, the back-off's.
        after: Option<Duration>,
    },
    /// Nothing failed, but nothing is to be sent before this time, in ms since the epoch.
    NotBefore(u64),
    /// The destination is gone: its whole queue is dropped, and what is known of it forgotten.
    GiveUp {
        /// For the log.
        why: String,
    },
}

/// What became of a batch of rows.
#[derive(Debug)]
pub struct Report {
    /// These arrived, or are not worth sending any more; they leave the queue.
    pub done: Vec<Pos>,
    /// These cannot be understood; they are set aside, and said so in the log.
    pub bad: Vec<Pos>,
    /// What else is to be written in the commit that takes them off.
    pub write: Option<Write>,
    /// What happens next.
    pub next: Next,
}

impl Report {
    /// All these rows arrived.
    #[must_use]
    pub fn done(rows: &[Row]) -> Report {
        Report {
            done: rows.iter().map(|row| row.pos).collect(),
            bad: Vec::new(),
            write: None,
            next: Next::Go,
        }
    }

    /// None arrived; try them all again later.
    #[must_use]
    pub fn failed(why: impl ToString) -> Report {
        Report {
            done: Vec::new(),
            bad: Vec::new(),
            write: None,
            next: Next::Failed {
                why: why.to_string(),
                after: None,
            },
        }
    }

    /// The destination is gone for good.
    #[must_use]
    pub fn give_up(why: impl ToString) -> Report {
        Report {
            next: Next::GiveUp {
                why: why.to_string(),
            },
            ..Report::failed("")
        }
    }
}

/// Sends the rows of one kind of destination.
pub trait Deliver: Send + Sync {
    /// Whether it sends to this destination.
    fn serves(&self, dest: &Dest) -> bool;

    /// How many rows it takes at once.
    fn batch_rows(&self) -> usize {
        50
    }

    /// How many rows are kept for a destination that fails; the oldest go first.
    fn max_rows(&self) -> usize {
        usize::MAX
    }

    /// How pauses grow while a destination fails.
    fn backoff(&self) -> Backoff {
        Backoff::default()
    }

    /// Sends the oldest rows of a queue, in their order. There is one such call per destination
    /// at a time; after a crash, rows that were sent may come once more. It may be dropped when
    /// the server stops.
    fn deliver<'a>(&'a self, dest: &'a Dest, rows: &'a [Row]) -> BoxFuture<'a, Report>;
}
