//! Receipts: how far users have read (spec: receipts, fully-read markers).

use std::collections::BTreeMap;
use std::sync::Arc;

use skerry_account::data::{self, FULLY_READ};
use skerry_core::canonical::write_string_bytes;
use skerry_core::{EventNid, Order, Pos, UserNid};
use skerry_store::schema::room_read::{ReceiptAt, ReceiptKind, ReceiptRow, Receipts, Unread};
use skerry_store::{Change, Scan, Snapshot, StoreError, Write};

use crate::change::Outcome;
use crate::unread::{MAIN, Marks};
use crate::{Placed, RoomError, Rooms, Standing, View, Viewer};

/// Longest thread id, in bytes.
const THREAD_BYTES_MAX: usize = 255;
/// Threads of one room in which a user may have receipts of their own.
const THREADS_MAX: usize = 10_000;

/// What a user says to have read, by event id.
#[derive(Clone, Debug, Default)]
pub struct ReadMarks {
    /// `m.read`, shown to all.
    pub read: Option<String>,
    /// `m.read.private`, shown to the user alone.
    pub private: Option<String>,
    /// `m.fully_read`, kept in the user's account data.
    pub fully_read: Option<String>,
    /// The thread that the two receipts are about; `None` for all.
    pub thread: Option<String>,
}

/// One receipt as it is stored.
type Key = (UserNid, ReceiptKind, String);

impl Rooms {
    /// Moves receipts and the fully-read marker of a user. They never move backwards: one that
    /// would is left where it is.
    ///
    /// # Errors
    /// [`RoomError::Forbidden`] if the user is not in the room, [`RoomError::NotFound`] for an
    /// event that they cannot see there, [`RoomError::InvalidParam`] for a thread that the event
    /// is not in; the store's.
    pub async fn mark_read(
        &self,
        viewer: Viewer,
        room_id: &str,
        marks: ReadMarks,
    ) -> Result<(), RoomError> {
        let lane = self.inner.reads.readers.lock(viewer.user).await;
        let room_id = room_id.to_owned();
        self.write(lane, move |this| {
            this.mark_read_now(&viewer, &room_id, &marks)
        })
        .await
    }

    fn mark_read_now(
        &self,
        viewer: &Viewer,
        room_id: &str,
        marks: &ReadMarks,
    ) -> Result<Outcome<()>, StoreError> {
        let snap = self.newest();
        let mut w = self.store().write();
        match self.plan_marks(&mut w, &snap, viewer, room_id, marks) {
            Err(RoomError::Store(error)) => Err(error),
            answer if answer.is_err() || w.is_empty() => Ok((answer, self.store().barrier())),
            answer => Ok((answer, self.store().commit(w)?)),
        }
    }

    fn plan_marks(
        &self,
        w: &mut Write,
        snap: &Snapshot,
        viewer: &Viewer,
        room_id: &str,
        marks: &ReadMarks,
    ) -> Result<(), RoomError> {
        let mut view = self.readable_view(snap, viewer, room_id)?;
        if view.standing() != Standing::Joined {
            return Err(RoomError::Forbidden("You are not in this room".to_owned()));
        }
        if let Some(event_id) = &marks.fully_read {
            let event = view.known_event(event_id)?;
            view.put_fully_read(w, &event)?;
        }
        let Some(mut now) = self.marks(snap, view.room(), viewer.user)? else {
            return Ok(());
        };
        let (before, mut moved) = (now.clone(), false);
        let receipts = [
            (ReceiptKind::Public, &marks.read),
            (ReceiptKind::Private, &marks.private),
        ];
        for (kind, event_id) in receipts {
            let Some(event_id) = event_id else { continue };
            let event = view.known_event(event_id)?;
            let thread = marks.thread.as_deref();
            view.check_thread(thread, &event)?;
            let key = (viewer.user, kind, thread.unwrap_or_default().to_owned());
            moved |= view.put_receipt(w, key, &event, &mut now)?;
        }
        if moved {
            let row = view.unread_row(&before, &now)?;
            w.put::<Unread>(&(viewer.user, view.room()), &row);
        }
        Ok(())
    }
}

impl View {
    fn known_event(&mut self, event_id: &str) -> Result<Arc<Placed>, RoomError> {
        let event = self.event_by_id(event_id)?;
        event.ok_or_else(|| RoomError::NotFound("The room has no such event".to_owned()))
    }

    /// Makes sure that an event is in the thread of its receipt.
    fn check_thread(&self, thread: Option<&str>, event: &Arc<Placed>) -> Result<(), RoomError> {
        let invalid = |text: &str| Err(RoomError::InvalidParam(text.to_owned()));
        let Some(thread) = thread else { return Ok(()) };
        if thread.is_empty() || thread.len() > THREAD_BYTES_MAX {
            return invalid("thread_id must be a non-empty string of at most 255 bytes");
        }
        let of = self.rooms.thread_of(&self.snap, event)?;
        let root = thread == event.event.event_id();
        if root || of.as_deref().unwrap_or(MAIN) == thread {
            return Ok(());
        }
        invalid("The event is not related to the given thread_id")
    }

