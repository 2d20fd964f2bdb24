//! Snapshots: what readers and planners see.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use rocksdb::{DBRawIteratorWithThreadMode, ReadOptions, SnapshotWithThreadMode};
use skerry_core::Pos;

use crate::codec::{Buf, Cur, Key, Prefix, take_value};
use crate::db::{Database, Rocks};
use crate::table::row_key;
use crate::{StoreError, Table};

/// A consistent view of the whole store, with the log position it is true at. Cheap to clone.
///
/// Holding one for long keeps old versions of rows on disk; a request holds one for its own time.
#[derive(Clone)]
pub struct Snapshot(Arc<View>);

/// The parts of a snapshot. They are dropped from top to bottom: the database last.
struct View {
    read: ReadOptions,
    raw: SnapshotWithThreadMode<'static, Rocks>,
    db: Arc<Database>,
    head: Pos,
    ticket: u64,
}

impl Snapshot {
    /// The newest data. The caller holds the commit lane and knows the head of exactly this data.
    pub(crate) fn take(db: Arc<Database>, head: Pos, ticket: u64) -> Self {
        let rocks: *const Rocks = &raw const db.rocks;
        // SAFETY: the reference lives in `raw`, which is dropped before `db`, and `db` keeps
        // the `Rocks` inside its allocation, where it never moves. `raw` never leaves `View`.
        let rocks: &'static Rocks = unsafe { &*rocks };
        let raw = SnapshotWithThreadMode::new(rocks);
        let mut read = ReadOptions::default();
        read.set_snapshot(&raw);
        Self(Arc::new(View {
            read,
            raw,
            db,
            head,
            ticket,
        }))
    }

    /// The log position this view is true at: everything up to it is in it, nothing after it.
    #[must_use]
    pub fn head(&self) -> Pos {
        self.0.head
    }

    /// The number of the newest commit in it.
    pub(crate) fn ticket(&self) -> u64 {
        self.0.ticket
    }

    /// RocksDB's sequence number of it.
    pub(crate) fn sequence(&self) -> u64 {
        self.0.raw.sequence_number()
    }

    pub(crate) fn database(&self) -> &Arc<Database> {
        &self.0.db
    }

    /// Whether these two are the only snapshots of their database, and nobody else uses it.
    pub(crate) fn are_alone(a: &Self, b: &Self) -> bool {
        let views = if Arc::ptr_eq(&a.0, &b.0) { 1 } else { 2 };
        Arc::strong_count(&a.0) == 3 - views
            && Arc::strong_count(&b.0) == 3 - views
            && Arc::strong_count(&a.0.db) == views
    }

    /// One row.
    ///
    /// # Errors
    /// Reading failed, or the row is damaged.
    pub fn get<T: Table>(&self, key: &T::Key) -> Result<Option<T::Value>, StoreError> {
        let key = row_key::<T>(key);
        let family = self.0.db.family(T::PROFILE)?;
        let found = self
            .0
            .db
            .rocks
            .get_pinned_cf_opt(family, key.as_slice(), &self.0.read)
            .map_err(|error| StoreError::read(&error))?;
        found
            .map(|bytes| decode::<T>(key.as_slice(), &bytes))
            .transpose()
    }

    /// Whether there is such a row.
    ///
    /// # Errors
    /// Reading failed.
    pub fn has<T: Table>(&self, key: &T::Key) -> Result<bool, StoreError> {
        let key = row_key::<T>(key);
        let family = self.0.db.family(T::PROFILE)?;
        self.0
            .db
            .rocks
            .get_pinned_cf_opt(family, key.as_slice(), &self.0.read)
            .map(|found| found.is_some())
            .map_err(|error| StoreError::read(&error))
    }

    /// Several rows, in the order of the keys; cheaper than one by one.
    ///
    /// # Errors
    /// Reading failed, or a row is damaged.
    pub fn get_many<T: Table>(&self, keys: &[T::Key]) -> Result<Vec<Option<T::Value>>, StoreError> {
        let family = self.0.db.family(T::PROFILE)?;
        let keys: Vec<Vec<u8>> = keys.iter().map(|key| row_key::<T>(key).bytes).collect();
        let sorted = keys.is_sorted();
        let found = self
            .0
            .db
            .rocks
            .batched_multi_get_cf_opt(family, &keys, sorted, &self.0.read);
        keys.iter()
            .zip(found)
            .map(|(key, row)| match row {
                Ok(Some(bytes)) => decode::<T>(key, &bytes).map(Some),
                Ok(None) => Ok(None),
                Err(error) => Err(StoreError::read(&error)),
            })
            .collect()
    }

