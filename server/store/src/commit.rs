//! The commit: one write becomes one batch.

use std::sync::Arc;

use rocksdb::WriteBatch;
use skerry_core::Pos;

use crate::codec::{Buf, put_value};
use crate::db::Database;
use crate::disk::Point;
use crate::schema::store::{Head, HeadRow, Log, Name};
use crate::store::{Applied, Check, Health, Shared};
use crate::table::row_key;
use crate::write::{Expected, Op, OpKind};
use crate::{Expect, Profile, Snapshot, StoreError, Table, Write};

/// What the commit lane guards.
#[derive(Debug)]
pub(crate) struct Committer {
    /// The newest position.
    pub(crate) head: Pos,
    /// How many commits there have been since the store was opened.
    pub(crate) ticket: u64,
    /// Bytes written since the free space was last looked at.
    pub(crate) unchecked: u64,
}

/// The largest write, in bytes. RocksDB's own limit is 4 GiB for a batch.
const MAX_WRITE: usize = 1 << 30;
/// Free space is looked at again after so many bytes.
const CHECK_EVERY: u64 = 256 << 10;
/// Up to so many rows of a range are deleted one by one: a range tombstone costs every later
/// read of its family a little, for as long as it exists.
const RANGE_ROWS: usize = 256;

impl Shared {
    /// `check` is asked with the newest view, in which nothing changes until it has answered.
    pub(crate) fn commit(
        &self,
        mut write: Write,
        check: Option<&mut Check<'_>>,
    ) -> Result<Applied, StoreError> {
        if write.len_bytes() > MAX_WRITE {
            return Err(StoreError::TooLarge(write.len_bytes()));
        }
        let mut lane = self.committer.lock();
        self.check_health()?;
        let db = self.newest.read().database().clone();
        for expected in &write.expects {
            is_as_expected(&db, expected)?;
        }
        if let Some(check) = check {
            let newest = self.newest.read().clone();
            if !check(&newest)? {
                return Err(StoreError::Conflict { table: Log::NAME });
            }
        }
        if write.ops.is_empty() && write.stamps == 0 {
            return Ok(Applied {
                ticket: lane.ticket,
                base: lane.head,
            });
        }
        if !write.makes_room {
            self.check_space(&mut lane, write.len_bytes())?;
        }
        let base = lane.head;
        patch(&mut write.buf, base);
        let head = Pos(base.0 + write.stamps);
        let batch = self.batch(&db, &write, head)?;
        self.disk_point(Point::BeforeWrite)?;
        db.rocks
            .write(batch)
            .map_err(|error| self.write_failed(error.as_ref()))?;
        self.disk_point(Point::AfterWrite)?;
        lane.head = head;
        lane.ticket += 1;
        let ticket = lane.ticket;
        let view = Snapshot::take(db, head, ticket);
        // The old view is let go outside the lock.
        let old = std::mem::replace(&mut *self.newest.write(), view);
        drop(lane);
        drop(old);
        self.queued.note(write.queued, head);
        self.syncer.ring();
        Ok(Applied { ticket, base })
    }

    /// The rows of new names: outside of any commit, see `names`.
    pub(crate) fn write_names(&self, rows: &[(Buf, Buf)]) -> Result<(), StoreError> {
        self.check_health()?;
        let db = self.newest.read().database().clone();
        let family = db.family(Name::PROFILE)?;
        let mut batch = WriteBatch::default();
        for (key, value) in rows {
            batch.put_cf(family, key.as_slice(), value.as_slice());
        }
        db.rocks
            .write(batch)
            .map_err(|error| self.write_failed(error.as_ref()))
    }

    pub(crate) fn check_health(&self) -> Result<(), StoreError> {
        match &*self.health.borrow() {
            Health::Good => Ok(()),
            Health::Full => Err(StoreError::Full),
            Health::Poisoned(why) => Err(StoreError::Poisoned(why.clone())),
            Health::Closed => Err(StoreError::Closed),
        }
    }

    fn check_space(&self, lane: &mut Committer, bytes: usize) -> Result<(), StoreError> {
        let floor = self.opts.free_disk_floor_bytes;
        if floor == 0 {
            return Ok(());
        }
        lane.unchecked = lane.unchecked.saturating_sub(bytes as u64);
        if lane.unchecked > 0 {
            return Ok(());
        }
        let free = self
            .opts
            .disk
            .free_bytes(&self.dir)
            .map_err(|error| StoreError::io("asking for the free space of the disk", error))?;
        if free < floor {
            return Err(StoreError::Full);
        }
        // Looked at again soon, and much sooner than the space could run out.
        lane.unchecked = CHECK_EVERY.min((free - floor) / 8);
        Ok(())
    }

