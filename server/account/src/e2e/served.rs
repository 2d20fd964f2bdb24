//! What other servers are told of the keys of our users: `/user/devices`, `/user/keys/query`, and the
//! content of the EDUs about them.
//!
//! Keys leave only if they are as the spec has them and nothing in them is signed wrongly: another
//! server may refuse a whole answer, or a whole transaction, for one bad row (CVE-2025-61672). What
//! was stored before it was checked is passed over.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::value::RawValue;
use skerry_core::{Pos, UserNid};
use skerry_store::schema::account::Devices;
use skerry_store::schema::e2e::{CrossKind, DeviceKeyTable};
use skerry_store::schema::e2e_remote::DeviceChangeTable;
use skerry_store::{Scan, Snapshot, StoreError};

use super::query::{cross_key, device_keys, with_signatures, with_unsigned};
use super::signatures::{self, Added};
use super::{KeyQuery, Keys, KeysError, Owner, QueriedKeys, lists, signed, upload};

/// The answer of `GET /user/devices/{userId}`.
#[derive(Debug, Serialize)]
pub struct ServedList {
    user_id: String,
    stream_id: u64,
    devices: Vec<ServedDevice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    master_key: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    self_signing_key: Option<Box<RawValue>>,
}

#[derive(Debug, Serialize)]
struct ServedDevice {
    device_id: String,
    keys: Box<RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device_display_name: Option<String>,
}

/// `m.device_list_update`
#[derive(Serialize)]
struct UpdateContent<'a> {
    user_id: &'a str,
    device_id: &'a str,
    stream_id: u64,
    prev_id: Vec<u64>,
    #[serde(skip_serializing_if = "is_false")]
    deleted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    keys: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device_display_name: Option<String>,
}

/// `m.signing_key_update`
#[derive(Serialize)]
struct SigningContent<'a> {
    user_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    master_key: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    self_signing_key: Option<Box<RawValue>>,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // as serde calls it
fn is_false(value: &bool) -> bool {
    !value
}

impl Keys {
    /// A user's device list as other servers may have it.
    /// Spec: server-server API, `GET /user/devices/{userId}`.
    ///
    /// # Errors
    /// [`KeysError::NoDevice`] for a user without an account here; those of the store.
    pub async fn served_list(&self, user_id: &str) -> Result<ServedList, KeysError> {
        let user_id = user_id.to_owned();
        self.read(move |keys, snap| {
            let owner = keys.account(snap, &user_id)?.ok_or(KeysError::NoDevice)?;
            let served = Served::of(keys, snap, &owner)?;
            let mut devices = Vec::new();
            for (device_id, json) in device_keys(snap, owner.user, &[])? {
                devices.extend(served.device(device_id, json)?);
            }
            Ok(ServedList {
                stream_id: stream(snap, owner.user)?.0,
                devices,
                master_key: served.own_key(CrossKind::Master)?,
                self_signing_key: served.own_key(CrossKind::SelfSigning)?,
                user_id,
            })
        })
        .await
    }

    /// Finds keys of local users for another server. Users of other servers are passed over.
    /// Spec: server-server API, `POST /user/keys/query`.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn served_query(&self, query: KeyQuery) -> Result<QueriedKeys, KeysError> {
        self.read(move |keys, snap| {
            let mut found = QueriedKeys::default();
            for (user_id, named) in query.device_keys {
                let Some(owner) = keys.account(snap, &user_id)? else {
                    continue;
                };
                let served = Served::of(keys, snap, &owner)?;
                let mut devices = BTreeMap::new();
                for (device_id, json) in device_keys(snap, owner.user, &named)? {
                    if let Some(device) = served.device(device_id, json)? {
                        devices.insert(device.device_id, device.keys);
                    }
                }
                found.device_keys.insert(user_id.clone(), devices);
                let keep = |into: &mut BTreeMap<_, _>, kind| -> Result<(), StoreError> {
                    let key = served.own_key(kind)?;
                    into.extend(key.map(|key| (user_id.clone(), key)));
                    Ok(())
                };
                keep(&mut found.master_keys, CrossKind::Master)?;
                keep(&mut found.self_signing_keys, CrossKind::SelfSigning)?;
            }
            Ok(found)
        })
        .await
    }

    /// A local user who has an account.
    fn account(&self, snap: &Snapshot, user_id: &str) -> Result<Option<Owner>, StoreError> {
        let Some(user) = self.local_nid(user_id)? else {
            return Ok(None);
        };
        let owner = crate::user::exists(snap, user)?.then(|| Owner {
            user_id: user_id.into(),
            user,
        });
        Ok(owner)
    }
}

