//! A write: a list of typed operations that become one batch.

use skerry_core::{EventNid, Pos};

use crate::codec::{Buf, Key, Prefix, put_value};
use crate::log::Change;
use crate::schema::store::{EventName, EventNameOf, Log};
use crate::snapshot::successor;
use crate::table::row_key;
use crate::{Profile, Table};

/// What a row has to be at the moment of the commit.
#[derive(Debug, Clone, Copy)]
pub enum Expect<V> {
    /// There is no such row.
    Absent,
    /// There is such a row.
    Present,
    /// There is such a row, with exactly this value.
    Is(V),
}

/// Operations to be committed together. Does no I/O; dropping it does nothing.
///
/// Positions do not exist before the commit: [`Write::stamp`] gives a placeholder, which may be
/// encoded in keys and values of this write, and which the commit replaces by the real position.
/// Later operations on the same row win. A write may hold at most 2^31 bytes.
#[derive(Debug)]
pub struct Write {
    /// Keys and values of all operations, one after another.
    pub(crate) buf: Buf,
    pub(crate) ops: Vec<Op>,
    pub(crate) expects: Vec<Expected>,
    pub(crate) stamps: u64,
    pub(crate) numbers: crate::numbers::Numbers,
    /// The queues of the outbox that it puts something into.
    pub(crate) queued: Vec<crate::outbox::Dest>,
    /// It is taken below the floor of free space too.
    pub(crate) makes_room: bool,
}

/// One operation; its bytes lie in the buffer from `key` to `value` and from there to `end`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Op {
    pub(crate) profile: Profile,
    pub(crate) kind: OpKind,
    pub(crate) key: usize,
    pub(crate) value: usize,
    pub(crate) end: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OpKind {
    Put,
    Delete,
    /// All keys from the key to before the value.
    DeleteRange,
}

#[derive(Debug)]
pub(crate) struct Expected {
    pub(crate) table: &'static str,
    pub(crate) profile: Profile,
    pub(crate) key: Vec<u8>,
    pub(crate) expect: Expect<Vec<u8>>,
}

impl Write {
    pub(crate) fn new(numbers: crate::numbers::Numbers) -> Self {
        Self {
            buf: Buf::new(),
            ops: Vec::new(),
            expects: Vec::new(),
            stamps: 0,
            numbers,
            queued: Vec::new(),
            makes_room: false,
        }
    }

    /// This write leads to more free space: it is taken although less than the floor is free.
    pub fn makes_room(&mut self) {
        self.makes_room = true;
    }

    /// A placeholder for a position of its own. Positions follow in the order of the calls.
    pub fn stamp(&mut self) -> Pos {
        let pos = Pos(Pos::STAMP_BASE + self.stamps);
        self.stamps += 1;
        pos
    }

    /// Sets a row.
    pub fn put<T: Table>(&mut self, key: &T::Key, value: &T::Value) {
        let start = self.buf.bytes.len();
        self.buf.slice(&T::ID);
        key.encode(&mut self.buf);
        let middle = self.buf.bytes.len();
        put_value(value, &mut self.buf);
        self.push::<T>(OpKind::Put, start, middle);
    }

    /// Removes a row, if there is one.
    pub fn delete<T: Table>(&mut self, key: &T::Key) {
        let start = self.buf.bytes.len();
        self.buf.slice(&T::ID);
        key.encode(&mut self.buf);
        self.push::<T>(OpKind::Delete, start, self.buf.bytes.len());
    }

    /// Removes all rows whose key starts with `prefix`, those put earlier in this write included.
    pub fn delete_range<T: Table>(&mut self, prefix: impl Prefix<T::Key>) {
        let start = self.buf.bytes.len();
        self.buf.slice(&T::ID);
        prefix.encode_prefix(&mut self.buf);
        let middle = self.buf.bytes.len();
        let low = self.buf.bytes.get(start..).unwrap_or_default().to_vec();
        // Cannot be none: no table has the id 0xffff (a test looks).
        self.buf.slice(&successor(low).unwrap_or_default());
        self.push::<T>(OpKind::DeleteRange, start, middle);
    }

    /// Removes all rows from `first` to before `end`, those put earlier in this write included.
    /// The bounds may hold no placeholder.
    pub fn delete_between<T: Table>(&mut self, first: &T::Key, end: &T::Key) {
        let start = self.buf.bytes.len();
        self.buf.slice(&T::ID);
        first.encode(&mut self.buf);
        let middle = self.buf.bytes.len();
        self.buf.slice(&T::ID);
        end.encode(&mut self.buf);
        self.push::<T>(OpKind::DeleteRange, start, middle);
    }

    fn push<T: Table>(&mut self, kind: OpKind, key: usize, value: usize) {
        let end = self.buf.bytes.len();
        self.ops.push(Op {
            profile: T::PROFILE,
            kind,
            key,
            value,
            end,
        });
    }

    /// Lets the commit fail with `Conflict` unless the row is then as expected. Checked against
    /// the newest data, before anything of this write. The key may hold no placeholder.
    pub fn expect<T: Table>(&mut self, key: &T::Key, expect: Expect<&T::Value>) {
        let expect = match expect {
            Expect::Absent => Expect::Absent,
            Expect::Present => Expect::Present,
            Expect::Is(value) => {
                let mut buf = Buf::new();
                put_value(value, &mut buf);
                Expect::Is(buf.bytes)
            }
        };
        let key = row_key::<T>(key).bytes;
        self.expects.push(Expected {
            table: T::NAME,
            profile: T::PROFILE,
            key,
            expect,
        });
    }

    /// Adds a fact to the log, at a position of its own, and returns the placeholder for it.
    pub fn log(&mut self, change: Change) -> Pos {
        let pos = self.stamp();
        self.put::<Log>(&pos, &change);
        pos
    }

    /// Gives an event id its number, in this same write. An id that has a number already lets
    /// the commit fail with `Conflict`; look first with `Store::event_nid`. Later calls give
    /// larger numbers; the number of a write that is never committed is not used again.
    pub fn new_event(&mut self, event_id: &str) -> EventNid {
        let nid = self.numbers.next_event();
        let packed = crate::event_id::pack(event_id);
        self.expect::<EventName>(&packed, Expect::Absent);
        self.put::<EventName>(&packed, &nid);
        self.put::<EventNameOf>(&nid, &crate::codec::Raw(packed));
        nid
    }

    /// Takes an event's name away, with its last row. Only where nothing refers to the event and
    /// nobody has looked its id up since the store was opened: names in memory are not dropped.
    pub fn forget_event(&mut self, event_id: &str, nid: EventNid) {
        self.delete::<EventName>(&crate::event_id::pack(event_id));
        self.delete::<EventNameOf>(&nid);
    }

    /// A number for a new version of a room's state, larger than all before.
    pub fn new_state(&mut self) -> skerry_core::StateId {
        self.numbers.next_state()
    }

    /// Whether nothing is to be written and nothing to be checked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty() && self.expects.is_empty()
    }

    /// How many bytes of keys and values it holds.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.buf.bytes.len()
    }
}
