//! The questions everything else is built from: one event, one version of state, who is in.
//!
//! All take a snapshot. Give them the published one to answer a reader, the newest one only
//! inside a lane to plan a write.

use std::sync::Arc;

use skerry_core::event::RuledEvent;
use skerry_core::{
    EventNid, Membership, Pos, RoomNid, RoomVersion, StateDelta, StateId, StateKeyNid, StateMap,
    StoredEvent, UserNid,
};
use skerry_store::schema::room as t;
use skerry_store::schema::room::{EventMeta, Member, MemberOf, RoomHead, RoomRow, SentBy};
use skerry_store::{Scan, Snapshot, StoreError, Table};

use crate::Rooms;
use crate::read::placed::Range;

/// An event as it is held here.
#[derive(Clone, Debug)]
pub struct Held {
    /// Its number.
    pub nid: EventNid,
    /// The event; in its redacted form once a redaction took effect.
    pub event: StoredEvent,
    /// The redaction that took effect on it.
    pub redacted_by: Option<EventNid>,
    /// The client call that made it, for the `unsigned` of that very device.
    pub sent: Option<SentBy>,
}

impl Held {
    fn from_row(nid: EventNid, row: t::EventRow) -> Result<Held, StoreError> {
        let event = StoredEvent::decode(&row.event)
            .map_err(|error| damaged::<t::Event>(nid, &error.to_string()))?;
        Ok(Held {
            nid,
            event,
            redacted_by: row.redacted_by,
            sent: row.sent,
        })
    }
}

/// Facts about a room that never change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RoomFacts {
    /// Its version.
    pub version: RoomVersion,
    /// Its create event.
    pub create: EventNid,
    /// Who sent that.
    pub creator: UserNid,
}

impl Rooms {
    /// An event by number.
    ///
    /// # Errors
    /// The store's.
    pub fn event(&self, snap: &Snapshot, nid: EventNid) -> Result<Option<Held>, StoreError> {
        snap.get::<t::Event>(&nid)?
            .map(|row| Held::from_row(nid, row))
            .transpose()
    }

    /// Events by number, in the order asked for.
    ///
    /// # Errors
    /// The store's.
    pub fn events(
        &self,
        snap: &Snapshot,
        nids: &[EventNid],
    ) -> Result<Vec<Option<Held>>, StoreError> {
        let rows = near::<t::Event>(snap, nids)?;
        let pairs = nids.iter().zip(rows);
        pairs
            .map(|(nid, row)| row.map(|row| Held::from_row(*nid, row)).transpose())
            .collect()
    }

    /// An event by id.
    ///
    /// # Errors
    /// The store's.
    pub fn event_by_id(&self, snap: &Snapshot, id: &str) -> Result<Option<Held>, StoreError> {
        match self.store().event_nid(snap, id)? {
            Some(nid) => self.event(snap, nid),
            None => Ok(None),
        }
    }

    /// Where an event stands.
    ///
    /// # Errors
    /// The store's.
    pub fn meta(&self, snap: &Snapshot, nid: EventNid) -> Result<Option<EventMeta>, StoreError> {
        snap.get::<t::Meta>(&nid)
    }

    /// Where events stand, in the order asked for.
    ///
    /// # Errors
    /// The store's.
    pub fn metas(
        &self,
        snap: &Snapshot,
        nids: &[EventNid],
    ) -> Result<Vec<Option<EventMeta>>, StoreError> {
        near::<t::Meta>(snap, nids)
    }

    /// What never changes about a room; `None` if this server does not know it.
    ///
    /// # Errors
    /// The store's.
    pub fn room_row(&self, snap: &Snapshot, room: RoomNid) -> Result<Option<RoomRow>, StoreError> {
        snap.get::<t::Room>(&room)
    }

    /// Version and creator of a room; `None` if this server does not know it.
    ///
    /// # Errors
    /// The store's.
    pub fn facts(&self, snap: &Snapshot, room: RoomNid) -> Result<Option<RoomFacts>, StoreError> {
        let Some(row) = self.room_row(snap, room)? else {
            return Ok(None);
        };
        let version = RoomVersion::from_number(row.version)
            .ok_or_else(|| damaged::<t::Room>(room, "unknown room version"))?;
        Ok(Some(RoomFacts {
            version,
            create: row.create,
            creator: row.creator,
        }))
    }

    /// The newest end of a room.
    ///
    /// # Errors
    /// The store's.
    pub fn head(&self, snap: &Snapshot, room: RoomNid) -> Result<Option<RoomHead>, StoreError> {
        snap.get::<t::Head>(&room)
    }

