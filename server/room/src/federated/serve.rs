//! What other servers read of rooms: events, state, what came before.

use std::collections::{BinaryHeap, HashSet, VecDeque};
use std::sync::Arc;

use skerry_core::{EventNid, StateMap};
use skerry_store::{Snapshot, StoreError};

use super::reader::ServerReader;
use crate::{Placed, RoomError, Rooms};

/// The most events of one answer about history.
const EVENTS_MAX: usize = 100;
/// The most events that one answer about history begins from.
const FROM_MAX: usize = 20;
/// Events that are passed over for one answer at most.
const PASSED_MAX: usize = 1_000;
/// Events read at once.
const CHUNK: usize = 256;

/// The state of a room before an event.
#[derive(Clone, Debug)]
pub struct ServedState {
    /// Its events; see [`Rooms::write_pdus`].
    pub state: Vec<EventNid>,
    /// All that these rest on.
    pub auth_chain: Vec<EventNid>,
}

/// Between which events others are missing (server-server API, `get_missing_events`).
#[derive(Clone, Debug, Default)]
pub struct MissingAsk {
    /// Events that the server has.
    pub earliest: Vec<String>,
    /// Events whose past it does not have.
    pub latest: Vec<String>,
    /// The most events to give.
    pub limit: usize,
    /// Events that lie less deep are not given.
    pub min_depth: u64,
}

impl Rooms {
    /// An event as a PDU.
    ///
    /// # Errors
    /// `NotFound`; `Forbidden` for a server that may not read the event's room; the store's.
    pub async fn served_event(&self, origin: &str, event_id: &str) -> Result<String, RoomError> {
        let (origin, event_id) = (origin.to_owned(), event_id.to_owned());
        self.query(move |this, snap| {
            let held = this.event_by_id(snap, &event_id)?.ok_or_else(unknown)?;
            let mut reader = this.server_reader(snap, held.event.room_id(), &origin)?;
            let event = reader.event(&event_id)?.ok_or_else(unknown)?;
            Ok(reader.pdu(&event)?)
        })
        .await
    }

    /// The state of a room before an event.
    ///
    /// # Errors
    /// `NotFound` for an event that is not known, or whose past is not; `Forbidden` for a server
    /// that may not read the room; the store's.
    pub async fn served_state(
        &self,
        origin: &str,
        room_id: &str,
        event_id: &str,
    ) -> Result<ServedState, RoomError> {
        let (origin, room_id) = (origin.to_owned(), room_id.to_owned());
        let event_id = event_id.to_owned();
        self.query(move |this, snap| {
            let reader = this.server_reader(snap, &room_id, &origin)?;
            let event = reader.event(&event_id)?.ok_or_else(unknown)?;
            if event.meta.is_outlier() {
                return Err(unknown());
            }
            let map = match event.event.is_create() {
                true => StateMap::new(),
                false => this.state_map(snap, event.meta.before)?,
            };
            let state: Vec<EventNid> = map.iter().map(|(_, nid)| nid).collect();
            let auth_chain = this.auth_chain(snap, reader.room, state.iter().copied())?;
            Ok(ServedState { state, auth_chain })
        })
        .await
    }

    /// All that an event rests on.
    ///
    /// # Errors
    /// As [`Self::served_event`].
    pub async fn served_auth_chain(
        &self,
        origin: &str,
        room_id: &str,
        event_id: &str,
    ) -> Result<Vec<EventNid>, RoomError> {
        let (origin, room_id) = (origin.to_owned(), room_id.to_owned());
        let event_id = event_id.to_owned();
        self.query(move |this, snap| {
            let reader = this.server_reader(snap, &room_id, &origin)?;
            let event = reader.event(&event_id)?.ok_or_else(unknown)?;
            Ok(this.auth_chain(snap, reader.room, [event.nid])?)
        })
        .await
    }

    /// Events and what came before them, the deepest first: PDUs, at most `limit`.
    ///
    /// # Errors
    /// `NotFound` for a room that this server does not take part in, `Forbidden` for a server
    /// that may not read it; the store's.
    pub async fn served_backfill(
        &self,
        origin: &str,
        room_id: &str,
        from: &[String],
        limit: usize,
    ) -> Result<Vec<String>, RoomError> {
        let (origin, room_id) = (origin.to_owned(), room_id.to_owned());
        let from: Vec<String> = from.iter().take(FROM_MAX).cloned().collect();
        self.query(move |this, snap| {
            let mut reader = this.server_reader(snap, &room_id, &origin)?;
            let (mut met, mut out) = (HashSet::new(), Vec::new());
            let mut front = BinaryHeap::new();
            let mut names = from;
            loop {
                for id in names.drain(..) {
                    if let Some(event) = reader.event(&id)?
                        && !event.meta.is_outlier()
                        && met.insert(event.nid)
                    {
                        front.push((event.meta.depth, event.nid));
                    }
                }
                let full = out.len() >= limit.min(EVENTS_MAX) || met.len() > PASSED_MAX;
                let Some((_, nid)) = front.pop().filter(|_| !full) else {
                    return Ok(out);
                };
                if let Some(event) = this.placed(snap, reader.room, nid)? {
                    out.push(reader.pdu(&event)?);
                    names = event.event.prev_events();
                }
            }
        })
        .await
    }

