//! Finding an event by time.

use std::sync::Arc;

use skerry_core::{EventNid, Order, Pos, RoomNid};
use skerry_store::schema::federation::Holes;
use skerry_store::schema::room::Timeline;
use skerry_store::{Scan, Snapshot, StoreError};

use crate::{Placed, RoomError, Rooms, Viewer};

/// Events looked at on each side of the place that the search arrives at. Timestamps are what
/// servers say, and need not rise along the timeline.
const AROUND: usize = 128;
/// Events looked at beyond that where the user may see none of those.
const BEYOND: usize = 10_000;
/// Events loaded at once.
const CHUNK: usize = 256;

impl Rooms {
    /// The event of a room closest to a time, at or after it (or at or before it): its id and its
    /// time, both in ms since the epoch.
    ///
    /// # Errors
    /// [`RoomError::Forbidden`] to who may not look into the room, [`RoomError::NotFound`] if
    /// there is no such event that they may see; the store's.
    pub fn event_at_time(
        &self,
        snap: &Snapshot,
        viewer: &Viewer,
        room_id: &str,
        ts: u64,
        back: bool,
    ) -> Result<(String, u64), RoomError> {
        let mut view = self.readable_view(snap, viewer, room_id)?;
        let room = view.room();
        let found = self.closest_to_time(snap, room, (ts, back), |event| view.admit(event))?;
        let found = found.ok_or_else(|| {
            let direction = if back { "backward" } else { "forward" };
            RoomError::NotFound(format!(
                "Unable to find event from {ts} in {direction} direction"
            ))
        })?;
        Ok((
            found.event.event_id().to_owned(),
            found.event.origin_server_ts(),
        ))
    }

    /// The event of a room before which history is missing that may hold a time (ms since the
    /// epoch): the next one after the place of that time.
    ///
    /// # Errors
    /// The store's.
    pub fn hole_at_time(
        &self,
        snap: &Snapshot,
        room_id: &str,
        ts: u64,
    ) -> Result<Option<String>, StoreError> {
        let Some(room) = self.room_nid(snap, room_id)? else {
            return Ok(None);
        };
        let place = self.place_of_time(snap, room, ts)?;
        let scan = Scan::prefix(&room).from(&(room, place)).limit(1);
        let Some((_, hole)) = snap.scan::<Holes>(scan).next().transpose()? else {
            return Ok(None);
        };
        let held = self.event(snap, hole.event)?;
        Ok(held.map(|held| held.event.event_id().to_owned()))
    }

    /// A place such that events before it are older than a time, and events after it are not; as
    /// far as timestamps rise along the timeline.
    fn place_of_time(&self, snap: &Snapshot, room: RoomNid, ts: u64) -> Result<Order, StoreError> {
        let (mut low, mut high) = (0, snap.head().0 + 1);
        while low < high {
            let middle = low + (high - low) / 2;
            let order = Order {
                anchor: Pos(middle),
                n: i64::MIN,
            };
            let scan = Scan::prefix(&room).from(&(room, order)).limit(1);
            let next = snap.scan::<Timeline>(scan).next().transpose()?;
            let later = match next {
                Some((_, nid)) => {
                    let event = self.placed(snap, room, nid)?;
                    event.is_none_or(|event| event.event.origin_server_ts() >= ts)
                }
                None => true,
            };
            if later {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        Ok(Order {
            anchor: Pos(low),
            n: i64::MIN,
        })
    }

    /// The events around a place that lie on the right side of a time, the nearest in time first.
    fn near_time(
        &self,
        snap: &Snapshot,
        (room, place): (RoomNid, Order),
        (ts, back): (u64, bool),
        around: usize,
    ) -> Result<Vec<EventNid>, StoreError> {
        let older = Scan::prefix(&room).to(&(room, place)).rev().limit(around);
        let newer = Scan::prefix(&room).from(&(room, place)).limit(around);
        let mut near = Vec::new();
        for scan in [older, newer] {
            let rows: Result<Vec<_>, _> = snap.scan::<Timeline>(scan).collect();
            let nids: Vec<EventNid> = rows?
                .into_iter()
                .map(|row: ((RoomNid, Order), EventNid)| row.1)
                .collect();
            // A few at a time: thousands of large events are not to be in memory together.
            for nids in nids.chunks(CHUNK) {
                let events = self.placed_many(snap, room, nids)?;
                for event in events.into_iter().flatten() {
                    let time = event.event.origin_server_ts();
                    if if back { time <= ts } else { time >= ts } {
                        near.push((time.abs_diff(ts), event.order(), event.nid));
                    }
                }
            }
        }
        near.sort_unstable();
        Ok(near.into_iter().map(|(_, _, nid)| nid).collect())
    }

    /// The event of a room closest to a time that passes a test.
    pub(crate) fn closest_to_time(
        &self,
        snap: &Snapshot,
        room: RoomNid,
        (ts, back): (u64, bool),
        mut admit: impl FnMut(&Arc<Placed>) -> Result<Option<Arc<Placed>>, StoreError>,
    ) -> Result<Option<Arc<Placed>>, StoreError> {
        let place = self.place_of_time(snap, room, ts)?;
        for around in [AROUND, BEYOND] {
            for nid in self.near_time(snap, (room, place), (ts, back), around)? {
                if let Some(event) = self.placed(snap, room, nid)?
                    && let Some(event) = admit(&event)?
                {
                    return Ok(Some(event));
                }
            }
        }
        Ok(None)
    }
}
