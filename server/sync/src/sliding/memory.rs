//! What lists are sorted and filtered by, kept in memory: a list of hundreds of rooms is then
//! made without asking the store for each.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;
use skerry_account::data;
use skerry_core::{EventNid, Membership, Pos, RoomNid, StateId, UserNid};
use skerry_room::Rooms;
use skerry_store::{Cache, Snapshot, Store, StoreError};

use super::connections::Connections;

/// Memory for rooms, in bytes.
const CARDS_BYTES: usize = 4 << 20;
/// Memory for users' own data, in bytes.
const OWN_BYTES: usize = 4 << 20;
/// Memory for senders of member events, in bytes.
const SENDERS_BYTES: usize = 1 << 20;
/// Memory for state by type, in bytes.
const STATES_BYTES: usize = 8 << 20;
/// Bytes that one entry of any of these weighs, about.
const ENTRY_BYTES: usize = 96;

/// What sliding sync keeps in memory. All but the connections can be read again.
pub(crate) struct SlidingMemory {
    pub(super) connections: Connections,
    cards: Mutex<Cache<RoomNid, Card>>,
    own: Mutex<Cache<UserNid, Arc<Own>>>,
    senders: Mutex<Cache<EventNid, UserNid>>,
    states: Mutex<Cache<StateId, Arc<[StateEntry]>>>,
}

/// What of a room a list looks at.
#[derive(Clone, Debug)]
pub(super) struct Card {
    /// Everything up to here is in it.
    upto: Pos,
    /// When the room was last talked in.
    pub bump: Pos,
    state: StateId,
    pub encrypted: bool,
    /// The room's type.
    pub kind: Option<Arc<str>>,
}

/// What of a user's account data a list looks at.
#[derive(Clone, Debug, Default)]
pub(super) struct Own {
    upto: Pos,
    /// Rooms named in `m.direct`.
    pub direct: HashSet<RoomNid>,
    /// Tags of rooms.
    pub tags: HashMap<RoomNid, HashSet<Box<str>>>,
}

/// One event of a state.
#[derive(Clone, Debug)]
pub(super) struct StateEntry {
    pub kind: Arc<str>,
    pub key: Arc<str>,
    pub event: EventNid,
}

impl Default for SlidingMemory {
    fn default() -> SlidingMemory {
        SlidingMemory {
            connections: Connections::default(),
            cards: Mutex::new(Cache::new(CARDS_BYTES)),
            own: Mutex::new(Cache::new(OWN_BYTES)),
            senders: Mutex::new(Cache::new(SENDERS_BYTES)),
            states: Mutex::new(Cache::new(STATES_BYTES)),
        }
    }
}

impl SlidingMemory {
    /// The card of a room that this server knows.
    pub(super) fn card(
        &self,
        rooms: &Rooms,
        snap: &Snapshot,
        room: RoomNid,
    ) -> Result<Option<Card>, StoreError> {
        let before = self.cards.lock().get(&room).cloned();
        if let Some(card) = &before
            && rooms.last_pos(room) <= card.upto.min(snap.head())
        {
            return Ok(before);
        }
        let Some(head) = rooms.head(snap, room)? else {
            return Ok(None);
        };
        let (encrypted, kind) = match before {
            Some(card) if card.state == head.state => (card.encrypted, card.kind),
            before => {
                let state = rooms.state_map(snap, head.state)?;
                let encrypted = rooms.in_state(&state, "m.room.encryption", "")?.is_some();
                let kind = match before {
                    Some(card) => card.kind,
                    None => {
                        let row = rooms.room_row(snap, room)?;
                        row.and_then(|row| row.room_type).map(Arc::from)
                    }
                };
                (encrypted, kind)
            }
        };
        let card = Card {
            upto: snap.head(),
            bump: head.bump,
            state: head.state,
            encrypted,
            kind,
        };
        let bytes = ENTRY_BYTES + card.kind.as_ref().map_or(0, |kind| kind.len());
        self.cards.lock().put(room, card.clone(), bytes);
        Ok(Some(card))
    }