    /// The rows of a range, in the order of their keys. Nothing is read before the first `next`.
    pub fn scan<T: Table>(&self, scan: Scan<T::Key>) -> Rows<'_, T> {
        let Scan {
            lower,
            upper,
            total,
            rev,
            limit,
            ..
        } = scan;
        let mut low = T::ID.to_vec();
        low.extend_from_slice(&lower);
        let high = match upper {
            Some(upper) => [T::ID.as_slice(), &upper].concat(),
            None => successor(T::ID.to_vec()).unwrap_or_else(|| vec![0xff; 64]),
        };
        let mut rows = Rows {
            iter: None,
            seek: low.clone(),
            rev,
            left: limit,
            failed: None,
            table: PhantomData,
        };
        if low >= high {
            rows.left = 0;
            return rows;
        }
        let mut read = ReadOptions::default();
        read.set_snapshot(&self.0.raw);
        read.set_iterate_lower_bound(low);
        read.set_iterate_upper_bound(high);
        // A bloom filter on the first eight bytes of keys helps only where all rows of the
        // range share them, and only forwards (going back starts beyond the prefix).
        read.set_total_order_seek(total || rev);
        match self.0.db.family(T::PROFILE) {
            Ok(family) => {
                rows.iter = Some(self.0.db.rocks.raw_iterator_cf_opt(family, read));
            }
            Err(error) => rows.failed = Some(error),
        }
        rows
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("head", &self.0.head)
            .finish_non_exhaustive()
    }
}

fn decode<T: Table>(key: &[u8], bytes: &[u8]) -> Result<T::Value, StoreError> {
    take_value(bytes).map_err(|_| StoreError::corrupt(T::NAME, key))
}

/// The smallest byte string above everything that starts with `prefix`.
pub(crate) fn successor(mut prefix: Vec<u8>) -> Option<Vec<u8>> {
    while let Some(last) = prefix.pop() {
        if last < 0xff {
            prefix.push(last + 1);
            return Some(prefix);
        }
    }
    None
}

/// Which rows of a table, and in which direction.
#[derive(Debug, Clone)]
pub struct Scan<K> {
    lower: Vec<u8>,
    /// Exclusive; none: to the end of the table.
    upper: Option<Vec<u8>>,
    /// The range may span several values of the first eight bytes.
    total: bool,
    rev: bool,
    limit: usize,
    key: PhantomData<fn(K)>,
}

impl<K: Key> Scan<K> {
    /// The whole table.
    #[must_use]
    pub fn all() -> Self {
        Self {
            lower: Vec::new(),
            upper: None,
            total: true,
            rev: false,
            limit: usize::MAX,
            key: PhantomData,
        }
    }

    /// All rows whose key starts with `prefix`.
    pub fn prefix(prefix: &impl Prefix<K>) -> Self {
        let mut buf = Buf::new();
        prefix.encode_prefix(&mut buf);
        let lower = buf.bytes;
        Self {
            total: lower.len() < 8,
            upper: successor(lower.clone()),
            lower,
            ..Self::all()
        }
    }

    /// Begin with this key, if it is there.
    #[must_use]
    pub fn from(mut self, key: &K) -> Self {
        let key = bytes_of(key);
        self.lower = self.lower.max(key);
        self
    }

    /// Begin after this key.
    #[must_use]
    pub fn after(mut self, key: &K) -> Self {
        let mut key = bytes_of(key);
        // No key is the start of another, so nothing lies between the key and this.
        key.push(0);
        self.lower = self.lower.max(key);
        self
    }

    /// End before this key.
    #[must_use]
    pub fn to(mut self, key: &K) -> Self {
        let key = bytes_of(key);
        self.upper = Some(match self.upper {
            Some(upper) => upper.min(key),
            None => key,
        });
        self
    }

    /// From the end to the beginning.
    #[must_use]
    pub fn rev(mut self) -> Self {
        self.rev = true;
        self
    }

    /// At most so many rows.
    #[must_use]
    pub fn limit(mut self, n: usize) -> Self {
        self.limit = n;
        self
    }
}

fn bytes_of<K: Key>(key: &K) -> Vec<u8> {
    let mut buf = Buf::new();
    key.encode(&mut buf);
    buf.bytes
}

/// The rows of a scan. After an error it ends.
pub struct Rows<'a, T> {
    iter: Option<DBRawIteratorWithThreadMode<'a, Rocks>>,
    /// Where to start; empty once started.
    seek: Vec<u8>,
    rev: bool,
    left: usize,
    failed: Option<StoreError>,
    table: PhantomData<T>,
}

impl<T: Table> Iterator for Rows<'_, T> {
    type Item = Result<(T::Key, T::Value), StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(error) = self.failed.take() {
            self.left = 0;
            return Some(Err(error));
        }
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        let iter = self.iter.as_mut()?;
        match (self.seek.is_empty(), self.rev) {
            (false, false) => iter.seek(std::mem::take(&mut self.seek)),
            (false, true) => {
                self.seek.clear();
                iter.seek_to_last();
            }
            (true, false) => iter.next(),
            (true, true) => iter.prev(),
        }
        let Some((key, value)) = iter.item() else {
            self.left = 0;
            return iter
                .status()
                .err()
                .map(|error| Err(StoreError::read(&error)));
        };
        let row = decode_row::<T>(key, value);
        if row.is_err() {
            self.left = 0;
        }
        Some(row)
    }
}

fn decode_row<T: Table>(key: &[u8], value: &[u8]) -> Result<(T::Key, T::Value), StoreError> {
    let damaged = || StoreError::corrupt(T::NAME, key);
    let mut cur = Cur::new(key.get(2..).ok_or_else(damaged)?);
    let decoded = T::Key::decode(&mut cur).map_err(|_| damaged())?;
    cur.end().map_err(|_| damaged())?;
    Ok((decoded, decode::<T>(key, value)?))
}

impl<T> fmt::Debug for Rows<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rows")
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}
