//! The newest events of busy rooms in memory: what many waiting readers are woken for at once is
//! read from the store once, and shared.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use skerry_core::{Order, Pos, RoomNid};
use skerry_room::{Placed, Rooms};
use skerry_store::{Cache, Snapshot, StoreError};

/// Memory for all rooms together, in bytes of events.
const BYTES_MAX: usize = 4 << 20;
/// Events kept of one room.
const EVENTS_MAX: usize = 128;
/// Bytes that an event weighs beside its text.
const OVERHEAD: usize = 400;

/// The newest events of rooms.
pub(crate) struct Tails(Mutex<Cache<RoomNid, Arc<Mutex<Tail>>>>);

/// All events of a room in `(from, upto]`, oldest first.
struct Tail {
    from: Pos,
    upto: Pos,
    /// The room's newest redaction then: each may have changed any of the events.
    redacted: Pos,
    events: VecDeque<Arc<Placed>>,
}

impl Default for Tails {
    fn default() -> Tails {
        Tails(Mutex::new(Cache::new(BYTES_MAX)))
    }
}

impl Tails {
    /// The events of a room after `since` and up to `last`, the room's newest event on the
    /// snapshot; oldest first. `None` if they are not all here.
    pub(crate) fn events(
        &self,
        rooms: &Rooms,
        snap: &Snapshot,
        room: RoomNid,
        (since, last): (Pos, Pos),
    ) -> Result<Option<Vec<Arc<Placed>>>, StoreError> {
        if since >= last {
            return Ok(Some(Vec::new()));
        }
        let redacted = rooms.redacted_at(snap, room)?;
        let tail = self.of(room, since);
        let mut tail = tail.lock();
        if redacted < tail.redacted {
            return Ok(None);
        }
        if redacted > tail.redacted {
            tail.events.clear();
            tail.from = tail.upto;
            tail.redacted = redacted;
        }
        if tail.upto < last {
            tail.extend(rooms, snap, room, last)?;
            let bytes = tail.bytes();
            let held = self.0.lock().get(&room).cloned();
            if let Some(held) = held {
                self.0.lock().put(room, held, bytes);
            }
        }
        if since < tail.from {
            return Ok(None);
        }
        let after = |event: &&Arc<Placed>| event.order().anchor > since;
        let upto = |event: &&Arc<Placed>| event.order().anchor <= last;
        Ok(Some(
            tail.events
                .iter()
                .skip_while(|e| !after(e))
                .take_while(upto)
                .cloned()
                .collect(),
        ))
    }

    /// The tail of a room; a new one begins at `since`.
    fn of(&self, room: RoomNid, since: Pos) -> Arc<Mutex<Tail>> {
        let mut tails = self.0.lock();
        if let Some(tail) = tails.get(&room) {
            return Arc::clone(tail);
        }
        let tail = Tail {
            from: since,
            upto: since,
            redacted: Pos::ZERO,
            events: VecDeque::new(),
        };
        let tail = Arc::new(Mutex::new(tail));
        tails.put(room, Arc::clone(&tail), OVERHEAD);
        tail
    }
}

impl Tail {
    /// Reads what came after, up to and including `last`.
    fn extend(
        &mut self,
        rooms: &Rooms,
        snap: &Snapshot,
        room: RoomNid,
        last: Pos,
    ) -> Result<(), StoreError> {
        let span = (Order::live(self.upto), Order::live(last));
        let mut rows = rooms.stretch(snap, room, span, EVENTS_MAX + 1)?;
        if rows.len() > EVENTS_MAX {
            *self = Tail {
                from: last,
                upto: last,
                redacted: self.redacted,
                events: VecDeque::new(),
            };
            return Ok(());
        }
        rows.reverse();
        let nids: Vec<_> = rows.iter().map(|row| row.1).collect();
        let new: Vec<_> = rooms
            .placed_many(snap, room, &nids)?
            .into_iter()
            .flatten()
            .collect();
        self.events.extend(new);
        self.upto = last;
        while self.events.len() > EVENTS_MAX {
            if let Some(first) = self.events.pop_front() {
                self.from = first.order().anchor;
            }
        }
        Ok(())
    }

    fn bytes(&self) -> usize {
        let events: usize = self
            .events
            .iter()
            .map(|event| OVERHEAD + event.event.memory_bytes())
            .sum();
        OVERHEAD + events
    }
}
