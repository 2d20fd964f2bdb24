//! Delayed events (MSC4140): what is to be sent later, unless its timer is set anew or it is
//! taken back.
//!
//! Each is a row from the moment it is asked for. Sending it and noting that it was sent are one
//! batch, so that it is sent once, whatever happens to the server; what became of it can be read
//! for a while. Whoever changes a row holds the lane of its room.

mod delegate;
mod fire;
mod list;

use skerry_account::{TxnAnswer, TxnKey, txn};
use skerry_core::keys::random_name;
use skerry_core::{RoomNid, UserNid};
use skerry_store::schema::room_timed::{self as t, DelayedEnd, DelayedRow, DelayedStep};
use skerry_store::{Scan, Snapshot, StoreError, Write};

use crate::change::Outcome;
use crate::draft::parse;
use crate::{RoomError, Rooms, Who};

pub use delegate::{Delegated, Delegation};
pub(crate) use fire::is_damage;
pub use list::{DelayedAsk, DelayedEvent, DelayedOrder, DelayedOutcome, DelayedPage};

/// For how long it can be read what became of a delayed event, in ms.
const KEPT_MS: u64 = 7 * 24 * 3_600 * 1_000;
/// Of how many delayed events of a user it can be read what became of them.
const KEPT_MAX: usize = 100;
/// Length of an id: nobody guesses it, and who has it may send, restart or cancel.
const ID_CHARS: usize = 32;
/// Longest event type and state key, in bytes.
const NAME_BYTES_MAX: usize = 255;
/// Longest content, in bytes: an event with more is too large to be sent.
const CONTENT_BYTES_MAX: usize = 65_535;
/// How many events may be scheduled for the same state: setting it cancels them in one write.
const SAME_STATE_MAX: usize = 100;
/// After how long it may be tried again where there are so many, in ms.
const SAME_STATE_RETRY_MS: u64 = 60_000;
/// The code of a state event that was cancelled because somebody else set the same state.
pub const CANCELLED_BY_STATE: &str = "M_CANCELLED_BY_STATE_UPDATE";

/// What users may delay.
#[derive(Clone, Copy, Debug)]
pub struct Delays {
    /// The longest delay, in ms.
    pub max_ms: u64,
    /// How many events a user may have scheduled at once.
    pub per_user: usize,
}

impl Default for Delays {
    /// A day, and a hundred.
    fn default() -> Delays {
        Delays {
            max_ms: 24 * 3_600 * 1_000,
            per_user: 100,
        }
    }
}

/// An event to be sent later.
#[derive(Clone, Debug)]
pub struct DelayedDraft {
    /// The event type.
    pub kind: String,
    /// The state key of a state event.
    pub state_key: Option<String>,
    /// Its content, as JSON.
    pub content: Vec<u8>,
    /// For how many ms it is to be sticky, once sent.
    pub sticky_ms: Option<u32>,
    /// The time it is to bear, in ms since the epoch; none: that of being sent.
    pub ts: Option<u64>,
    /// How long to wait, in ms.
    pub delay_ms: u64,
    /// The client's transaction.
    pub txn: Option<TxnKey>,
}

/// What can be done with an event that is still to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DelayedAction {
    /// Let the delay begin anew.
    Restart,
    /// Send it now.
    Send,
    /// Never send it.
    Cancel,
}

/// When a delayed event is to be sent, in ms since the epoch.
fn due_ms(row: &DelayedRow) -> u64 {
    row.since_ms.saturating_add(row.delay_ms)
}

/// Step and time of what happens to it next.
fn next(row: &DelayedRow) -> (DelayedStep, u64) {
    match &row.end {
        None => (DelayedStep::Send, due_ms(row)),
        Some(end) => (DelayedStep::Forget, end.at_ms.saturating_add(KEPT_MS)),
    }
}

