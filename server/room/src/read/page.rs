//! Runs of events from a timeline.

use std::sync::Arc;

use skerry_core::{EventNid, Order, RoomNid};
use skerry_store::schema::federation::Holes;
use skerry_store::schema::room::{EventMeta, Timeline};
use skerry_store::{Rows, Scan, Snapshot, StoreError};

use crate::read::tail::Row;
use crate::{Cut, EventFilter, Facts, Placed, Rooms, View};

/// The most events one page may hold.
pub const PAGE_MAX: usize = 1_000;
/// The most events looked at for one page; when few of them pass, the page ends early and says
/// where to go on.
const LOOK_MAX: usize = 20_000;
/// Events loaded at once.
const CHUNK_MAX: usize = 128;
/// When a page holds so many bytes of events, it ends early and says where to go on: a thousand
/// events of the largest size are not to be in memory for one answer.
const PAGE_BYTES: usize = 8 << 20;

/// Which events are wanted.
#[derive(Clone, Copy, Debug)]
pub struct PageAsk<'a> {
    /// Where to begin.
    pub from: Cut,
    /// Where to stop at the latest.
    pub to: Option<Cut>,
    /// Towards the past, newest first; else towards the present, oldest first.
    pub back: bool,
    /// The most events wanted.
    pub limit: usize,
    /// Which events pass; `None` for all.
    pub filter: Option<&'a EventFilter>,
}

/// A run of events as one user sees them.
#[derive(Debug)]
pub struct Page {
    /// The events, in the direction asked for.
    pub events: Vec<Arc<Placed>>,
    /// Where to go on; `None` if there is nothing more. The newest events have nothing after them
    /// yet, and a place to go on from all the same.
    pub end: Option<Cut>,
    /// Whether it ended before all was looked at.
    pub more: bool,
}

/// The newest events between two places, oldest first.
#[derive(Debug)]
pub struct Recent {
    /// The events.
    pub events: Vec<Arc<Placed>>,
    /// Whether there are more of them after the earlier place.
    pub limited: bool,
    /// The place before the first event, for paging back.
    pub prev_batch: Cut,
}

impl View {
    /// A page of the timeline.
    ///
    /// # Errors
    /// The store's.
    pub fn page(&mut self, ask: PageAsk<'_>) -> Result<Page, StoreError> {
        let mut page = Page {
            events: Vec::with_capacity(ask.limit.min(PAGE_MAX)),
            end: None,
            more: true,
        };
        let limit = ask.limit.clamp(1, PAGE_MAX);
        let snap = self.snap.clone();
        let mut source = self.source(ask, &snap)?;
        let (mut looked, mut bytes, mut chunk, mut last) = (0, 0, Vec::new(), None);
        loop {
            let want = limit.saturating_sub(page.events.len()).clamp(16, CHUNK_MAX);
            let more = source.next(&self.rooms, want, &mut chunk)?;
            looked += chunk.len();
            let nids: Vec<EventNid> = chunk.iter().map(|entry| entry.1).collect();
            let events = self.rooms.placed_many(&snap, self.room, &nids)?;
            for ((order, _), event) in chunk.iter().zip(events) {
                if page.events.len() == limit || bytes >= PAGE_BYTES {
                    page.end = last;
                    return Ok(page);
                }
                last = Some(if ask.back {
                    Cut::before(*order)
                } else {
                    Cut::after(*order)
                });
                let Some(event) = event else { continue };
                if self.passes(&event, ask.filter)?
                    && let Some(event) = self.admit(&event)?
                {
                    bytes += event.event.memory_bytes();
                    page.events.push(event);
                }
                if ask.back && self.is_after_hole(&event)? {
                    page.end = last;
                    return Ok(page);
                }
            }
            if !more {
                page.more = false;
                // Towards the present, more may come.
                page.end = last.filter(|_| !ask.back && !page.events.is_empty());
                return Ok(page);
            }
            if looked >= LOOK_MAX || page.events.len() == limit || bytes >= PAGE_BYTES {
                page.end = last;
                return Ok(page);
            }
        }
    }

