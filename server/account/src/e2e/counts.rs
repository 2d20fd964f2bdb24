//! How many keys of a device are left: kept in one row, so that each `/sync` reads it at once.

use std::collections::BTreeMap;

use serde::Serialize;
use skerry_core::{Order, Pos, UserNid};
use skerry_store::schema::e2e::{KeyCountsRow, KeyCountsTable, OneTimeQueue};
use skerry_store::{Change, Snapshot, StoreError, Write};

/// The algorithm of today's one-time keys. Its count is always told, since some clients take a
/// count that is left out for one that did not change.
const USUAL: &str = "signed_curve25519";

/// What a device has left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyCounts {
    /// Unclaimed one-time keys by algorithm: `device_one_time_keys_count` of `/sync`,
    /// `one_time_key_counts` of `/keys/upload`.
    pub one_time: BTreeMap<String, u32>,
    /// Algorithms with a fallback key that was not handed out: `device_unused_fallback_key_types`.
    pub unused_fallback: Vec<String>,
    /// When this last changed; 0 if the device never uploaded such keys.
    #[serde(skip)]
    pub pos: Pos,
}

impl From<KeyCountsRow> for KeyCounts {
    fn from(row: KeyCountsRow) -> Self {
        let mut one_time = BTreeMap::from([(USUAL.to_owned(), 0)]);
        one_time.extend(
            row.one_time
                .into_iter()
                .map(|queue| (queue.algorithm, queue.count)),
        );
        KeyCounts {
            one_time,
            unused_fallback: row.unused_fallback,
            pos: row.pos,
        }
    }
}

/// What a device has left: one point read.
pub fn key_counts(snap: &Snapshot, user: UserNid, device: &str) -> Result<KeyCounts, StoreError> {
    let row = snap.get::<KeyCountsTable>(&(user, device.to_owned()))?;
    Ok(KeyCounts::from(row.unwrap_or_else(none)))
}

/// The row of a device without keys.
pub(super) fn none() -> KeyCountsRow {
    KeyCountsRow {
        one_time: Vec::new(),
        unused_fallback: Vec::new(),
        pos: Pos::ZERO,
    }
}

/// Stores a changed row and logs that it changed.
pub(super) fn put(w: &mut Write, slot: (UserNid, String), mut row: KeyCountsRow) {
    row.pos = w.log(Change::Keys {
        user: slot.0,
        device: slot.1.clone(),
    });
    w.put::<KeyCountsTable>(&slot, &row);
}

/// The queue of an algorithm, made if there is none.
pub(super) fn queue<'a>(row: &'a mut KeyCountsRow, algorithm: &str) -> &'a mut OneTimeQueue {
    let at = row
        .one_time
        .iter()
        .position(|queue| queue.algorithm == algorithm);
    let at = at.unwrap_or_else(|| {
        row.one_time.push(OneTimeQueue {
            algorithm: algorithm.to_owned(),
            count: 0,
            after: Order::MIN,
        });
        row.one_time.len() - 1
    });
    // cannot fail: `at` was found in, or is the end of, this very list
    #[allow(clippy::indexing_slicing)]
    &mut row.one_time[at]
}

/// Notes whether the fallback key of an algorithm is still unused.
pub(super) fn fallback_unused(row: &mut KeyCountsRow, algorithm: String, unused: bool) {
    row.unused_fallback.retain(|other| *other != algorithm);
    if unused {
        row.unused_fallback.push(algorithm);
        row.unused_fallback.sort_unstable();
    }
}
