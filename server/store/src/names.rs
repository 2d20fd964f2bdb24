//! Names as numbers: users, rooms, servers, state keys, events.
//!
//! Giving a name its number is the only write outside a commit. It is append-only and
//! idempotent: a number without any row that uses it harms nothing. Its row lies in the
//! write-ahead log before every commit that can use it, so it is durable whenever that commit is.

use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use skerry_core::{EventNid, RoomNid, ServerNid, StateKeyNid, UserNid};

use crate::cache::Cache;
use crate::codec::{Buf, Raw, put_value, take_value};
use crate::db::Database;
use crate::schema::store::{EventName, EventNameOf, Name, NameKind, NameOf};
use crate::table::row_key;
use crate::{Snapshot, Store, StoreError, Table};

/// The kinds that have counters, in the order of `Names::next`.
const KINDS: [NameKind; 4] = [
    NameKind::User,
    NameKind::Room,
    NameKind::Server,
    NameKind::StateKey,
];

/// Caches of names, and the next free number of each kind.
pub(crate) struct Names {
    /// Held while a number is given out.
    next: Mutex<[u64; 4]>,
    kinds: [Kind; 4],
    events: RwLock<EventsById>,
    event_by_nid: RwLock<Cache<EventNid, Arc<str>>>,
}

/// The cache of one kind, both ways.
struct Kind {
    by_name: RwLock<Cache<Box<[u8]>, u64>>,
    by_number: RwLock<Cache<u64, Arc<[u8]>>>,
}

impl Kind {
    fn new(bytes: usize) -> Self {
        Self {
            by_name: RwLock::new(Cache::new(bytes / 2)),
            by_number: RwLock::new(Cache::new(bytes / 2)),
        }
    }
}

/// Packed event ids to numbers, with RocksDB's sequence number of the view the pair was found
/// in: an older view may not have the event yet.
type EventsById = Cache<Box<[u8]>, (EventNid, u64)>;

const fn index(kind: NameKind) -> usize {
    kind.code() as usize - 1
}

fn next_numbers(db: &Database) -> Result<[u64; 4], StoreError> {
    let mut next = [1; 4];
    for (slot, kind) in next.iter_mut().zip(KINDS) {
        let last = row_key::<NameOf>(&(kind, u64::MAX));
        let family = db.family(NameOf::PROFILE)?;
        let mut read = rocksdb::ReadOptions::default();
        read.set_total_order_seek(true);
        let mut iter = db.rocks.raw_iterator_cf_opt(family, read);
        iter.seek_for_prev(last.as_slice());
        iter.status().map_err(|error| StoreError::read(&error))?;
        let Some(found) = iter.key() else { continue };
        let ours = last.as_slice().get(..3).unwrap_or_default();
        if let Some(number) = found.strip_prefix(ours)
            && let Ok(number) = <[u8; 8]>::try_from(number)
        {
            *slot = u64::from_be_bytes(number) + 1;
        }
    }
    Ok(next)
}

impl Names {
    /// Empty caches, and counters that go on where the database ends.
    pub(crate) fn open(db: &Database, bytes: u64) -> Result<Self, StoreError> {
        let share = usize::try_from(bytes / 8).unwrap_or(usize::MAX);
        Ok(Self {
            next: Mutex::new(next_numbers(db)?),
            kinds: KINDS.map(|_| Kind::new(share)),
            events: RwLock::new(Cache::new(share * 2)),
            event_by_nid: RwLock::new(Cache::new(share * 2)),
        })
    }

    /// Forgets everything that is not in `db`: after applied changes were lost.
    pub(crate) fn reload(&self, db: &Database) -> Result<(), StoreError> {
        let mut next = self.next.lock();
        *next = next_numbers(db)?;
        for kind in &self.kinds {
            kind.by_name.write().clear();
            kind.by_number.write().clear();
        }
        self.events.write().clear();
        self.event_by_nid.write().clear();
        Ok(())
    }

    #[allow(clippy::indexing_slicing)] // Cannot fail: the codes of the kinds are 1 to 4.
    fn kind(&self, kind: NameKind) -> &Kind {
        &self.kinds[index(kind)]
    }

