//! Account data: what clients keep with us for a user, globally and per room.
//!
//! Each datum has its position in its row, and a row by position (`account_data_at`) from which
//! sync learns what changed. The row by position is only a pointer: it counts if the datum it
//! points to still has that position.
//!
//! A datum is deleted by setting it to `{}` (MSC3391): the row stays, so that every device is told
//! once, and is not shown to who did not know it before.

use ruma_common::RoomId;
use serde_json::Value;
use skerry_core::{Pos, RoomNid, UserNid};
use skerry_store::schema::account as t;
use skerry_store::{Change, Expect, Scan, Snapshot, StoreError, Write};

use crate::push_rule::PUSH_RULES;
use crate::tx::Tx;
use crate::{AccountError, Accounts};

/// Longest type, in bytes.
const MAX_TYPE_BYTES: usize = 255;
/// Largest content, in bytes of JSON.
const MAX_CONTENT_BYTES: usize = 256 * 1024;
/// How many types one user can have globally, and again in each room.
const MAX_TYPES: usize = 1_000;
/// Most data of one user, the global ones and those of all rooms together. Rooms need not exist:
/// without a bound, a user could fill the disk with data for invented ones.
const MAX_ROWS: usize = 50_000;
/// Most bytes of all data of one user: an initial sync holds them in memory at once.
const MAX_TOTAL_BYTES: usize = 16 * 1024 * 1024;
/// The content of what was deleted.
const DELETED: &str = "{}";
/// Stands for "no room" in keys.
const GLOBAL: RoomNid = RoomNid(0);

/// The marker up to which a user has read a room; set by the read-marker endpoint only.
pub const FULLY_READ: &str = "m.fully_read";

/// A piece of account data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datum {
    /// The room it is about, if any.
    pub room: Option<RoomNid>,
    /// Its type.
    pub kind: String,
    /// Its content, as JSON.
    pub json: String,
    /// When it last changed.
    pub pos: Pos,
}

fn key(user: UserNid, room: Option<RoomNid>, kind: &str) -> (UserNid, RoomNid, String) {
    (user, room.unwrap_or(GLOBAL), kind.to_owned())
}

fn datum(room: RoomNid, kind: String, row: t::AccountDatum) -> Datum {
    Datum {
        room: (room != GLOBAL).then_some(room),
        kind,
        json: row.json,
        pos: row.pos,
    }
}

/// One piece of account data, as stored; none if it was deleted. Default push rules are not
/// stored.
///
/// # Errors
/// Those of the store.
pub fn one(
    snap: &Snapshot,
    user: UserNid,
    room: Option<RoomNid>,
    kind: &str,
) -> Result<Option<Datum>, StoreError> {
    let key = key(user, room, kind);
    let row = snap.get::<t::AccountData>(&key)?;
    Ok(row
        .filter(|row| row.json != DELETED)
        .map(|row| datum(key.1, key.2, row)))
}

/// All stored account data of a user for one room, or globally; by type. What was deleted is left
/// out.
///
/// # Errors
/// Those of the store.
pub fn all(
    snap: &Snapshot,
    user: UserNid,
    room: Option<RoomNid>,
) -> Result<Vec<Datum>, StoreError> {
    let rows = snap.scan::<t::AccountData>(Scan::prefix(&(user, room.unwrap_or(GLOBAL))));
    rows.filter(|row| row.as_ref().map_or(true, |(_, row)| row.json != DELETED))
        .map(|row| row.map(|((_, room, kind), row)| datum(room, kind, row)))
        .collect()
}

/// All account data of a user that changed after `since`, in the order of the changes: global
/// and of all rooms. What was deleted since is there as `{}`.
///
/// # Errors
/// Those of the store.
pub fn changed(snap: &Snapshot, user: UserNid, since: Pos) -> Result<Vec<Datum>, StoreError> {
    let mut found = Vec::new();
    for row in snap.scan::<t::AccountDataAt>(Scan::prefix(&user).after(&(user, since))) {
        let ((_, pos), at) = row?;
        let row = snap.get::<t::AccountData>(&(user, at.room, at.kind.clone()))?;
        if let Some(row) = row.filter(|row| row.pos == pos) {
            found.push(datum(at.room, at.kind, row));
        }
    }
    Ok(found)
}

/// Tells of every content of account data that is stored: whose it is, and its JSON.
///
/// # Errors
/// Those of the store.
pub fn each(snap: &Snapshot, tell: &mut dyn FnMut(UserNid, &str)) -> Result<(), StoreError> {
    for row in snap.scan::<t::AccountData>(Scan::all()) {
        let ((user, ..), row) = row?;
        tell(user, &row.json);
    }
    Ok(())
}

/// Sets a piece of account data in a batch; `snap` is the newest snapshot, from which the
/// position to be replaced is read. Gives back the change's placeholder.
///
/// # Errors
/// Those of the store.
pub fn put(
    snap: &Snapshot,
    w: &mut Write,
    user: UserNid,
    room: Option<RoomNid>,
    (kind, json): (&str, String),
) -> Result<Pos, StoreError> {
    let key = key(user, room, kind);
    if let Some(old) = snap.get::<t::AccountData>(&key)? {
        w.delete::<t::AccountDataAt>(&(user, old.pos));
    }
    let pos = w.log(Change::AccountData { user, room });
    let at = t::AccountDatumKey {
        room: key.1,
        kind: kind.to_owned(),
    };
    w.put::<t::AccountData>(&key, &t::AccountDatum { json, pos });
    w.put::<t::AccountDataAt>(&(user, pos), &at);
    Ok(pos)
}

