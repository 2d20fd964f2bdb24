//! Events that are kept because others rest on them: states and auth chains.
//!
//! They come in any order. Each is judged by the events that allow it as soon as these are here
//! and judged themselves; until then nothing can rest on it.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use skerry_core::event::RuledEvent;
use skerry_core::{EventNid, Order, Pos, RoomNid, RoomVersion, StateId, StoredEvent};
use skerry_store::schema::federation::{AuthOf, Outliers, Unjudged};
use skerry_store::schema::room as t;
use skerry_store::schema::room::{EventMeta, EventRow};
use skerry_store::{Scan, Snapshot, StoreError, Write};

use super::Missing;
use super::judge::{MISSING_MAX, allowing_ids};
use crate::change::Outcome;
use crate::tip::Fresh;
use crate::{RoomError, Rooms};

/// Events stored in one commit.
const STORED_AT_ONCE: usize = 500;
/// Events judged in one commit.
const JUDGED_AT_ONCE: usize = 500;
/// With more events waiting to be judged, that is left until no further ones come.
const WAITING_MAX: usize = 2_000;

impl Rooms {
    /// Keeps events that others rest on: states and auth chains, in any order. Those of another
    /// room or version are passed over, and so are those that are here in any form. Gives the ids
    /// of events that have to come before all can be judged; at most 1,000.
    ///
    /// While many wait to be judged, only storing is done: whoever brings a large state in pieces
    /// ends with an empty list, which judges what it can.
    ///
    /// # Errors
    /// The store's; some of the events may be stored then.
    pub async fn keep_outliers(
        &self,
        room_id: &str,
        version: RoomVersion,
        events: Vec<Arc<StoredEvent>>,
    ) -> Result<Vec<String>, RoomError> {
        let room = self.store().intern_room(room_id)?;
        let fits =
            |event: &Arc<StoredEvent>| event.version() == version && event.room_id() == room_id;
        let events: Vec<_> = events.into_iter().filter(fits).collect();
        let last = events.is_empty();
        for piece in events.chunks(STORED_AT_ONCE) {
            let piece = piece.to_vec();
            let lane = self.inner.lanes.lock(room).await;
            self.write(lane, move |this| this.store_outliers(room, &piece))
                .await?;
        }
        let mut run = Run::default();
        loop {
            let lane = self.inner.lanes.lock(room).await;
            let this_far = self.write(lane, move |this| this.judge_some(room, last, run));
            let done;
            (run, done) = this_far.await?;
            if done {
                return Ok(run.missing.into_iter().collect());
            }
        }
    }

    fn store_outliers(
        &self,
        room: RoomNid,
        events: &[Arc<StoredEvent>],
    ) -> Result<Outcome<()>, StoreError> {
        let snap = self.newest();
        let mut w = self.store().write();
        let mut stored = HashSet::new();
        for event in events {
            let id = event.event_id();
            if self.store().event_nid(&snap, id)?.is_some() || !stored.insert(id) {
                continue;
            }
            let nid = w.new_event(id);
            let meta = EventMeta {
                room,
                order: Order::live(Pos::ZERO),
                depth: event.depth(),
                sender: self.user(event.sender())?,
                before: StateId(0),
                after: StateId(0),
                state_key: self.key_of(event)?,
                replaces: None,
                flags: EventMeta::OUTLIER | EventMeta::UNJUDGED,
            };
            w.put::<t::Meta>(&nid, &meta);
            let row = EventRow {
                redacted_by: None,
                sent: None,
                event: event.encode(),
            };
            w.put::<t::Event>(&nid, &row);
            w.put::<Outliers>(&(room, nid), &());
            w.put::<Unjudged>(&(room, nid), &());
        }
        self.applied(w)
    }

    fn applied(&self, w: Write) -> Result<Outcome<()>, StoreError> {
        let applied = match w.is_empty() {
            true => self.store().barrier(),
            false => self.store().commit(w)?,
        };
        Ok((Ok(()), applied))
    }

