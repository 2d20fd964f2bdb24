//! Where outgoing events come from.

use skerry_core::{EventNid, Pos, RoomNid, ServerNid, names};
use skerry_room::Rooms;
use skerry_store::{Snapshot, StoreError};

/// An event that servers are to get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outgoing {
    /// Where its row stands.
    pub(crate) pos: Pos,
    /// Its room.
    pub(crate) room: RoomNid,
    /// The event.
    pub(crate) event: EventNid,
    /// Servers that are to get it although they have no joined member (any more).
    pub(crate) also: Vec<ServerNid>,
    /// The other server whose user it is of, and which gave it to us: it has it.
    pub(crate) from: Option<ServerNid>,
}

/// Where outgoing events come from; a seam for tests.
pub(crate) trait Source: Send + Sync {
    /// The next ones after a position.
    fn outgoing(
        &self,
        snap: &Snapshot,
        after: Pos,
        limit: usize,
    ) -> Result<Vec<Outgoing>, StoreError>;

    /// The servers with members joined to a room.
    fn servers(&self, snap: &Snapshot, room: RoomNid) -> Result<Vec<ServerNid>, StoreError>;

    /// Those of them that were not there yet at a position, and when they came.
    fn servers_after(
        &self,
        snap: &Snapshot,
        room: RoomNid,
        at: Pos,
    ) -> Result<std::collections::HashMap<ServerNid, Pos>, StoreError>;

    /// Whether a server has members joined to a room.
    fn is_in(&self, snap: &Snapshot, room: RoomNid, server: ServerNid) -> Result<bool, StoreError>;

    /// The forward extremities of a room.
    fn ends(&self, snap: &Snapshot, room: RoomNid) -> Result<Vec<EventNid>, StoreError>;

    /// An event as servers exchange it.
    fn json(&self, snap: &Snapshot, event: EventNid) -> Result<Option<String>, StoreError>;

    /// Forgets what needs to be sent to nobody any more: up to and including a position.
    fn forget(&self, upto: Pos) -> Result<(), StoreError>;
}

impl Source for Rooms {
    fn outgoing(
        &self,
        snap: &Snapshot,
        after: Pos,
        limit: usize,
    ) -> Result<Vec<Outgoing>, StoreError> {
        let rows = Rooms::outgoing(self, snap, after, limit)?;
        let rows = rows.into_iter().map(|(pos, row)| {
            Ok(Outgoing {
                pos,
                room: row.room,
                from: from(self, snap, row.event)?,
                event: row.event,
                also: row.also,
            })
        });
        rows.collect()
    }

    fn servers(&self, snap: &Snapshot, room: RoomNid) -> Result<Vec<ServerNid>, StoreError> {
        self.server_nids_in(snap, room)
    }

    fn servers_after(
        &self,
        snap: &Snapshot,
        room: RoomNid,
        at: Pos,
    ) -> Result<std::collections::HashMap<ServerNid, Pos>, StoreError> {
        Rooms::servers_after(self, snap, room, at)
    }

    fn is_in(&self, snap: &Snapshot, room: RoomNid, server: ServerNid) -> Result<bool, StoreError> {
        self.is_server_in(snap, room, server)
    }

    fn ends(&self, snap: &Snapshot, room: RoomNid) -> Result<Vec<EventNid>, StoreError> {
        Rooms::ends(self, snap, room)
    }

    fn json(&self, snap: &Snapshot, event: EventNid) -> Result<Option<String>, StoreError> {
        self.pdu_json(snap, event)
    }

    fn forget(&self, upto: Pos) -> Result<(), StoreError> {
        self.trim_outgoing(upto)
    }
}

/// The other server whose user an event is of, if it is not of ours.
fn from(rooms: &Rooms, snap: &Snapshot, event: EventNid) -> Result<Option<ServerNid>, StoreError> {
    let Some(held) = rooms.event(snap, event)? else {
        return Ok(None);
    };
    let sender = held.event.sender();
    match names::server_of(sender).filter(|_| !rooms.is_local(sender)) {
        Some(server) => rooms.store().server_nid(server),
        None => Ok(None),
    }
}
