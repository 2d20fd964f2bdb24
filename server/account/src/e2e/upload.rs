//! `POST /keys/upload`: identity keys, one-time keys and fallback keys of a device.

use std::collections::BTreeMap;

use ruma_common::CanonicalJsonValue;
use ruma_common::canonical_json::CanonicalJsonObject;
use serde::Deserialize;
use serde_json::value::RawValue;
use skerry_core::{Order, UserNid};
use skerry_store::schema::account::Devices;
use skerry_store::schema::e2e::{
    DeviceKeyRow, DeviceKeyTable, FallbackKeyRow, FallbackKeyTable, KeyCountsRow, KeyCountsTable,
    OneTimeIdRow, OneTimeIdTable, OneTimeKeyRow, OneTimeKeyTable,
};
use skerry_store::{Scan, Snapshot, StoreError, Write};

use super::counts::{self, KeyCounts};
use super::{Keys, KeysError, Owner, lists, signatures, signed};

/// Longest object of identity keys, in bytes.
pub(super) const DEVICE_KEYS_BYTES_MAX: usize = 65_536;
/// Most identity keys of a device.
const IDENTITY_KEYS_MAX: usize = 16;
/// Longest one-time or fallback key, in bytes.
const KEY_BYTES_MAX: usize = 4_096;
/// Longest `<algorithm>:<key_id>`, in bytes.
const KEY_ID_BYTES_MAX: usize = 255;
/// One-time keys of one algorithm that a device may have waiting.
const ONE_TIME_KEYS_MAX: u32 = 10_000;
/// Most algorithms that one device may have keys of, one-time and fallback keys apart. Each `/sync`
/// tells of all of them, and they are looked for one by one.
const ALGORITHMS_MAX: usize = 16;
/// Most one-time keys in one upload.
const UPLOADED_MAX: usize = 10_000;

/// The body of an upload.
#[derive(Debug, Default, Deserialize)]
pub struct KeyUpload {
    /// Identity keys: a signed object.
    #[serde(default)]
    pub device_keys: Option<Box<RawValue>>,
    /// One-time keys by `<algorithm>:<key_id>`.
    #[serde(default)]
    pub one_time_keys: Option<BTreeMap<String, Box<RawValue>>>,
    /// Fallback keys by `<algorithm>:<key_id>`, at most one for each algorithm.
    #[serde(default)]
    pub fallback_keys: Option<BTreeMap<String, Box<RawValue>>>,
}

/// A checked upload.
#[derive(Default)]
pub(super) struct Plan {
    pub(super) device_keys: Option<CanonicalJsonObject>,
    pub(super) one_time: Vec<NewKey>,
    pub(super) fallback: Vec<NewKey>,
}

/// A one-time or fallback key.
pub(super) struct NewKey {
    pub(super) algorithm: String,
    pub(super) key_id: String,
    pub(super) json: String,
}

impl Keys {
    /// Takes a device's keys and answers how many one-time keys it has waiting now.
    ///
    /// * Identity keys must name the user and the device that upload them, and have exactly the
    ///   shape the spec demands, so that nothing is passed on that others cannot read. Their
    ///   signature is not judged: whoever uses them has to verify it anyway.
    /// * A one-time key already known under its id with the same content is left as it is, also
    ///   when it was claimed meanwhile; with another content it is [`KeysError::KeyTaken`].
    /// * A fallback key replaces the one of its algorithm, and counts as unused if it is another.
    ///
    /// Everything is taken or nothing is. Spec: client-server API, `POST /keys/upload`.
    pub async fn upload(
        &self,
        owner: &Owner,
        device: &str,
        body: KeyUpload,
    ) -> Result<KeyCounts, KeysError> {
        let plan = check(owner, device, body)?;
        let (user, device) = (owner.user, device.to_owned());
        self.in_lane(user, move |keys, w| {
            upload(&keys.store().newest(), w, &(user, device), plan)
        })
        .await
    }
}

fn upload(
    snap: &Snapshot,
    w: &mut Write,
    slot: &(UserNid, String),
    plan: Plan,
) -> Result<KeyCounts, KeysError> {
    if snap.get::<Devices>(slot)?.is_none() {
        return Err(KeysError::NoDevice);
    }
    let before = snap
        .get::<KeyCountsTable>(slot)?
        .unwrap_or_else(counts::none);
    let mut after = before.clone();
    if let Some(object) = plan.device_keys {
        put_device_keys(snap, w, slot, &object)?;
    }
    put_one_time(snap, w, slot, plan.one_time, &mut after)?;
    put_fallback(snap, w, slot, plan.fallback, &mut after)?;
    if after != before {
        counts::put(w, slot.clone(), after.clone());
    }
    Ok(KeyCounts::from(after))
}

