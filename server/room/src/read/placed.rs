//! Events with their places, from memory where possible.

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};

use serde::Deserialize;
use skerry_core::{EventNid, Membership, Order, RoomNid, StoredEvent};
use skerry_store::schema::room::{self as t, EventMeta, RelKind, SentBy};
use skerry_store::schema::room_read::Redacted;
use skerry_store::{Scan, Snapshot, StoreError};

use crate::{Held, Rooms};

/// Bytes an event in the cache weighs beside its text.
const OVERHEAD: usize = 400;
/// So few rows are looked up faster one by one than by a scan.
const FEW: usize = 3;
/// From so many rows on, one scan of their neighbourhood is faster than looking each of them up.
const SCAN_MIN: u64 = 8;
/// So many events read at once are kept in memory for the next reader.
const KEPT_MAX: usize = 128;
/// How many times wider than the list of events the range of their numbers may be before rows are
/// looked up one by one instead of by one scan.
const SPREAD: u64 = 16;

/// An event with its place in the room. Neither ever changes, but that an event may later be
/// shown in its redacted form, which is another `Placed`.
#[derive(Debug)]
pub struct Placed {
    /// Its number.
    pub nid: EventNid,
    /// The event; in its redacted form once a redaction took effect.
    pub event: StoredEvent,
    /// Where it stands.
    pub meta: EventMeta,
    /// The redaction that took effect on it.
    pub redacted_by: Option<EventNid>,
    /// The client call that made it.
    pub sent: Option<SentBy>,
    /// What its content says of interest, read when first asked for.
    says: OnceLock<Says>,
}

#[derive(Debug)]
struct Says {
    has_url: bool,
    relates: Option<Relates>,
    membership: Option<Membership>,
}

/// To which event another relates, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relates {
    /// `rel_type`.
    pub rel_type: String,
    /// The event id of the parent.
    pub parent: String,
}

impl Relates {
    /// The kind under which the relation is stored.
    #[must_use]
    pub fn kind(&self) -> RelKind {
        rel_kind(&self.rel_type)
    }
}

/// The kind under which relations of a `rel_type` are stored.
#[must_use]
pub fn rel_kind(rel_type: &str) -> RelKind {
    match rel_type {
        "m.annotation" => RelKind::Annotation,
        "m.replace" => RelKind::Replace,
        "m.thread" => RelKind::Thread,
        "m.reference" => RelKind::Reference,
        _ => RelKind::Other,
    }
}

/// What is read of a content; parts of an unexpected shape count as absent.
#[derive(Deserialize)]
struct Content<'a> {
    #[serde(borrow, default)]
    url: Option<&'a serde_json::value::RawValue>,
    #[serde(borrow, default, rename = "m.relates_to")]
    relates_to: Option<&'a serde_json::value::RawValue>,
    #[serde(borrow, default)]
    membership: Option<&'a serde_json::value::RawValue>,
}

#[derive(Deserialize)]
struct RelatesTo {
    rel_type: String,
    event_id: String,
}

impl Says {
    fn read(event: &StoredEvent) -> Says {
        let mut says = Says {
            has_url: false,
            relates: None,
            membership: None,
        };
        let Ok(content) = serde_json::from_str::<Content<'_>>(event.content()) else {
            return says;
        };
        says.has_url = content.url.is_some();
        if event.is_state() {
            if event.event_type() == "m.room.member" {
                let text = content
                    .membership
                    .and_then(|raw| serde_json::from_str(raw.get()).ok());
                says.membership = text.and_then(|text: &str| Membership::parse(text));
            }
        } else if let Some(raw) = content.relates_to {
            let relates = serde_json::from_str::<RelatesTo>(raw.get()).ok();
            says.relates = relates.map(|r| Relates {
                rel_type: r.rel_type,
                parent: r.event_id,
            });
        }
        says
    }
}

impl Placed {
    /// Puts an event and its place together.
    #[must_use]
    pub fn new(held: Held, meta: EventMeta) -> Placed {
        let Held {
            nid,
            event,
            redacted_by,
            sent,
        } = held;
        Placed {
            nid,
            event,
            meta,
            redacted_by,
            sent,
            says: OnceLock::new(),
        }
    }

    /// Its place in the timeline.
    #[must_use]
    pub fn order(&self) -> Order {
        self.meta.order
    }

    /// Whether its content has a member `url`.
    #[must_use]
    pub fn has_url(&self) -> bool {
        self.says().has_url
    }

    /// To which event it relates. State events, and redacted ones, relate to none.
    #[must_use]
    pub fn relates(&self) -> Option<&Relates> {
        self.says().relates.as_ref()
    }

    /// The membership that it sets, if it is a member event.
    #[must_use]
    pub fn membership(&self) -> Option<Membership> {
        self.says().membership
    }

    fn says(&self) -> &Says {
        self.says.get_or_init(|| Says::read(&self.event))
    }
}