    /// A room's number; `None` if this server has never heard of it.
    ///
    /// # Errors
    /// The store's.
    pub fn room_nid(&self, snap: &Snapshot, id: &str) -> Result<Option<RoomNid>, StoreError> {
        let Some(nid) = self.store().room_nid(id)? else {
            return Ok(None);
        };
        Ok(self.room_row(snap, nid)?.map(|_| nid))
    }

    /// One version of a room's state. Kept in memory, since it never changes under its number.
    ///
    /// # Errors
    /// The store's, also where a version it builds on is missing.
    pub fn state_map(&self, snap: &Snapshot, id: StateId) -> Result<StateMap, StoreError> {
        if id == StateId(0) {
            // Before the create event, or of an event whose past is not known.
            return Ok(StateMap::new());
        }
        if let Some(map) = self.inner.states.get(id) {
            return Ok(map);
        }
        let (mut deltas, mut next, mut map) = (Vec::new(), Some(id), StateMap::new());
        while let Some(at) = next {
            if let Some(found) = self.inner.states.get(at) {
                map = found;
                break;
            }
            let row = snap
                .get::<t::State>(&at)?
                .ok_or_else(|| StoreError::missing(<t::State as Table>::NAME, at))?;
            next = row.parent;
            deltas.push(StateDelta {
                set: row.adds,
                removed: row.removes,
            });
        }
        for delta in deltas.iter().rev() {
            map = map.apply(delta);
        }
        self.hold_state(id, &map);
        Ok(map)
    }

    /// Keeps a version of state in memory, for [`Self::state_map`].
    pub(crate) fn hold_state(&self, id: StateId, map: &StateMap) {
        self.inner.states.put(id, map.clone(), map.memory_bytes());
    }

    /// The current state of a room; `None` if this server does not know the room.
    ///
    /// # Errors
    /// The store's.
    pub fn state_of(
        &self,
        snap: &Snapshot,
        room: RoomNid,
    ) -> Result<Option<(StateId, StateMap)>, StoreError> {
        let Some(head) = self.head(snap, room)? else {
            return Ok(None);
        };
        Ok(Some((head.state, self.state_map(snap, head.state)?)))
    }

    /// The current state event under a type and state key.
    ///
    /// # Errors
    /// The store's.
    pub fn current(
        &self,
        snap: &Snapshot,
        room: RoomNid,
        kind: &str,
        key: &str,
    ) -> Result<Option<EventNid>, StoreError> {
        match self.store().state_key_nid(kind, key)? {
            Some(nid) => snap.get::<t::StateNow>(&(room, nid)),
            None => Ok(None),
        }
    }

    /// The current state event under a type and state key, itself.
    ///
    /// # Errors
    /// The store's.
    pub fn current_event(
        &self,
        snap: &Snapshot,
        room: RoomNid,
        kind: &str,
        key: &str,
    ) -> Result<Option<Held>, StoreError> {
        match self.current(snap, room, kind, key)? {
            Some(nid) => self.event(snap, nid),
            None => Ok(None),
        }
    }

    /// The event under a type and state key in one version of state.
    ///
    /// # Errors
    /// The store's.
    pub fn in_state(
        &self,
        map: &StateMap,
        kind: &str,
        key: &str,
    ) -> Result<Option<EventNid>, StoreError> {
        Ok(self
            .store()
            .state_key_nid(kind, key)?
            .and_then(|nid| map.get(nid)))
    }

    /// All current state events of a room.
    ///
    /// # Errors
    /// The store's.
    pub fn state_now(
        &self,
        snap: &Snapshot,
        room: RoomNid,
    ) -> Result<Vec<(StateKeyNid, EventNid)>, StoreError> {
        let rows = snap.scan::<t::StateNow>(Scan::prefix(&room));
        rows.map(|row| row.map(|((_, key), event)| (key, event)))
            .collect()
    }

    /// A state event for authorising others, from memory where possible. Only inside its room's
    /// lane: there alone the cache is in step with redactions.
    pub(crate) fn auth_event(
        &self,
        snap: &Snapshot,
        nid: EventNid,
    ) -> Result<RuledEvent, StoreError> {
        if let Some(event) = self.inner.auth_events.get(nid) {
            return Ok(event);
        }
        let held = self
            .event(snap, nid)?
            .ok_or_else(|| StoreError::missing(<t::Event as Table>::NAME, nid))?;
        let rejected = self.meta(snap, nid)?.is_some_and(|meta| meta.is_rejected());
        let event = RuledEvent::new(Arc::new(held.event), rejected);
        if !rejected {
            self.hold_auth_event(nid, &event);
        }
        Ok(event)
    }