    /// Adds one receipt to a write, if it moves forward.
    fn put_receipt(
        &self,
        w: &mut Write,
        key: Key,
        event: &Placed,
        now: &mut Marks,
    ) -> Result<bool, RoomError> {
        let (user, kind, thread) = key;
        let row_key = (self.room, user, kind, thread.clone());
        let before = self.snap.get::<Receipts>(&row_key)?;
        if before
            .as_ref()
            .is_some_and(|before| before.order >= event.order())
        {
            return Ok(false);
        }
        match &before {
            Some(before) => w.delete::<ReceiptAt>(&(self.room, before.pos)),
            None => {
                let all = Scan::prefix(&(self.room, user)).limit(THREADS_MAX);
                if self.snap.scan::<Receipts>(all).count() >= THREADS_MAX {
                    return Err(RoomError::InvalidParam("Too many threads".to_owned()));
                }
            }
        }
        let private = kind == ReceiptKind::Private;
        let pos = w.log(Change::Receipt {
            room: self.room,
            user,
            private,
        });
        let order = event.order();
        let row = ReceiptRow {
            event: event.nid,
            order,
            ts: self.now_ms,
            pos,
        };
        w.put::<Receipts>(&row_key, &row);
        now.raise(&thread, order, pos);
        w.put::<ReceiptAt>(&(self.room, pos), &(user, kind, thread));
        Ok(true)
    }

    /// Adds the fully-read marker to a write, if it moves forward.
    fn put_fully_read(&self, w: &mut Write, event: &Placed) -> Result<(), RoomError> {
        let user = self.reader.user;
        let before = data::one(&self.snap, user, Some(self.room), FULLY_READ)?;
        if let Some(before) = before
            && let Some(order) = self.place_in(&before.json)?
            && order >= event.order()
        {
            return Ok(());
        }
        let mut json = b"{\"event_id\":".to_vec();
        write_string_bytes(event.event.event_id(), &mut json);
        json.push(b'}');
        let json = String::from_utf8(json).map_err(|_| StoreError::missing("event", event.nid))?;
        data::put(&self.snap, w, user, Some(self.room), (FULLY_READ, json))?;
        Ok(())
    }

    /// The place of the event that a fully-read marker names.
    fn place_in(&self, json: &str) -> Result<Option<Order>, StoreError> {
        #[derive(serde::Deserialize)]
        struct Marker {
            event_id: String,
        }
        let Ok(marker) = serde_json::from_str::<Marker>(json) else {
            return Ok(None);
        };
        let Some(nid) = self.rooms.store().event_nid(&self.snap, &marker.event_id)? else {
            return Ok(None);
        };
        Ok(self.rooms.meta(&self.snap, nid)?.map(|meta| meta.order))
    }

    /// Receipts of the room that moved after `since`, or all, as the user may see them: one
    /// `m.receipt` event (a JSON object) for each thread, for a user may have receipts of several
    /// threads at one event.
    ///
    /// # Errors
    /// The store's.
    pub fn receipt_events(&self, since: Option<Pos>) -> Result<Vec<Vec<u8>>, StoreError> {
        let mut threads: BTreeMap<String, BTreeMap<EventNid, Vec<Shown>>> = BTreeMap::new();
        for ((user, kind, thread), row) in self.receipts(since)? {
            if self.is_hidden(user, kind) {
                continue;
            }
            let thread_name = thread.clone();
            let at = threads
                .entry(thread)
                .or_default()
                .entry(row.event)
                .or_default();
            at.push(Shown {
                user,
                kind,
                thread: thread_name,
                ts: row.ts,
            });
        }
        threads
            .values()
            .map(|events| self.write_receipts(events))
            .collect()
    }

    /// Receipts of the room that moved after `since`, as one `m.receipt` event. Of a user's
    /// receipts at one event it can hold but one.
    ///
    /// # Errors
    /// The store's.
    pub fn receipts_since(&self, since: Pos) -> Result<Option<Vec<u8>>, StoreError> {
        self.receipts_as_one(self.receipts(Some(since))?)
    }

