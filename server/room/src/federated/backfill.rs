//! Holes in timelines, and the older events that fill them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use skerry_core::event::RuledEvent;
use skerry_core::{EventNid, Order, RoomNid, StateDelta, StoredEvent};
use skerry_store::schema::federation::{Awaits, HoleRow, Holes};
use skerry_store::schema::room as t;
use skerry_store::schema::room::EventMeta;
use skerry_store::{Scan, Snapshot, StoreError};

use super::receive::Judged;
use super::{Gap, Missing};
use crate::change::Change;
use crate::{Cut, RoomError, Rooms};

/// Most events that one call places.
const EVENTS_MAX: usize = 500;

/// A place in a timeline with something before it that is not here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hole {
    /// The id of the event after the hole.
    pub event_id: String,
    /// The place between the hole and that event.
    pub at: Cut,
    /// The ids of the event's previous events that are not here.
    pub missing: Vec<String>,
}

/// What came of events that were to fill a hole.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Backfilled {
    /// How many of them have their places now.
    pub added: usize,
    /// What has to be here for more.
    pub missing: Missing,
}

impl Rooms {
    /// The holes of a room before a place, the newest first.
    ///
    /// # Errors
    /// The store's.
    pub fn holes(
        &self,
        snap: &Snapshot,
        room: RoomNid,
        before: Cut,
        limit: usize,
    ) -> Result<Vec<Hole>, StoreError> {
        let end = (room, before.0);
        let scan = Scan::prefix(&room).to(&end).rev().limit(limit);
        snap.scan::<Holes>(scan)
            .map(|row| row.and_then(|((_, order), row)| self.hole(order, row)))
            .collect()
    }

    /// The hole that a reader has come to who goes back and stands at this place.
    ///
    /// # Errors
    /// The store's.
    pub fn hole_at(
        &self,
        snap: &Snapshot,
        room: RoomNid,
        place: Cut,
    ) -> Result<Option<Hole>, StoreError> {
        let scan = Scan::prefix(&room).after(&(room, place.0)).limit(1);
        let next = snap.scan::<t::Timeline>(scan).next().transpose()?;
        let Some(((_, order), _)) = next else {
            return Ok(None);
        };
        let row = snap.get::<Holes>(&(room, order))?;
        row.map(|row| self.hole(order, row)).transpose()
    }

    fn hole(&self, order: Order, row: HoleRow) -> Result<Hole, StoreError> {
        Ok(Hole {
            event_id: self.store().event_id(row.event)?.to_string(),
            at: Cut::before(order),
            missing: row.missing,
        })
    }

    /// Gives events their places before a hole: those that lie before the event `hole`, in any
    /// order, as far as they are connected to it. They were checked as for [`Self::receive`].
    /// They are judged by what allows them and by the state before them, and never change what
    /// the room is now.
    ///
    /// # Errors
    /// [`RoomError::NotFound`] if there is no such room or hole; the store's.
    pub async fn backfill(
        &self,
        room_id: &str,
        hole: &str,
        events: Vec<Arc<StoredEvent>>,
        gaps: Vec<Gap>,
    ) -> Result<Backfilled, RoomError> {
        let unknown = || RoomError::NotFound("there is no such hole".into());
        let room = self.store().room_nid(room_id)?.ok_or_else(unknown)?;
        let hole = hole.to_owned();
        self.inner.reads.tails.filling(room);
        let filled = self.change(room, move |change| {
            let nid = change.rooms.store().event_nid(&change.snap, &hole)?;
            let nid = nid.ok_or_else(unknown)?;
            change.tip.fresh.received = true;
            change.fill(nid, events, &gaps)
        });
        let filled = filled.await;
        let head = self.store().snapshot().head();
        self.inner.reads.tails.filled(room, head);
        filled
    }
}

