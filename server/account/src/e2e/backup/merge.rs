//! Which of two keys for the same session stays in a backup.

use skerry_core::UserNid;
use skerry_store::schema::e2e::{BackupKeyRow, BackupKeyTable, BackupTable};
use skerry_store::{Snapshot, Write};

use super::{
    BackupError, BackupKeys, DATA_BYTES_MAX, KEYS_MAX, KeysChanged, NAME_BYTES_MAX, current,
    version_row,
};

/// Keys by room and session, as rows.
type Rows = Vec<(String, String, BackupKeyRow)>;

/// Stores those keys that are new or better than what is stored.
pub(super) fn put(
    snap: &Snapshot,
    w: &mut Write,
    user: UserNid,
    version: &str,
    rows: Rows,
) -> Result<KeysChanged, BackupError> {
    let (version, mut backup) = version_row(snap, user, version)?;
    let current = current(snap, user)?.map_or(version, |(current, _)| current);
    if current != version {
        return Err(BackupError::WrongVersion {
            current: current.to_string(),
        });
    }
    let (ids, rows): (Vec<_>, Vec<_>) = rows
        .into_iter()
        .map(|(room, session, row)| ((user, version, room, session), row))
        .unzip();
    let stored = snap.get_many::<BackupKeyTable>(&ids)?;
    let mut changed = false;
    for ((id, new), old) in ids.into_iter().zip(rows).zip(stored) {
        backup.count += u64::from(old.is_none());
        if old.is_none_or(|old| better(&new, &old)) {
            w.put::<BackupKeyTable>(&id, &new);
            changed = true;
        }
    }
    if backup.count > KEYS_MAX {
        return Err(BackupError::TooLarge(
            "there are too many keys in the backup",
        ));
    }
    if changed {
        backup.etag += 1;
        w.put::<BackupTable>(&(user, version), &backup);
    }
    Ok(KeysChanged {
        count: backup.count,
        etag: backup.etag.to_string(),
    })
}

/// Whether a new key takes the place of the one stored.
fn better(new: &BackupKeyRow, old: &BackupKeyRow) -> bool {
    let rank = |key: &BackupKeyRow| {
        (
            !key.is_verified,
            key.first_message_index,
            key.forwarded_count,
        )
    };
    rank(new) < rank(old)
}

/// Everything about keys that can be judged without the store.
pub(super) fn check(keys: BackupKeys) -> Result<Rows, BackupError> {
    let mut rows = Vec::new();
    for (room, keys) in keys.rooms {
        for (session, key) in keys.sessions {
            if room.len() > NAME_BYTES_MAX || session.len() > NAME_BYTES_MAX {
                return Err(BackupError::TooLarge("a room id or session id is too long"));
            }
            if key.session_data.get().len() > DATA_BYTES_MAX {
                return Err(BackupError::TooLarge("session_data is too long"));
            }
            let row = BackupKeyRow {
                first_message_index: key.first_message_index,
                forwarded_count: key.forwarded_count,
                is_verified: key.is_verified,
                session_data: key.session_data.get().to_owned(),
            };
            rows.push((room.clone(), session, row));
        }
    }
    Ok(rows)
}
