//! Sticky events (MSC4354): for a while after they were sent, whoever is in the room is told of
//! them even where the timeline has moved on.
//!
//! Their places are log positions, so a reader's position says which of them it has been told.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use skerry_core::{EventNid, Pos, RoomNid, StoredEvent};
use skerry_store::schema::room_timed as t;
use skerry_store::{Applied, Scan, Snapshot, StoreError, Write, blocking};

use crate::{Placed, RoomError, Rooms, Standing, View, Viewer};

/// Rows taken away at once.
const SWEEP_MAX: usize = 1_000;
/// Most rows of a room looked at for one answer, beyond those asked for: events of ignored users,
/// redacted ones.
const SKIP_MAX: usize = 1_000;

/// When the last sticky event of all rooms ends, in ms since the epoch: a server without any asks
/// no table.
pub(crate) struct StickyUntil(AtomicU64);

impl StickyUntil {
    pub(crate) fn read(snap: &Snapshot) -> Result<StickyUntil, StoreError> {
        let last = snap
            .scan::<t::StickyEnds>(Scan::all().rev().limit(1))
            .next();
        let until = last.transpose()?.map_or(0, |((at_ms, ..), ())| at_ms);
        Ok(StickyUntil(AtomicU64::new(until)))
    }

    fn reach(&self, at_ms: u64) {
        self.0.fetch_max(at_ms, Ordering::AcqRel);
    }

    fn is_past(&self, now_ms: u64) -> bool {
        self.0.load(Ordering::Acquire) <= now_ms
    }
}

/// Sticky events that a user is to be told.
#[derive(Debug, Default)]
pub struct StickyPage {
    /// The events by room, oldest first.
    pub rooms: Vec<(RoomNid, Vec<Arc<Placed>>)>,
    /// The position of the last of them, where more are waiting behind it; `None`: the user has
    /// been told all that the snapshot holds.
    pub upto: Option<Pos>,
}

impl Rooms {
    /// Notes a new event that is sticky.
    pub(crate) fn stick(
        &self,
        w: &mut Write,
        room: RoomNid,
        (nid, pos): (EventNid, Pos),
        event: &StoredEvent,
    ) {
        let now_ms = self.inner.clock.now_ms();
        let Some(expires_ms) = expires_ms(event, now_ms).filter(|at_ms| *at_ms > now_ms) else {
            return;
        };
        let row = t::StickyRow {
            event: nid,
            expires_ms,
        };
        w.put::<t::Sticky>(&(room, pos), &row);
        w.put::<t::StickyEnds>(&(expires_ms, room, pos), &());
        // Before anybody can see the rows.
        self.inner.sticky_until.reach(expires_ms);
    }

    /// The sticky events of rooms, each room after a position of its own, that a user is to be
    /// told: those of rooms they are joined to, whatever the history visibility, but of nobody
    /// they ignore, redacted ones left out. Oldest first over all rooms, and at most `limit`.
    ///
    /// # Errors
    /// The store's.
    pub fn sticky(
        &self,
        snap: &Snapshot,
        viewer: &Viewer,
        rooms: &[(RoomNid, Pos)],
        limit: usize,
    ) -> Result<StickyPage, StoreError> {
        let mut page = StickyPage::default();
        let now_ms = self.inner.clock.now_ms();
        if self.inner.sticky_until.is_past(now_ms) {
            return Ok(page);
        }
        let mut rows = Vec::new();
        for (room, after) in rows_in_order(rooms) {
            let scan = Scan::prefix(&room).after(&(room, after));
            let enough = rows.len().saturating_add(limit).saturating_add(SKIP_MAX);
            for row in snap.scan::<t::Sticky>(scan) {
                let ((_, pos), row) = row?;
                // Those that ended are few: they are swept every minute.
                if row.expires_ms <= now_ms {
                    continue;
                }
                rows.push((pos, room, row.event));
                if rows.len() >= enough {
                    break;
                }
            }
        }
        rows.sort_unstable();
        let (mut told, mut last) = (0, Pos::ZERO);
        let mut views = HashMap::new();
        for (pos, room, event) in rows {
            let view = match views.entry(room) {
                Entry::Occupied(view) => view.into_mut(),
                Entry::Vacant(slot) => slot.insert(self.view(snap, viewer, room)?),
            };
            let Some(event) = view.told_sticky(event)? else {
                continue;
            };
            if told == limit {
                page.upto = Some(last);
                break;
            }
            (told, last) = (told + 1, pos);
            match page.rooms.iter_mut().find(|(of, _)| *of == room) {
                Some((_, events)) => events.push(event),
                None => page.rooms.push((room, vec![event])),
            }
        }
        Ok(page)
    }

    /// Takes away what is not sticky any more.
    ///
    /// # Errors
    /// The store's.
    pub async fn sweep_sticky(&self) -> Result<(), RoomError> {
        loop {
            let this = self.clone();
            let (swept, applied) = blocking(move || this.sweep_sticky_now()).await??;
            self.store().durable(&applied).await?;
            if swept < SWEEP_MAX {
                return Ok(());
            }
        }
    }

    fn sweep_sticky_now(&self) -> Result<(usize, Applied), StoreError> {
        let snap = self.newest();
        let end = (
            self.inner.clock.now_ms().saturating_add(1),
            RoomNid(0),
            Pos::ZERO,
        );
        let mut w = self.store().write();
        let mut swept = 0;
        for row in snap.scan::<t::StickyEnds>(Scan::all().to(&end).limit(SWEEP_MAX)) {
            let (key, ()) = row?;
            w.delete::<t::Sticky>(&(key.1, key.2));
            w.delete::<t::StickyEnds>(&key);
            swept += 1;
        }
        let applied = match swept {
            0 => self.store().barrier(),
            _ => self.store().commit(w)?,
        };
        Ok((swept, applied))
    }
}

impl View {
    /// A sticky event, if the user is to be told of it.
    fn told_sticky(&self, event: EventNid) -> Result<Option<Arc<Placed>>, StoreError> {
        let Some(event) = self.rooms.placed(&self.snap, self.room, event)? else {
            return Ok(None);
        };
        let sticky = event.event.sticky_ms().is_some() && event.meta.is_placed();
        let told = sticky && self.standing() == Standing::Joined && !self.is_ignored(&event);
        Ok(told.then_some(event))
    }
}

/// Rooms without those named twice.
fn rows_in_order(rooms: &[(RoomNid, Pos)]) -> Vec<(RoomNid, Pos)> {
    let mut rooms = rooms.to_vec();
    rooms.sort_unstable();
    rooms.dedup_by_key(|(room, _)| *room);
    rooms
}

/// When an event stops being sticky: its server's clock may be wrong, but makes it last no longer.
pub(crate) fn expires_ms(event: &StoredEvent, received_ms: u64) -> Option<u64> {
    let from_ms = event.origin_server_ts().min(received_ms);
    Some(from_ms.saturating_add(u64::from(event.sticky_ms()?)))
}