    /// A point at which tests may let the disk fail.
    pub(crate) fn disk_point(&self, point: Point) -> Result<(), StoreError> {
        self.opts
            .disk
            .at(point)
            .map_err(|error| match error.kind() {
                std::io::ErrorKind::StorageFull => self.write_failed("No space left on device"),
                _ => self.write_failed(&error.to_string()),
            })
    }

    /// Notes that writing failed, and says what callers are told.
    pub(crate) fn write_failed(&self, cause: &str) -> StoreError {
        let full = cause.contains("No space left") || cause.contains("NoSpace");
        let next = if full {
            Health::Full
        } else {
            Health::Poisoned(Arc::from(cause))
        };
        self.health.send_if_modified(|health| {
            let change = *health == Health::Good || (*health == Health::Full && !full);
            if change {
                tracing::error!(cause, full, "the database cannot write");
                *health = next;
            }
            change
        });
        self.syncer.ring();
        if full {
            StoreError::Full
        } else {
            StoreError::Poisoned(cause.into())
        }
    }

    fn batch(&self, db: &Database, write: &Write, head: Pos) -> Result<WriteBatch, StoreError> {
        let bytes = write.buf.as_slice();
        let mut batch = WriteBatch::with_capacity_bytes(bytes.len() + write.ops.len() * 8 + 64);
        for (n, op) in write.ops.iter().enumerate() {
            let family = db.family(op.profile)?;
            let key = bytes.get(op.key..op.value).unwrap_or_default();
            match op.kind {
                OpKind::Put => {
                    batch.put_cf(family, key, bytes.get(op.value..op.end).unwrap_or_default());
                }
                OpKind::Delete => batch.delete_cf(family, key),
                OpKind::DeleteRange => {
                    let before = write.ops.get(..n).unwrap_or_default();
                    let end = bytes.get(op.value..op.end).unwrap_or_default();
                    delete_range(db, &mut batch, (bytes, before), op.profile, (key, end))?;
                }
            }
        }
        let (next_event, next_state) = self.numbers.upcoming();
        let key = row_key::<Head>(&());
        let mut value = Buf::new();
        put_value(
            &HeadRow {
                head,
                next_event,
                next_state,
            },
            &mut value,
        );
        batch.put_cf(db.family(Head::PROFILE)?, key.as_slice(), value.as_slice());
        Ok(batch)
    }
}

/// Puts the real positions where placeholders were encoded.
fn patch(buf: &mut Buf, base: Pos) {
    for offset in &buf.stamps {
        let offset = *offset as usize;
        // Cannot miss: the offset is where eight bytes were written.
        if let Some(slot) = buf.bytes.get_mut(offset..offset + 8)
            && let Ok(raw) = <[u8; 8]>::try_from(&*slot)
        {
            let index = u64::from_be_bytes(raw) - Pos::STAMP_BASE;
            slot.copy_from_slice(&(base.0 + 1 + index).to_be_bytes());
        }
    }
}

fn is_as_expected(db: &Database, expected: &Expected) -> Result<(), StoreError> {
    let family = db.family(expected.profile)?;
    let found = db
        .rocks
        .get_pinned_cf(family, &expected.key)
        .map_err(|error| StoreError::read(&error))?;
    let holds = match (&expected.expect, found) {
        (Expect::Absent, found) => found.is_none(),
        (Expect::Present, found) => found.is_some(),
        (Expect::Is(value), Some(found)) => **value == *found,
        (Expect::Is(_), None) => false,
    };
    if holds {
        Ok(())
    } else {
        Err(StoreError::Conflict {
            table: expected.table,
        })
    }
}

fn delete_range(
    db: &Database,
    batch: &mut WriteBatch,
    (bytes, before): (&[u8], &[Op]),
    profile: Profile,
    (first, end): (&[u8], &[u8]),
) -> Result<(), StoreError> {
    let family = db.family(profile)?;
    if first >= end {
        return Ok(());
    }
    let mut read = rocksdb::ReadOptions::default();
    read.set_total_order_seek(true);
    read.set_iterate_upper_bound(end);
    let mut iter = db.rocks.raw_iterator_cf_opt(family, read);
    iter.seek(first);
    let mut found = Vec::new();
    while let Some(key) = iter.key() {
        if found.len() == RANGE_ROWS {
            batch.delete_range_cf(family, first, end);
            return Ok(());
        }
        found.push(key.to_vec());
        iter.next();
    }
    iter.status().map_err(|error| StoreError::read(&error))?;
    for key in found {
        batch.delete_cf(family, key);
    }
    for op in before {
        let key = bytes.get(op.key..op.value).unwrap_or_default();
        if op.kind == OpKind::Put && op.profile == profile && (first..end).contains(&key) {
            batch.delete_cf(family, key);
        }
    }
    Ok(())
}