    /// Keeps a state event in memory, for [`Self::auth_event`].
    pub(crate) fn hold_auth_event(&self, nid: EventNid, event: &RuledEvent) {
        // Twice: ruma's view of it holds a copy of the content.
        let bytes = 2 * event.event().memory_bytes();
        self.inner.auth_events.put(nid, event.clone(), bytes);
    }

    /// A user's membership in a room, with the event that made it so.
    ///
    /// # Errors
    /// The store's.
    pub fn member(
        &self,
        snap: &Snapshot,
        room: RoomNid,
        user: UserNid,
    ) -> Result<Option<Member>, StoreError> {
        snap.get::<t::MemberTable>(&(room, user))
    }

    /// Whether a user is joined to a room.
    ///
    /// # Errors
    /// The store's.
    pub fn is_joined(
        &self,
        snap: &Snapshot,
        room: RoomNid,
        user: UserNid,
    ) -> Result<bool, StoreError> {
        let member = self.member(snap, room, user)?;
        Ok(member.is_some_and(|member| member.membership == Membership::Join))
    }

    /// Everybody who has a membership in a room, whatever it is.
    ///
    /// # Errors
    /// The store's.
    pub fn members(
        &self,
        snap: &Snapshot,
        room: RoomNid,
    ) -> Result<Vec<(UserNid, Member)>, StoreError> {
        let rows = snap.scan::<t::MemberTable>(Scan::prefix(&room));
        rows.map(|row| row.map(|((_, user), member)| (user, member)))
            .collect()
    }

    /// All rooms a user has to do with, except forgotten ones.
    ///
    /// # Errors
    /// The store's.
    pub fn rooms_of(
        &self,
        snap: &Snapshot,
        user: UserNid,
    ) -> Result<Vec<(RoomNid, MemberOf)>, StoreError> {
        let rows = snap.scan::<t::MemberOfTable>(Scan::prefix(&user));
        rows.map(|row| row.map(|((_, room), member)| (room, member)))
            .collect()
    }

    /// A user's membership in a room, as [`Self::rooms_of`] tells it; `None` also if forgotten.
    ///
    /// # Errors
    /// The store's.
    pub fn member_of(
        &self,
        snap: &Snapshot,
        user: UserNid,
        room: RoomNid,
    ) -> Result<Option<MemberOf>, StoreError> {
        snap.get::<t::MemberOfTable>(&(user, room))
    }

    /// Stripped state that came with an invite or a knock: a JSON array.
    ///
    /// # Errors
    /// The store's.
    pub fn stripped(
        &self,
        snap: &Snapshot,
        user: UserNid,
        room: RoomNid,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        snap.get::<t::Stripped>(&(user, room))
    }

    /// A position that the newest published event of a room does not lie after: nothing new
    /// happened in the room's timeline since a token at or past it. From memory; it may run ahead
    /// of what is published, never behind.
    #[must_use]
    pub fn last_pos(&self, room: RoomNid) -> Pos {
        self.inner.last.get(room)
    }
}

/// A row that decodes to something that cannot be.
pub(crate) fn damaged<T: Table>(key: impl std::fmt::Debug, what: &str) -> StoreError {
    StoreError::Corrupt {
        table: T::NAME,
        key: format!("{key:?} ({what})").into(),
    }
}

/// Rows of events by number, in the order asked for. A page of a busy room has numbers that lie
/// close together: one scan then costs less than as many look-ups.
fn near<T: Table<Key = EventNid>>(
    snap: &Snapshot,
    nids: &[EventNid],
) -> Result<Vec<Option<T::Value>>, StoreError> {
    let in_order = nids.is_sorted_by(|a, b| a < b) || nids.is_sorted_by(|a, b| a > b);
    let range = Range::of(nids).filter(|range| in_order && range.is_dense(nids.len()));
    let Some(Range { first, end }) = range else {
        return snap.get_many::<T>(nids);
    };
    let mut rows = Vec::with_capacity(nids.len());
    for row in snap.scan::<T>(Scan::all().from(&first).to(&end)) {
        let (nid, value) = row?;
        rows.push((nid, Some(value)));
    }
    let mut take = |nid: &EventNid| {
        let at = rows.binary_search_by_key(nid, |row| row.0).ok()?;
        rows.get_mut(at)?.1.take()
    };
    Ok(nids.iter().map(&mut take).collect())
}
