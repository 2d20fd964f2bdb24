//! The time of a delayed event has come.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use skerry_account::{hold, user};
use skerry_store::schema::room::SentBy;
use skerry_store::schema::room_timed::{self as t, DelayedEnd, DelayedRow, DelayedStep};
use skerry_store::{Scan, Snapshot, StoreError};

use super::{due_ms, over, unknown};
use crate::change::Change;
use crate::send::Words;
use crate::{RoomError, Rooms, Who};

/// Events taken up at once.
const BATCH: usize = 64;
/// How long to sleep at most while an event is scheduled: the clock may be set.
const NAP: Duration = Duration::from_secs(1);
/// How long to wait after the store failed.
const RETRY: Duration = Duration::from_secs(5);
/// For how long an event is left alone whose room is damaged, in ms.
const ASIDE_MS: u64 = 600_000;

impl Rooms {
    /// Sends delayed events when their time has come, for ever. To be spawned once; what is left
    /// from before a restart is sent at once.
    pub async fn run_delayed(self) {
        // Events of damaged rooms, and until when they are left alone.
        let mut aside = HashMap::new();
        loop {
            let wait = match self.send_due(&mut aside).await {
                Ok(due_ms) => due_ms.map(|due_ms| {
                    let left = due_ms.saturating_sub(self.inner.clock.now_ms());
                    Duration::from_millis(left).min(NAP)
                }),
                Err(error) => {
                    tracing::warn!(%error, "delayed events have to be tried again");
                    Some(RETRY)
                }
            };
            let bell = self.inner.delay_bell.notified();
            match wait {
                // Over or not: it is looked again.
                Some(wait) => drop(tokio::time::timeout(wait, bell).await),
                None => bell.await,
            }
        }
    }

    /// Sends what is due; says when there is something to do next, in ms since the epoch.
    async fn send_due(&self, aside: &mut HashMap<String, u64>) -> Result<Option<u64>, RoomError> {
        loop {
            let now_ms = self.inner.clock.now_ms();
            aside.retain(|_, until_ms| *until_ms > now_ms);
            let skip: Vec<String> = aside.keys().cloned().collect();
            let (due, next) = self
                .query(move |_, snap| Ok(due(snap, now_ms, &skip)?))
                .await?;
            if due.is_empty() {
                return Ok(next);
            }
            for (step, id) in due {
                match self.step(step, &id).await {
                    Err(RoomError::Store(error)) if is_damage(&error) => {
                        tracing::error!(%error, "a delayed event is set aside: damaged data");
                        aside.insert(id, now_ms.saturating_add(ASIDE_MS));
                    }
                    done => done?,
                }
            }
        }
    }

    /// Does what is due for one event.
    async fn step(&self, step: DelayedStep, id: &str) -> Result<(), RoomError> {
        let asked = id.to_owned();
        let row = self
            .query(move |_, snap| Ok(snap.get::<t::Delayed>(&asked)?))
            .await?;
        let Some(row) = row else { return Ok(()) };
        if step == DelayedStep::Forget {
            let forget = self.edit_delayed(row.room, id.to_owned(), |this, _, w, id, row| {
                Ok(this.drop_delayed(w, id, row)?)
            });
            return forget.await;
        }
        let fired = id.to_owned();
        let sent = self.change(row.room, move |change| change.fire(&fired, false));
        let refusal = match sent.await {
            Ok(()) => return Ok(()),
            Err(RoomError::Store(error)) => return Err(error.into()),
            Err(refusal) => refusal,
        };
        let now_ms = self.inner.clock.now_ms();
        let error = Some((refusal.errcode().to_owned(), refusal.to_string()));
        let note = self.edit_delayed(row.room, id.to_owned(), move |this, snap, w, id, row| {
            // Somebody may have been quicker.
            if row.end.is_some() || due_ms(row) > now_ms {
                return Ok(());
            }
            let end = DelayedEnd {
                at_ms: now_ms,
                asked: false,
                event_id: None,
                error,
            };
            Ok(this.end_delayed(snap, w, id, row, end)?)
        });
        note.await
    }

    /// Whoever scheduled an event, as they are now.
    fn author(&self, snap: &Snapshot, row: &DelayedRow) -> Result<Who, RoomError> {
        let hold = hold::of(snap, row.user)?;
        if hold.locked || !user::is_active(snap, row.user)? {
            return Err(RoomError::Forbidden("The account is closed".into()));
        }
        Ok(Who {
            user_id: self.store().user_id(row.user)?,
            user: row.user,
            device: Arc::from(row.device.as_str()),
            guest: user::is_guest(snap, row.user)?,
            suspended: hold.suspended,
            admin: user::is_admin(snap, row.user)?,
            appservice: None,
        })
    }
}

impl Change<'_> {
    /// Sends a delayed event and notes that it was sent. Without `asked` only one that is due.
    pub(super) fn fire(&mut self, id: &str, asked: bool) -> Result<(), RoomError> {
        let row = self.snap.get::<t::Delayed>(&id.to_owned())?;
        let row = row.ok_or_else(unknown)?;
        match &row.end {
            Some(end) if asked && end.event_id.is_none() => return Err(over()),
            Some(_) => return Ok(()),
            None if !asked && due_ms(&row) > self.now_ms => return Ok(()),
            None => {}
        }
        let who = self.rooms.author(&self.snap, &row)?;
        self.sent = Some(SentBy {
            device: row.device.clone(),
            txn: None,
            delay_id: Some(id.to_owned()),
        });
        let words = Words {
            kind: row.kind.clone(),
            state_key: row.state_key.clone(),
            content: row.content.clone(),
            sticky_ms: row.sticky_ms,
            ts: row.ts,
        };
        let end = DelayedEnd {
            at_ms: self.now_ms,
            asked,
            event_id: Some(self.say(&who, words)?),
            error: None,
        };
        let rooms = self.rooms;
        Ok(rooms.end_delayed(&self.snap, &mut self.w, id, &row, end)?)
    }
}

/// What is due and not set aside, and when the first of the rest is.
type Due = (Vec<(DelayedStep, String)>, Option<u64>);

fn due(snap: &Snapshot, now_ms: u64, aside: &[String]) -> Result<Due, StoreError> {
    let (mut found, mut next) = (Vec::new(), None::<u64>);
    for step in [DelayedStep::Send, DelayedStep::Forget] {
        for row in snap.scan::<t::DelayedDue>(Scan::prefix(&step)) {
            let ((_, at_ms, id), ()) = row?;
            if aside.contains(&id) {
                continue;
            }
            if at_ms > now_ms || found.len() == BATCH {
                next = Some(next.map_or(at_ms, |next| next.min(at_ms)));
                break;
            }
            found.push((step, id));
        }
    }
    Ok((found, next))
}

/// Whether an error is about some rows, and not about the whole store.
pub(crate) fn is_damage(error: &StoreError) -> bool {
    matches!(error, StoreError::Corrupt { .. } | StoreError::Damaged(_))
}
