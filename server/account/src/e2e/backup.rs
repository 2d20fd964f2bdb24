//! Key backups: `/room_keys/*`. Devices keep copies of their room keys here, encrypted to a key
//! that only the user has.
//!
//! A user has any number of versions, of which the newest that is not deleted is the current one:
//! only that one takes keys. A version keeps count of its keys, and an etag that changes whenever
//! they do.

mod merge;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use skerry_core::UserNid;
use skerry_store::schema::e2e::{BackupKeyRow, BackupKeyTable, BackupRow, BackupTable};
use skerry_store::{Scan, Snapshot, StoreError};

use super::{Keys, signed};

/// Longest room id, session id or algorithm, in bytes.
const NAME_BYTES_MAX: usize = 255;
/// Longest `auth_data` or `session_data`, in bytes.
const DATA_BYTES_MAX: usize = 65_536;
/// Most versions of one user that are not deleted.
const LIVE_MAX: usize = 100;
/// Most versions of one user, deleted ones included: their numbers are not used again.
const VERSIONS_MAX: usize = 10_000;
/// Most keys of one version.
const KEYS_MAX: u64 = 500_000;
/// Most bytes of keys in one answer, which is made in memory.
const ANSWER_BYTES_MAX: usize = 128 * 1024 * 1024;

/// Why a backup was not read or changed.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// No such version, or no version at all.
    #[error("no such backup version")]
    NoVersion,
    /// The version holds no such key.
    #[error("no such key in the backup")]
    NoKey,
    /// Keys are stored in the current version only.
    #[error("not the current backup version")]
    WrongVersion {
        /// The current one.
        current: String,
    },
    /// A parameter is wrong; says how.
    #[error("{0}")]
    Invalid(&'static str),
    /// A part is longer than allowed; says which.
    #[error("{0}")]
    TooLarge(&'static str),
    /// The store failed.
    #[error("{0}")]
    Store(#[from] StoreError),
}

/// What a version is made or updated with.
#[derive(Debug, Deserialize)]
pub struct NewBackup {
    /// How keys are encrypted.
    pub algorithm: String,
    /// What the algorithm needs; only clients understand it.
    pub auth_data: Box<RawValue>,
    /// In an update: if present, the version that is updated.
    #[serde(default)]
    pub version: Option<String>,
}

/// A version as clients see it.
#[derive(Debug, Serialize)]
pub struct BackupInfo {
    /// How keys are encrypted.
    pub algorithm: String,
    /// What the algorithm needs.
    pub auth_data: Box<RawValue>,
    /// How many keys are stored.
    pub count: u64,
    /// Changes whenever the keys do.
    pub etag: String,
    /// Its name.
    pub version: String,
}

/// What a change of keys answers.
#[derive(Debug, Serialize, PartialEq, Eq)]
pub struct KeysChanged {
    /// How many keys are stored now.
    pub count: u64,
    /// The etag now.
    pub etag: String,
}

/// The key of one session.
#[derive(Debug, Serialize, Deserialize)]
pub struct SessionBackup {
    /// The first message that the key decrypts.
    pub first_message_index: u64,
    /// How often it was passed on between devices.
    pub forwarded_count: u64,
    /// Whether it came from a device that was verified.
    pub is_verified: bool,
    /// The encrypted key; only clients understand it.
    pub session_data: Box<RawValue>,
}

/// The keys of one room.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct RoomBackup {
    /// Keys by session id.
    pub sessions: BTreeMap<String, SessionBackup>,
}

/// The keys of all rooms.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct BackupKeys {
    /// Keys by room id.
    pub rooms: BTreeMap<String, RoomBackup>,
}

impl BackupKeys {
    /// The key of a single session.
    #[must_use]
    pub fn one(room: &str, session: &str, key: SessionBackup) -> BackupKeys {
        let sessions = BTreeMap::from([(session.to_owned(), key)]);
        BackupKeys::room(room, RoomBackup { sessions })
    }

    /// The keys of a single room.
    #[must_use]
    pub fn room(room: &str, keys: RoomBackup) -> BackupKeys {
        BackupKeys {
            rooms: BTreeMap::from([(room.to_owned(), keys)]),
        }
    }
}

/// Which keys of a version are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// All of them.
    All,
    /// Those of a room.
    Room(String),
    /// That of a session in a room.
    Session(String, String),
}

