//! Profiles: what a user shows of themselves, field by field.
//!
//! A display name and an avatar also stand in the member events of the user's rooms. Their
//! change leaves a [`crate::job`] for whoever writes rooms.

use serde_json::{Map, Value};
use skerry_core::{Pos, UserNid};
use skerry_store::schema::account as t;
use skerry_store::{Change, Scan, Snapshot, StoreError};

pub use skerry_store::schema::account::FaceChange;

use crate::job::RoomJob;
use crate::tx::Tx;
use crate::{AccountError, Accounts, user, username};

/// Largest profile, in bytes of JSON (spec, profiles).
const MAX_PROFILE_BYTES: usize = 64 * 1024;
/// Longest name of a field, in bytes (spec, profiles).
const MAX_KEY_BYTES: usize = 255;
/// Longest display name, in bytes.
const MAX_DISPLAY_NAME_BYTES: usize = 1024;
/// Longest avatar URI or time zone, in bytes.
const MAX_SHORT_BYTES: usize = 1024;

/// The field with the display name.
pub const DISPLAY_NAME: &str = "displayname";
/// The field with the avatar's `mxc:` URI.
pub const AVATAR_URL: &str = "avatar_url";
/// The field with the time zone.
const TIME_ZONE: &str = "m.tz";

/// Most values of a field that one change after the other is told from; the oldest are forgotten.
const MAX_BEFORE: usize = 16;

/// In which rooms a change of display name or avatar is to be shown (MSC4466).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Propagate {
    /// In all.
    #[default]
    All,
    /// In those that show the value there was before.
    Unchanged,
    /// In none.
    Nowhere,
}

/// What a user shows in the member events of rooms.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Face {
    /// Display name.
    pub display_name: Option<String>,
    /// Avatar, as an `mxc:` URI.
    pub avatar_url: Option<String>,
}

/// What a local user shows in member events; empty for others.
///
/// # Errors
/// Those of the store.
pub fn face(snap: &Snapshot, user: UserNid) -> Result<Face, StoreError> {
    let rows = snap.get_many::<t::Profiles>(&[
        (user, DISPLAY_NAME.to_owned()),
        (user, AVATAR_URL.to_owned()),
    ])?;
    let mut rows = rows
        .into_iter()
        .map(|row| row.and_then(|row| text(&row.json)));
    Ok(Face {
        display_name: rows.next().flatten(),
        avatar_url: rows.next().flatten(),
    })
}

fn text(json: &str) -> Option<String> {
    serde_json::from_str(json).ok().flatten()
}

/// The whole profile of a local user.
///
/// # Errors
/// Those of the store.
pub fn fields(snap: &Snapshot, user: UserNid) -> Result<Map<String, Value>, StoreError> {
    let mut profile = Map::new();
    for row in snap.scan::<t::Profiles>(Scan::prefix(&user)) {
        let ((_, field), row) = row?;
        profile.insert(field, serde_json::from_str(&row.json).unwrap_or_default());
    }
    Ok(profile)
}

/// Tells of every profile field of every local user: whose it is, and its JSON.
///
/// # Errors
/// Those of the store.
pub fn each(snap: &Snapshot, tell: &mut dyn FnMut(UserNid, &str)) -> Result<(), StoreError> {
    for row in snap.scan::<t::Profiles>(Scan::all()) {
        let ((user, _), row) = row?;
        tell(user, &row.json);
    }
    Ok(())
}

/// The position of the newest change of any field that still exists.
///
/// # Errors
/// Those of the store.
pub fn last_change(snap: &Snapshot, user: UserNid) -> Result<Pos, StoreError> {
    let mut last = Pos::ZERO;
    for row in snap.scan::<t::Profiles>(Scan::prefix(&user)) {
        last = last.max(row?.1.pos);
    }
    Ok(last)
}

