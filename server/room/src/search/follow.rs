//! The index follows the log: what was sent is put into it a little later, many events at a time.
//!
//! There is one writer of the index, at whatever time; where it has come to stands in the store
//! beside what it wrote. Events that are to be found no more leave their terms in a row of their
//! own, in the write that takes them away, for the writer to drop.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use parking_lot::Mutex;
use skerry_core::search::{terms, text_of};
use skerry_core::{EventNid, Order, Pos, RoomNid, StoredEvent};
use skerry_store::schema::room::Timeline;
use skerry_store::schema::search::{Search, SearchBuild, SearchBuilds, SearchGone};
use skerry_store::{
    Applied, Change, Lanes, Scan, Snapshot, StoreError, Table, Write, blocking, follow,
};

use super::postings::{Posting, pack, without};
use crate::{RoomError, Rooms};

/// The follower's name in the store.
const NAME: &str = "search";
/// Facts of the log, or places of a timeline, gone through for one write.
const STEP: usize = 4_096;
/// Events loaded at once.
const CHUNK: usize = 64;
/// Postings after which a write is large enough.
const POSTINGS: usize = 50_000;
/// Events dropped in one write.
const GONE: usize = 256;
/// So far its stored place may lie behind when nothing was to be written.
const BEHIND: u64 = 20_000;

/// The writer of the index.
pub(crate) struct Follower {
    /// Only one at a time writes.
    lane: Lanes<()>,
    /// What is in the index, under the generation of the store in which that was so: never behind
    /// the place in the store, which is not written for what need not be found.
    seen: Mutex<(u64, Pos)>,
}

impl Follower {
    pub(crate) fn new() -> Follower {
        Follower {
            lane: Lanes::new(),
            seen: Mutex::new((0, Pos::ZERO)),
        }
    }

    fn seen(&self, generation: u64) -> Pos {
        let (of, pos) = *self.seen.lock();
        if of == generation { pos } else { Pos::ZERO }
    }
}

/// Terms to be written, by room and term.
#[derive(Default)]
struct Batch {
    rooms: HashMap<RoomNid, HashMap<String, Vec<Posting>>>,
    postings: usize,
    /// The terms of one text, one after the other, and where each ends: room to work in.
    text: String,
    ends: Vec<usize>,
}

impl Rooms {
    /// Puts into the index what was committed up to now.
    ///
    /// # Errors
    /// The store's; what is not in the index yet comes with the next call.
    pub async fn index_now(&self) -> Result<(), RoomError> {
        let head = self.store().snapshot().head();
        self.index_upto(head).await
    }

    /// Waits until everything up to a published position is in the index, and readers see it
    /// there.
    pub(super) async fn index_upto(&self, upto: Pos) -> Result<(), RoomError> {
        loop {
            let lane = self.inner.search.lane.lock(()).await;
            if self.inner.search.seen(self.store().generation()) >= upto {
                return Ok(());
            }
            let this = self.clone();
            let wrote = blocking(move || {
                let _lane = lane;
                this.index_step()
            });
            if let Some(applied) = wrote.await?? {
                self.store().durable(&applied).await?;
            }
        }
    }

    /// One write of the index, if there is anything to write.
    fn index_step(&self) -> Result<Option<Applied>, StoreError> {
        let generation = self.store().generation();
        let snap = self.newest();
        let mut w = self.store().write();
        let Some(cursor) = follow::cursor(&snap, NAME)? else {
            follow::set_cursor(&mut w, NAME, snap.head());
            let build = SearchBuild {
                upto: snap.head(),
                room: RoomNid(0),
                order: Order::MIN,
            };
            w.put::<SearchBuilds>(&(), &build);
            return self.store().commit(w).map(Some);
        };
        drop_gone(&mut w, &snap)?;
        let seen = match snap.get::<SearchBuilds>(&())? {
            Some(build) => {
                self.index_earlier(&mut w, &snap, build)?;
                Pos::ZERO
            }
            None => {
                let from = cursor.max(self.inner.search.seen(generation));
                let upto = self.index_later(&mut w, &snap, from)?;
                if !w.is_empty() || upto.0.saturating_sub(cursor.0) > BEHIND {
                    follow::set_cursor(&mut w, NAME, upto);
                }
                upto
            }
        };
        let applied = match w.is_empty() {
            true => None,
            false => Some(self.store().commit(w)?),
        };
        *self.inner.search.seen.lock() = (generation, seen);
        Ok(applied)
    }

    /// Adds what the log says was sent after `from`; gives how far it came.
    fn index_later(&self, w: &mut Write, snap: &Snapshot, from: Pos) -> Result<Pos, StoreError> {
        let facts = snap.changes(from, snap.head())?;
        // The log is not cut above a follower's place.
        let facts = facts.ok_or_else(|| StoreError::missing("log", from))?;
        let (mut places, mut upto) = (Vec::new(), snap.head());
        for (n, fact) in facts.enumerate() {
            let (pos, fact) = fact?;
            if let Change::Timeline { room, event, .. } = fact {
                places.push(((room, Order::live(pos)), event));
            }
            if n + 1 == STEP {
                upto = pos;
                break;
            }
        }
        let mut batch = Batch::default();
        if let Some((_, last)) = self.index_all(&mut batch, snap, &places)? {
            upto = last.anchor;
        }
        batch.write(w);
        Ok(upto)
    }