impl Rooms {
    /// Schedules an event; gives the id by which it can be restarted, sent or cancelled.
    ///
    /// # Errors
    /// `Forbidden` for a room the user is not in and for state of somebody else's,
    /// `DelayTooLong`, `DelayedLimit`, `InvalidParam`, `TooLarge`, `BadJson`; the store's.
    pub async fn delay(
        &self,
        who: Who,
        room_id: &str,
        draft: DelayedDraft,
    ) -> Result<String, RoomError> {
        let room = self.inside(room_id)?;
        let max_ms = self.inner.config.delays.max_ms;
        if draft.delay_ms == 0 {
            return Err(RoomError::InvalidParam(
                "The delay must be more than 0".into(),
            ));
        }
        if draft.delay_ms > max_ms {
            return Err(RoomError::DelayTooLong(max_ms));
        }
        let lane = self.inner.delay_lanes.lock(who.user).await;
        let id = self
            .write(lane, move |this| this.delay_now(&who, room, draft))
            .await?;
        self.inner.delay_bell.notify_one();
        Ok(id)
    }

    /// Inside the lane of the user.
    fn delay_now(
        &self,
        who: &Who,
        room: RoomNid,
        draft: DelayedDraft,
    ) -> Result<Outcome<String>, StoreError> {
        let (snap, mut w) = (self.newest(), self.store().write());
        let planned = self.plan_delay(&snap, &mut w, who, room, draft);
        self.commit_plan(w, planned)
    }

    /// Commits what a plan wrote, if it came out well.
    fn commit_plan<T>(
        &self,
        w: Write,
        planned: Result<T, RoomError>,
    ) -> Result<Outcome<T>, StoreError> {
        match planned {
            Err(RoomError::Store(error)) => Err(error),
            planned if planned.is_err() || w.is_empty() => Ok((planned, self.store().barrier())),
            planned => Ok((planned, self.store().commit(w)?)),
        }
    }

    fn plan_delay(
        &self,
        snap: &Snapshot,
        w: &mut Write,
        who: &Who,
        room: RoomNid,
        draft: DelayedDraft,
    ) -> Result<String, RoomError> {
        let now_ms = self.inner.clock.now_ms();
        if let Some(key) = &draft.txn
            && let Some(before) = txn::lookup(snap, key)?
        {
            return Ok(before.answer);
        }
        self.vet_delayed(snap, who, room, &draft)?;
        let (count, first_ms) = scheduled(snap, who.user, self.inner.config.delays.per_user)?;
        if count >= self.inner.config.delays.per_user {
            return Err(RoomError::DelayedLimit(
                first_ms.saturating_sub(now_ms).max(1),
            ));
        }
        let id = random_name(&mut *self.inner.dice.dice(), ID_CHARS);
        let row = DelayedRow {
            user: who.user,
            device: who.device.to_string(),
            room,
            kind: draft.kind,
            state_key: draft.state_key,
            content: draft.content,
            sticky_ms: draft.sticky_ms,
            ts: draft.ts,
            delay_ms: draft.delay_ms,
            since_ms: now_ms,
            end: None,
        };
        self.put_delayed(w, &id, &row)?;
        if let Some(key) = &draft.txn {
            let answer = TxnAnswer {
                status: 200,
                answer: id.clone(),
            };
            txn::record(w, key, &answer, now_ms);
        }
        Ok(id)
    }

    /// What can be said of an event before it is sent.
    fn vet_delayed(
        &self,
        snap: &Snapshot,
        who: &Who,
        room: RoomNid,
        draft: &DelayedDraft,
    ) -> Result<(), RoomError> {
        if draft.content.len() > CONTENT_BYTES_MAX {
            return Err(RoomError::TooLarge("The content is too long".into()));
        }
        let outside = || RoomError::Forbidden("You are not in this room".into());
        if !self.is_joined(snap, room, who.user)? {
            return Err(outside());
        }
        let facts = self.facts(snap, room)?.ok_or_else(outside)?;
        parse(&draft.content, facts.version.json_mode())?;
        let key = draft.state_key.as_deref().unwrap_or_default();
        if draft.kind.len() > NAME_BYTES_MAX || key.len() > NAME_BYTES_MAX {
            return Err(RoomError::TooLarge(
                "The type or state key is too long".into(),
            ));
        }
        self.vet_delayed_state(snap, who, room, draft)
    }

