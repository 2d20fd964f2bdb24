//! Every text that says what rooms are now, for whoever has to find out what they name: media
//! that must not be deleted. By values, not by a list of event types.

use std::collections::BTreeSet;

use serde_json::Value;
use skerry_core::{EventNid, RoomNid, UserNid};
use skerry_store::schema::room as t;
use skerry_store::{Scan, Snapshot, StoreError};

use crate::{Held, Rooms};

/// How many events are read at once.
const CHUNK: usize = 1024;
/// The type of the state event that pins others.
const PINNED: &str = "m.room.pinned_events";
/// The type of events that cannot be read.
const ENCRYPTED: &str = "m.room.encrypted";

/// Where a text stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextAt {
    /// In a current state event.
    State {
        /// The room.
        room: RoomNid,
        /// The event.
        event: EventNid,
    },
    /// In an event that is pinned.
    Pinned {
        /// The room.
        room: RoomNid,
        /// The event.
        event: EventNid,
    },
    /// In the stripped state of an invite or a knock.
    Stripped {
        /// The room.
        room: RoomNid,
        /// Who was invited or knocks.
        user: UserNid,
    },
    /// In an event of the timeline.
    Event {
        /// The room.
        room: RoomNid,
        /// The event.
        event: EventNid,
    },
}

/// Who is told of a text.
pub type Tell<'a> = dyn FnMut(TextAt, &str) + 'a;

/// How much of a room could be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readable {
    /// Events whose content is plain.
    pub events: u64,
    /// Events that are encrypted.
    pub unreadable: u64,
}

impl Rooms {
    /// Tells of every text that is current in any room: state events, what is pinned, and the
    /// stripped state of invites and knocks. Reads all of them: one pass over one snapshot.
    ///
    /// # Errors
    /// The store's.
    pub fn current_texts(&self, snap: &Snapshot, tell: &mut Tell<'_>) -> Result<(), StoreError> {
        let mut chunk = Vec::with_capacity(CHUNK);
        for row in snap.scan::<t::StateNow>(Scan::all()) {
            let ((room, _), event) = row?;
            chunk.push((event, room));
            if chunk.len() == CHUNK {
                self.state_texts(snap, &mut chunk, tell)?;
            }
        }
        self.state_texts(snap, &mut chunk, tell)?;
        for row in snap.scan::<t::Stripped>(Scan::all()) {
            let ((user, room), stripped) = row?;
            if let Ok(text) = std::str::from_utf8(&stripped) {
                tell(TextAt::Stripped { room, user }, text);
            }
        }
        Ok(())
    }

    /// Tells of state events, and of what those of them pin; empties the list.
    fn state_texts(
        &self,
        snap: &Snapshot,
        chunk: &mut Vec<(EventNid, RoomNid)>,
        tell: &mut Tell<'_>,
    ) -> Result<(), StoreError> {
        // Neighbours on the disk are read together.
        chunk.sort_unstable();
        let nids: Vec<EventNid> = chunk.iter().map(|(event, _)| *event).collect();
        for ((event, room), held) in chunk.drain(..).zip(self.events(snap, &nids)?) {
            let Some(held) = held else { continue };
            tell(TextAt::State { room, event }, held.event.json());
            if held.event.event_type() == PINNED {
                self.pinned_texts(snap, room, &held, tell)?;
            }
        }
        Ok(())
    }

    fn pinned_texts(
        &self,
        snap: &Snapshot,
        room: RoomNid,
        pins: &Held,
        tell: &mut Tell<'_>,
    ) -> Result<(), StoreError> {
        let content: Value = serde_json::from_str(pins.event.content()).unwrap_or_default();
        let pinned = content.get("pinned").and_then(Value::as_array);
        for id in pinned.into_iter().flatten().filter_map(Value::as_str) {
            let Some(held) = self.event_by_id(snap, id)? else {
                continue;
            };
            if held.event.room_id() == pins.event.room_id() {
                let event = held.nid;
                tell(TextAt::Pinned { room, event }, held.event.json());
            }
        }
        Ok(())
    }

