//! Dehydrated devices (MSC3814): a device without a log-in that receives messages while its
//! owner has none; the next one they log in takes its secrets and messages over.
//!
//! It is a device as any other, but that nobody can use it: it has no tokens, so it never syncs,
//! is not pushed to and counts for nobody's presence.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use skerry_core::{Pos, UserNid};
use skerry_store::schema::account::{Device, Devices};
use skerry_store::schema::e2e::{
    DehydratedRow, DehydratedTable, DeviceKeyRow, DeviceKeyTable, FallbackKeyRow, FallbackKeyTable,
    OneTimeIdRow, OneTimeIdTable, OneTimeKeyRow, OneTimeKeyTable,
};
use skerry_store::{Scan, Snapshot, StoreError, Write};

use super::to_device::{Waiting, waiting};
use super::upload::{KeyUpload, Plan, check, check_own_keys};
use super::{
    Keys, KeysError, Owner, counts, forget_device, is_cross_signing_key, lists, outgoing, signed,
};
use crate::device::MAX_DEVICES;
use crate::txn;

/// Longest secret of a device, in bytes of JSON.
const DATA_BYTES_MAX: usize = 65_536;
/// Most messages of one answer.
const MESSAGES_MAX: usize = 100;

/// A dehydrated device as its owner uploads it.
#[derive(Debug, Deserialize)]
pub struct NewDehydrated {
    /// Its id.
    pub device_id: String,
    /// Its secrets, encrypted: an object with at least an `algorithm`.
    pub device_data: Box<RawValue>,
    /// What its owner calls it.
    #[serde(default)]
    pub initial_device_display_name: Option<String>,
    /// Its identity keys.
    pub device_keys: Box<RawValue>,
    /// One-time keys by `<algorithm>:<key_id>`.
    #[serde(default)]
    pub one_time_keys: Option<BTreeMap<String, Box<RawValue>>>,
    /// Fallback keys by `<algorithm>:<key_id>`.
    #[serde(default)]
    pub fallback_keys: Option<BTreeMap<String, Box<RawValue>>>,
}

/// The dehydrated device of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dehydrated {
    /// Its id.
    pub device_id: String,
    /// Its secrets, as they were uploaded: JSON.
    pub data: String,
}

/// The dehydrated device of a user, if they have one.
pub(super) fn of(snap: &Snapshot, user: UserNid) -> Result<Option<DehydratedRow>, StoreError> {
    snap.get::<DehydratedTable>(&user)
}

impl Keys {
    /// Stores a user's dehydrated device with its keys, in place of the one before.
    ///
    /// # Errors
    /// [`KeysError::Shape`], also where the user has a device of that id; as [`Keys::upload`].
    pub async fn put_dehydrated(&self, owner: &Owner, new: NewDehydrated) -> Result<(), KeysError> {
        check_new(&new)?;
        let keys = KeyUpload {
            device_keys: Some(new.device_keys),
            one_time_keys: new.one_time_keys,
            fallback_keys: new.fallback_keys,
        };
        let plan = check(owner, &new.device_id, keys)?;
        if let Some(keys) = &plan.device_keys {
            check_own_keys(&owner.user_id, &new.device_id, keys)?;
        }
        let row = DehydratedRow {
            device: new.device_id,
            data: new.device_data.get().to_owned(),
        };
        let name = new.initial_device_display_name;
        let user = owner.user;
        self.in_lane(user, move |keys, w| keys.put_now(w, user, row, name, plan))
            .await
    }

    fn put_now(
        &self,
        w: &mut Write,
        user: UserNid,
        row: DehydratedRow,
        name: Option<String>,
        plan: Plan,
    ) -> Result<(), KeysError> {
        let snap = self.store().newest();
        let before = of(&snap, user)?;
        let slot = (user, row.device.clone());
        let again = before.as_ref().is_some_and(|old| old.device == row.device);
        if !again && snap.get::<Devices>(&slot)?.is_some() {
            return Err(KeysError::Shape("you have a device of this id".to_owned()));
        }
        if is_cross_signing_key(&snap, user, &row.device)? {
            let what = "the device id is the name of a cross-signing key";
            return Err(KeysError::Shape(what.to_owned()));
        }
        // One that somebody logs in as counts as theirs, and leaves the place to another.
        let devices = snap.scan::<Devices>(Scan::prefix(&user));
        if !again && devices.count() > MAX_DEVICES {
            return Err(KeysError::Shape("you have too many devices".to_owned()));
        }
        if let Some(before) = before {
            take_out(&snap, w, user, &before.device)?;
        }
        let device = Device {
            display_name: name,
            created_ms: self.accounts.inner.clock.now_ms(),
            seen_ms: 0,
            seen_ip: None,
            access: None,
            refresh: None,
            previous: None,
            previous_access: None,
            pos: w.stamp(),
        };
        w.put::<Devices>(&slot, &device);
        put_keys(w, &slot, plan);
        w.put::<DehydratedTable>(&user, &row);
        Ok(())
    }