    fn remember(&self, kind: NameKind, name: &[u8], number: u64) {
        // Some 64 bytes go to the maps themselves.
        let size = name.len() + 64;
        let kind = self.kind(kind);
        kind.by_name.write().put(name.into(), number, size);
        kind.by_number.write().put(number, name.into(), size);
    }
}

/// A state key's name: type and key with a zero byte between, which no type holds.
fn state_key_name(event_type: &str, state_key: &str) -> Vec<u8> {
    let mut buf = Buf::new();
    crate::codec::Field::put(&event_type.to_owned(), &mut buf);
    buf.slice(state_key.as_bytes());
    buf.bytes
}

impl Store {
    fn lookup(&self, kind: NameKind, name: &[u8]) -> Result<Option<u64>, StoreError> {
        let names = &self.shared.names;
        let cached = names.kind(kind).by_name.read().get(name).copied();
        if cached.is_some() {
            return Ok(cached);
        }
        let db = self.newest().database().clone();
        let key = row_key::<Name>(&(kind, name.to_vec()));
        let Some(number) = live::<Name>(&db, key.as_slice())? else {
            return Ok(None);
        };
        names.remember(kind, name, number);
        Ok(Some(number))
    }

    fn intern(&self, kind: NameKind, name: &[u8]) -> Result<u64, StoreError> {
        if let Some(number) = self.lookup(kind, name)? {
            return Ok(number);
        }
        let names = &self.shared.names;
        let mut next = names.next.lock();
        // Somebody may have been faster.
        if let Some(number) = self.lookup(kind, name)? {
            return Ok(number);
        }
        // Cannot fail: every kind has its place.
        let Some(slot) = next.get_mut(index(kind)) else {
            return Err(StoreError::Closed);
        };
        let number = *slot;
        let forth = (row_key::<Name>(&(kind, name.to_vec())), value_of(&number));
        let back = (
            row_key::<NameOf>(&(kind, number)),
            value_of(&Raw(name.to_vec())),
        );
        self.shared.write_names(&[forth, back])?;
        *slot += 1;
        names.remember(kind, name, number);
        Ok(number)
    }

    fn name_of(
        &self,
        kind: NameKind,
        number: u64,
        what: impl std::fmt::Debug,
    ) -> Result<Arc<[u8]>, StoreError> {
        let names = &self.shared.names;
        if let Some(name) = names.kind(kind).by_number.read().get(&number) {
            return Ok(name.clone());
        }
        let db = self.newest().database().clone();
        let key = row_key::<NameOf>(&(kind, number));
        let Raw(name) = live::<NameOf>(&db, key.as_slice())?
            .ok_or_else(|| StoreError::missing(NameOf::NAME, what))?;
        names.remember(kind, &name, number);
        Ok(name.into())
    }
}

/// A row as it is now, outside any snapshot.
fn live<T: Table>(db: &Database, key: &[u8]) -> Result<Option<T::Value>, StoreError> {
    let family = db.family(T::PROFILE)?;
    let found = db
        .rocks
        .get_pinned_cf(family, key)
        .map_err(|error| StoreError::read(&error))?;
    found
        .map(|bytes| take_value(&bytes).map_err(|_| StoreError::corrupt(T::NAME, key)))
        .transpose()
}

fn value_of<T: crate::codec::Field>(value: &T) -> Buf {
    let mut buf = Buf::new();
    put_value(value, &mut buf);
    buf
}

fn text(table: &'static str, bytes: &[u8]) -> Result<Arc<str>, StoreError> {
    std::str::from_utf8(bytes)
        .map(Arc::from)
        .map_err(|_| StoreError::corrupt(table, bytes))
}

