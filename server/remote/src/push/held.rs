//! Notifications held back while their user is active.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use skerry_account::pusher::{self, PushItem};
use skerry_core::{Clock, EventNid, RoomNid};
use skerry_room::Rooms;
use skerry_store::outbox::Dest;
use skerry_store::{Snapshot, Store, StoreError, blocking};

use super::HOLD_MS;
use super::lookup::viewer;
use crate::outbox::{Deliver, Next, Report, Row};

/// Passes on what the user has not read after a moment, and drops what they have.
#[derive(Clone)]
pub struct HeldPushes {
    store: Arc<Store>,
    rooms: Rooms,
    clock: Arc<dyn Clock>,
}

impl HeldPushes {
    /// For these rooms.
    #[must_use]
    pub fn new(rooms: Rooms, clock: Arc<dyn Clock>) -> HeldPushes {
        HeldPushes {
            store: Arc::clone(rooms.store()),
            rooms,
            clock,
        }
    }

    fn pass_on(&self, rows: &[Row]) -> Result<Report, StoreError> {
        let snap = self.store.snapshot();
        let now_ms = self.clock.now_ms();
        let mut report = Report::done(&[]);
        let mut w = self.store.write();
        for row in rows {
            let Some(PushItem::Event { at_ms, .. }) = PushItem::read(&row.item) else {
                report.bad.push(row.pos);
                continue;
            };
            let due_ms = at_ms.saturating_add(HOLD_MS);
            if due_ms > now_ms {
                report.next = Next::NotBefore(due_ms);
                break;
            }
            self.pass_one(&snap, &mut w, row)?;
            report.done.push(row.pos);
        }
        report.write = Some(w);
        Ok(report)
    }

    fn pass_one(
        &self,
        snap: &Snapshot,
        w: &mut skerry_store::Write,
        row: &Row,
    ) -> Result<(), StoreError> {
        let Some(PushItem::Event {
            user,
            room,
            event,
            actions,
            at_ms,
            ..
        }) = PushItem::read(&row.item)
        else {
            return Ok(());
        };
        let (user, room, nid) = (skerry_core::UserNid(user), RoomNid(room), EventNid(event));
        let Some(event) = self.rooms.placed(snap, room, nid)? else {
            return Ok(());
        };
        let viewer = viewer(&self.store, user)?;
        if self.rooms.view(snap, &viewer, room)?.has_read(&event)? {
            return Ok(());
        }
        for (key, pusher) in pusher::of_user(snap, user)? {
            let later = event.meta.order.anchor > pusher.pos;
            if let Some(url) = pusher::url(&pusher).filter(|_| later && pusher::in_use(&pusher)) {
                let item = PushItem::event(user, Some(&key), (room, nid), actions.clone(), at_ms);
                item.queue(w, &Dest::Push(url));
            }
        }
        Ok(())
    }
}

impl Deliver for HeldPushes {
    fn serves(&self, dest: &Dest) -> bool {
        matches!(dest, Dest::Held(_))
    }

    fn deliver<'a>(&'a self, _: &'a Dest, rows: &'a [Row]) -> BoxFuture<'a, Report> {
        let (this, rows) = (self.clone(), rows.to_vec());
        Box::pin(async move {
            let passed = blocking(move || this.pass_on(&rows)).await;
            passed
                .and_then(|passed| passed)
                .unwrap_or_else(Report::failed)
        })
    }
}
