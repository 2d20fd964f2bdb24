//! Receipts that came before the event they are about.

use std::collections::HashMap;

use parking_lot::Mutex;
use skerry_core::RoomNid;
use skerry_room::PublicReceipt;
use skerry_store::StoreError;

use super::Inner;

/// How many receipts are held.
const HELD_MAX: usize = 2_000;
/// For how long they are held, in ms.
const HELD_MS: u64 = 5 * 60_000;

/// Receipts that wait for their event; in memory, and allowed to be lost.
#[derive(Default)]
pub(super) struct Waiting(Mutex<Held>);

#[derive(Default)]
struct Held {
    rooms: HashMap<RoomNid, Vec<(u64, PublicReceipt)>>,
    count: usize,
}

impl Waiting {
    /// Holds receipts of a room. A later one of the same user and thread takes the place of the
    /// one before.
    fn hold(&self, room: RoomNid, receipts: Vec<PublicReceipt>, now_ms: u64) {
        let mut held = self.0.lock();
        for receipt in receipts {
            if held.count >= HELD_MAX {
                held.drop_old(now_ms);
            }
            if held.count >= HELD_MAX {
                return;
            }
            let of_room = held.rooms.entry(room).or_default();
            let before = of_room.len();
            of_room.retain(|(_, other)| {
                (&other.user_id, &other.thread) != (&receipt.user_id, &receipt.thread)
            });
            let gone = before - of_room.len();
            of_room.push((now_ms, receipt));
            held.count = held.count + 1 - gone;
        }
    }

    /// Whether any wait in a room.
    pub(super) fn has(&self, room: RoomNid) -> bool {
        self.0.lock().rooms.contains_key(&room)
    }

    /// Takes out what waits in a room and is not too old.
    fn take(&self, room: RoomNid, now_ms: u64) -> Vec<PublicReceipt> {
        let mut held = self.0.lock();
        let found = held.rooms.remove(&room).unwrap_or_default();
        held.count -= found.len();
        let fresh = found
            .into_iter()
            .filter(|(at, _)| now_ms.saturating_sub(*at) < HELD_MS);
        fresh.map(|(_, receipt)| receipt).collect()
    }
}

impl Held {
    fn drop_old(&mut self, now_ms: u64) {
        self.rooms.retain(|_, receipts| {
            receipts.retain(|(at, _)| now_ms.saturating_sub(*at) < HELD_MS);
            !receipts.is_empty()
        });
        self.count = self.rooms.values().map(Vec::len).sum();
    }
}

impl Inner {
    /// Moves receipts, and holds those whose event is not here yet.
    pub(super) async fn take_receipts(
        &self,
        room_id: &str,
        receipts: Vec<PublicReceipt>,
    ) -> Result<(), StoreError> {
        let mut waiting = self.rooms.take_receipts(room_id, receipts).await?;
        let Some(room) = self.store.room_nid(room_id)? else {
            return Ok(());
        };
        // Once more after they are held: the event may have come just before that.
        for again in [true, false] {
            if waiting.is_empty() {
                break;
            }
            self.waiting.hold(room, waiting, self.clock.now_ms());
            if !again {
                break;
            }
            let held = self.waiting.take(room, self.clock.now_ms());
            waiting = self.rooms.take_receipts(room_id, held).await?;
        }
        Ok(())
    }

    /// Looks again at what waits in a room that has got an event.
    pub(super) async fn retry_receipts(&self, room: RoomNid) -> Result<(), StoreError> {
        let receipts = self.waiting.take(room, self.clock.now_ms());
        if receipts.is_empty() {
            return Ok(());
        }
        let room_id = self.store.room_id(room)?;
        self.take_receipts(&room_id, receipts).await
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn receipt(user: usize) -> PublicReceipt {
        PublicReceipt {
            user_id: format!("@{user}:there.test"),
            event_id: "$later".to_owned(),
            thread: None,
            ts: 1,
        }
    }

    #[test]
    fn receipts_wait_in_bounds() {
        let waiting = Waiting::default();
        let room = RoomNid(1);
        for user in 0..HELD_MAX + 10 {
            waiting.hold(room, vec![receipt(user)], 0);
        }
        waiting.hold(RoomNid(2), vec![receipt(1)], 0);
        assert!(!waiting.has(RoomNid(2)), "there is no place");
        waiting.hold(RoomNid(2), vec![receipt(1)], HELD_MS + 1);
        assert!(waiting.has(RoomNid(2)), "the old ones went");
        waiting.hold(RoomNid(2), vec![receipt(1)], HELD_MS + 2);
        assert_eq!(waiting.take(RoomNid(2), HELD_MS + 2).len(), 1);
        assert!(waiting.take(room, HELD_MS + 2).is_empty());
        assert_eq!(waiting.0.lock().count, 0);
    }
}
