//! Events of other servers, on their way into a room.

use std::sync::Arc;

use skerry_account::{TxnAnswer, txn};
use skerry_core::event::RuledEvent;
use skerry_core::{EventNid, Order, Pos, StateDelta, StateMap, StoredEvent};
use skerry_store::schema::federation::Awaits;
use skerry_store::schema::room as t;
use skerry_store::schema::room::{EventMeta, EventRow};

use super::judge::MISSING_MAX;
use super::{Arrival, Gap, Missing, Verdict};
use crate::append::Placing;
use crate::change::Change;
use crate::state_version::Version;
use crate::{RoomError, Rooms};

/// Most forward extremities of a room: what would make more is soft-failed.
pub(super) const EXTREMITIES_MAX: usize = 100;
/// How many events that nobody is shown are gone through to find what lies before them.
const HIDDEN_MAX: usize = 200;

/// What comes before an event.
pub(super) struct Past {
    /// The state before it.
    pub(super) before: Version,
    /// The events right before it that are here.
    pub(super) prev: Vec<EventNid>,
    /// Those that are not, or have no place.
    pub(super) missing: Vec<String>,
    /// It names one of another room.
    foreign: bool,
}

/// An event that has been judged.
pub(super) struct Judged {
    pub(super) past: Past,
    ruled: RuledEvent,
    /// Why it is refused, and the flag for that.
    pub(super) refused: Option<(u8, String)>,
}

impl Rooms {
    /// Takes in one event of another server. Its hashes and signatures were checked, and so was
    /// its shape; a redacted event stands for one whose content was changed on the way.
    ///
    /// # Errors
    /// The store's; then nothing of it happened.
    pub async fn receive(
        &self,
        room_id: &str,
        event: Arc<StoredEvent>,
        how: Arrival,
    ) -> Result<Verdict, RoomError> {
        let verdicts = self.receive_all(room_id, vec![(event, how)]).await?;
        // One for each.
        Ok(verdicts.into_iter().next().unwrap_or(Verdict::NotHere))
    }

    /// The same for several of one room, oldest first, in one commit. Each gets its verdict; one
    /// that misses something does not keep the others from being judged.
    ///
    /// # Errors
    /// The store's; then nothing of it happened.
    pub async fn receive_all(
        &self,
        room_id: &str,
        events: Vec<(Arc<StoredEvent>, Arrival)>,
    ) -> Result<Vec<Verdict>, RoomError> {
        let not_here = vec![Verdict::NotHere; events.len()];
        let Some(room) = self.store().room_nid(room_id)? else {
            return Ok(not_here);
        };
        let received = self.change(room, move |change| {
            if !Rooms::is_in(&change.tip) {
                return Ok((vec![Verdict::NotHere; events.len()], 0));
            }
            change.tip.fresh.received = true;
            let before = change.guest_access()?;
            let taken = events.into_iter();
            let taken = taken.map(|(event, how)| change.take_in(event, how));
            let verdicts: Vec<Verdict> = taken.collect::<Result<_, _>>()?;
            change.follow_guest_access(before)?;
            Ok((verdicts, change.tip.head.extremities.len()))
        });
        match received.await {
            Ok((verdicts, ends)) => {
                self.squash_if_many(room, ends).await;
                Ok(verdicts)
            }
            Err(RoomError::NotFound(_)) => Ok(not_here),
            Err(error) => Err(error),
        }
    }
}

