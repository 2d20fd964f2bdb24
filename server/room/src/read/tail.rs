//! The newest places of rooms' timelines, in memory.
//!
//! Everybody who is in a room asks for the same few rows at its end, again after each event, and
//! going backwards through rows that were just written is what the store does slowest.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use skerry_core::{EventNid, Order, Pos, RoomNid};
use skerry_store::schema::room::Timeline;
use skerry_store::{Scan, Snapshot, StoreError};

use crate::cache::Cache;
use crate::{Cut, Rooms};

/// Rows read when a room is first asked for.
const FIRST: usize = 64;
/// Rows kept of a room; with more, the older half goes.
const ROWS_MAX: usize = 512;
/// Bytes that a room weighs.
const BYTES: usize = 128 + ROWS_MAX * 24;

/// A row of a timeline, without its room.
pub(crate) type Row = (Order, EventNid);

/// Ends of timelines.
pub(crate) struct Tails {
    rooms: Cache<RoomNid, Arc<Mutex<Tail>>>,
    /// How often the store had been opened anew when the rows were read.
    generation: AtomicU64,
    /// Rooms in whose timelines older events took places, and from where on that is seen.
    filled: Mutex<HashMap<RoomNid, Pos>>,
}

/// The end of one timeline: all rows after `floor` and up to `upto`.
struct Tail {
    floor: Order,
    upto: Pos,
    rows: Vec<Row>,
}

impl Tails {
    /// Ends of timelines in about so many bytes.
    pub(crate) fn new(budget: usize) -> Tails {
        Tails {
            rooms: Cache::new(budget),
            generation: AtomicU64::new(0),
            filled: Mutex::default(),
        }
    }

    /// Forgets everything.
    pub(crate) fn clear(&self) {
        self.rooms.clear();
    }

    /// Events are about to take places before a room's newest ones: nothing is kept of it until
    /// [`Self::filled`] says from where on that is seen.
    pub(crate) fn filling(&self, room: RoomNid) {
        self.filled.lock().insert(room, Pos(u64::MAX));
        self.rooms.remove(room);
    }

    /// Events have taken places, and who sees the log up to here sees them.
    pub(crate) fn filled(&self, room: RoomNid, upto: Pos) {
        self.filled.lock().insert(room, upto);
        self.rooms.remove(room);
    }

    fn may_keep(&self, room: RoomNid, head: Pos) -> bool {
        self.filled
            .lock()
            .get(&room)
            .is_none_or(|upto| head >= *upto)
    }
}

impl Tail {
    fn read(snap: &Snapshot, room: RoomNid) -> Result<Tail, StoreError> {
        let scan = Scan::prefix(&room).rev().limit(FIRST);
        let mut rows = Vec::with_capacity(FIRST);
        for row in snap.scan::<Timeline>(scan) {
            let ((_, order), event) = row?;
            rows.push((order, event));
        }
        let floor = match rows.last() {
            Some((order, _)) if rows.len() == FIRST => Cut::before(*order).0,
            _ => Order::MIN,
        };
        rows.reverse();
        Ok(Tail {
            floor,
            upto: snap.head(),
            rows,
        })
    }

    /// Takes in what a snapshot shows beyond it.
    fn extend(&mut self, snap: &Snapshot, room: RoomNid) -> Result<(), StoreError> {
        let scan = Scan::prefix(&room).after(&(room, Order::live(self.upto)));
        for row in snap.scan::<Timeline>(scan) {
            let ((_, order), event) = row?;
            self.rows.push((order, event));
        }
        if self.rows.len() > ROWS_MAX {
            let surplus = self.rows.len() - ROWS_MAX / 2;
            if let Some((order, _)) = self.rows.drain(..surplus).next_back() {
                self.floor = order;
            }
        }
        Ok(())
    }

    /// The newest rows after one place and up to another, newest first; `None` if some may lie
    /// further back than it reaches.
    fn between(&self, after: Order, upto: Order, limit: usize) -> Option<Vec<Row>> {
        let first = self.rows.partition_point(|row| row.0 <= after);
        let end = self.rows.partition_point(|row| row.0 <= upto);
        let found = self.rows.get(first..end)?.iter().rev().take(limit);
        (after >= self.floor || found.len() == limit).then(|| found.copied().collect())
    }
}

impl Rooms {
    /// The newest rows of a timeline after one place and up to another, newest first, if they
    /// are in memory.
    ///
    /// # Errors
    /// The store's.
    pub(crate) fn tail(
        &self,
        snap: &Snapshot,
        room: RoomNid,
        (after, upto): (Order, Order),
        limit: usize,
    ) -> Result<Option<Vec<Row>>, StoreError> {
        let tails = &self.inner.reads.tails;
        let generation = self.store().generation();
        if tails.generation.swap(generation, Ordering::AcqRel) != generation {
            // What the store lost when it was opened anew may be among the rows.
            tails.clear();
        }
        let head = snap.head();
        let upto = upto.min(Order::live(head));
        if let Some(tail) = tails.rooms.get(room) {
            let mut tail = tail.lock();
            if tail.upto < head {
                if self.last_pos(room) > tail.upto {
                    tail.extend(snap, room)?;
                }
                tail.upto = head;
            }
            return Ok(tail.between(after, upto, limit));
        }
        let tail = Tail::read(snap, room)?;
        let found = tail.between(after, upto, limit);
        if tails.may_keep(room, head) {
            tails.rooms.put(room, Arc::new(Mutex::new(tail)), BYTES);
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn says_nothing_about_what_it_does_not_reach() {
        let at = |n| Order::live(Pos(n));
        let rows = (5..10_u64).map(|n| (at(n), EventNid(n))).collect();
        let tail = Tail {
            floor: at(4),
            upto: Pos(10),
            rows,
        };
        let found = |after, upto, limit| {
            let rows = tail.between(at(after), at(upto), limit)?;
            Some(rows.into_iter().map(|row| row.1.0).collect::<Vec<_>>())
        };
        assert_eq!(found(4, 10, 99), Some(vec![9, 8, 7, 6, 5]));
        assert_eq!(found(6, 8, 99), Some(vec![8, 7]));
        assert_eq!(found(9, 10, 99), Some(vec![]));
        assert_eq!(found(3, 10, 99), None);
        assert_eq!(found(0, 10, 5), Some(vec![9, 8, 7, 6, 5]));
        assert_eq!(found(0, 7, 3), Some(vec![7, 6, 5]));
        assert_eq!(found(0, 7, 4), None);
    }
}