    /// Adds some of what was there before there was an index.
    fn index_earlier(
        &self,
        w: &mut Write,
        snap: &Snapshot,
        mut build: SearchBuild,
    ) -> Result<(), StoreError> {
        let scan = Scan::all().after(&(build.room, build.order)).limit(STEP);
        let rows: Vec<_> = snap.scan::<Timeline>(scan).collect::<Result<_, _>>()?;
        let Some((last, _)) = rows.last() else {
            w.delete::<SearchBuilds>(&());
            return Ok(());
        };
        (build.room, build.order) = *last;
        let mut places = rows.clone();
        places.retain(|((_, order), _)| order.anchor <= build.upto);
        let mut batch = Batch::default();
        if let Some(last) = self.index_all(&mut batch, snap, &places)? {
            (build.room, build.order) = last;
        }
        batch.write(w);
        w.put::<SearchBuilds>(&(), &build);
        Ok(())
    }

    /// Adds events to a batch until it is large enough; gives the last of them if it did not
    /// come to the end.
    fn index_all(
        &self,
        batch: &mut Batch,
        snap: &Snapshot,
        places: &[((RoomNid, Order), EventNid)],
    ) -> Result<Option<(RoomNid, Order)>, StoreError> {
        for chunk in places.chunks(CHUNK) {
            let nids: Vec<EventNid> = chunk.iter().map(|place| place.1).collect();
            for ((place, _), held) in chunk.iter().zip(self.events(snap, &nids)?) {
                let Some(held) = held.filter(|held| held.redacted_by.is_none()) else {
                    continue;
                };
                batch.add(*place, &held.event);
                if batch.postings >= POSTINGS {
                    return Ok(Some(*place));
                }
            }
        }
        Ok(None)
    }
}

impl Batch {
    fn add(&mut self, (room, order): (RoomNid, Order), event: &StoredEvent) {
        let Some((key, text)) = text_of(event) else {
            return;
        };
        self.text.clear();
        self.ends.clear();
        terms(&text, |term| {
            self.text.push_str(term);
            self.ends.push(self.text.len());
        });
        let mut start = 0;
        let mut found: Vec<&str> = Vec::with_capacity(self.ends.len());
        for end in &self.ends {
            found.extend(self.text.get(start..*end));
            start = *end;
        }
        found.sort_unstable();
        let lists = self.rooms.entry(room).or_default();
        for same in found.chunk_by(|a, b| a == b) {
            let Some(term) = same.first() else { continue };
            let posting = Posting::new(order, key, same.len(), found.len());
            self.postings += 1;
            match lists.get_mut(*term) {
                Some(list) => list.push(posting),
                None => {
                    lists.insert((*term).to_owned(), vec![posting]);
                }
            }
        }
    }

    fn write(self, w: &mut Write) {
        for (room, lists) in self.rooms {
            for (term, mut postings) in lists {
                postings.sort_unstable();
                if let Some(first) = postings.first() {
                    w.put::<Search>(&(room, term, first.order), &pack(&postings));
                }
            }
        }
    }
}

/// An event is to be found no more: to be called in the write that takes its text away.
pub(crate) fn forget(w: &mut Write, event: &StoredEvent, room: RoomNid, order: Order) {
    let Some((_, text)) = text_of(event) else {
        return;
    };
    let mut gone = BTreeSet::new();
    terms(&text, |term| {
        gone.insert(term.to_owned());
    });
    if !gone.is_empty() {
        w.put::<SearchGone>(&(room, order), &gone.into_iter().collect());
    }
}

/// Drops from the index what is to be found no more.
fn drop_gone(w: &mut Write, snap: &Snapshot) -> Result<(), StoreError> {
    let mut gone: BTreeMap<(RoomNid, String), BTreeSet<Order>> = BTreeMap::new();
    for row in snap.scan::<SearchGone>(Scan::all().limit(GONE)) {
        let ((room, order), terms) = row?;
        for term in terms {
            gone.entry((room, term)).or_default().insert(order);
        }
        w.delete::<SearchGone>(&(room, order));
    }
    for (key, orders) in gone {
        let Some(last) = orders.last() else { continue };
        let scan = Scan::prefix(&key).to(&(key.0, key.1.clone(), *last));
        // The last one may itself begin a row.
        let at_last = (key.0, key.1.clone(), *last);
        let own = snap.get::<Search>(&at_last)?.map(|row| Ok((at_last, row)));
        for row in snap.scan::<Search>(scan).chain(own) {
            let (at, row) = row?;
            let damaged = |_| StoreError::missing(Search::NAME, &at);
            let Some(kept) = without(at.2, &row, &orders).map_err(damaged)? else {
                continue;
            };
            w.delete::<Search>(&at);
            if let Some(first) = kept.first() {
                let (room, term, _) = at;
                w.put::<Search>(&(room, term, first.order), &pack(&kept));
            }
        }
    }
    Ok(())
}