    /// The dehydrated device of a user.
    ///
    /// # Errors
    /// [`KeysError::NoDevice`] if there is none.
    pub async fn dehydrated(&self, user: UserNid) -> Result<Dehydrated, KeysError> {
        self.read(move |_, snap| {
            let row = of(snap, user)?.ok_or(KeysError::NoDevice)?;
            Ok(Dehydrated {
                device_id: row.device,
                data: row.data,
            })
        })
        .await
    }

    /// Deletes the dehydrated device of a user; gives its id.
    ///
    /// # Errors
    /// [`KeysError::NoDevice`] if there is none.
    pub async fn delete_dehydrated(&self, user: UserNid) -> Result<String, KeysError> {
        self.in_lane(user, move |keys, w| {
            let snap = keys.store().newest();
            let row = of(&snap, user)?.ok_or(KeysError::NoDevice)?;
            take_out(&snap, w, user, &row.device)?;
            Ok(row.device)
        })
        .await
    }

    /// Messages to the dehydrated device of a user after a position, at most `limit` and never
    /// more than 100. They stay as long as the device.
    ///
    /// # Errors
    /// [`KeysError::NoDevice`] for a device that is not the user's dehydrated one.
    pub async fn dehydrated_messages(
        &self,
        user: UserNid,
        device: &str,
        since: Pos,
        limit: usize,
    ) -> Result<Waiting, KeysError> {
        let device = device.to_owned();
        self.read(move |_, snap| {
            let row = of(snap, user)?.filter(|row| row.device == device);
            let row = row.ok_or(KeysError::NoDevice)?;
            let limit = limit.clamp(1, MESSAGES_MAX);
            Ok(waiting(snap, user, &row.device, since, limit)?)
        })
        .await
    }
}

/// What can be said of it without the store.
fn check_new(new: &NewDehydrated) -> Result<(), KeysError> {
    let refuse = |what: &str| Err(KeysError::Shape(what.to_owned()));
    if crate::device::check_device_id(&new.device_id).is_err() {
        return refuse("device_id has to be 1 to 255 bytes long");
    }
    let name = new.initial_device_display_name.as_deref();
    if crate::device::check_display_name(name).is_err() {
        return refuse("initial_device_display_name is too long");
    }
    if new.device_data.get().len() > DATA_BYTES_MAX {
        return refuse("device_data is too long");
    }
    let data: Value = serde_json::from_str(new.device_data.get()).unwrap_or_default();
    if !data.get("algorithm").is_some_and(Value::is_string) {
        return refuse("device_data has no algorithm");
    }
    Ok(())
}

/// Takes the dehydrated device out, and everything that hangs on it.
fn take_out(snap: &Snapshot, w: &mut Write, user: UserNid, device: &str) -> Result<(), StoreError> {
    w.delete::<DehydratedTable>(&user);
    let slot = (user, device.to_owned());
    // Somebody may have logged in as it: then it is a device of its own.
    let row = snap.get::<Devices>(&slot)?;
    if row.is_none_or(|row| row.access.is_some()) {
        return Ok(());
    }
    w.delete::<Devices>(&slot);
    txn::forget_device(w, user, device);
    outgoing::trim(snap, w, user, device)?;
    forget_device(snap, w, user, device)
}

/// The keys of a device that was not there before this batch.
fn put_keys(w: &mut Write, slot: &(UserNid, String), plan: Plan) {
    let (user, device) = slot;
    let pos = lists::note_device(w, *user, device);
    if let Some(object) = &plan.device_keys {
        let json = signed::text(object);
        w.put::<DeviceKeyTable>(slot, &DeviceKeyRow { json, pos });
    }
    let mut counts = counts::none();
    let anchor = w.stamp();
    for (n, key) in (0_i64..).zip(plan.one_time) {
        let id = format!("{}:{}", key.algorithm, key.key_id);
        let row = OneTimeIdRow {
            digest: *blake3::hash(key.json.as_bytes()).as_bytes(),
            claimed: false,
        };
        w.put::<OneTimeIdTable>(&(*user, device.clone(), id), &row);
        counts::queue(&mut counts, &key.algorithm).count += 1;
        let order = skerry_core::Order { anchor, n };
        let place = (*user, device.clone(), key.algorithm, order);
        let row = OneTimeKeyRow {
            key_id: key.key_id,
            json: key.json,
        };
        w.put::<OneTimeKeyTable>(&place, &row);
    }
    for key in plan.fallback {
        counts::fallback_unused(&mut counts, key.algorithm.clone(), true);
        let row = FallbackKeyRow {
            key_id: key.key_id,
            json: key.json,
            used: false,
        };
        w.put::<FallbackKeyTable>(&(*user, device.clone(), key.algorithm), &row);
    }
    counts::put(w, slot.clone(), counts);
}
