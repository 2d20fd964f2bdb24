//! What is here of a room that other servers are in too.

use std::sync::Arc;

use skerry_core::event::RuledEvent;
use skerry_core::{EventNid, RoomNid, RoomVersion};
use skerry_store::schema::room as t;
use skerry_store::schema::room::EventMeta;
use skerry_store::{Scan, Snapshot, StoreError, Table};

use crate::Rooms;
use crate::tip::{Fresh, Tip};

/// The forward end of a room's graph.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Extremities {
    /// The ids of the events that nothing refers to yet.
    pub ids: Vec<String>,
    /// The smallest depth among them.
    pub depth: u64,
}

impl Rooms {
    /// Which of these events are not held in any form.
    ///
    /// # Errors
    /// The store's.
    pub fn lacks(&self, snap: &Snapshot, ids: &[String]) -> Result<Vec<String>, StoreError> {
        let mut lacking = Vec::new();
        for id in ids {
            if self.store().event_nid(snap, id)?.is_none() {
                lacking.push(id.clone());
            }
        }
        Ok(lacking)
    }

    /// The forward end of a room's graph; nothing for an unknown room.
    ///
    /// # Errors
    /// The store's.
    pub fn extremities(&self, snap: &Snapshot, room: RoomNid) -> Result<Extremities, StoreError> {
        let ends = self.head(snap, room)?.map(|head| head.extremities);
        let ends = ends.unwrap_or_default();
        let metas = self.metas(snap, &ends)?;
        let depths = metas.iter().flatten().map(|meta| meta.depth);
        let ids = ends.iter().map(|nid| self.store().event_id(*nid));
        Ok(Extremities {
            depth: depths.min().unwrap_or(0),
            ids: ids
                .map(|id| id.map(|id| id.to_string()))
                .collect::<Result<_, _>>()?,
        })
    }

    /// The other servers that have members joined to a room.
    ///
    /// # Errors
    /// The store's.
    pub fn servers_in(&self, snap: &Snapshot, room: RoomNid) -> Result<Vec<Arc<str>>, StoreError> {
        let mut servers = Vec::new();
        for row in snap.scan::<t::RoomServer>(Scan::prefix(&room)) {
            let ((_, server), _) = row?;
            servers.push(self.store().server_name(server)?);
        }
        Ok(servers)
    }

    /// The version of a room; `None` for one that this server does not hold.
    ///
    /// # Errors
    /// The store's.
    pub fn room_version(
        &self,
        snap: &Snapshot,
        room_id: &str,
    ) -> Result<Option<RoomVersion>, StoreError> {
        let Some(room) = self.store().room_nid(room_id)? else {
            return Ok(None);
        };
        Ok(self.facts(snap, room)?.map(|facts| facts.version))
    }

    /// The number of an event, also of one that the write of a tip adds.
    pub(crate) fn number_of(
        &self,
        snap: &Snapshot,
        fresh: &Fresh,
        event_id: &str,
    ) -> Result<Option<EventNid>, StoreError> {
        match fresh.ids.get(event_id) {
            Some(nid) => Ok(Some(*nid)),
            None => self.store().event_nid(snap, event_id),
        }
    }

    /// Where an event stands, also one that the write of a tip adds.
    pub(crate) fn meta_of(
        &self,
        snap: &Snapshot,
        fresh: &Fresh,
        nid: EventNid,
    ) -> Result<Option<EventMeta>, StoreError> {
        match fresh.metas.get(&nid) {
            Some(meta) => Ok(Some(meta.clone())),
            None => self.meta(snap, nid),
        }
    }

    /// An event to authorise others by, with whether it was rejected, also one that the write of
    /// a tip adds or judges.
    pub(crate) fn ruled_event(
        &self,
        snap: &Snapshot,
        fresh: &Fresh,
        nid: EventNid,
    ) -> Result<RuledEvent, StoreError> {
        match fresh.ruled.get(&nid) {
            Some(event) => Ok(event.clone()),
            None => self.auth_event(snap, nid),
        }
    }

    /// Whether this server has a member joined to the room of a tip.
    pub(crate) fn is_in(tip: &Tip) -> bool {
        tip.head.joined > tip.head.remote
    }

    /// Where an event that must be here stands.
    pub(crate) fn meta_held(
        &self,
        snap: &Snapshot,
        fresh: &Fresh,
        nid: EventNid,
    ) -> Result<EventMeta, StoreError> {
        self.meta_of(snap, fresh, nid)?
            .ok_or_else(|| StoreError::missing(t::Meta::NAME, nid))
    }
}
