//! `POST /keys/query`: identity keys of devices, cross-signing keys of users.

use std::collections::{BTreeMap, BTreeSet};

use ruma_common::CanonicalJsonValue;
use ruma_common::canonical_json::CanonicalJsonObject;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use skerry_core::UserNid;
use skerry_store::schema::account::Devices;
use skerry_store::schema::e2e::{CrossKeyTable, CrossKind, DeviceKeyTable};
use skerry_store::schema::e2e_remote::RemoteDeviceTable;
use skerry_store::{Scan, Snapshot, StoreError};

use super::signatures::{self, Added};
use super::{Keys, KeysError, Owner, remote, signed};

/// What is asked for: devices by user id; an empty list means all of them.
#[derive(Debug, Deserialize)]
pub struct KeyQuery {
    /// User id to device ids.
    pub device_keys: BTreeMap<String, Vec<String>>,
}

/// What was found, with the names the spec gives it.
#[derive(Debug, Default, Serialize)]
pub struct QueriedKeys {
    /// User id, device id, identity keys. A local user without any has an empty map.
    pub device_keys: BTreeMap<String, BTreeMap<String, Box<RawValue>>>,
    /// Master keys by user id.
    pub master_keys: BTreeMap<String, Box<RawValue>>,
    /// Self-signing keys by user id.
    pub self_signing_keys: BTreeMap<String, Box<RawValue>>,
    /// The user-signing key of the user who asks, if they asked for themselves.
    pub user_signing_keys: BTreeMap<String, Box<RawValue>>,
    /// What was asked about users of other servers and is not known here; answering it is for the
    /// layer above.
    #[serde(skip)]
    pub remote: BTreeMap<String, Vec<String>>,
}

impl Keys {
    /// Finds keys as `viewer` may see them: signatures made by a user about their own keys are
    /// seen by all, those about other users' keys only by who made them.
    /// Spec: client-server API, `POST /keys/query`.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn query(&self, viewer: &Owner, query: KeyQuery) -> Result<QueriedKeys, KeysError> {
        let viewer = viewer.clone();
        self.read(move |keys, snap| {
            let mut found = QueriedKeys::default();
            for (user_id, devices) in query.device_keys {
                if !keys.is_local(&user_id) {
                    let user = keys.store().user_nid(&user_id)?;
                    match user {
                        Some(user) if remote::is_fresh(snap, user)? => {
                            let owner = owner_of(&user_id, user);
                            find_followed(snap, &viewer, &owner, &devices, &mut found)?;
                        }
                        _ => drop(found.remote.insert(user_id, devices)),
                    }
                } else if let Some(user) = keys.local_nid(&user_id)?
                    && crate::user::exists(snap, user)?
                {
                    find(
                        snap,
                        &viewer,
                        owner_of(&user_id, user),
                        &devices,
                        &mut found,
                    )?;
                }
            }
            Ok(found)
        })
        .await
    }

    /// Finds what is known here of users of other servers, also where it may be old; of whom
    /// nothing is known, nothing. For those whose server does not answer.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn query_known(
        &self,
        viewer: &Owner,
        query: KeyQuery,
    ) -> Result<QueriedKeys, KeysError> {
        let viewer = viewer.clone();
        self.read(move |keys, snap| {
            let mut found = QueriedKeys::default();
            for (user_id, devices) in query.device_keys {
                if let Some(user) = keys.store().user_nid(&user_id)?
                    && remote::was_fetched(snap, user)?
                {
                    let owner = owner_of(&user_id, user);
                    find_followed(snap, &viewer, &owner, &devices, &mut found)?;
                }
            }
            Ok(found)
        })
        .await
    }
}

fn owner_of(user_id: &str, user: UserNid) -> Owner {
    Owner {
        user_id: user_id.into(),
        user,
    }
}

/// Finds what is known of a user of another server.
fn find_followed(
    snap: &Snapshot,
    viewer: &Owner,
    owner: &Owner,
    devices: &[String],
    found: &mut QueriedKeys,
) -> Result<(), StoreError> {
    let named: BTreeSet<&String> = devices.iter().collect();
    let mut keys = BTreeMap::new();
    for row in snap.scan::<RemoteDeviceTable>(Scan::prefix(&owner.user)) {
        let ((_, device), row) = row?;
        if named.is_empty() || named.contains(&device) {
            let json = with_unsigned(row.keys, row.name);
            keys.insert(device, signed::raw("remote_device", json)?);
        }
    }
    let user_id = owner.user_id.to_string();
    found.device_keys.insert(user_id, keys);
    let added = signatures::visible(snap, owner, viewer)?;
    find_own_keys(snap, owner, &added, found)
}

