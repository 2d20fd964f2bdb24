//! What is to be sent to other servers: one row for each event, written with it.

use std::sync::Arc;

use skerry_core::{EventNid, Pos, RoomNid, ServerNid};
use skerry_store::schema::federation::PduOut;
use skerry_store::schema::room::RoomServer;
use skerry_store::{Scan, Snapshot, StoreError};

use crate::Rooms;

/// An event that the other servers of its room are to get.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OutgoingPdu {
    /// The room.
    pub room: RoomNid,
    /// Its id.
    pub room_id: Arc<str>,
    /// The event.
    pub event: EventNid,
    /// Servers that are to get it although they have no joined member (any more).
    pub also: Vec<ServerNid>,
}

impl Rooms {
    /// What is to be sent, in order, after a position.
    ///
    /// # Errors
    /// The store's.
    pub fn outgoing(
        &self,
        snap: &Snapshot,
        after: Pos,
        limit: usize,
    ) -> Result<Vec<(Pos, OutgoingPdu)>, StoreError> {
        let mut found = Vec::new();
        for row in snap.scan::<PduOut>(Scan::all().after(&after).limit(limit)) {
            let (pos, row) = row?;
            let pdu = OutgoingPdu {
                room: row.room,
                room_id: self.store().room_id(row.room)?,
                event: row.event,
                also: row.also,
            };
            found.push((pos, pdu));
        }
        Ok(found)
    }

    /// An event in the form that servers exchange; in its redacted form once it was redacted.
    /// `None` if it is not here.
    ///
    /// # Errors
    /// The store's.
    pub fn pdu_json(&self, snap: &Snapshot, event: EventNid) -> Result<Option<String>, StoreError> {
        let held = self.event(snap, event)?;
        Ok(held.map(|held| held.event.json().to_owned()))
    }

    /// The servers that have members joined to a room, by their numbers.
    ///
    /// # Errors
    /// The store's.
    pub fn server_nids_in(
        &self,
        snap: &Snapshot,
        room: RoomNid,
    ) -> Result<Vec<ServerNid>, StoreError> {
        let rows = snap.scan::<RoomServer>(Scan::prefix(&room));
        rows.map(|row| row.map(|((_, server), _)| server)).collect()
    }

    /// Whether a server has members joined to a room.
    ///
    /// # Errors
    /// The store's.
    pub fn is_server_in(
        &self,
        snap: &Snapshot,
        room: RoomNid,
        server: ServerNid,
    ) -> Result<bool, StoreError> {
        snap.has::<RoomServer>(&(room, server))
    }

    /// The forward extremities of a room, by their numbers.
    ///
    /// # Errors
    /// The store's.
    pub fn ends(&self, snap: &Snapshot, room: RoomNid) -> Result<Vec<EventNid>, StoreError> {
        let head = self.head(snap, room)?;
        Ok(head.map(|head| head.extremities).unwrap_or_default())
    }

    /// Forgets what every server has got: everything up to and including a position. Not waited
    /// for: what a crash brings back is forgotten again.
    ///
    /// # Errors
    /// The store's.
    pub fn trim_outgoing(&self, upto: Pos) -> Result<(), StoreError> {
        let mut w = self.store().write();
        let end = Pos(upto.0.saturating_add(1));
        w.delete_between::<PduOut>(&Pos::ZERO, &end);
        let _ = self.store().commit(w)?;
        Ok(())
    }
}
