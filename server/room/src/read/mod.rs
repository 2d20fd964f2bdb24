//! Reading rooms: what one user may see of them, and how it is written.
//!
//! [`View`] is one user's view of one room on one snapshot. Every read goes through it: it
//! decides what the user may see (`visibility`, the only place that does), finds pages of the
//! timeline (`page`), state and members, what relates to an event (`bundle`, `relations`,
//! `threads`), and writes events by copying stored bytes (`write`).

mod bundle;
mod cut;
mod filter;
mod for_sync;
pub(crate) mod messages;
pub(crate) mod notes;
mod original;
mod page;
pub(crate) mod placed;
mod relations;
mod standing;
mod state;
pub(crate) mod tail;
mod thread;
mod timestamp;
mod view;
pub(crate) mod visibility;
mod write;

use std::sync::Arc;

use skerry_core::{EventNid, Pos, StateId, UserNid};
use skerry_store::Lanes;

use crate::cache::Cache;
use crate::typing::Typing;
use crate::unread::UnreadCaches;
use tail::Tails;
use thread::ThreadSum;
use visibility::Access;

pub use cut::Cut;
pub use filter::{EventFilter, Facts, glob_matches};
pub use messages::{ContextAsk, MessagesAsk, Told};
pub use page::{PAGE_MAX, Page, PageAsk, Recent};
pub use placed::{Placed, Relates, rel_kind};
pub use relations::{RelationsAsk, ThreadsAsk};
pub use standing::Standing;
pub use state::MembersAsk;
pub use view::{View, Viewer};
pub use write::Form;

/// What reading keeps in memory: things that never change under their keys.
pub(crate) struct Reads {
    /// Events by number and by whether they are redacted.
    pub(crate) events: Cache<(EventNid, bool), Arc<Placed>>,
    /// What versions of state say about users' right to read.
    pub(crate) access: Cache<(StateId, UserNid), Access>,
    /// Events of whole states, by version and by the room's newest redaction.
    pub(crate) states: Cache<(StateId, Pos), Arc<[Arc<Placed>]>>,
    /// Ends of timelines.
    pub(crate) tails: Tails,
    /// Sums of threads, by their roots.
    pub(crate) threads: Cache<EventNid, Arc<ThreadSum>>,
    /// What unread counts are made from.
    pub(crate) unread: UnreadCaches,
    /// One writer of receipts at a time per user.
    pub(crate) readers: Lanes<UserNid>,
    /// Who is typing.
    pub(crate) typing: Typing,
}

impl Reads {
    /// Caches of about so many bytes together.
    pub(crate) fn new(budget: usize) -> Reads {
        let share = budget / 16;
        Reads {
            events: Cache::new(6 * share),
            access: Cache::new(share),
            states: Cache::new(4 * share),
            tails: Tails::new(share),
            threads: Cache::new(share),
            unread: UnreadCaches::new(3 * share),
            readers: Lanes::new(),
            typing: Typing::new(),
        }
    }

    /// Forgets what was read from the store, for when it was opened anew.
    pub(crate) fn clear(&self) {
        self.events.clear();
        self.access.clear();
        self.states.clear();
        self.tails.clear();
        self.threads.clear();
        self.unread.clear();
    }
}
