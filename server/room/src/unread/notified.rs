//! The events that a user was notified of, newest first, over all rooms (`GET /notifications`).
//!
//! Nothing is kept for it: the timelines of the user's rooms are gone through backwards together,
//! and the push rules are asked again.

use std::collections::BinaryHeap;
use std::sync::Arc;

use skerry_core::canonical::write_string_bytes;
use skerry_core::{EventNid, Membership, Order, Pos, RoomNid};
use skerry_store::schema::room::Timeline;
use skerry_store::{Rows, Scan, Snapshot, StoreError};

use super::{Alert, Judge};
use crate::{Form, Placed, RoomError, Rooms, View, Viewer};

/// Most events given at once.
pub const NOTIFICATIONS_MAX: usize = 100;
/// Most events looked at for one answer; the next token goes on from there.
const LOOK_MAX: usize = 3_000;

/// Which part of the list.
#[derive(Clone, Copy, Debug)]
pub struct NotificationsAsk {
    /// Only what is older than this position, which an earlier answer named.
    pub from: Option<Pos>,
    /// How many at most.
    pub limit: usize,
    /// Only what highlights.
    pub highlight: bool,
}

/// A room's timeline, being gone through backwards.
struct Walk<'a> {
    room: RoomNid,
    since: Pos,
    rows: Rows<'a, Timeline>,
    view: Option<View>,
    judge: Option<Judge>,
}

/// The place in the heap of a walk: no event that it still has lies after `at`.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    at: Order,
    walk: usize,
    event: Option<EventNid>,
}

impl Rooms {
    /// A part of the list of events that the user was notified of: the answer's JSON.
    ///
    /// # Errors
    /// The store's.
    pub fn notifications_json(
        &self,
        snap: &Snapshot,
        viewer: &Viewer,
        ask: NotificationsAsk,
    ) -> Result<Vec<u8>, RoomError> {
        let upto = Order::live(ask.from.unwrap_or(Pos(snap.head().0.saturating_add(1))));
        let mut walks = Vec::new();
        let mut turns = BinaryHeap::new();
        for (room, member) in self.rooms_of(snap, viewer.user)? {
            if member.membership != Membership::Join {
                continue;
            }
            let scan = Scan::prefix(&room).to(&(room, upto)).rev();
            turns.push(Turn {
                at: Order::live(self.last_pos(room)).min(upto),
                walk: walks.len(),
                event: None,
            });
            walks.push(Walk {
                room,
                since: member.since,
                rows: snap.scan::<Timeline>(scan),
                view: None,
                judge: None,
            });
        }
        let limit = ask.limit.min(NOTIFICATIONS_MAX);
        let mut found = Found::new();
        let (mut looked, mut last) = (0, None);
        while let Some(turn) = turns.pop() {
            let Some(walk) = walks.get_mut(turn.walk) else {
                continue;
            };
            if let Some(event) = turn.event {
                if found.count >= limit || looked >= LOOK_MAX {
                    last = Some(turn.at.anchor);
                    break;
                }
                looked += 1;
                self.notice(snap, viewer, walk, event, ask.highlight, &mut found)?;
            }
            // What came before the user did notified them of nothing.
            if let Some(row) = walk.rows.next().transpose()?
                && row.0.1.anchor > walk.since
            {
                turns.push(Turn {
                    at: row.0.1,
                    walk: turn.walk,
                    event: Some(row.1),
                });
            }
        }
        Ok(found.finish(last))
    }

    /// Looks at one event.
    fn notice(
        &self,
        snap: &Snapshot,
        viewer: &Viewer,
        walk: &mut Walk<'_>,
        event: EventNid,
        only_highlight: bool,
        found: &mut Found,
    ) -> Result<(), StoreError> {
        let Some(event) = self.placed(snap, walk.room, event)? else {
            return Ok(());
        };
        let view = match &mut walk.view {
            Some(view) => view,
            None => walk.view.insert(self.view(snap, viewer, walk.room)?),
        };
        let Some(alert) = view.alert_by(&mut walk.judge, &event)? else {
            return Ok(());
        };
        if only_highlight && !alert.highlight {
            return Ok(());
        }
        let Some(event) = view.admit(&event)? else {
            return Ok(());
        };
        found.add(view, &alert, &event)
    }
}

/// The answer as it grows.
struct Found {
    json: Vec<u8>,
    count: usize,
}

impl Found {
    fn new() -> Found {
        Found {
            json: b"{\"notifications\":[".to_vec(),
            count: 0,
        }
    }

    fn add(
        &mut self,
        view: &mut View,
        alert: &Alert,
        event: &Arc<Placed>,
    ) -> Result<(), StoreError> {
        let out = &mut self.json;
        if self.count > 0 {
            out.push(b',');
        }
        self.count += 1;
        out.extend_from_slice(b"{\"actions\":");
        // Actions are plain values: they can be written.
        out.extend(serde_json::to_vec(&alert.actions).unwrap_or_else(|_| b"[]".to_vec()));
        out.extend_from_slice(b",\"event\":");
        let mut events = Vec::new();
        view.write_bundled(std::slice::from_ref(event), Form::SYNC, &mut events)?;
        let one = events.strip_prefix(b"[").and_then(|e| e.strip_suffix(b"]"));
        out.extend_from_slice(one.unwrap_or(b"{}"));
        out.extend_from_slice(b",\"profile_tag\":null,\"read\":");
        let read = view.has_read(event)?;
        out.extend_from_slice(if read { b"true" } else { b"false" });
        out.extend_from_slice(b",\"room_id\":");
        write_string_bytes(view.room_id(), out);
        let ts = event.event.origin_server_ts();
        out.extend_from_slice(format!(",\"ts\":{ts}}}").as_bytes());
        Ok(())
    }

    /// `next` is the position of the first event that was not looked at.
    fn finish(mut self, next: Option<Pos>) -> Vec<u8> {
        self.json.push(b']');
        if let Some(next) = next {
            let token = next.0.saturating_add(1);
            let text = format!(",\"next_token\":\"n{token}\"");
            self.json.extend_from_slice(text.as_bytes());
        }
        self.json.push(b'}');
        self.json
    }
}
