//! What other servers say of the keys of their users, checked: nothing is kept that others could not
//! read.

use std::collections::BTreeMap;

use ruma_common::canonical_json::CanonicalJsonObject;
use serde::Deserialize;
use serde_json::value::RawValue;
use skerry_store::schema::e2e::{CrossKeyRow, CrossKind};
use skerry_store::schema::e2e_remote::RemoteDevice;

use super::{ClaimRequest, Claimed, QueriedKeys, cross, query, signed, upload};

/// Most devices of a user of another server; of more, the rest is left out.
pub(super) const DEVICES_MAX: usize = 1_000;
/// Longest name of a device that is kept, in bytes.
const NAME_BYTES_MAX: usize = 1_024;
/// Longest one-time key, in bytes.
const KEY_BYTES_MAX: usize = 4_096;
/// Longest `<algorithm>:<key_id>`, in bytes.
const KEY_ID_BYTES_MAX: usize = 255;
/// Longest device id, in bytes.
const DEVICE_BYTES_MAX: usize = 255;

/// A device in the answer of another server.
#[derive(Debug, Deserialize)]
pub(super) struct FetchedDevice {
    device_id: String,
    #[serde(default)]
    keys: Option<Box<RawValue>>,
    #[serde(default)]
    device_display_name: Option<String>,
}

/// Checked public keys of a user of another server.
#[derive(Default)]
pub(super) struct OwnKeys {
    pub(super) master: Option<CrossKeyRow>,
    pub(super) self_signing: Option<CrossKeyRow>,
}

/// A device as it is kept, if its keys are as the spec has them, or if it claims none.
pub(super) fn device(
    user_id: &str,
    id: &str,
    keys: &RawValue,
    name: Option<String>,
) -> Option<RemoteDevice> {
    if id.is_empty() || id.len() > DEVICE_BYTES_MAX {
        return None;
    }
    let checked = upload::check_device_keys(user_id, id, keys).ok();
    let object = checked.or_else(|| without_keys(keys))?;
    let name = name.or_else(|| unsigned_name(keys));
    Some(RemoteDevice {
        keys: signed::text(&object),
        name: name.filter(|name| name.len() <= NAME_BYTES_MAX),
    })
}

/// What is said of a device that has nothing that anybody could take for keys: it is shown as its
/// server shows it, so that it is known to be there.
fn without_keys(given: &RawValue) -> Option<CanonicalJsonObject> {
    const OF_KEYS: [&str; 5] = ["user_id", "device_id", "algorithms", "keys", "signatures"];
    if given.get().len() > upload::DEVICE_KEYS_BYTES_MAX {
        return None;
    }
    let mut object = signed::object(given, "device_keys").ok()?;
    object.remove("unsigned");
    let claims = OF_KEYS.iter().any(|field| object.contains_key(*field));
    (!object.is_empty() && !claims).then_some(object)
}

/// The name that stands beside the keys.
fn unsigned_name(keys: &RawValue) -> Option<String> {
    #[derive(Deserialize)]
    struct Named {
        unsigned: Unsigned,
    }
    #[derive(Deserialize)]
    struct Unsigned {
        device_display_name: String,
    }
    let named: Named = serde_json::from_str(keys.get()).ok()?;
    Some(named.unsigned.device_display_name)
}

pub(super) fn devices(user_id: &str, list: Vec<FetchedDevice>) -> BTreeMap<String, RemoteDevice> {
    let checked = list.into_iter().filter_map(|given| {
        let row = device(
            user_id,
            &given.device_id,
            &given.keys?,
            given.device_display_name,
        )?;
        Some((given.device_id, row))
    });
    checked.take(DEVICES_MAX).collect()
}

/// Public keys that are as the spec has them: the self-signing key has to be signed by the master
/// key that came with it, or else by the one known.
pub(super) fn own_keys(
    user_id: &str,
    (master, self_signing): (Option<Box<RawValue>>, Option<Box<RawValue>>),
    known: Option<&CrossKeyRow>,
) -> OwnKeys {
    let key = |kind, usage, raw: Option<Box<RawValue>>| {
        raw.and_then(|raw| cross::check_key(user_id, kind, usage, &raw).ok())
    };
    let master = key(CrossKind::Master, "master", master);
    let self_signing = key(CrossKind::SelfSigning, "self_signing", self_signing);
    let by = master.as_ref().map(|key| &key.public);
    let by = by.or(known.map(|row| &row.public));
    let self_signing = self_signing.filter(|key| {
        by.is_some_and(|master| *master != key.public && cross::is_signed_by(user_id, key, master))
    });
    OwnKeys {
        master: master.map(cross::CrossKey::into_row),
        self_signing: self_signing.map(cross::CrossKey::into_row),
    }
}