    /// Judges some of the outliers of a room that wait for it; says whether that was all that can
    /// be done.
    fn judge_some(
        &self,
        room: RoomNid,
        last: bool,
        mut run: Run,
    ) -> Result<Outcome<(Run, bool)>, StoreError> {
        let snap = self.newest();
        let scan = Scan::prefix(&room).limit(WAITING_MAX + 1);
        let scan = match run.reached {
            Some(nid) => scan.after(&(room, nid)),
            None => scan,
        };
        let waiting: Result<Vec<EventNid>, StoreError> = snap
            .scan::<Unjudged>(scan)
            .map(|row| row.map(|((_, nid), ())| nid))
            .collect();
        let waiting = waiting?;
        if waiting.len() > WAITING_MAX && !last {
            return Ok((Ok((run, true)), self.store().barrier()));
        }
        let mut w = self.store().write();
        let mut judging = Judging {
            rooms: self,
            snap: &snap,
            w: &mut w,
            room,
            fresh: Fresh::default(),
            run: &mut run,
            judged: 0,
        };
        let mut done = waiting.len() <= WAITING_MAX;
        for nid in waiting {
            if judging.judged >= JUDGED_AT_ONCE {
                done = false;
                break;
            }
            judging.visit(nid)?;
            judging.run.reached = Some(nid);
        }
        let Judging { fresh, .. } = judging;
        let (answer, applied) = self.applied(w)?;
        for (nid, event) in &fresh.ruled {
            let rejected = fresh.metas.get(nid).is_some_and(EventMeta::is_rejected);
            if !rejected {
                self.hold_auth_event(*nid, event);
            }
        }
        Ok((answer.map(|()| (run, done)), applied))
    }

    /// Takes away what a join that came to nothing has left: outliers of rooms that this server
    /// does not hold, unless they say what one of its users is there. At the opening, before
    /// anything is joined.
    pub(crate) fn sweep_outliers(&self) -> Result<(), StoreError> {
        let mut after: Option<(RoomNid, EventNid)> = None;
        loop {
            let snap = self.newest();
            let scan = Scan::all().limit(1);
            let scan = match &after {
                Some(key) => scan.after(key),
                None => scan,
            };
            let Some(row) = snap.scan::<Outliers>(scan).next() else {
                return Ok(());
            };
            let ((room, _), ()) = row?;
            if self.room_row(&snap, room)?.is_none() {
                self.sweep_room(&snap, room)?;
            }
            after = Some((room, EventNid(u64::MAX)));
        }
    }

    fn sweep_room(&self, snap: &Snapshot, room: RoomNid) -> Result<(), StoreError> {
        let mut reached = EventNid(0);
        loop {
            let mut w = self.store().write();
            let scan = Scan::prefix(&room).after(&(room, reached));
            let before = reached;
            for row in snap.scan::<Outliers>(scan.limit(STORED_AT_ONCE)) {
                let ((_, nid), ()) = row?;
                reached = nid;
                if self.is_membership(snap, room, nid)? {
                    continue;
                }
                w.delete::<Outliers>(&(room, nid));
                w.delete::<Unjudged>(&(room, nid));
                w.delete::<AuthOf>(&nid);
                w.delete::<t::Meta>(&nid);
                w.delete::<t::Event>(&nid);
                w.forget_event(&self.store().event_id(nid)?, nid);
            }
            if reached == before {
                return Ok(());
            }
            let (_, applied) = self.applied(w)?;
            self.store().wait_durable(&applied)?;
        }
    }

    /// Whether an event says what a user is in a room.
    fn is_membership(
        &self,
        snap: &Snapshot,
        room: RoomNid,
        nid: EventNid,
    ) -> Result<bool, StoreError> {
        let held = self.event(snap, nid)?;
        let user_id = held.as_ref().and_then(|held| held.event.state_key());
        let user = user_id.map(|user_id| self.store().user_nid(user_id));
        let Some(user) = user.transpose()?.flatten() else {
            return Ok(false);
        };
        let member = self.member_of(snap, user, room)?;
        Ok(member.is_some_and(|member| member.event == nid))
    }
}