impl Change<'_> {
    fn fill(
        &mut self,
        hole: EventNid,
        mut events: Vec<Arc<StoredEvent>>,
        gaps: &[Gap],
    ) -> Result<Backfilled, RoomError> {
        let rooms = self.rooms;
        let meta = rooms.meta(&self.snap, hole)?;
        let meta = meta.filter(|meta| meta.room == self.tip.room && meta.is_placed());
        let order = meta.map(|meta| meta.order);
        let row = match order {
            Some(order) => self.snap.get::<Holes>(&(self.tip.room, order))?,
            None => None,
        };
        let Some((order, row)) = order.zip(row) else {
            return Err(RoomError::NotFound("there is no such hole".into()));
        };
        events.truncate(EVENTS_MAX);
        let mut done = Backfilled::default();
        // A position of its own: who reads knows by it that the timeline has changed.
        self.w.stamp();
        let mut last = self.last_filler(order)?;
        let events = connected(&row.missing, events);
        // The newest come first and stand nearest to the hole.
        let places: Vec<Order> = events
            .iter()
            .map(|_| {
                last.n -= 1;
                last
            })
            .collect();
        for (event, order) in events.into_iter().zip(places).rev() {
            match self.fill_in(&event, order, gaps)? {
                Ok(true) => done.added += 1,
                Ok(false) => {}
                Err(missing) => {
                    for id in missing.prev {
                        if !done.missing.prev.contains(&id) {
                            done.missing.prev.push(id);
                        }
                    }
                    for id in missing.auth {
                        if !done.missing.auth.contains(&id) {
                            done.missing.auth.push(id);
                        }
                    }
                }
            }
        }
        Ok(done)
    }

    /// The place of the oldest event that fills a hole before the same live event.
    fn last_filler(&self, order: Order) -> Result<Order, StoreError> {
        let first = Order {
            anchor: order.anchor,
            n: i64::MIN,
        };
        let scan = Scan::prefix(&self.tip.room).from(&(self.tip.room, first));
        let row = self.snap.scan::<t::Timeline>(scan.limit(1)).next();
        let oldest = row.transpose()?.map(|((_, oldest), _)| oldest);
        Ok(oldest
            .filter(|oldest| oldest.anchor == order.anchor)
            .unwrap_or(order))
    }

    /// Judges one event and gives it its place; says whether it has one.
    fn fill_in(
        &mut self,
        event: &Arc<StoredEvent>,
        order: Order,
        gaps: &[Gap],
    ) -> Result<Result<bool, Missing>, RoomError> {
        let Some((event, outlier)) = self.news(event)? else {
            return Ok(Ok(false));
        };
        let judged = match self.judge(&event, gaps, false)? {
            Ok(judged) => judged,
            Err(missing) => return Ok(Err(missing)),
        };
        if judged.refused.is_some() {
            self.refuse(&event, judged, outlier)?;
            return Ok(Ok(false));
        }
        self.put_filler(&event, order, judged)?;
        Ok(Ok(true))
    }

    fn put_filler(
        &mut self,
        event: &Arc<StoredEvent>,
        order: Order,
        judged: Judged,
    ) -> Result<(), RoomError> {
        let rooms = self.rooms;
        let past = judged.past;
        let sender = rooms.user(event.sender())?;
        let nid = rooms.number(&mut self.w, &self.snap, &self.tip, event)?;
        let key = rooms.key_of(event)?;
        let mut after = past.before.clone();
        if let Some(key) = key {
            rooms.note_auth(&mut self.w, &self.snap, &self.tip, (nid, event))?;
            let ruled = RuledEvent::new(event.clone(), false);
            self.tip.fresh.ruled.insert(nid, ruled);
            let set = StateDelta {
                set: vec![(key, nid)],
                removed: Vec::new(),
            };
            let (w, fresh) = (&mut self.w, &mut self.tip.fresh);
            after = rooms.next_version(w, &self.snap, fresh, &past.before, set)?;
        }
        let mut flags = 0;
        if !past.missing.is_empty() {
            flags |= EventMeta::AFTER_HOLE;
            rooms.dig(&mut self.w, &mut self.tip, (nid, order), past.missing);
        }
        let meta = EventMeta {
            room: self.tip.room,
            order,
            depth: event.depth(),
            sender,
            before: match past.before.id.0 {
                0 => after.id,
                _ => past.before.id,
            },
            after: after.id,
            state_key: key,
            replaces: key.and_then(|key| past.before.map.get(key)),
            flags,
        };
        self.w.put::<t::Meta>(&nid, &meta);
        self.w.put::<t::Timeline>(&(self.tip.room, order), &nid);
        let fresh = &mut self.tip.fresh;
        fresh.metas.insert(nid, meta);
        fresh.events.insert(nid, event.clone());
        fresh.ids.insert(event.event_id().to_owned(), nid);
        let pos = self.w.stamp();
        rooms.refer(&mut self.w, &self.snap, &mut self.tip, (nid, pos), event)?;
        rooms.store_event(&mut self.w, &self.tip, (nid, event), None);
        Ok(())
    }

    /// Whatever comes right after an event knows that it is here: of its hole, so much less is
    /// left. `more`: what lies before it in its place.
    pub(super) fn close_holes(&mut self, event_id: &str, more: &[String]) -> Result<(), RoomError> {
        let rooms = self.rooms;
        for (how, nid) in rooms.waiting_for(&self.snap, &self.tip, event_id)? {
            if how == Awaits::Prev {
                rooms.shrink_hole(
                    &mut self.w,
                    &self.snap,
                    &mut self.tip,
                    (nid, event_id, more),
                )?;
            }
        }
        Ok(())
    }
}

/// Those of some events from which a way leads to one of `ends`, the later ones first.
fn connected(ends: &[String], events: Vec<Arc<StoredEvent>>) -> Vec<Arc<StoredEvent>> {
    let by_id: HashMap<String, Arc<StoredEvent>> = events
        .into_iter()
        .map(|event| (event.event_id().to_owned(), event))
        .collect();
    let (mut order, mut done) = (Vec::new(), HashSet::new());
    // Depth first; each event follows all that it comes after.
    for end in ends {
        let mut path: Vec<(&Arc<StoredEvent>, Vec<String>)> = Vec::new();
        let mut enter = by_id.get(end);
        loop {
            if let Some(event) = enter.take()
                && done.insert(event.event_id())
            {
                path.push((event, event.prev_events()));
            }
            let Some((event, prev)) = path.last_mut() else {
                break;
            };
            match prev.pop() {
                Some(id) => enter = by_id.get(&id),
                None => {
                    order.push(Arc::clone(event));
                    path.pop();
                }
            }
        }
    }
    order.reverse();
    order
}