    /// The events between some that a server has and some that it has not the past of, the oldest
    /// first: PDUs.
    ///
    /// # Errors
    /// As [`Self::served_backfill`].
    pub async fn served_missing_events(
        &self,
        origin: &str,
        room_id: &str,
        ask: MissingAsk,
    ) -> Result<Vec<String>, RoomError> {
        let (origin, room_id) = (origin.to_owned(), room_id.to_owned());
        self.query(move |this, snap| {
            let mut reader = this.server_reader(snap, &room_id, &origin)?;
            let found = between(&reader, &ask)?;
            let mut out = Vec::with_capacity(found.len());
            for event in found.iter().rev() {
                out.push(reader.pdu(event)?);
            }
            Ok(out)
        })
        .await
    }

    /// The event of a room closest to a time, at or after it (or at or before it), that a server
    /// may see: its id and its time, both in ms since the epoch.
    ///
    /// # Errors
    /// `NotFound` if there is none; as [`Self::served_backfill`].
    pub async fn served_timestamp(
        &self,
        origin: &str,
        room_id: &str,
        ts: u64,
        back: bool,
    ) -> Result<(String, u64), RoomError> {
        let (origin, room_id) = (origin.to_owned(), room_id.to_owned());
        self.query(move |this, snap| {
            let mut reader = this.server_reader(snap, &room_id, &origin)?;
            let room = reader.room;
            let found = this.closest_to_time(snap, room, (ts, back), |event| {
                Ok(reader.may_see(event)?.then(|| event.clone()))
            })?;
            let event = &found.ok_or_else(unknown)?.event;
            Ok((event.event_id().to_owned(), event.origin_server_ts()))
        })
        .await
    }

    /// Appends events as PDUs, with commas between them and no brackets around. A few at a time
    /// are in memory: a large state can be written in pieces.
    ///
    /// # Errors
    /// The store's.
    pub fn write_pdus(
        &self,
        snap: &Snapshot,
        nids: &[EventNid],
        out: &mut Vec<u8>,
    ) -> Result<(), StoreError> {
        let mut first = true;
        for nids in nids.chunks(CHUNK) {
            for held in self.events(snap, nids)?.into_iter().flatten() {
                if !std::mem::take(&mut first) {
                    out.push(b',');
                }
                held.event.write_federation(out);
            }
        }
        Ok(())
    }

    /// Events as PDUs, as they are published.
    ///
    /// # Errors
    /// The store's.
    pub async fn pdus(&self, nids: Vec<EventNid>) -> Result<Vec<u8>, RoomError> {
        self.query(move |this, snap| {
            let mut out = vec![b'['];
            this.write_pdus(snap, &nids, &mut out)?;
            out.push(b']');
            Ok(out)
        })
        .await
    }

    /// The events of a state that strangers may know, as PDUs; with the member event of one user.
    pub(crate) fn pdus_shown(
        &self,
        snap: &Snapshot,
        map: &StateMap,
        also: Option<&str>,
    ) -> Result<Vec<String>, RoomError> {
        let mut nids = Vec::new();
        for kind in crate::stripped::KINDS {
            nids.extend(self.in_state(map, kind, "")?);
        }
        if let Some(user_id) = also {
            nids.extend(self.in_state(map, "m.room.member", user_id)?);
        }
        let events = self.events(snap, &nids)?.into_iter().flatten();
        Ok(events.map(|held| held.event.json().to_owned()).collect())
    }

    /// The ids of events.
    ///
    /// # Errors
    /// The store's.
    pub fn event_ids(&self, nids: &[EventNid]) -> Result<Vec<Arc<str>>, StoreError> {
        nids.iter().map(|nid| self.store().event_id(*nid)).collect()
    }
}

/// The events between those that are known and the latest, nearest to these first.
fn between(reader: &ServerReader<'_>, ask: &MissingAsk) -> Result<Vec<Arc<Placed>>, StoreError> {
    let limit = ask.limit.min(EVENTS_MAX);
    let ends = ask.earliest.iter().chain(&ask.latest);
    let mut met: HashSet<String> = ends.take(2 * FROM_MAX).cloned().collect();
    let mut front = VecDeque::new();
    for id in ask.latest.iter().take(FROM_MAX) {
        if let Some(event) = reader.event(id)? {
            front.extend(event.event.prev_events());
        }
    }
    let mut found = Vec::new();
    while found.len() < limit && met.len() < PASSED_MAX {
        let Some(id) = front.pop_front() else { break };
        if !met.insert(id.clone()) {
            continue;
        }
        let Some(event) = reader.event(&id)? else {
            continue;
        };
        if event.meta.is_outlier() || event.meta.depth < ask.min_depth {
            continue;
        }
        front.extend(event.event.prev_events());
        found.push(event);
    }
    Ok(found)
}

fn unknown() -> RoomError {
    RoomError::NotFound("There is no such event".into())
}