/// Stores identity keys that differ from those known, and says so to the user's contacts.
fn put_device_keys(
    snap: &Snapshot,
    w: &mut Write,
    slot: &(UserNid, String),
    object: &CanonicalJsonObject,
) -> Result<(), StoreError> {
    let json = signed::text(object);
    let old = snap.get::<DeviceKeyTable>(slot)?;
    if old.as_ref().is_some_and(|row| row.json == json) {
        return Ok(());
    }
    if let Some(old) = old
        && signed::signed_text(&signed::stored("device_key", &old.json)?)
            != signed::signed_text(object)
    {
        signatures::drop_about(snap, w, slot.0, &slot.1)?;
    }
    let pos = lists::note_device(w, slot.0, &slot.1);
    w.put::<DeviceKeyTable>(slot, &DeviceKeyRow { json, pos });
    Ok(())
}

fn put_one_time(
    snap: &Snapshot,
    w: &mut Write,
    slot: &(UserNid, String),
    keys: Vec<NewKey>,
    counts: &mut KeyCountsRow,
) -> Result<(), KeysError> {
    if keys.is_empty() {
        return Ok(());
    }
    let ids: Vec<_> = keys
        .iter()
        .map(|key| {
            (
                slot.0,
                slot.1.clone(),
                format!("{}:{}", key.algorithm, key.key_id),
            )
        })
        .collect();
    let known = snap.get_many::<OneTimeIdTable>(&ids)?;
    let stamp = w.stamp();
    let mut n = 0;
    for ((key, id), known) in keys.into_iter().zip(ids).zip(known) {
        let digest = *blake3::hash(key.json.as_bytes()).as_bytes();
        if let Some(known) = known {
            if known.digest == digest {
                continue;
            }
            if !known.claimed {
                return Err(KeysError::KeyTaken(id.2));
            }
        }
        let queue = counts::queue(counts, &key.algorithm);
        if queue.count >= ONE_TIME_KEYS_MAX {
            return Err(KeysError::TooMany);
        }
        queue.count += 1;
        if counts.one_time.len() > ALGORITHMS_MAX {
            return Err(KeysError::TooMany);
        }
        let place = (
            slot.0,
            slot.1.clone(),
            key.algorithm,
            Order { anchor: stamp, n },
        );
        w.put::<OneTimeKeyTable>(
            &place,
            &OneTimeKeyRow {
                key_id: key.key_id,
                json: key.json,
            },
        );
        w.put::<OneTimeIdTable>(
            &id,
            &OneTimeIdRow {
                digest,
                claimed: false,
            },
        );
        n += 1;
    }
    Ok(())
}

fn put_fallback(
    snap: &Snapshot,
    w: &mut Write,
    slot: &(UserNid, String),
    keys: Vec<NewKey>,
    counts: &mut KeyCountsRow,
) -> Result<(), KeysError> {
    let of_slot = Scan::prefix(slot).limit(ALGORITHMS_MAX + 1);
    let mut algorithms = if keys.is_empty() {
        0
    } else {
        snap.scan::<FallbackKeyTable>(of_slot).count()
    };
    for key in keys {
        let place = (slot.0, slot.1.clone(), key.algorithm);
        let old = snap.get::<FallbackKeyTable>(&place)?;
        algorithms += usize::from(old.is_none());
        if algorithms > ALGORITHMS_MAX {
            return Err(KeysError::TooMany);
        }
        if old.is_some_and(|old| old.key_id == key.key_id && old.json == key.json) {
            continue;
        }
        let row = FallbackKeyRow {
            key_id: key.key_id,
            json: key.json,
            used: false,
        };
        w.put::<FallbackKeyTable>(&place, &row);
        counts::fallback_unused(counts, place.2, true);
    }
    Ok(())
}

/// Everything about an upload that can be judged without the store.
pub(super) fn check(owner: &Owner, device: &str, upload: KeyUpload) -> Result<Plan, KeysError> {
    let mut plan = Plan::default();
    if let Some(raw) = upload.device_keys {
        plan.device_keys = Some(check_device_keys(&owner.user_id, device, &raw)?);
    }
    let (one_time, fallback) = (
        upload.one_time_keys.unwrap_or_default(),
        upload.fallback_keys.unwrap_or_default(),
    );
    if one_time.len() > UPLOADED_MAX || fallback.len() > ALGORITHMS_MAX {
        return Err(KeysError::TooMany);
    }
    for (id, raw) in one_time {
        plan.one_time.push(check_key(id, &raw)?);
    }
    for (id, raw) in fallback {
        let key = check_key(id, &raw)?;
        if plan
            .fallback
            .iter()
            .any(|other| other.algorithm == key.algorithm)
        {
            let algorithm = key.algorithm;
            return Err(KeysError::Shape(format!(
                "two fallback keys for {algorithm}"
            )));
        }
        plan.fallback.push(key);
    }
    Ok(plan)
}

