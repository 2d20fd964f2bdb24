//! Auth chains: all that events rest on.

use std::collections::HashSet;

use skerry_core::{EventNid, RoomNid};
use skerry_store::{Snapshot, StoreError};

use crate::Rooms;

/// Events read at once.
const CHUNK: usize = 256;

impl Rooms {
    /// The events that allow some events of a room, and those that allow these, and so on; each
    /// once, without those it starts from unless others of them rest on them. What is not held
    /// here is left out.
    ///
    /// # Errors
    /// The store's.
    pub fn auth_chain(
        &self,
        snap: &Snapshot,
        room: RoomNid,
        from: impl IntoIterator<Item = EventNid>,
    ) -> Result<Vec<EventNid>, StoreError> {
        let (mut found, mut named) = (HashSet::new(), HashSet::new());
        let (mut chain, mut front) = (Vec::new(), from.into_iter().collect::<Vec<_>>());
        // From version 12 on nobody names the create event, and all rest on it.
        if let Some(facts) = self.facts(snap, room)?
            && facts.version.room_id_is_create_event_id()
            && front.iter().any(|nid| *nid != facts.create)
        {
            found.insert(facts.create);
            chain.push(facts.create);
        }
        while !front.is_empty() {
            let mut next = Vec::new();
            for nids in front.chunks(CHUNK) {
                for held in self.events(snap, nids)?.into_iter().flatten() {
                    for id in held.event.auth_events() {
                        if !named.insert(id.clone()) {
                            continue;
                        }
                        if let Some(nid) = self.store().event_nid(snap, &id)?
                            && found.insert(nid)
                        {
                            next.push(nid);
                        }
                    }
                }
            }
            chain.extend_from_slice(&next);
            front = next;
        }
        Ok(chain)
    }
}