impl Rooms {
    /// An event of a room with its place; `None` if the room has no such event.
    ///
    /// # Errors
    /// The store's.
    pub fn placed(
        &self,
        snap: &Snapshot,
        room: RoomNid,
        nid: EventNid,
    ) -> Result<Option<Arc<Placed>>, StoreError> {
        Ok(self.placed_many(snap, room, &[nid])?.pop().flatten())
    }

    /// Events of a room with their places, in the order asked for; `None` for each that the room
    /// does not have.
    ///
    /// # Errors
    /// The store's.
    pub fn placed_many(
        &self,
        snap: &Snapshot,
        room: RoomNid,
        nids: &[EventNid],
    ) -> Result<Vec<Option<Arc<Placed>>>, StoreError> {
        let redacted = self.redacted_among(snap, room, nids)?;
        let cache = &self.inner.reads.events;
        let mut found = Vec::with_capacity(nids.len());
        let mut missing = Vec::new();
        for (at, nid) in nids.iter().enumerate() {
            let hit = cache.get((*nid, redacted.contains(nid)));
            if hit.is_none() {
                missing.push((at, *nid));
            }
            found.push(hit);
        }
        if !missing.is_empty() {
            self.load_missing(snap, &missing, &mut found)?;
        }
        for slot in &mut found {
            if slot.as_ref().is_some_and(|placed| placed.meta.room != room) {
                *slot = None;
            }
        }
        Ok(found)
    }

    fn load_missing(
        &self,
        snap: &Snapshot,
        missing: &[(usize, EventNid)],
        found: &mut [Option<Arc<Placed>>],
    ) -> Result<(), StoreError> {
        let nids: Vec<EventNid> = missing.iter().map(|entry| entry.1).collect();
        let (events, metas) = (self.events(snap, &nids)?, self.metas(snap, &nids)?);
        for ((at, _), (held, meta)) in missing.iter().zip(events.into_iter().zip(metas)) {
            let (Some(held), Some(meta)) = (held, meta) else {
                continue;
            };
            let placed = Arc::new(Placed::new(held, meta));
            // A long read of old events does not drive out what is in use, and an outlier may
            // find its place later.
            if missing.len() <= KEPT_MAX && !placed.meta.is_outlier() {
                let key = (placed.nid, placed.redacted_by.is_some());
                let bytes = OVERHEAD + placed.event.memory_bytes();
                self.inner.reads.events.put(key, placed.clone(), bytes);
            }
            if let Some(slot) = found.get_mut(*at) {
                *slot = Some(placed);
            }
        }
        Ok(())
    }

    /// Which of these events of a room were redacted.
    fn redacted_among(
        &self,
        snap: &Snapshot,
        room: RoomNid,
        nids: &[EventNid],
    ) -> Result<HashSet<EventNid>, StoreError> {
        let Some(range) = Range::of(nids) else {
            return Ok(HashSet::new());
        };
        if nids.len() <= FEW {
            let mut found = HashSet::new();
            for nid in nids {
                if snap.has::<Redacted>(&(room, *nid))? {
                    found.insert(*nid);
                }
            }
            return Ok(found);
        }
        if range.is_wide(nids.len()) {
            let keys: Vec<_> = nids.iter().map(|nid| (room, *nid)).collect();
            let rows = snap.get_many::<Redacted>(&keys)?;
            let hits = nids.iter().zip(rows).filter(|(_, row)| row.is_some());
            return Ok(hits.map(|(nid, _)| *nid).collect());
        }
        let scan = Scan::prefix(&room)
            .from(&(room, range.first))
            .to(&(room, range.end));
        snap.scan::<Redacted>(scan)
            .map(|row| row.map(|((_, nid), _)| nid))
            .collect()
    }

    /// An event by number in whatever room, for looking behind the state.
    pub(crate) fn placed_raw(
        &self,
        snap: &Snapshot,
        nid: EventNid,
    ) -> Result<Option<Arc<Placed>>, StoreError> {
        let Some(meta) = snap.get::<t::Meta>(&nid)? else {
            return Ok(None);
        };
        self.placed(snap, meta.room, nid)
    }
}

/// The numbers from the smallest to the largest of a list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Range {
    pub(crate) first: EventNid,
    /// One more than the largest.
    pub(crate) end: EventNid,
}

impl Range {
    pub(crate) fn of(nids: &[EventNid]) -> Option<Range> {
        let (first, last) = (nids.iter().min()?, nids.iter().max()?);
        Some(Range {
            first: *first,
            end: EventNid(last.0.saturating_add(1)),
        })
    }

    /// Whether nearly all of it was asked for, and enough for a scan to be worth its start.
    pub(crate) fn is_dense(self, wanted: usize) -> bool {
        let wanted = u64::try_from(wanted).unwrap_or(u64::MAX);
        let width = self.end.0.saturating_sub(self.first.0);
        wanted > SCAN_MIN && width <= wanted.saturating_mul(2)
    }

    /// Whether a scan of it would read much that nobody asked for.
    pub(crate) fn is_wide(self, wanted: usize) -> bool {
        let wanted = u64::try_from(wanted).unwrap_or(u64::MAX);
        self.end.0.saturating_sub(self.first.0) > wanted.saturating_mul(SPREAD).saturating_add(64)
    }
}