pub(super) fn check_device_keys(
    user_id: &str,
    device: &str,
    raw: &RawValue,
) -> Result<CanonicalJsonObject, KeysError> {
    let refuse = |what: &str| Err(KeysError::Shape(what.to_owned()));
    if raw.get().len() > DEVICE_KEYS_BYTES_MAX {
        return refuse("device_keys is too long");
    }
    let mut object = signed::object(raw, "device_keys")?;
    object.remove("unsigned");
    if signed::string(&object, "user_id") != Some(user_id) {
        return refuse("device_keys.user_id is not the user who uploads");
    }
    if signed::string(&object, "device_id") != Some(device) {
        return refuse("device_keys.device_id is not the device that uploads");
    }
    let strings = |value: &CanonicalJsonValue| match value {
        CanonicalJsonValue::Array(list) => list.iter().all(CanonicalJsonValue::is_string),
        _ => false,
    };
    if !object.get("algorithms").is_some_and(strings) {
        return refuse("device_keys.algorithms is not a list of strings");
    }
    if !object.get("keys").is_some_and(maps_to_strings) {
        return refuse("device_keys.keys does not map key ids to strings");
    }
    let signatures = object
        .get("signatures")
        .and_then(CanonicalJsonValue::as_object);
    if !signatures.is_some_and(|map| map.values().all(maps_to_strings)) {
        return refuse("device_keys.signatures does not map user ids to key ids to strings");
    }
    check_key_ids(&object)?;
    Ok(object)
}

/// There are not too many keys, each under a name of the form `<algorithm>:<key_id>`.
fn check_key_ids(object: &CanonicalJsonObject) -> Result<(), KeysError> {
    let refuse = |what: &str| Err(KeysError::Shape(what.to_owned()));
    let keys = object.get("keys").and_then(CanonicalJsonValue::as_object);
    let Some(keys) = keys.filter(|keys| keys.len() <= IDENTITY_KEYS_MAX) else {
        return refuse("device_keys.keys has too many keys");
    };
    let named = |id: &String| {
        id.len() <= KEY_ID_BYTES_MAX
            && id
                .split_once(':')
                .is_some_and(|(algorithm, id)| !algorithm.is_empty() && !id.is_empty())
    };
    if keys.keys().all(named) {
        return Ok(());
    }
    refuse("device_keys.keys has a key that is not named <algorithm>:<key_id>")
}

/// Each key stands under the id of the device, and what the device says it signed, it signed.
pub(super) fn check_own_keys(
    user_id: &str,
    device: &str,
    object: &CanonicalJsonObject,
) -> Result<(), KeysError> {
    let keys = object.get("keys").and_then(CanonicalJsonValue::as_object);
    let keys = keys.ok_or_else(|| KeysError::Shape("device_keys has no keys".to_owned()))?;
    for id in keys.keys() {
        if id.split_once(':').is_none_or(|(_, of)| of != device) {
            let what = "device_keys.keys has a key that is not of the device";
            return Err(KeysError::Shape(what.to_owned()));
        }
    }
    let text = signed::signed_text(object);
    for (key_id, signature) in signed::signatures_of(object, user_id) {
        let public = keys.get(key_id).and_then(CanonicalJsonValue::as_str);
        let public = public.filter(|key| key_id.starts_with("ed25519:") && signed::is_key(key));
        if public.is_some_and(|public| !signed::verifies(&text, public, signature)) {
            return Err(KeysError::Signature("device_keys has a wrong signature"));
        }
    }
    Ok(())
}

/// Whether a value is an object of strings.
pub(super) fn maps_to_strings(value: &CanonicalJsonValue) -> bool {
    value
        .as_object()
        .is_some_and(|map| map.values().all(CanonicalJsonValue::is_string))
}

fn check_key(id: String, raw: &RawValue) -> Result<NewKey, KeysError> {
    let refuse = |what: &str| Err(KeysError::Shape(what.to_owned()));
    if id.len() > KEY_ID_BYTES_MAX || raw.get().len() > KEY_BYTES_MAX {
        return refuse("a one-time or fallback key is too long");
    }
    let Some((algorithm, key_id)) = id.split_once(':') else {
        return refuse("a key id is not of the form <algorithm>:<key_id>");
    };
    if algorithm.is_empty() || key_id.is_empty() {
        return refuse("a key id is not of the form <algorithm>:<key_id>");
    }
    let Ok(value) = serde_json::from_str::<CanonicalJsonValue>(raw.get()) else {
        return refuse("a one-time or fallback key is not canonical JSON");
    };
    if !value.is_string() && !value.is_object() {
        return refuse("a one-time or fallback key is neither a string nor an object");
    }
    let (algorithm, key_id) = (algorithm.to_owned(), key_id.to_owned());
    Ok(NewKey {
        algorithm,
        key_id,
        json: value.to_string(),
    })
}
