//! Followers of the log, and its trimming.
//!
//! A follower is a name with a stored cursor: it reads what came after its cursor, acts, and
//! stores the cursor. It may see something twice after a crash, so what it does is idempotent.

use skerry_core::Pos;

use crate::log::FLOOR;
use crate::schema::store::{Cursor, Facts, Log, LogMark};
use crate::{Applied, Change, Scan, Snapshot, Store, StoreError, Write};

/// How far a follower has come; none if it has never stored a cursor.
///
/// # Errors
/// Reading failed.
pub fn cursor(snap: &Snapshot, follower: &str) -> Result<Option<Pos>, StoreError> {
    snap.get::<Cursor>(&follower.to_owned())
}

/// Stores how far a follower has come, in the batch of what it did.
pub fn set_cursor(w: &mut Write, follower: &str, pos: Pos) {
    w.put::<Cursor>(&follower.to_owned(), &pos);
}

/// Removes a follower, so that the log need not be kept for it.
pub fn forget(w: &mut Write, follower: &str) {
    w.delete::<Cursor>(&follower.to_owned());
}

/// The next facts for a follower, at most `limit`, oldest first. The log is never cut above a
/// cursor, so a follower that has one misses nothing; one that has none starts at the floor.
///
/// # Errors
/// Reading failed.
pub fn next(
    snap: &Snapshot,
    follower: &str,
    limit: usize,
) -> Result<Vec<(Pos, Change)>, StoreError> {
    let since = cursor(snap, follower)?.unwrap_or(Pos::ZERO);
    snap.scan::<Log>(Scan::all().after(&since).limit(limit))
        .collect()
}

impl Store {
    /// Notes where the log stands now, and cuts off what is older than `keep_ms` and what no
    /// follower needs any more. To be called now and then, say every ten minutes. Writes nothing
    /// when nothing has happened since. Returns the new floor of the log.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn trim_log(&self, now_ms: u64, keep_ms: u64) -> Result<Pos, StoreError> {
        let snap = self.snapshot();
        let mut w = self.write();
        let newest = snap
            .scan::<LogMark>(Scan::all().rev().limit(1))
            .next()
            .transpose()?;
        if newest.is_none_or(|(_, pos)| pos != snap.head()) {
            w.put::<LogMark>(&now_ms, &snap.head());
        }
        let mut floor = snap.log_floor()?;
        let old = Scan::all().to(&now_ms.saturating_sub(keep_ms).saturating_add(1));
        let Some((at, pos)) = snap
            .scan::<LogMark>(old.rev().limit(1))
            .next()
            .transpose()?
        else {
            return self.finish_trim(w, floor);
        };
        let mut cut = pos;
        for row in snap.scan::<Cursor>(Scan::all()) {
            cut = cut.min(row?.1);
        }
        if cut > floor {
            w.delete_between::<Log>(&Pos::ZERO, &Pos(cut.0 + 1));
            w.put::<Facts>(&FLOOR.to_owned(), &cut.0);
            // Marks below this one are of no more use.
            w.delete_between::<LogMark>(&0, &at);
            floor = cut;
        }
        self.finish_trim(w, floor)
    }

    fn finish_trim(&self, w: Write, floor: Pos) -> Result<Pos, StoreError> {
        if !w.is_empty() {
            // Not waited for: losing it costs nothing but doing it again.
            let _: Applied = self.commit(w)?;
        }
        Ok(floor)
    }
}
