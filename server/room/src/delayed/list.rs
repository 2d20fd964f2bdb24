//! Reading what a user has scheduled, and what became of it.

use std::sync::Arc;

use skerry_core::UserNid;
use skerry_store::schema::room_timed::{self as t, DelayedEnd, DelayedRow};
use skerry_store::{Scan, Snapshot, StoreError};

use super::{due_ms, unknown};
use crate::{RoomError, Rooms};

/// Events of one answer.
const PAGE: usize = 20;

/// A delayed event as its owner sees it.
#[derive(Clone, Debug)]
pub struct DelayedEvent {
    /// Its id.
    pub id: String,
    /// The room it is sent to.
    pub room_id: Arc<str>,
    /// The event type.
    pub kind: String,
    /// The state key of a state event.
    pub state_key: Option<String>,
    /// Its content, as JSON.
    pub content: Vec<u8>,
    /// How long it is delayed, in ms.
    pub delay_ms: u64,
    /// Since when, in ms since the epoch.
    pub since_ms: u64,
    /// What became of it.
    pub end: Option<DelayedEnd>,
}

/// By which time events are ordered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DelayedOrder {
    /// When they are or were due.
    #[default]
    Due,
    /// When something became of them; when they are due, where nothing has.
    End,
    /// When they were scheduled or restarted.
    Since,
}

/// What has become of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DelayedOutcome {
    /// It was sent.
    Send,
    /// A user took it back.
    Cancel,
    /// It could not be sent.
    Error,
}

/// Which events are wanted; what is `None` does not matter.
#[derive(Clone, Debug, Default)]
pub struct DelayedAsk {
    /// The order.
    pub order: DelayedOrder,
    /// The newest first.
    pub backwards: bool,
    /// Only those that are over, or only those that are not.
    pub over: Option<bool>,
    /// Only those of this room.
    pub room_id: Option<String>,
    /// Only those of this type.
    pub kind: Option<String>,
    /// Only those of which this became.
    pub outcome: Option<DelayedOutcome>,
    /// Only those that ended because a client asked (`true`), or because their time had come.
    pub asked: Option<bool>,
    /// Only those whose time, by which they are ordered, is not on the far side of this.
    pub since_ms: Option<u64>,
    /// Where the page before ended.
    pub from: Option<(u64, String)>,
}

/// A page of events.
#[derive(Clone, Debug)]
pub struct DelayedPage {
    /// The events.
    pub events: Vec<DelayedEvent>,
    /// Where the next page begins, if there is one.
    pub next: Option<(u64, String)>,
}

impl DelayedAsk {
    fn time(&self, row: &DelayedRow) -> u64 {
        match (self.order, &row.end) {
            (DelayedOrder::Since, _) => row.since_ms,
            (DelayedOrder::End, Some(end)) => end.at_ms,
            (DelayedOrder::End | DelayedOrder::Due, _) => due_ms(row),
        }
    }

    fn wants(&self, row: &DelayedRow, room_id: &str) -> bool {
        let outcome = row.end.as_ref().map(outcome);
        let asked = row.end.as_ref().map(|end| end.asked);
        self.over.is_none_or(|over| over == row.end.is_some())
            && self.room_id.as_ref().is_none_or(|id| id == room_id)
            && self.kind.as_ref().is_none_or(|kind| *kind == row.kind)
            && (self.outcome.is_none() || self.outcome == outcome)
            && (self.asked.is_none() || self.asked == asked)
    }
}

fn outcome(end: &DelayedEnd) -> DelayedOutcome {
    match (&end.event_id, &end.error) {
        (Some(_), _) => DelayedOutcome::Send,
        (None, Some(_)) => DelayedOutcome::Error,
        (None, None) => DelayedOutcome::Cancel,
    }
}

impl Rooms {
    /// What a user has scheduled, and what became of it lately.
    ///
    /// # Errors
    /// The store's.
    pub async fn delayed_events(
        &self,
        user: UserNid,
        ask: DelayedAsk,
    ) -> Result<DelayedPage, RoomError> {
        self.query(move |this, snap| Ok(this.delayed_page(snap, user, &ask)?))
            .await
    }

    /// One delayed event of a user.
    ///
    /// # Errors
    /// `NotFound`, also for somebody else's; the store's.
    pub async fn delayed_event(&self, user: UserNid, id: &str) -> Result<DelayedEvent, RoomError> {
        let id = id.to_owned();
        self.query(move |this, snap| {
            let row = snap.get::<t::Delayed>(&id)?;
            let row = row.filter(|row| row.user == user).ok_or_else(unknown)?;
            Ok(this.shown(id, row)?)
        })
        .await
    }

    fn delayed_page(
        &self,
        snap: &Snapshot,
        user: UserNid,
        ask: &DelayedAsk,
    ) -> Result<DelayedPage, StoreError> {
        let mut found = Vec::new();
        for row in snap.scan::<t::DelayedOf>(Scan::prefix(&user)) {
            let ((.., id), ()) = row?;
            let Some(row) = snap.get::<t::Delayed>(&id)? else {
                continue;
            };
            if ask.wants(&row, &self.store().room_id(row.room)?) {
                found.push(((ask.time(&row), id), row));
            }
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        if ask.backwards {
            found.reverse();
        }
        found.retain(|((at_ms, id), _)| {
            let before = |other: &(u64, String)| (at_ms, id) < (&other.0, &other.1);
            let after = |other: &(u64, String)| (at_ms, id) > (&other.0, &other.1);
            let (starts, follows) = match ask.backwards {
                true => (
                    ask.since_ms.is_none_or(|since| *at_ms <= since),
                    ask.from.as_ref().is_none_or(before),
                ),
                false => (
                    ask.since_ms.is_none_or(|since| *at_ms >= since),
                    ask.from.as_ref().is_none_or(after),
                ),
            };
            starts && follows
        });
        let more = found.len() > PAGE;
        found.truncate(PAGE);
        let last = found.last().map(|(place, _)| place.clone());
        let events = found.into_iter().map(|((_, id), row)| self.shown(id, row));
        Ok(DelayedPage {
            events: events.collect::<Result<_, _>>()?,
            next: last.filter(|_| more),
        })
    }

    fn shown(&self, id: String, row: DelayedRow) -> Result<DelayedEvent, StoreError> {
        Ok(DelayedEvent {
            id,
            room_id: self.store().room_id(row.room)?,
            kind: row.kind,
            state_key: row.state_key,
            content: row.content,
            delay_ms: row.delay_ms,
            since_ms: row.since_ms,
            end: row.end,
        })
    }
}