macro_rules! names {
    ($($kind:ident, $nid:ident, $intern:ident, $find:ident, $back:ident, $what:literal;)*) => {
        impl Store {$(
            #[doc = concat!("The number of ", $what, "; gives it one if it has none.")]
            ///
            /// # Errors
            /// Reading or writing failed.
            pub fn $intern(&self, name: &str) -> Result<$nid, StoreError> {
                self.intern(NameKind::$kind, name.as_bytes()).map($nid)
            }

            #[doc = concat!("The number of ", $what, ", if it has one.")]
            ///
            /// # Errors
            /// Reading failed.
            pub fn $find(&self, name: &str) -> Result<Option<$nid>, StoreError> {
                Ok(self.lookup(NameKind::$kind, name.as_bytes())?.map($nid))
            }

            #[doc = concat!("The name of ", $what, " by its number.")]
            ///
            /// # Errors
            /// Reading failed, or the number was never given out (`Corrupt`).
            pub fn $back(&self, nid: $nid) -> Result<Arc<str>, StoreError> {
                text(NameOf::NAME, &self.name_of(NameKind::$kind, nid.0, nid)?)
            }
        )*}
    };
}
names! {
    User, UserNid, intern_user, user_nid, user_id, "a user id";
    Room, RoomNid, intern_room, room_nid, room_id, "a room id";
    Server, ServerNid, intern_server, server_nid, server_name, "a server name";
}

impl Store {
    /// The number of a pair of event type and state key; gives it one if it has none.
    ///
    /// # Errors
    /// Reading or writing failed.
    pub fn intern_state_key(
        &self,
        event_type: &str,
        state_key: &str,
    ) -> Result<StateKeyNid, StoreError> {
        self.intern(NameKind::StateKey, &state_key_name(event_type, state_key))
            .map(StateKeyNid)
    }

    /// The number of a pair of event type and state key, if it has one.
    ///
    /// # Errors
    /// Reading failed.
    pub fn state_key_nid(
        &self,
        event_type: &str,
        state_key: &str,
    ) -> Result<Option<StateKeyNid>, StoreError> {
        let name = state_key_name(event_type, state_key);
        Ok(self.lookup(NameKind::StateKey, &name)?.map(StateKeyNid))
    }

    /// Event type and state key by their number.
    ///
    /// # Errors
    /// Reading failed, or the number was never given out (`Corrupt`).
    pub fn state_key(&self, nid: StateKeyNid) -> Result<(Arc<str>, Arc<str>), StoreError> {
        let name = self.name_of(NameKind::StateKey, nid.0, nid)?;
        let mut cur = crate::codec::Cur::new(&name);
        let event_type = <Arc<str> as crate::codec::Field>::take(&mut cur)
            .map_err(|_| StoreError::corrupt(NameOf::NAME, &name))?;
        Ok((event_type, text(NameOf::NAME, cur.rest())?))
    }

    /// The number of an event in this view, if it has one there.
    ///
    /// # Errors
    /// Reading failed.
    pub fn event_nid(
        &self,
        snap: &Snapshot,
        event_id: &str,
    ) -> Result<Option<EventNid>, StoreError> {
        let packed = crate::event_id::pack(event_id);
        let names = &self.shared.names;
        let cached = names.events.read().get(packed.as_slice()).copied();
        if let Some((nid, since)) = cached
            && since <= snap.sequence()
        {
            return Ok(Some(nid));
        }
        let Some(nid) = snap.get::<EventName>(&packed)? else {
            return Ok(None);
        };
        let size = packed.len() + 64;
        names
            .events
            .write()
            .put(packed.into(), (nid, snap.sequence()), size);
        Ok(Some(nid))
    }

    /// The id of an event by its number, from anything that is applied.
    ///
    /// # Errors
    /// Reading failed, or the number was never given out (`Corrupt`).
    pub fn event_id(&self, nid: EventNid) -> Result<Arc<str>, StoreError> {
        let names = &self.shared.names;
        if let Some(id) = names.event_by_nid.read().get(&nid) {
            return Ok(id.clone());
        }
        let Raw(packed) = self
            .newest()
            .get::<EventNameOf>(&nid)?
            .ok_or_else(|| StoreError::missing(EventNameOf::NAME, nid))?;
        let id: Arc<str> = crate::event_id::unpack(&packed)
            .map_err(|_| StoreError::corrupt(EventNameOf::NAME, &packed))?
            .into();
        names
            .event_by_nid
            .write()
            .put(nid, id.clone(), id.len() + 64);
        Ok(id)
    }
}