/// Finds a user's master key and self-signing key.
fn find_own_keys(
    snap: &Snapshot,
    owner: &Owner,
    added: &[Added],
    found: &mut QueriedKeys,
) -> Result<(), StoreError> {
    let user_id = owner.user_id.to_string();
    if let Some(key) = cross_key(snap, owner.user, CrossKind::Master, added)? {
        found.master_keys.insert(user_id.clone(), key);
    }
    if let Some(key) = cross_key(snap, owner.user, CrossKind::SelfSigning, added)? {
        found.self_signing_keys.insert(user_id, key);
    }
    Ok(())
}

pub(super) fn cross_key(
    snap: &Snapshot,
    user: UserNid,
    kind: CrossKind,
    added: &[Added],
) -> Result<Option<Box<RawValue>>, StoreError> {
    let Some(row) = snap.get::<CrossKeyTable>(&(user, kind))? else {
        return Ok(None);
    };
    let json = with_signatures("cross_key", row.json, &row.public, added)?;
    Ok(Some(signed::raw("cross_key", json)?))
}

/// Finds what is known of one local user.
fn find(
    snap: &Snapshot,
    viewer: &Owner,
    owner: Owner,
    devices: &[String],
    found: &mut QueriedKeys,
) -> Result<(), StoreError> {
    let user_id = owner.user_id.to_string();
    let added = signatures::visible(snap, &owner, viewer)?;
    let mut keys = BTreeMap::new();
    for (device, json) in device_keys(snap, owner.user, devices)? {
        let name = snap
            .get::<Devices>(&(owner.user, device.clone()))?
            .and_then(|row| row.display_name);
        let json = with_unsigned(with_signatures("device_key", json, &device, &added)?, name);
        keys.insert(device, signed::raw("device_key", json)?);
    }
    found.device_keys.insert(user_id.clone(), keys);
    find_own_keys(snap, &owner, &added, found)?;
    if owner.user == viewer.user
        && let Some(key) = cross_key(snap, owner.user, CrossKind::UserSigning, &added)?
    {
        found.user_signing_keys.insert(user_id, key);
    }
    Ok(())
}

/// Identity keys as stored, of the named devices or of all.
pub(super) fn device_keys(
    snap: &Snapshot,
    user: UserNid,
    devices: &[String],
) -> Result<Vec<(String, String)>, StoreError> {
    if devices.is_empty() {
        return snap
            .scan::<DeviceKeyTable>(Scan::prefix(&user))
            .map(|row| row.map(|((_, device), row)| (device, row.json)))
            .collect();
    }
    // Each once: a list that names a device again and again must not read it as often.
    let devices: BTreeSet<&String> = devices.iter().collect();
    let slots: Vec<_> = devices
        .iter()
        .map(|device| (user, (*device).clone()))
        .collect();
    let rows = snap.get_many::<DeviceKeyTable>(&slots)?;
    let named = devices.into_iter().cloned().zip(rows);
    Ok(named
        .filter_map(|(device, row)| Some((device, row?.json)))
        .collect())
}

/// Puts the signatures added to `item` after its upload into its JSON.
pub(super) fn with_signatures(
    table: &'static str,
    json: String,
    item: &str,
    added: &[Added],
) -> Result<String, StoreError> {
    let mut mine = added
        .iter()
        .filter(|signature| signature.item == item)
        .peekable();
    if mine.peek().is_none() {
        return Ok(json);
    }
    let mut object = signed::stored(table, &json)?;
    let mut signatures = take_object(&mut object, "signatures");
    for signature in mine {
        let mut keys = take_object(&mut signatures, &signature.signer);
        let value = CanonicalJsonValue::String(signature.signature.clone());
        keys.insert(signature.key_id.clone(), value);
        signatures.insert(
            signature.signer.to_string(),
            CanonicalJsonValue::Object(keys),
        );
    }
    object.insert(
        "signatures".to_owned(),
        CanonicalJsonValue::Object(signatures),
    );
    Ok(signed::text(&object))
}

/// Takes the object under `name` out; an empty one if there is none.
fn take_object(from: &mut CanonicalJsonObject, name: &str) -> CanonicalJsonObject {
    match from.remove(name) {
        Some(CanonicalJsonValue::Object(object)) => object,
        _ => CanonicalJsonObject::new(),
    }
}

/// Adds `unsigned` to a device's keys, which are stored without it and are never empty.
pub(super) fn with_unsigned(mut json: String, display_name: Option<String>) -> String {
    let unsigned: BTreeMap<&str, String> = display_name
        .into_iter()
        .map(|name| ("device_display_name", name))
        .collect();
    json.pop();
    json.push_str(",\"unsigned\":");
    json.push_str(&serde_json::json!(unsigned).to_string());
    json.push('}');
    json
}