/// Whether a field may be read and written at all (spec, appendices, Common Namespaced
/// Identifier Grammar).
fn check_field(field: &str) -> Result<(), AccountError> {
    const WRONG: AccountError = AccountError::Invalid("Invalid profile field");
    if field.len() > MAX_KEY_BYTES {
        return Err(AccountError::KeyTooLarge);
    }
    if [DISPLAY_NAME, AVATAR_URL].contains(&field) {
        return Ok(());
    }
    let mut parts = field.split('.');
    let legal = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_lowercase())
            && part
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c))
    };
    if field.contains('.') && parts.all(legal) {
        Ok(())
    } else {
        Err(WRONG)
    }
}

fn check_value(field: &str, value: &Value) -> Result<(), AccountError> {
    let limit = match field {
        DISPLAY_NAME => MAX_DISPLAY_NAME_BYTES,
        AVATAR_URL | TIME_ZONE => MAX_SHORT_BYTES,
        _ => return Ok(()),
    };
    let Some(text) = value.as_str() else {
        return Err(AccountError::BadJson("This profile field must be a string"));
    };
    if text.len() > limit {
        return Err(AccountError::Invalid("This profile field is too long"));
    }
    Ok(())
}

/// Sets or (with an empty or null name or avatar) takes out a field, and shows that everywhere.
pub(crate) fn write_field(
    tx: &mut Tx<'_>,
    user: UserNid,
    field: &str,
    value: &Value,
) -> Result<(), AccountError> {
    write_field_to(tx, user, (field, value), Propagate::All)
}

fn write_field_to(
    tx: &mut Tx<'_>,
    user: UserNid,
    (field, value): (&str, &Value),
    to: Propagate,
) -> Result<(), AccountError> {
    if is_shown(field) && (value.is_null() || value.as_str() == Some("")) {
        return remove_field(tx, user, field, to);
    }
    check_value(field, value)?;
    let key = (user, field.to_owned());
    let json = value.to_string();
    let mut bytes = field.len() + json.len() + 8;
    for row in tx.snap.scan::<t::Profiles>(Scan::prefix(&user)) {
        let ((_, other), row) = row?;
        if other != field {
            bytes += other.len() + row.json.len() + 4;
        } else if row.json == json {
            return Ok(());
        }
    }
    if bytes > MAX_PROFILE_BYTES {
        return Err(AccountError::ProfileTooLarge);
    }
    let pos = note_change(tx, user, field, to)?;
    tx.w.put::<t::Profiles>(&key, &t::ProfileField { json, pos });
    Ok(())
}

fn remove_field(
    tx: &mut Tx<'_>,
    user: UserNid,
    field: &str,
    to: Propagate,
) -> Result<(), AccountError> {
    let key = (user, field.to_owned());
    if tx.snap.get::<t::Profiles>(&key)?.is_some() {
        note_change(tx, user, field, to)?;
        tx.w.delete::<t::Profiles>(&key);
    }
    Ok(())
}

/// Whether a field stands in member events.
fn is_shown(field: &str) -> bool {
    [DISPLAY_NAME, AVATAR_URL].contains(&field)
}

/// Notes that a field is about to change, and where that is to be shown.
fn note_change(
    tx: &mut Tx<'_>,
    user: UserNid,
    field: &str,
    to: Propagate,
) -> Result<Pos, AccountError> {
    let pos = tx.w.log(Change::Profile { user });
    if !is_shown(field) || to == Propagate::Nowhere {
        return Ok(pos);
    }
    let key = (user, field.to_owned());
    let mut change = tx
        .snap
        .get::<t::FaceChanges>(&key)?
        .unwrap_or(t::FaceChange {
            everywhere: false,
            before: Vec::new(),
        });
    change.everywhere |= to == Propagate::All;
    let before = tx.snap.get::<t::Profiles>(&key)?;
    let before = before.and_then(|row| text(&row.json));
    if change.everywhere {
        change.before.clear();
    } else if !change.before.contains(&before) {
        change.before.push(before);
        let spare = change.before.len().saturating_sub(MAX_BEFORE);
        change.before.drain(..spare);
    }
    tx.w.put::<t::FaceChanges>(&key, &change);
    tx.w.put::<t::RoomJobs>(&(user, RoomJob::Profile), &pos);
    tx.rings = true;
    Ok(pos)
}

