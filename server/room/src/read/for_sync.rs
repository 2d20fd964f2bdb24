//! What `skerry-sync` asks of rooms, beyond what every reader asks.

use std::sync::Arc;

use skerry_core::canonical::write_string_bytes;
use skerry_core::{EventIdFormat, EventNid, Membership, Order, Pos, RoomNid, StateId, UserNid};
use skerry_store::schema::federation::StateAt;
use skerry_store::schema::room::{self as t};
use skerry_store::schema::room_read::{Receipts, RedactedAt};
use skerry_store::{Scan, Snapshot, StoreError};

use crate::{Placed, Rooms, View};

impl Rooms {
    /// The newest events of a room after one place and up to and including another, newest first.
    ///
    /// # Errors
    /// The store's.
    pub fn stretch(
        &self,
        snap: &Snapshot,
        room: RoomNid,
        (after, upto): (Order, Order),
        limit: usize,
    ) -> Result<Vec<(Order, EventNid)>, StoreError> {
        if let Some(rows) = self.tail(snap, room, (after, upto), limit)? {
            return Ok(rows);
        }
        let end = Order {
            anchor: upto.anchor,
            n: upto.n.saturating_add(1),
        };
        let scan = Scan::prefix(&room)
            .after(&(room, after))
            .to(&(room, end))
            .rev()
            .limit(limit);
        let rows = snap.scan::<t::Timeline>(scan);
        rows.map(|row| row.map(|((_, order), event)| (order, event)))
            .collect()
    }

    /// The state that a room had for somebody who has seen the log up to `pos`; `None` if there
    /// was no event in it yet. Where the room's graph had several ends, that is not the state
    /// after its newest event, but what their states made together.
    ///
    /// # Errors
    /// The store's.
    pub fn state_id_at(
        &self,
        snap: &Snapshot,
        room: RoomNid,
        pos: Pos,
    ) -> Result<Option<StateId>, StoreError> {
        let last = self.stretch(snap, room, (Order::MIN, Order::live(pos)), 1)?;
        let Some((order, event)) = last.first() else {
            return Ok(None);
        };
        let scan = Scan::prefix(&room)
            .from(&(room, order.anchor))
            .to(&(room, Pos(pos.0.saturating_add(1))))
            .rev()
            .limit(1);
        if let Some(row) = snap.scan::<StateAt>(scan).next() {
            return row.map(|(_, state)| Some(state));
        }
        Ok(self.meta(snap, *event)?.map(|meta| meta.after))
    }

    /// Where the newest redaction of a room took effect.
    ///
    /// # Errors
    /// The store's.
    pub fn redacted_at(&self, snap: &Snapshot, room: RoomNid) -> Result<Pos, StoreError> {
        Ok(snap.get::<RedactedAt>(&room)?.unwrap_or(Pos::ZERO))
    }

    /// Whether a receipt of the user's own in a room moved after `since`.
    ///
    /// # Errors
    /// The store's.
    pub fn has_read_since(
        &self,
        snap: &Snapshot,
        room: RoomNid,
        user: UserNid,
        since: Pos,
    ) -> Result<bool, StoreError> {
        for row in snap.scan::<Receipts>(Scan::prefix(&(room, user))) {
            if row?.1.pos > since {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The users joined to a room.
    ///
    /// # Errors
    /// The store's.
    pub fn joined_users(&self, snap: &Snapshot, room: RoomNid) -> Result<Vec<UserNid>, StoreError> {
        let members = self.members(snap, room)?.into_iter();
        let joined = members.filter(|(_, member)| member.membership == Membership::Join);
        Ok(joined.map(|(user, _)| user).collect())
    }
}

impl View {
    /// Appends a JSON array of events in the form that servers exchange, with the ids that this
    /// form may lack (filter: `event_format`).
    pub fn write_federation(&self, events: &[Arc<Placed>], out: &mut Vec<u8>) {
        out.push(b'[');
        for (at, event) in events.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            let event = &event.event;
            event.write_federation(out);
            // An object with members: its brace is opened again for more.
            out.pop();
            if event.version().event_id_format() != EventIdFormat::Chosen {
                member(b"event_id", event.event_id(), out);
            }
            if !event.has_room_id_field() {
                member(b"room_id", event.room_id(), out);
            }
            out.push(b'}');
        }
        out.push(b']');
    }
}

fn member(name: &[u8], value: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name);
    out.extend_from_slice(b"\":");
    write_string_bytes(value, out);
}