impl Change<'_> {
    /// Judges an event, and gives it its place.
    pub(crate) fn take_in(
        &mut self,
        event: Arc<StoredEvent>,
        how: Arrival,
    ) -> Result<Verdict, RoomError> {
        let rooms = self.rooms;
        if event.version() != self.tip.version || event.room_id() != &*self.tip.room_id {
            return Ok(Verdict::Rejected("it is of another room".into()));
        }
        let event = self.approvals.signed(event);
        let Some((event, outlier)) = self.news(&event)? else {
            return Ok(Verdict::Known);
        };
        let mut judged = match self.judge(&event, &how.gaps, true)? {
            Ok(judged) => judged,
            Err(missing) => return Ok(Verdict::Missing(missing)),
        };
        if let Some((flag, reason)) = judged.refused.take() {
            tracing::debug!(event = event.event_id(), reason, "an event is not let in");
            judged.refused = Some((flag, String::new()));
            self.refuse(&event, judged, outlier)?;
            return Ok(match flag {
                EventMeta::SOFT_FAILED => Verdict::SoftFailed(reason),
                _ => Verdict::Rejected(reason),
            });
        }
        let past = judged.past;
        let behind = self.ends_behind(&past.prev)?;
        let placing = Placing {
            before: past.before,
            behind,
            missing: past.missing,
            covered: self.is_covered(event.event_id())?,
            send_on: how.send_on,
            sent: how.sent,
        };
        rooms.place(
            &mut self.w,
            &self.snap,
            &mut self.tip,
            event.clone(),
            placing,
        )?;
        if let Some((key, _)) = how.txn {
            let answer = TxnAnswer {
                status: 200,
                answer: event.event_id().to_owned(),
            };
            txn::record(&mut self.w, &key, &answer, self.now_ms);
        }
        Ok(Verdict::Accepted)
    }

    /// An event that is to be judged, in the form in which it is kept, and whether it was here as
    /// an outlier; none if it was judged before.
    pub(super) fn news(
        &mut self,
        event: &Arc<StoredEvent>,
    ) -> Result<Option<(Arc<StoredEvent>, bool)>, RoomError> {
        let rooms = self.rooms;
        let Some(nid) = rooms.number_of(&self.snap, &self.tip.fresh, event.event_id())? else {
            return Ok(Some((event.clone(), false)));
        };
        let meta = rooms.meta_held(&self.snap, &self.tip.fresh, nid)?;
        if meta.room != self.tip.room || !meta.is_outlier() {
            return Ok(None);
        }
        // A redaction that came before it stays in effect.
        let held = rooms.event(&self.snap, nid)?;
        if let Some(held) = held.filter(|held| held.redacted_by.is_some()) {
            self.tip.fresh.redacted.insert(nid);
            return Ok(Some((Arc::new(held.event), true)));
        }
        Ok(Some((event.clone(), true)))
    }

    /// Asks all questions about an event; or says what has to be here before. `now`: the current
    /// state is asked too.
    pub(super) fn judge(
        &mut self,
        event: &Arc<StoredEvent>,
        gaps: &[Gap],
        now: bool,
    ) -> Result<Result<Judged, Missing>, RoomError> {
        let rooms = self.rooms;
        let mut missing = Missing::default();
        let named = rooms.allowing(&self.snap, &self.tip.fresh, event, &mut missing)?;
        let past = self.past(event, gaps, &mut missing)?;
        let Some(past) = past.filter(|_| missing.is_empty()) else {
            missing.prev.truncate(MISSING_MAX);
            missing.auth.truncate(MISSING_MAX);
            return Ok(Err(missing));
        };
        let ruled = RuledEvent::new(event.clone(), false);
        let refused = self.refusal(&ruled, &named, &past, now)?;
        Ok(Ok(Judged {
            past,
            ruled,
            refused,
        }))
    }

    /// Why an event is refused, if it is, and the flag for that.
    fn refusal(
        &mut self,
        event: &RuledEvent,
        named: &super::judge::Allowing,
        past: &Past,
        now: bool,
    ) -> Result<Option<(u8, String)>, RoomError> {
        let rooms = self.rooms;
        let rejected = |reason: String| Ok(Some((EventMeta::REJECTED, reason)));
        if past.foreign {
            return rejected("it comes after an event of another room".into());
        }
        let first = past.prev.is_empty() && past.missing.is_empty();
        if first && (now || !self.is_beginning(event.event())?) {
            return rejected("it comes after nothing".into());
        }
        let here = past.before.id == self.tip.head.state;
        let as_now = here && rooms.names_what_holds(event, named, &self.tip)?;
        if let Err(refusal) = rooms.check_named(event, named, as_now) {
            return rejected(format!("by its auth events: {}", refusal.reason));
        }
        if !here {
            let (snap, fresh) = (&self.snap, &self.tip.fresh);
            let ruling = rooms.check_by_state(snap, fresh, event, &past.before.map)?;
            if let Err(refusal) = ruling {
                return rejected(format!("by the state before it: {}", refusal.reason));
            }
        }
        if !here && !now {
            return Ok(None);
        }
        if let Err(refusal) = rooms.check_by_tip(&self.snap, &mut self.tip, event)? {
            let reason = refusal.reason;
            return match here {
                true => rejected(format!("by the state before it: {reason}")),
                false => Ok(Some((EventMeta::SOFT_FAILED, reason))),
            };
        }
        let ends = &self.tip.head.extremities;
        if now && ends.len() >= EXTREMITIES_MAX && !ends.iter().any(|end| past.prev.contains(end)) {
            let reason = "the room has too many forward extremities".to_owned();
            return Ok(Some((EventMeta::SOFT_FAILED, reason)));
        }
        if !now {
            return Ok(None);
        }
        let kept_out = self.kept_out(event.event())?;
        Ok(kept_out.map(|reason| (EventMeta::SOFT_FAILED, reason)))
    }

    /// What comes before an event; nothing, and more that is missing, where that is not known.
    fn past(
        &mut self,
        event: &StoredEvent,
        gaps: &[Gap],
        missing: &mut Missing,
    ) -> Result<Option<Past>, RoomError> {
        let rooms = self.rooms;
        let mut states: Vec<Version> = Vec::new();
        let (mut prev, mut absent, mut foreign) = (Vec::new(), Vec::new(), false);
        for id in event.prev_events() {
            let nid = rooms.number_of(&self.snap, &self.tip.fresh, &id)?;
            let meta = match nid {
                Some(nid) => Some((nid, rooms.meta_held(&self.snap, &self.tip.fresh, nid)?)),
                None => None,
            };
            match meta {
                Some((nid, meta)) if meta.room == self.tip.room && !meta.is_outlier() => {
                    prev.push(nid);
                    if states.iter().all(|version| version.id != meta.after) {
                        states.push(rooms.version_of(&self.snap, &self.tip.fresh, meta.after)?);
                    }
                }
                Some((_, meta)) if meta.room != self.tip.room => foreign = true,
                _ => match gaps.iter().find(|gap| gap.prev_event == id) {
                    Some(gap) => {
                        states.extend(self.state_at_gap(gap, missing)?);
                        absent.push(id);
                    }
                    None => missing.prev.push(id),
                },
            }
        }
        if !missing.is_empty() {
            return Ok(None);
        }
        let ends = &self.tip.head.extremities;
        let all = absent.is_empty() && prev.len() == ends.len();
        let before = if all && prev.iter().all(|nid| ends.contains(nid)) {
            self.tip.now()
        } else if states.is_empty() {
            Version::empty()
        } else {
            rooms.merged(&mut self.w, &self.snap, &mut self.tip, states)?
        };
        Ok(Some(Past {
            before,
            prev,
            missing: absent,
            foreign,
        }))
    }

    /// The state after an event whose own past is not here.
    pub(super) fn state_at_gap(
        &mut self,
        gap: &Gap,
        missing: &mut Missing,
    ) -> Result<Option<Version>, RoomError> {
        let rooms = self.rooms;
        let mut entries = Vec::with_capacity(gap.state.len() + 1);
        for id in &gap.state {
            entries.extend(self.resting(id, missing)?);
        }
        let whole = entries.len() == gap.state.len();
        let Some(nid) = rooms.number_of(&self.snap, &self.tip.fresh, &gap.prev_event)? else {
            missing.auth.push(gap.prev_event.clone());
            return Ok(None);
        };
        let before: StateMap = entries.iter().copied().collect();
        let own = self.resting(&gap.prev_event, missing)?;
        if !missing.is_empty() {
            return Ok(None);
        }
        let now = self.tip.now();
        let near = std::slice::from_ref(&now);
        let (w, snap, fresh) = (&mut self.w, &self.snap, &mut self.tip.fresh);
        let before = rooms.version_for(w, snap, fresh, near, &before)?;
        let Some((key, own)) = own else {
            return Ok(Some(before));
        };
        // It changes the state only where the state before it allows it. Where some of that is
        // rejected here, what is left says nothing about it, and what allows it has to do.
        let event = rooms.ruled_event(snap, fresh, nid)?;
        let allowed = rooms.check_by_state(snap, fresh, &event, &before.map)?;
        if whole && allowed.is_err() {
            return Ok(Some(before));
        }
        let set = StateDelta {
            set: vec![(key, own)],
            removed: Vec::new(),
        };
        Ok(Some(rooms.next_version(w, snap, fresh, &before, set)?))
    }

    /// The place in the state of an event that others rest on; none for one that is no state, or
    /// is rejected. What is not here is added to `missing`.
    fn resting(
        &self,
        id: &str,
        missing: &mut Missing,
    ) -> Result<Option<(skerry_core::StateKeyNid, EventNid)>, RoomError> {
        let (rooms, fresh) = (self.rooms, &self.tip.fresh);
        let Some(nid) = rooms.number_of(&self.snap, fresh, id)? else {
            missing.auth.push(id.to_owned());
            return Ok(None);
        };
        let meta = rooms.meta_held(&self.snap, fresh, nid)?;
        if meta.flags & EventMeta::UNJUDGED != 0 {
            rooms.missing_above(&self.snap, fresh, nid, missing)?;
            return Ok(None);
        }
        if meta.is_rejected() || meta.room != self.tip.room {
            return Ok(None);
        }
        Ok(meta.state_key.map(|key| (key, nid)))
    }

    /// The forward extremities that an event after these comes after: they themselves, and what
    /// lies before those of them that nobody is shown.
    fn ends_behind(&self, prev: &[EventNid]) -> Result<Vec<EventNid>, RoomError> {
        let rooms = self.rooms;
        let (mut behind, mut todo) = (Vec::new(), prev.to_vec());
        let mut looked = 0;
        while let Some(nid) = todo.pop() {
            if behind.contains(&nid) {
                continue;
            }
            behind.push(nid);
            if self.tip.head.extremities.contains(&nid) {
                continue;
            }
            let meta = rooms.meta_held(&self.snap, &self.tip.fresh, nid)?;
            if meta.is_placed() || meta.is_outlier() || looked >= HIDDEN_MAX {
                continue;
            }
            looked += 1;
            let Some(held) = rooms.held_of(&self.snap, &self.tip, nid)? else {
                continue;
            };
            for id in held.event.prev_events() {
                todo.extend(rooms.number_of(&self.snap, &self.tip.fresh, &id)?);
            }
        }
        behind.retain(|nid| self.tip.head.extremities.contains(nid));
        Ok(behind)
    }

    /// Whether an event that has its place comes after this one.
    fn is_covered(&self, event_id: &str) -> Result<bool, RoomError> {
        let rooms = self.rooms;
        for (how, nid) in rooms.waiting_for(&self.snap, &self.tip, event_id)? {
            if how == Awaits::Prev
                && rooms
                    .meta_held(&self.snap, &self.tip.fresh, nid)?
                    .is_placed()
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether it is the event that the room begins with.
    fn is_beginning(&self, event: &StoredEvent) -> Result<bool, RoomError> {
        let create = self.rooms.in_state(&self.tip.state, "m.room.create", "")?;
        let nid = self
            .rooms
            .number_of(&self.snap, &self.tip.fresh, event.event_id())?;
        Ok(event.is_create() && nid.is_some() && nid == create)
    }

    /// Keeps an event that is refused, and lets its hole reach on behind it.
    pub(super) fn refuse(
        &mut self,
        event: &Arc<StoredEvent>,
        judged: Judged,
        outlier: bool,
    ) -> Result<(), RoomError> {
        let Judged {
            past,
            ruled,
            refused,
        } = judged;
        let Some((flag, _)) = refused else {
            return Ok(());
        };
        self.close_holes(event.event_id(), &past.missing)?;
        // What others rest on was found good by what allows it. That it is refused here may be
        // due to a state that another server made up.
        if outlier && flag == EventMeta::REJECTED {
            return Ok(());
        }
        self.set_aside(event, &ruled, past, flag)
    }

    /// Keeps an event that is refused: others may come after it, and it is not judged again.
    fn set_aside(
        &mut self,
        event: &Arc<StoredEvent>,
        ruled: &RuledEvent,
        past: Past,
        flag: u8,
    ) -> Result<(), RoomError> {
        let rooms = self.rooms;
        let room = self.tip.room;
        let sender = rooms.user(event.sender())?;
        let key = rooms.key_of(event)?;
        let nid = rooms.number(&mut self.w, &self.snap, &self.tip, event)?;
        let mut after = past.before.clone();
        if let Some(key) = key {
            rooms.note_auth(&mut self.w, &self.snap, &self.tip, (nid, event))?;
            let rejected = flag == EventMeta::REJECTED;
            let ruled = match rejected {
                true => RuledEvent::new(event.clone(), true),
                false => ruled.clone(),
            };
            self.tip.fresh.ruled.insert(nid, ruled);
            if !rejected {
                let set = StateDelta {
                    set: vec![(key, nid)],
                    removed: Vec::new(),
                };
                let (w, fresh) = (&mut self.w, &mut self.tip.fresh);
                after = rooms.next_version(w, &self.snap, fresh, &past.before, set)?;
            }
        }
        let meta = EventMeta {
            room,
            order: Order::live(Pos::ZERO),
            depth: event.depth(),
            sender,
            before: past.before.id,
            after: after.id,
            state_key: key,
            replaces: key.and_then(|key| past.before.map.get(key)),
            flags: flag,
        };
        self.w.put::<t::Meta>(&nid, &meta);
        if !self.tip.fresh.redacted.contains(&nid) {
            let row = EventRow {
                redacted_by: None,
                sent: None,
                event: event.encode(),
            };
            self.w.put::<t::Event>(&nid, &row);
        }
        self.tip.fresh.metas.insert(nid, meta);
        self.tip.fresh.events.insert(nid, event.clone());
        self.tip.fresh.ids.insert(event.event_id().to_owned(), nid);
        Ok(())
    }
}