/// What is known of a run over the outliers of a room.
#[derive(Default)]
struct Run {
    /// Everything up to here was looked at.
    reached: Option<EventNid>,
    /// Ids of events that are not here.
    missing: BTreeSet<String>,
    /// Events that rest on these.
    stuck: HashSet<EventNid>,
}

/// Judging in one commit.
struct Judging<'a> {
    rooms: &'a Rooms,
    snap: &'a Snapshot,
    w: &'a mut Write,
    room: RoomNid,
    fresh: Fresh,
    run: &'a mut Run,
    judged: usize,
}

impl Judging<'_> {
    /// Judges an event, and before it those that it rests on.
    fn visit(&mut self, nid: EventNid) -> Result<(), StoreError> {
        let mut path = vec![nid];
        let mut on_path = HashSet::from([nid]);
        while let Some(&top) = path.last() {
            let next = match self.is_open(top)? {
                true => self.step(top, &on_path)?,
                false => None,
            };
            match next {
                Some(next) => {
                    path.push(next);
                    on_path.insert(next);
                }
                None => {
                    path.pop();
                    on_path.remove(&top);
                }
            }
        }
        Ok(())
    }

    fn is_open(&self, nid: EventNid) -> Result<bool, StoreError> {
        let meta = self.rooms.meta_held(self.snap, &self.fresh, nid)?;
        Ok(meta.flags & EventMeta::UNJUDGED != 0 && !self.run.stuck.contains(&nid))
    }

    /// Judges an event if it can be; gives one that has to be judged before, if not.
    fn step(
        &mut self,
        nid: EventNid,
        on_path: &HashSet<EventNid>,
    ) -> Result<Option<EventNid>, StoreError> {
        let Some(held) = self.rooms.event(self.snap, nid)? else {
            return Ok(None);
        };
        let event = Arc::new(held.event);
        let (mut stuck, mut cycle) = (false, false);
        for id in allowing_ids(&event) {
            let Some(above) = self.rooms.number_of(self.snap, &self.fresh, &id)? else {
                if self.run.missing.len() < MISSING_MAX {
                    self.run.missing.insert(id);
                }
                stuck = true;
                continue;
            };
            if on_path.contains(&above) {
                cycle = true;
            } else if self.is_open(above)? {
                return Ok(Some(above));
            }
            stuck |= self.run.stuck.contains(&above);
        }
        if stuck && !cycle {
            self.run.stuck.insert(nid);
            return Ok(None);
        }
        self.settle(nid, event, cycle)?;
        Ok(None)
    }

    /// Judges an event by those that allow it, which all are judged.
    fn settle(
        &mut self,
        nid: EventNid,
        event: Arc<StoredEvent>,
        cycle: bool,
    ) -> Result<(), StoreError> {
        let rooms = self.rooms;
        let mut rejected = cycle || (event.is_create() && !event.prev_events().is_empty());
        if !rejected {
            let mut missing = Missing::default();
            let named = rooms.allowing(self.snap, &self.fresh, &event, &mut missing)?;
            let ruled = RuledEvent::new(event.clone(), false);
            let verdict = rooms.check_named(&ruled, &named, false);
            if let Err(refusal) = &verdict {
                tracing::debug!(event = event.event_id(), %refusal, "an outlier is rejected");
            }
            rejected = verdict.is_err() || !missing.is_empty();
        }
        let mut meta = rooms.meta_held(self.snap, &self.fresh, nid)?;
        meta.flags = EventMeta::OUTLIER;
        if rejected {
            meta.flags |= EventMeta::REJECTED;
        }
        self.w.put::<t::Meta>(&nid, &meta);
        self.w.delete::<Unjudged>(&(self.room, nid));
        let mut auth = Vec::new();
        for id in event.auth_events() {
            auth.extend(rooms.number_of(self.snap, &self.fresh, &id)?);
        }
        self.w.put::<AuthOf>(&nid, &auth);
        self.fresh.metas.insert(nid, meta);
        if event.is_state() {
            let ruled = RuledEvent::new(event, rejected);
            self.fresh.ruled.insert(nid, ruled);
        }
        self.judged += 1;
        Ok(())
    }
}