    /// Setting a state cancels what others have scheduled for it, so nobody may pile that up.
    fn vet_delayed_state(
        &self,
        snap: &Snapshot,
        who: &Who,
        room: RoomNid,
        draft: &DelayedDraft,
    ) -> Result<(), RoomError> {
        let Some(key) = &draft.state_key else {
            return Ok(());
        };
        let moves = draft.kind == "m.room.member";
        if key.starts_with('@') && **key != *who.user_id && !moves {
            let text = "This is the state of another user";
            return Err(RoomError::Forbidden(text.into()));
        }
        let Some(key) = self.store().state_key_nid(&draft.kind, key)? else {
            return Ok(());
        };
        let same = snap.scan::<t::DelayedState>(Scan::prefix(&(room, key)).limit(SAME_STATE_MAX));
        if same.count() >= SAME_STATE_MAX {
            return Err(RoomError::DelayedLimit(SAME_STATE_RETRY_MS));
        }
        Ok(())
    }

    /// Restarts, sends or cancels a scheduled event. Asking for what has become of it already is
    /// no error.
    ///
    /// # Errors
    /// `NotFound`; `DelayedOver` if something else has become of it; where it cannot be sent, as
    /// [`Self::send`], and it stays scheduled; the store's.
    pub async fn update_delayed(&self, id: &str, action: DelayedAction) -> Result<(), RoomError> {
        let asked = id.to_owned();
        let row = self
            .query(move |_, snap| Ok(snap.get::<t::Delayed>(&asked)?))
            .await?;
        let room = row.ok_or_else(unknown)?.room;
        let id = id.to_owned();
        if action == DelayedAction::Send {
            return self
                .change(room, move |change| change.fire(&id, true))
                .await;
        }
        self.edit_delayed(room, id, move |this, snap, w, id, row| {
            match (action, &row.end) {
                (DelayedAction::Cancel, None) => {
                    let end = DelayedEnd {
                        at_ms: this.inner.clock.now_ms(),
                        asked: true,
                        event_id: None,
                        error: None,
                    };
                    Ok(this.end_delayed(snap, w, id, row, end)?)
                }
                (DelayedAction::Cancel, Some(end)) if end.event_id.is_none() => Ok(()),
                (_, None) => {
                    let mut anew = row.clone();
                    anew.since_ms = this.inner.clock.now_ms();
                    this.drop_delayed(w, id, row)?;
                    Ok(this.put_delayed(w, id, &anew)?)
                }
                (_, Some(_)) => Err(over()),
            }
        })
        .await
    }

    /// Changes the row of a delayed event, in the lane of its room.
    async fn edit_delayed(
        &self,
        room: RoomNid,
        id: String,
        edit: impl FnOnce(&Rooms, &Snapshot, &mut Write, &str, &DelayedRow) -> Result<(), RoomError>
        + Send
        + 'static,
    ) -> Result<(), RoomError> {
        let lane = self.inner.lanes.lock(room).await;
        self.write(lane, move |this| {
            let (snap, mut w) = (this.newest(), this.store().write());
            let planned = match snap.get::<t::Delayed>(&id)? {
                Some(row) => edit(this, &snap, &mut w, &id, &row),
                None => Err(unknown()),
            };
            this.commit_plan(w, planned)
        })
        .await
    }

    /// Writes all rows of a delayed event.
    fn put_delayed(&self, w: &mut Write, id: &str, row: &DelayedRow) -> Result<(), StoreError> {
        let ((step, at_ms), id) = (next(row), id.to_owned());
        w.put::<t::DelayedDue>(&(step, at_ms, id.clone()), &());
        w.put::<t::DelayedOf>(&(row.user, step, at_ms, id.clone()), &());
        if let Some(key) = row.state_key.as_ref().filter(|_| row.end.is_none()) {
            let key = self.store().intern_state_key(&row.kind, key)?;
            w.put::<t::DelayedState>(&(row.room, key, id.clone()), &());
        }
        w.put::<t::Delayed>(&id, row);
        Ok(())
    }

