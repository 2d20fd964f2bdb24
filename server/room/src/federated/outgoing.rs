//! What is to be sent to other servers: one row for each event, written with it.

use std::collections::HashMap;
use std::sync::Arc;

use skerry_core::{EventNid, Membership, Pos, RoomNid, ServerNid, names};
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

    /// Of the servers in a room, those that were not in it yet at a position, with when the first
    /// came of their members that are there now: they are not sent what was said before. Members
    /// are looked at only where the room's state has changed since.
    ///
    /// # Errors
    /// The store's.
    pub fn servers_after(
        &self,
        snap: &Snapshot,
        room: RoomNid,
        at: Pos,
    ) -> Result<HashMap<ServerNid, Pos>, StoreError> {
        let mut first: HashMap<ServerNid, Pos> = HashMap::new();
        let head = self.head(snap, room)?;
        if head.is_none_or(|head| head.state_pos <= at) {
            return Ok(first);
        }
        for (user, member) in self.members(snap, room)? {
            let user_id = self.store().user_id(user)?;
            if member.membership != Membership::Join || self.is_local(&user_id) {
                continue;
            }
            let Some(server) = names::server_of(&user_id) else {
                continue;
            };
            let server = self.store().intern_server(server)?;
            // One who was there is enough.
            if first.get(&server).is_some_and(|since| *since <= at) {
                continue;
            }
            if let Some(of) = self.member_of(snap, user, room)? {
                let since = first.entry(server).or_insert(of.since);
                *since = of.since.min(*since);
            }
        }
        first.retain(|_, since| *since > at);
        Ok(first)
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