impl Keys {
    /// Makes a new version, which is current from now on, and gives its name.
    /// Spec: client-server API, `POST /room_keys/version`.
    ///
    /// # Errors
    /// [`BackupError::TooLarge`] and those of the store.
    pub async fn create_backup(
        &self,
        user: UserNid,
        backup: NewBackup,
    ) -> Result<String, BackupError> {
        check_new(&backup)?;
        self.in_lane(user, move |keys, w| {
            let (mut version, mut all, mut live) = (1, 0, 0);
            for row in keys
                .store()
                .newest()
                .scan::<BackupTable>(Scan::prefix(&user))
            {
                let ((_, newest), row) = row?;
                version = newest + 1;
                all += 1;
                live += usize::from(!row.deleted);
            }
            if live >= LIVE_MAX || all >= VERSIONS_MAX {
                return Err(BackupError::TooLarge("there are too many backups"));
            }
            let row = BackupRow {
                algorithm: backup.algorithm,
                auth_data: backup.auth_data.get().to_owned(),
                etag: 0,
                count: 0,
                deleted: false,
            };
            w.put::<BackupTable>(&(user, version), &row);
            Ok(version.to_string())
        })
        .await
    }

    /// What a version, or else the current one, is.
    /// Spec: client-server API, `GET /room_keys/version` with and without `/{version}`.
    ///
    /// # Errors
    /// [`BackupError::NoVersion`] and those of the store.
    pub async fn backup_info(
        &self,
        user: UserNid,
        version: Option<&str>,
    ) -> Result<BackupInfo, BackupError> {
        let version = version.map(str::to_owned);
        self.read(move |_, snap| {
            let (number, row) = match version {
                Some(version) => version_row(snap, user, &version)?,
                None => current(snap, user)?.ok_or(BackupError::NoVersion)?,
            };
            Ok(BackupInfo {
                algorithm: row.algorithm,
                auth_data: signed::raw("backup", row.auth_data)?,
                count: row.count,
                etag: row.etag.to_string(),
                version: number.to_string(),
            })
        })
        .await
    }

    /// Changes a version's `auth_data`; all else has to be what it was.
    /// Spec: client-server API, `PUT /room_keys/version/{version}`.
    ///
    /// # Errors
    /// [`BackupError::NoVersion`], [`BackupError::Invalid`], [`BackupError::TooLarge`] and those
    /// of the store.
    pub async fn update_backup(
        &self,
        user: UserNid,
        version: &str,
        backup: NewBackup,
    ) -> Result<(), BackupError> {
        check_new(&backup)?;
        let version = version.to_owned();
        self.in_lane(user, move |keys, w| {
            let (number, mut row) = version_row(&keys.store().newest(), user, &version)?;
            if backup.version.is_some_and(|named| named != version) {
                return Err(BackupError::Invalid("version is not the one in the path"));
            }
            if backup.algorithm != row.algorithm {
                return Err(BackupError::Invalid(
                    "algorithm is not the one of this version",
                ));
            }
            if row.auth_data != backup.auth_data.get() {
                row.auth_data = backup.auth_data.get().to_owned();
                w.put::<BackupTable>(&(user, number), &row);
            }
            Ok(())
        })
        .await
    }

    /// Deletes a version with its keys; nothing happens if it was deleted before.
    /// Spec: client-server API, `DELETE /room_keys/version/{version}`.
    ///
    /// # Errors
    /// [`BackupError::NoVersion`] if it never existed, and those of the store.
    pub async fn delete_backup(&self, user: UserNid, version: &str) -> Result<(), BackupError> {
        let version = number(version).ok_or(BackupError::NoVersion)?;
        self.in_lane(user, move |keys, w| {
            let row = keys.store().newest().get::<BackupTable>(&(user, version))?;
            let row = row.ok_or(BackupError::NoVersion)?;
            if !row.deleted {
                let auth_data = "{}".to_owned();
                let row = BackupRow {
                    auth_data,
                    count: 0,
                    deleted: true,
                    ..row
                };
                w.put::<BackupTable>(&(user, version), &row);
                w.delete_range::<BackupKeyTable>((user, version));
            }
            Ok(())
        })
        .await
    }

    /// Stores keys in the current version. A key already stored for a session stays, unless the
    /// new one is better: verified where it was not, else from an earlier message, else passed on
    /// less often.
    /// Spec: client-server API, `PUT /room_keys/keys` and its two narrower forms.
    ///
    /// # Errors
    /// [`BackupError::NoVersion`], [`BackupError::WrongVersion`], [`BackupError::TooLarge`] and
    /// those of the store.
    pub async fn put_backup_keys(
        &self,
        user: UserNid,
        version: &str,
        keys: BackupKeys,
    ) -> Result<KeysChanged, BackupError> {
        let rows = merge::check(keys)?;
        let version = version.to_owned();
        self.in_lane(user, move |this, w| {
            merge::put(&this.store().newest(), w, user, &version, rows)
        })
        .await
    }