    /// Whether something right before an event is not here: who reads back ends there for now.
    fn is_after_hole(&self, event: &Placed) -> Result<bool, StoreError> {
        if event.meta.flags & EventMeta::AFTER_HOLE == 0 {
            return Ok(false);
        }
        let row = self.snap.get::<Holes>(&(self.room, event.order()))?;
        Ok(row.is_some())
    }

    /// The newest events after `since` and up to `upto`.
    ///
    /// # Errors
    /// The store's.
    pub fn recent(
        &mut self,
        since: Cut,
        upto: Cut,
        limit: usize,
        filter: Option<&EventFilter>,
    ) -> Result<Recent, StoreError> {
        let ask = PageAsk {
            from: upto,
            to: Some(since),
            back: true,
            limit: limit + 1,
            filter,
        };
        let mut page = self.page(ask)?;
        let limited = page.events.len() > limit || page.end.is_some();
        page.events.truncate(limit);
        let prev_batch = match page.events.last() {
            Some(first) => Cut::before(first.order()),
            None => upto,
        };
        page.events.reverse();
        Ok(Recent {
            events: page.events,
            limited,
            prev_batch,
        })
    }

    /// The rows to go through for a page.
    fn source<'a>(&self, ask: PageAsk<'_>, snap: &'a Snapshot) -> Result<Source<'a>, StoreError> {
        let end = self.end()?;
        let (low, high) = if ask.back {
            (ask.to.unwrap_or(Cut::START), ask.from.min(end))
        } else {
            (ask.from, ask.to.unwrap_or(Cut::END).min(end))
        };
        let (low, high) = (low.0, high.0);
        Ok(Source {
            snap,
            room: self.room,
            low,
            high,
            back: ask.back,
            rows: None,
        })
    }

    /// Whether an event passes a filter.
    pub(crate) fn passes(
        &mut self,
        event: &Placed,
        filter: Option<&EventFilter>,
    ) -> Result<bool, StoreError> {
        let Some(filter) = filter else {
            return Ok(true);
        };
        if !filter.passes_all() {
            let has_url = filter.contains_url.map(|_| event.has_url());
            let event = &event.event;
            let facts = Facts {
                kind: event.event_type(),
                sender: event.sender(),
                has_url,
            };
            if !filter.wants(facts) {
                return Ok(false);
            }
        }
        if filter.looks_at_relations() {
            let relates = event.relates();
            if !filter.wants_relation(relates.map(|relates| &*relates.rel_type)) {
                return Ok(false);
            }
        }
        if filter.by_relation() {
            self.is_related(event, filter)
        } else {
            Ok(true)
        }
    }
}

/// Rows of a timeline, a few at a time: from memory at its end, from the store further back.
struct Source<'a> {
    snap: &'a Snapshot,
    room: RoomNid,
    /// After this.
    low: Order,
    /// Up to this.
    high: Order,
    back: bool,
    rows: Option<Rows<'a, Timeline>>,
}

impl Source<'_> {
    /// Takes up to `want` rows; says whether there may be more.
    fn next(
        &mut self,
        rooms: &Rooms,
        want: usize,
        chunk: &mut Vec<Row>,
    ) -> Result<bool, StoreError> {
        if self.back && self.rows.is_none() {
            let range = (self.low, self.high);
            if let Some(rows) = rooms.tail(self.snap, self.room, range, want)? {
                *chunk = rows;
                if let Some((order, _)) = chunk.last() {
                    self.high = Cut::before(*order).0;
                }
                return Ok(chunk.len() == want);
            }
        }
        let rows = self.rows.get_or_insert_with(|| {
            let scan = Scan::prefix(&self.room).after(&(self.room, self.low));
            let scan = scan.to(&(self.room, next(self.high)));
            self.snap.scan(if self.back { scan.rev() } else { scan })
        });
        chunk.clear();
        for row in rows.take(want) {
            let ((_, order), nid) = row?;
            chunk.push((order, nid));
        }
        Ok(chunk.len() == want)
    }
}

/// The smallest order after another.
fn next(order: Order) -> Order {
    match order.n.checked_add(1) {
        Some(n) => Order {
            anchor: order.anchor,
            n,
        },
        None => order,
    }
}