/// The answer of `POST /user/keys/query` of another server.
#[derive(Debug, Default, Deserialize)]
pub struct AnsweredKeys {
    #[serde(default)]
    device_keys: BTreeMap<String, BTreeMap<String, Box<RawValue>>>,
    #[serde(default)]
    master_keys: BTreeMap<String, Box<RawValue>>,
    #[serde(default)]
    self_signing_keys: BTreeMap<String, Box<RawValue>>,
}

impl AnsweredKeys {
    /// Adds what the answer says of the users and devices that were asked for, as far as it is as
    /// the spec has it. A user of whom it says nothing has no devices.
    pub fn add_to(mut self, found: &mut QueriedKeys, asked: BTreeMap<String, Vec<String>>) {
        for (user_id, named) in asked {
            let given = self.device_keys.remove(&user_id).unwrap_or_default();
            let wanted = given
                .into_iter()
                .filter(|(id, _)| named.is_empty() || named.contains(id));
            let devices = wanted.filter_map(|(id, keys)| {
                let row = device(&user_id, &id, &keys, None)?;
                let json = RawValue::from_string(query::with_unsigned(row.keys, row.name));
                Some((id, json.ok()?))
            });
            let devices = devices.take(DEVICES_MAX).collect();
            found.device_keys.insert(user_id.clone(), devices);
            let given = (
                self.master_keys.remove(&user_id),
                self.self_signing_keys.remove(&user_id),
            );
            let own = own_keys(&user_id, given, None);
            let raw = |row: Option<CrossKeyRow>| RawValue::from_string(row?.json).ok();
            let master = raw(own.master).map(|key| (user_id.clone(), key));
            found.master_keys.extend(master);
            let signing = raw(own.self_signing).map(|key| (user_id.clone(), key));
            found.self_signing_keys.extend(signing);
        }
    }
}

/// The answer of `POST /user/keys/claim` of another server.
#[derive(Debug, Default, Deserialize)]
pub struct AnsweredClaim {
    #[serde(default)]
    one_time_keys: BTreeMap<String, BTreeMap<String, BTreeMap<String, Box<RawValue>>>>,
}

impl AnsweredClaim {
    /// Adds the keys that were asked for, one for each device, of the algorithm that was named.
    pub fn add_to(mut self, found: &mut Claimed, asked: ClaimRequest) {
        for (user_id, devices) in asked {
            let mut given = self.one_time_keys.remove(&user_id).unwrap_or_default();
            for (device, algorithm) in devices {
                let keys = given.remove(&device).unwrap_or_default();
                let key = keys.into_iter().find(|(id, key)| {
                    let named = id.split_once(':').is_some_and(|(of, _)| of == algorithm);
                    named && id.len() <= KEY_ID_BYTES_MAX && key.get().len() <= KEY_BYTES_MAX
                });
                if let Some(key) = key {
                    let of_user = found.keys.entry(user_id.clone()).or_default();
                    of_user.insert(device, BTreeMap::from([key]));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    fn kept(keys: &str) -> Option<String> {
        let keys = RawValue::from_string(keys.to_owned()).unwrap();
        device("@a:b", "D", &keys, None).map(|device| device.keys)
    }

    #[test]
    fn a_device_without_keys_is_known_to_be_there() {
        assert_eq!(
            kept(r#"{"unsigned":{},"device_keys":{}}"#).as_deref(),
            Some(r#"{"device_keys":{}}"#)
        );
        // What looks like keys has to be keys.
        let good =
            r#"{"algorithms":[],"device_id":"D","keys":{},"signatures":{},"user_id":"@a:b"}"#;
        assert_eq!(kept(good).as_deref(), Some(good));
        for bad in [
            &good.replace("@a:b", "@c:b"),
            &good.replace("\"D\"", "\"E\""),
            r#"{"keys":{"ed25519:D":"k"}}"#,
            r#"{"user_id":"@a:b","x":1}"#,
            "{}",
            "[]",
        ] {
            assert_eq!(kept(bad), None, "{bad}");
        }
        let huge = format!(r#"{{"x":"{}"}}"#, "y".repeat(upload::DEVICE_KEYS_BYTES_MAX));
        assert_eq!(kept(&huge), None);
    }
}