    /// Keys of a version, by room and session.
    /// Spec: client-server API, `GET /room_keys/keys` and its two narrower forms.
    ///
    /// # Errors
    /// [`BackupError::NoVersion`], [`BackupError::NoKey`] for a single session that is not there,
    /// and those of the store.
    pub async fn backup_keys(
        &self,
        user: UserNid,
        version: &str,
        which: Which,
    ) -> Result<BackupKeys, BackupError> {
        let version = version.to_owned();
        self.read(move |_, snap| {
            let (version, _) = version_row(snap, user, &version)?;
            let mut found = BackupKeys::default();
            let mut bytes = 0;
            for_each(
                snap,
                (user, version),
                &which,
                |(_, _, room, session), row| {
                    bytes += row.session_data.len() + session.len();
                    if bytes > ANSWER_BYTES_MAX {
                        let why = "ask for the keys room by room: together they are too many";
                        return Err(BackupError::TooLarge(why));
                    }
                    let key = SessionBackup {
                        first_message_index: row.first_message_index,
                        forwarded_count: row.forwarded_count,
                        is_verified: row.is_verified,
                        session_data: signed::raw("backup_key", row.session_data)?,
                    };
                    found
                        .rooms
                        .entry(room)
                        .or_default()
                        .sessions
                        .insert(session, key);
                    Ok(())
                },
            )?;
            if matches!(which, Which::Session(..)) && found.rooms.is_empty() {
                return Err(BackupError::NoKey);
            }
            Ok(found)
        })
        .await
    }

    /// Deletes keys of a version; none of them need exist.
    /// Spec: client-server API, `DELETE /room_keys/keys` and its two narrower forms.
    ///
    /// # Errors
    /// [`BackupError::NoVersion`] and those of the store.
    pub async fn delete_backup_keys(
        &self,
        user: UserNid,
        version: &str,
        which: Which,
    ) -> Result<KeysChanged, BackupError> {
        let version = version.to_owned();
        self.in_lane(user, move |keys, w| {
            let snap = keys.store().newest();
            let (version, mut row) = version_row(&snap, user, &version)?;
            let mut deleted = 0;
            for_each(&snap, (user, version), &which, |key, _| {
                if which != Which::All {
                    w.delete::<BackupKeyTable>(&key);
                }
                deleted += 1;
                Ok(())
            })?;
            if deleted > 0 {
                if which == Which::All {
                    w.delete_range::<BackupKeyTable>((user, version));
                }
                row.count = row.count.saturating_sub(deleted);
                row.etag += 1;
                w.put::<BackupTable>(&(user, version), &row);
            }
            Ok(KeysChanged {
                count: row.count,
                etag: row.etag.to_string(),
            })
        })
        .await
    }
}

type BackupKeyId = (UserNid, u64, String, String);

/// A version's number, if the name is one that was ever given out.
fn number(version: &str) -> Option<u64> {
    version
        .parse()
        .ok()
        .filter(|number: &u64| number.to_string() == version)
}

/// A version that is not deleted.
fn version_row(
    snap: &Snapshot,
    user: UserNid,
    version: &str,
) -> Result<(u64, BackupRow), BackupError> {
    let number = number(version).ok_or(BackupError::NoVersion)?;
    let row = snap
        .get::<BackupTable>(&(user, number))?
        .filter(|row| !row.deleted);
    Ok((number, row.ok_or(BackupError::NoVersion)?))
}

/// The newest version that is not deleted.
fn current(snap: &Snapshot, user: UserNid) -> Result<Option<(u64, BackupRow)>, StoreError> {
    for row in snap.scan::<BackupTable>(Scan::prefix(&user).rev()) {
        let ((_, version), row) = row?;
        if !row.deleted {
            return Ok(Some((version, row)));
        }
    }
    Ok(None)
}

fn for_each(
    snap: &Snapshot,
    (user, version): (UserNid, u64),
    which: &Which,
    mut act: impl FnMut(BackupKeyId, BackupKeyRow) -> Result<(), BackupError>,
) -> Result<(), BackupError> {
    let scan = match which {
        Which::All => Scan::prefix(&(user, version)),
        Which::Room(room) => Scan::prefix(&(user, version, room.clone())),
        Which::Session(room, session) => {
            let key = (user, version, room.clone(), session.clone());
            return match snap.get::<BackupKeyTable>(&key)? {
                Some(row) => act(key, row),
                None => Ok(()),
            };
        }
    };
    for row in snap.scan::<BackupKeyTable>(scan) {
        let (key, row) = row?;
        act(key, row)?;
    }
    Ok(())
}

fn check_new(backup: &NewBackup) -> Result<(), BackupError> {
    if backup.algorithm.len() > NAME_BYTES_MAX {
        return Err(BackupError::TooLarge("algorithm is too long"));
    }
    if backup.auth_data.get().len() > DATA_BYTES_MAX {
        return Err(BackupError::TooLarge("auth_data is too long"));
    }
    Ok(())
}