    /// Takes all rows of a delayed event away.
    fn drop_delayed(&self, w: &mut Write, id: &str, row: &DelayedRow) -> Result<(), StoreError> {
        let ((step, at_ms), id) = (next(row), id.to_owned());
        w.delete::<t::DelayedDue>(&(step, at_ms, id.clone()));
        w.delete::<t::DelayedOf>(&(row.user, step, at_ms, id.clone()));
        if let Some(key) = row.state_key.as_ref().filter(|_| row.end.is_none()) {
            let key = self.store().intern_state_key(&row.kind, key)?;
            w.delete::<t::DelayedState>(&(row.room, key, id.clone()));
        }
        w.delete::<t::Delayed>(&id);
        Ok(())
    }

    /// Notes what became of a delayed event; the oldest of too many of them are forgotten.
    fn end_delayed(
        &self,
        snap: &Snapshot,
        w: &mut Write,
        id: &str,
        row: &DelayedRow,
        end: DelayedEnd,
    ) -> Result<(), StoreError> {
        let mut ended = row.clone();
        ended.end = Some(end);
        w.delete::<t::Delegated>(&id.to_owned());
        self.drop_delayed(w, id, row)?;
        self.put_delayed(w, id, &ended)?;
        let prefix = (row.user, DelayedStep::Forget);
        // A write that ends several leaves too many of them to the next one.
        let kept = snap.scan::<t::DelayedOf>(Scan::prefix(&prefix));
        let kept = kept.map(|row| row.map(|((.., id), ())| id));
        let kept = kept.collect::<Result<Vec<_>, _>>()?;
        let surplus = (kept.len() + 1).saturating_sub(KEPT_MAX);
        for oldest in kept.into_iter().take(surplus) {
            if let Some(row) = snap.get::<t::Delayed>(&oldest)? {
                self.drop_delayed(w, &oldest, &row)?;
            }
        }
        Ok(())
    }

    /// Somebody set a state: what others have scheduled for it is cancelled, since it would undo
    /// what they could not know of.
    pub(crate) fn cancel_delayed_for(
        &self,
        w: &mut Write,
        snap: &Snapshot,
        (room, key): (RoomNid, skerry_core::StateKeyNid),
        sender: UserNid,
    ) -> Result<(), StoreError> {
        for row in snap.scan::<t::DelayedState>(Scan::prefix(&(room, key))) {
            let ((.., id), ()) = row?;
            let Some(row) = snap.get::<t::Delayed>(&id)? else {
                continue;
            };
            if row.user != sender && row.end.is_none() {
                let text = "Another user has set the same state meanwhile";
                let end = DelayedEnd {
                    at_ms: self.inner.clock.now_ms(),
                    asked: false,
                    event_id: None,
                    error: Some((CANCELLED_BY_STATE.to_owned(), text.to_owned())),
                };
                self.end_delayed(snap, w, &id, &row, end)?;
            }
        }
        Ok(())
    }

    /// Takes away everything that a user has scheduled.
    pub(crate) fn forget_delayed(
        &self,
        w: &mut Write,
        snap: &Snapshot,
        user: UserNid,
    ) -> Result<(), StoreError> {
        for row in snap.scan::<t::DelayedOf>(Scan::prefix(&user)) {
            let ((.., id), ()) = row?;
            if let Some(row) = snap.get::<t::Delayed>(&id)? {
                w.delete::<t::Delegated>(&id);
                self.drop_delayed(w, &id, &row)?;
            }
        }
        Ok(())
    }
}

/// How many events a user has scheduled, counted up to `most`, and when the first is due.
fn scheduled(snap: &Snapshot, user: UserNid, most: usize) -> Result<(usize, u64), StoreError> {
    let prefix = (user, DelayedStep::Send);
    let (mut count, mut first_ms) = (0, 0);
    for row in snap.scan::<t::DelayedOf>(Scan::prefix(&prefix).limit(most)) {
        let ((_, _, at_ms, _), ()) = row?;
        if count == 0 {
            first_ms = at_ms;
        }
        count += 1;
    }
    Ok((count, first_ms))
}

fn unknown() -> RoomError {
    RoomError::NotFound("No delayed event has this id".into())
}

fn over() -> RoomError {
    RoomError::DelayedOver("Something else has become of the delayed event already".into())
}