    /// Tells of one event of a timeline, if it is still there, and of what it pins.
    ///
    /// # Errors
    /// The store's.
    pub fn event_text(
        &self,
        snap: &Snapshot,
        room: RoomNid,
        event: EventNid,
        tell: &mut Tell<'_>,
    ) -> Result<(), StoreError> {
        let Some(held) = self.event(snap, event)? else {
            return Ok(());
        };
        tell(TextAt::Event { room, event }, held.event.json());
        if held.event.event_type() == PINNED {
            self.pinned_texts(snap, room, &held, tell)?;
        }
        Ok(())
    }

    /// Tells of the stripped state of one invite or knock.
    ///
    /// # Errors
    /// The store's.
    pub fn stripped_text(
        &self,
        snap: &Snapshot,
        room: RoomNid,
        user: UserNid,
        tell: &mut Tell<'_>,
    ) -> Result<(), StoreError> {
        if let Some(stripped) = self.stripped(snap, user, room)?
            && let Ok(text) = std::str::from_utf8(&stripped)
        {
            tell(TextAt::Stripped { room, user }, text);
        }
        Ok(())
    }

    /// Tells of the state events of a room that are current in `new` and were not in `old`, also
    /// those that are older than both: state resolution may have brought them back.
    ///
    /// # Errors
    /// The store's.
    pub fn changed_state_texts(
        &self,
        old: &Snapshot,
        new: &Snapshot,
        room: RoomNid,
        tell: &mut Tell<'_>,
    ) -> Result<(), StoreError> {
        let (before, after) = (self.head(old, room)?, self.head(new, room)?);
        let Some(after) = after else { return Ok(()) };
        if before
            .as_ref()
            .is_some_and(|head| head.state == after.state)
        {
            return Ok(());
        }
        let before = match before {
            Some(head) => self.state_map(old, head.state)?,
            None => crate::StateMap::new(),
        };
        let changed = before.diff(&self.state_map(new, after.state)?);
        let mut events = changed
            .set
            .iter()
            .map(|(_, event)| (*event, room))
            .collect();
        self.state_texts(new, &mut events, tell)
    }

    /// Tells of every event in the timeline of a room and of its current state; how many could
    /// be read. `None` for a room that is not known here.
    ///
    /// # Errors
    /// The store's.
    pub fn room_texts(
        &self,
        snap: &Snapshot,
        room_id: &str,
        tell: &mut Tell<'_>,
    ) -> Result<Option<Readable>, StoreError> {
        let Some(room) = self.room_nid(snap, room_id)? else {
            return Ok(None);
        };
        let mut readable = Readable::default();
        let mut see = |held: &Held, tell: &mut Tell<'_>| {
            let event = held.nid;
            if held.event.event_type() == ENCRYPTED {
                readable.unreadable += 1;
            } else {
                readable.events += 1;
            }
            tell(TextAt::Event { room, event }, held.event.json());
        };
        let mut nids = Vec::with_capacity(CHUNK);
        let mut flush = |nids: &mut Vec<EventNid>, tell: &mut Tell<'_>| {
            for held in self.events(snap, nids)?.iter().flatten() {
                see(held, tell);
            }
            nids.clear();
            Ok::<_, StoreError>(())
        };
        for row in snap.scan::<t::Timeline>(Scan::prefix(&room)) {
            nids.push(row?.1);
            if nids.len() == CHUNK {
                flush(&mut nids, tell)?;
            }
        }
        flush(&mut nids, tell)?;
        let mut state: Vec<_> = self.state_now(snap, room)?.into_iter().collect();
        let mut chunk = state.drain(..).map(|(_, event)| (event, room)).collect();
        self.state_texts(snap, &mut chunk, tell)?;
        Ok(Some(readable))
    }

    /// Everybody who is or was in a room, or was asked to come; `None` for a room that is not
    /// known here.
    ///
    /// # Errors
    /// The store's.
    pub fn people_ever_in(
        &self,
        snap: &Snapshot,
        room_id: &str,
    ) -> Result<Option<BTreeSet<UserNid>>, StoreError> {
        let Some(room) = self.room_nid(snap, room_id)? else {
            return Ok(None);
        };
        let members = self.members(snap, room)?;
        Ok(Some(members.into_iter().map(|(user, _)| user).collect()))
    }
}
