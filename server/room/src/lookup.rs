//! What the look-ups across rooms keep in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use skerry_core::{Pos, StateId};
use skerry_store::Lanes;

use crate::cache::Cache;
use crate::card::Card;
use crate::hierarchy::{Child, Walks};

/// A version of a room's state, and the room's newest redaction: what they say never changes.
pub(crate) type StateAt = (StateId, Pos);

/// Caches, and the lanes of what belongs to no room.
pub(crate) struct Lookups {
    /// What rooms show of themselves.
    pub(crate) cards: Cache<StateAt, Arc<Card>>,
    /// What spaces hold.
    pub(crate) children: Cache<StateAt, Arc<[Child]>>,
    /// Walks through spaces that clients may go on with.
    pub(crate) walks: Walks,
    /// One writer at a time of the directory of people.
    pub(crate) people: Lanes<()>,
    /// Up to where the log holds nothing that the directory of people does not know.
    pub(crate) people_seen: AtomicU64,
    /// One writer at a time of reports.
    pub(crate) reports: Lanes<()>,
    /// One writer at a time of a user's room for notices.
    pub(crate) notices: Lanes<skerry_core::UserNid>,
}

impl Lookups {
    /// Caches of about so many bytes together.
    pub(crate) fn new(budget: usize) -> Lookups {
        Lookups {
            cards: Cache::new(budget / 2),
            children: Cache::new(budget / 2),
            walks: Walks::default(),
            people: Lanes::new(),
            people_seen: AtomicU64::new(0),
            reports: Lanes::new(),
            notices: Lanes::new(),
        }
    }

    /// Forgets what was read from the store, for when it was opened anew.
    pub(crate) fn clear(&self) {
        self.cards.clear();
        self.children.clear();
        self.people_seen.store(0, Ordering::Release);
    }
}