    /// The user's own receipts and those at some events, of which the first stands at `first`, as
    /// one `m.receipt` event. Of a user's receipts at one event it can hold but one.
    ///
    /// # Errors
    /// The store's.
    pub fn receipts_at(
        &self,
        events: &[EventNid],
        first: Option<Pos>,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let own = Scan::prefix(&(self.room, self.reader.user));
        let own = self.snap.scan::<Receipts>(own);
        let mut found = own
            .map(|row| row.map(|((_, user, kind, thread), row)| ((user, kind, thread), row)))
            .collect::<Result<Vec<_>, _>>()?;
        if let Some(first) = first {
            // An event cannot be read before it is there.
            let others = self.receipts(Some(first))?.into_iter();
            let others = others.filter(|((user, ..), row)| {
                *user != self.reader.user && events.contains(&row.event)
            });
            found.extend(others);
        }
        self.receipts_as_one(found)
    }

    fn receipts_as_one(
        &self,
        found: Vec<(Key, ReceiptRow)>,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let mut events: BTreeMap<EventNid, Vec<Shown>> = BTreeMap::new();
        for ((user, kind, thread), row) in found {
            if self.is_hidden(user, kind) {
                continue;
            }
            let at = events.entry(row.event).or_default();
            let same = at
                .iter_mut()
                .find(|one| (one.user, one.kind) == (user, kind));
            match same {
                // The one about more: all of the room, else the main timeline.
                Some(one) if breadth(&thread) < breadth(&one.thread) => {
                    (one.thread, one.ts) = (thread, row.ts);
                }
                Some(_) => {}
                None => at.push(Shown {
                    user,
                    kind,
                    thread,
                    ts: row.ts,
                }),
            }
        }
        if events.is_empty() {
            return Ok(None);
        }
        self.write_receipts(&events).map(Some)
    }

    /// Whether a receipt is not for this reader to see.
    fn is_hidden(&self, user: UserNid, kind: ReceiptKind) -> bool {
        let private = kind == ReceiptKind::Private && user != self.reader.user;
        private || self.ignored.contains(&user)
    }

    fn receipts(&self, since: Option<Pos>) -> Result<Vec<(Key, ReceiptRow)>, StoreError> {
        let Some(since) = since else {
            let rows = self.snap.scan::<Receipts>(Scan::prefix(&self.room));
            return rows
                .map(|row| row.map(|((_, user, kind, thread), row)| ((user, kind, thread), row)))
                .collect();
        };
        let mut found = Vec::new();
        let scan = Scan::prefix(&self.room).after(&(self.room, since));
        for row in self.snap.scan::<ReceiptAt>(scan) {
            let (_, (user, kind, thread)) = row?;
            let row = self
                .snap
                .get::<Receipts>(&(self.room, user, kind, thread.clone()))?;
            found.extend(row.map(|row| ((user, kind, thread), row)));
        }
        Ok(found)
    }

    /// `{"content":{event:{type:{user:{"thread_id":..,"ts":..}}}},"type":"m.receipt"}`
    fn write_receipts(
        &self,
        events: &BTreeMap<EventNid, Vec<Shown>>,
    ) -> Result<Vec<u8>, StoreError> {
        let store = self.rooms.store();
        let mut out = b"{\"content\":{".to_vec();
        for (at, (event, shown)) in events.iter().enumerate() {
            comma(at, &mut out);
            write_string_bytes(&store.event_id(*event)?, &mut out);
            out.extend_from_slice(b":{");
            let mut kinds: BTreeMap<ReceiptKind, Vec<&Shown>> = BTreeMap::new();
            for one in shown {
                kinds.entry(one.kind).or_default().push(one);
            }
            for (at, (kind, shown)) in kinds.iter().enumerate() {
                comma(at, &mut out);
                write_string_bytes(kind_name(*kind), &mut out);
                out.extend_from_slice(b":{");
                for (at, one) in shown.iter().enumerate() {
                    comma(at, &mut out);
                    write_string_bytes(&store.user_id(one.user)?, &mut out);
                    out.extend_from_slice(b":{");
                    if !one.thread.is_empty() {
                        out.extend_from_slice(b"\"thread_id\":");
                        write_string_bytes(&one.thread, &mut out);
                        out.push(b',');
                    }
                    out.extend_from_slice(format!("\"ts\":{}}}", one.ts).as_bytes());
                }
                out.push(b'}');
            }
            out.push(b'}');
        }
        out.extend_from_slice(b"},\"type\":\"m.receipt\"}");
        Ok(out)
    }
}

/// One receipt at an event.
struct Shown {
    user: UserNid,
    kind: ReceiptKind,
    /// Empty for all of the room.
    thread: String,
    ts: u64,
}

/// How little a receipt is about, by its thread.
fn breadth(thread: &str) -> u8 {
    match thread {
        "" => 0,
        MAIN => 1,
        _ => 2,
    }
}

fn comma(at: usize, out: &mut Vec<u8>) {
    if at > 0 {
        out.push(b',');
    }
}

fn kind_name(kind: ReceiptKind) -> &'static str {
    match kind {
        ReceiptKind::Public => "m.read",
        ReceiptKind::Private => "m.read.private",
    }
}