/// The same as [`put`], for whoever does not hold the user's lane: the commit conflicts if the
/// datum changed meanwhile.
///
/// # Errors
/// Those of the store.
pub fn replace(
    snap: &Snapshot,
    w: &mut Write,
    user: UserNid,
    room: Option<RoomNid>,
    (kind, json): (&str, String),
) -> Result<Pos, StoreError> {
    let key = key(user, room, kind);
    match snap.get::<t::AccountData>(&key)? {
        Some(old) => w.expect::<t::AccountData>(&key, Expect::Is(&old)),
        None => w.expect::<t::AccountData>(&key, Expect::Absent),
    }
    put(snap, w, user, room, (kind, json))
}

/// Takes everything of a user out.
pub(crate) fn forget_user(w: &mut Write, user: UserNid) {
    w.delete_range::<t::AccountData>(user);
    w.delete_range::<t::AccountDataAt>(user);
}

/// Sets a datum within this crate's own changes, within the limits.
pub(crate) fn write(
    tx: &mut Tx<'_>,
    user: UserNid,
    room: Option<RoomNid>,
    kind: &str,
    content: &Value,
) -> Result<(), AccountError> {
    let json = content.to_string();
    if json.len() > MAX_CONTENT_BYTES {
        return Err(AccountError::TooLarge(
            "Account data must be at most 256 KiB",
        ));
    }
    let old = tx.snap.get::<t::AccountData>(&key(user, room, kind))?;
    if json == DELETED && old.as_ref().is_none_or(|old| old.json == DELETED) {
        return Ok(());
    }
    let old = old.map(|row| row.json.len());
    if old.is_none_or(|old| old < json.len()) {
        check_room_for(tx, user, room, (old, json.len()))?;
    }
    put(&tx.snap, &mut tx.w, user, room, (kind, json))?;
    Ok(())
}

/// Whether what a user keeps here may grow: by a datum of `new` bytes, in place of one of `old`
/// bytes if there was one.
fn check_room_for(
    tx: &Tx<'_>,
    user: UserNid,
    room: Option<RoomNid>,
    (old, new): (Option<usize>, usize),
) -> Result<(), AccountError> {
    let place = room.unwrap_or(GLOBAL);
    let (mut rows, mut types, mut bytes) = (0, 0, new);
    for row in tx.snap.scan::<t::AccountData>(Scan::prefix(&user)) {
        let ((_, room, kind), row) = row?;
        rows += 1;
        types += usize::from(room == place);
        bytes += kind.len() + row.json.len();
    }
    bytes = bytes.saturating_sub(old.unwrap_or(0));
    if old.is_none() && types >= MAX_TYPES {
        return Err(AccountError::TooLarge("Too many types of account data"));
    }
    if (old.is_none() && rows >= MAX_ROWS) || bytes > MAX_TOTAL_BYTES {
        return Err(AccountError::TooLarge("Too much account data"));
    }
    Ok(())
}

impl Accounts {
    /// One piece of account data. Push rules are always there.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn account_data(
        &self,
        user: UserNid,
        room_id: Option<&str>,
        kind: &str,
    ) -> Result<String, AccountError> {
        let (room_id, kind) = (room_id.map(str::to_owned), kind.to_owned());
        let this = self.clone();
        self.read(move |inner, snap| {
            const NONE: AccountError = AccountError::NotFound("Account data not found");
            let room = match room_id {
                Some(id) => Some(inner.store.room_nid(&id)?.ok_or(NONE)?),
                None if kind == PUSH_RULES => {
                    return Ok(this.rules(snap, user)?.content()?.to_string());
                }
                None => None,
            };
            Ok(one(snap, user, room, &kind)?.ok_or(NONE)?.json)
        })
        .await
    }

    /// All global account data of a user, push rules included also where they are the default.
    ///
    /// # Errors
    /// Those of the store.
    pub fn global_account_data(
        &self,
        snap: &Snapshot,
        user: UserNid,
    ) -> Result<Vec<Datum>, AccountError> {
        let mut data = all(snap, user, None)?;
        data.retain(|datum| datum.kind != PUSH_RULES);
        let json = self.rules(snap, user)?.content()?.to_string();
        let pos = one(snap, user, None, PUSH_RULES)?.map_or(Pos::ZERO, |datum| datum.pos);
        data.push(Datum {
            room: None,
            kind: PUSH_RULES.to_owned(),
            json,
            pos,
        });
        Ok(data)
    }

    /// Sets a piece of account data; `{}` deletes it.
    ///
    /// # Errors
    /// `ServerManaged` for push rules and the fully-read marker, `BadJson` for a content that is
    /// no object, `Invalid` for a room id that is none, `TooLarge`.
    pub async fn set_account_data(
        &self,
        user: UserNid,
        room_id: Option<&str>,
        kind: &str,
        content: Value,
    ) -> Result<(), AccountError> {
        if kind == FULLY_READ || kind == PUSH_RULES {
            return Err(AccountError::ServerManaged);
        }
        if kind.is_empty() || kind.len() > MAX_TYPE_BYTES {
            return Err(AccountError::Invalid(
                "The type must be 1 to 255 bytes long",
            ));
        }
        if !content.is_object() {
            return Err(AccountError::BadJson("The content must be an object"));
        }
        let kind = kind.to_owned();
        let room_id = room_id.map(checked_room_id).transpose()?;
        self.change(user, move |tx| {
            let room = match room_id {
                Some(id) => Some(tx.inner.store.intern_room(&id)?),
                None => None,
            };
            write(tx, user, room, &kind, &content)
        })
        .await
    }
}

/// A room id, if it is one.
pub(crate) fn checked_room_id(id: &str) -> Result<String, AccountError> {
    match RoomId::parse(id) {
        Ok(id) => Ok(id.to_string()),
        Err(_) => Err(AccountError::Invalid("Not a room id")),
    }
}