/// The number under which a list is served: that of its newest change, as updates have it.
pub(super) fn stream(snap: &Snapshot, user: UserNid) -> Result<Pos, StoreError> {
    let mut newest = Pos::ZERO;
    for row in snap.scan::<DeviceChangeTable>(Scan::prefix(&user)) {
        let ((_, device), pos) = row?;
        if device != lists::OWN_KEYS {
            newest = newest.max(pos);
        }
    }
    Ok(if newest == Pos::ZERO {
        // Not changed since this is written down.
        lists::list_pos(snap, user)?.max(Pos(1))
    } else {
        newest
    })
}

/// The keys of one user on their way out.
pub(super) struct Served<'a> {
    snap: &'a Snapshot,
    owner: &'a Owner,
    added: Vec<Added>,
    names: bool,
}

impl<'a> Served<'a> {
    pub(super) fn of(
        keys: &Keys,
        snap: &'a Snapshot,
        owner: &'a Owner,
    ) -> Result<Served<'a>, StoreError> {
        Ok(Served {
            snap,
            owner,
            added: signatures::visible(snap, owner, owner)?,
            names: keys.accounts.settings().tells_device_names,
        })
    }

    /// The name of a device, where names are told.
    fn name(&self, device: &str) -> Result<Option<String>, StoreError> {
        if !self.names {
            return Ok(None);
        }
        let row = self
            .snap
            .get::<Devices>(&(self.owner.user, device.to_owned()))?;
        Ok(row.and_then(|row| row.display_name))
    }

    /// A device with its keys, if these may leave.
    fn device(&self, device_id: String, json: String) -> Result<Option<ServedDevice>, StoreError> {
        if !self.may_leave(&device_id, &json) {
            return Ok(None);
        }
        let name = self.name(&device_id)?;
        let json = with_signatures("device_key", json, &device_id, &self.added)?;
        Ok(Some(ServedDevice {
            keys: signed::raw("device_key", with_unsigned(json, name.clone()))?,
            device_display_name: name,
            device_id,
        }))
    }

    fn may_leave(&self, device: &str, json: &str) -> bool {
        let user_id = &self.owner.user_id;
        let Ok(raw) = RawValue::from_string(json.to_owned()) else {
            return false;
        };
        let checked = upload::check_device_keys(user_id, device, &raw)
            .and_then(|object| upload::check_own_keys(user_id, device, &object));
        if let Err(error) = &checked {
            tracing::info!(%user_id, device, %error, "other servers are not told of these keys");
        }
        checked.is_ok()
    }

    fn own_key(&self, kind: CrossKind) -> Result<Option<Box<RawValue>>, StoreError> {
        cross_key(self.snap, self.owner.user, kind, &self.added)
    }

    /// The content of `m.device_list_update` for a device as it is now.
    pub(super) fn update(
        &self,
        device: &str,
        at: Pos,
        before: Option<Pos>,
    ) -> Result<String, StoreError> {
        let slot = (self.owner.user, device.to_owned());
        let deleted = !self.snap.has::<Devices>(&slot)?;
        let keys = match self.snap.get::<DeviceKeyTable>(&slot)? {
            Some(row) => self.device(slot.1, row.json)?.map(|served| served.keys),
            None => None,
        };
        let content = UpdateContent {
            user_id: &self.owner.user_id,
            device_id: device,
            stream_id: at.0,
            prev_id: before.map(|pos| pos.0).into_iter().collect(),
            deleted,
            keys,
            device_display_name: self.name(device)?,
        };
        // Cannot fail: it is made of texts and of JSON.
        Ok(serde_json::to_string(&content).unwrap_or_default())
    }

    /// The content of `m.signing_key_update` as the keys are now.
    pub(super) fn signing_update(&self) -> Result<String, StoreError> {
        let content = SigningContent {
            user_id: &self.owner.user_id,
            master_key: self.own_key(CrossKind::Master)?,
            self_signing_key: self.own_key(CrossKind::SelfSigning)?,
        };
        // Cannot fail: it is made of texts and of JSON.
        Ok(serde_json::to_string(&content).unwrap_or_default())
    }
}