    /// A user's own data about rooms.
    pub(super) fn own(
        &self,
        store: &Store,
        snap: &Snapshot,
        user: UserNid,
    ) -> Result<Arc<Own>, StoreError> {
        let before = self.own.lock().get(&user).cloned();
        // An older snapshot than the one that was read is met only in a race.
        let before = before.filter(|own| own.upto <= snap.head());
        let since = before.as_ref().map_or(Pos::ZERO, |own| own.upto);
        let changed = data::changed(snap, user, since)?;
        let own = match before {
            Some(own) if changed.is_empty() => own,
            before => {
                let mut own = before.map_or_else(Own::default, Arc::unwrap_or_clone);
                for datum in changed {
                    own.note(store, &datum)?;
                }
                own.upto = snap.head();
                let own = Arc::new(own);
                let names: usize = own.tags.values().map(|tags| 64 + 48 * tags.len()).sum();
                let bytes = ENTRY_BYTES + names + 24 * own.direct.len();
                self.own.lock().put(user, Arc::clone(&own), bytes);
                own
            }
        };
        Ok(own)
    }

    /// Who sent an event.
    pub(super) fn sender(
        &self,
        rooms: &Rooms,
        snap: &Snapshot,
        event: EventNid,
    ) -> Result<Option<UserNid>, StoreError> {
        if let Some(sender) = self.senders.lock().get(&event) {
            return Ok(Some(*sender));
        }
        let sender = rooms.meta(snap, event)?.map(|meta| meta.sender);
        if let Some(sender) = sender {
            self.senders.lock().put(event, sender, ENTRY_BYTES);
        }
        Ok(sender)
    }

    /// All events of a state but those of members, with their types and keys.
    pub(super) fn state(
        &self,
        rooms: &Rooms,
        snap: &Snapshot,
        state: StateId,
    ) -> Result<Arc<[StateEntry]>, StoreError> {
        if let Some(entries) = self.states.lock().get(&state) {
            return Ok(Arc::clone(entries));
        }
        let mut entries = whole_state(rooms, snap, state)?;
        entries.retain(|entry| *entry.kind != *"m.room.member");
        let entries: Arc<[StateEntry]> = entries.into();
        let names = entries
            .iter()
            .map(|entry| entry.kind.len() + entry.key.len());
        let bytes = ENTRY_BYTES * (1 + entries.len()) + names.sum::<usize>();
        self.states.lock().put(state, Arc::clone(&entries), bytes);
        Ok(entries)
    }
}

/// All events of a state, with their types and keys.
pub(super) fn whole_state(
    rooms: &Rooms,
    snap: &Snapshot,
    state: StateId,
) -> Result<Vec<StateEntry>, StoreError> {
    let map = rooms.state_map(snap, state)?;
    let entry = |(nid, event)| {
        let (kind, key) = rooms.store().state_key(nid)?;
        Ok(StateEntry { kind, key, event })
    };
    map.iter().map(entry).collect()
}

impl Own {
    /// Takes in a piece of account data.
    fn note(&mut self, store: &Store, datum: &data::Datum) -> Result<(), StoreError> {
        match (datum.room, &*datum.kind) {
            (None, "m.direct") => {
                self.direct.clear();
                let content: HashMap<String, Value> =
                    serde_json::from_str(&datum.json).unwrap_or_default();
                let lists = content.values().filter_map(Value::as_array);
                for room in lists.flatten().filter_map(Value::as_str) {
                    self.direct.extend(store.room_nid(room)?);
                }
            }
            (Some(room), "m.tag") => {
                #[derive(serde::Deserialize)]
                struct Tags {
                    tags: HashMap<Box<str>, Value>,
                }
                let tags = serde_json::from_str::<Tags>(&datum.json);
                let tags: HashSet<_> =
                    tags.map_or_else(|_| HashSet::new(), |tags| tags.tags.into_keys().collect());
                if tags.is_empty() {
                    self.tags.remove(&room);
                } else {
                    self.tags.insert(room, tags);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// Whether a user who left a room was sent away, and so is still to see it among their rooms.
pub(super) fn was_sent_away(
    membership: Membership,
    sender: Option<UserNid>,
    user: UserNid,
) -> bool {
    membership == Membership::Ban || sender.is_some_and(|sender| sender != user)
}