/// What of a user's profile is still to be shown in their rooms, by field.
///
/// # Errors
/// Those of the store.
pub fn face_changes(
    snap: &Snapshot,
    user: UserNid,
) -> Result<Vec<(String, t::FaceChange)>, StoreError> {
    let rows = snap.scan::<t::FaceChanges>(Scan::prefix(&user));
    rows.map(|row| row.map(|((_, field), change)| (field, change)))
        .collect()
}

/// The profile of a new account: a display name, by default the localpart, so that others do not
/// have to read the whole id.
pub(crate) fn begin(
    tx: &mut Tx<'_>,
    user: UserNid,
    name: Option<String>,
) -> Result<(), AccountError> {
    let name = match name {
        Some(name) => name,
        None => username::localpart(&tx.inner.store.user_id(user)?).to_owned(),
    };
    let value = Value::String(name);
    check_value(DISPLAY_NAME, &value)?;
    let pos = tx.w.log(Change::Profile { user });
    if value.as_str() != Some("") {
        let json = value.to_string();
        let key = (user, DISPLAY_NAME.to_owned());
        tx.w.put::<t::Profiles>(&key, &t::ProfileField { json, pos });
    }
    Ok(())
}

/// Takes the whole profile out.
pub(crate) fn forget_user(tx: &mut Tx<'_>, user: UserNid) -> Result<(), AccountError> {
    if tx
        .snap
        .scan::<t::Profiles>(Scan::prefix(&user))
        .next()
        .transpose()?
        .is_some()
    {
        for field in [DISPLAY_NAME, AVATAR_URL] {
            note_change(tx, user, field, Propagate::All)?;
        }
        tx.w.delete_range::<t::Profiles>(user);
    }
    Ok(())
}

impl Accounts {
    /// The profile of a local user.
    ///
    /// # Errors
    /// `NotFound` for a user without an account here.
    pub async fn profile(&self, user_id: &str) -> Result<Map<String, Value>, AccountError> {
        let user_id = user_id.to_owned();
        self.read(move |inner, snap| match inner.store.user_nid(&user_id)? {
            Some(nid) if user::exists(snap, nid)? => Ok(fields(snap, nid)?),
            _ => Err(AccountError::NotFound("No such user")),
        })
        .await
    }

    /// One field of the profile of a local user. A display name or avatar that is not set is
    /// `None`: clients asked for these before there were others, and expect an answer.
    ///
    /// # Errors
    /// `NotFound` for an unknown user, or another field that is not set.
    pub async fn profile_field(
        &self,
        user_id: &str,
        field: &str,
    ) -> Result<Option<Value>, AccountError> {
        check_field(field)?;
        let value = self.profile(user_id).await?.remove(field);
        if value.is_none() && !is_shown(field) {
            return Err(AccountError::NotFound("This profile field is not set"));
        }
        Ok(value)
    }

    /// Sets a field of one's profile.
    ///
    /// # Errors
    /// `Invalid`, `BadJson`, `KeyTooLarge`, `ProfileTooLarge`.
    pub async fn set_profile_field(
        &self,
        user: UserNid,
        field: &str,
        value: Value,
        to: Propagate,
    ) -> Result<(), AccountError> {
        check_field(field)?;
        let field = field.to_owned();
        self.change(user, move |tx| {
            write_field_to(tx, user, (&field, &value), to)
        })
        .await
    }

    /// Takes a field of one's profile out; nothing happens if it is not set.
    ///
    /// # Errors
    /// `Invalid`, `KeyTooLarge`.
    pub async fn remove_profile_field(
        &self,
        user: UserNid,
        field: &str,
        to: Propagate,
    ) -> Result<(), AccountError> {
        check_field(field)?;
        let field = field.to_owned();
        self.change(user, move |tx| remove_field(tx, user, &field, to))
            .await
    }
}
