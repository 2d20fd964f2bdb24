//! `POST /keys/claim`: each one-time key is handed out once, in the order of upload.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::value::RawValue;
use skerry_core::UserNid;
use skerry_store::schema::e2e::{
    FallbackKeyRow, FallbackKeyTable, KeyCountsTable, OneTimeIdRow, OneTimeIdTable, OneTimeKeyTable,
};
use skerry_store::{Scan, Snapshot, StoreError, Write, blocking};

use super::{Keys, KeysError, counts, signed};

/// What is asked for: user id, device id, algorithm.
pub type ClaimRequest = BTreeMap<String, BTreeMap<String, String>>;

/// What was found.
#[derive(Debug, Default, Serialize)]
pub struct Claimed {
    /// User id, device id, `<algorithm>:<key_id>`, key. Users and devices without a key are left
    /// out.
    #[serde(rename = "one_time_keys")]
    pub keys: BTreeMap<String, BTreeMap<String, BTreeMap<String, Box<RawValue>>>>,
    /// What was asked about users of other servers; answering it is for the layer above.
    #[serde(skip)]
    pub remote: ClaimRequest,
}

impl Keys {
    /// Claims keys. For each device the one-time key that was uploaded first, or where none is
    /// left the fallback key, which stays and is marked as used.
    ///
    /// Users are taken one after the other, in the order of their numbers, each in their lane and
    /// with one commit; nothing is answered before all of it is durable. A claim that breaks off
    /// in the middle may lose keys, but never hands one out twice.
    /// Spec: client-server API, `POST /keys/claim`.
    pub async fn claim(&self, request: ClaimRequest) -> Result<Claimed, KeysError> {
        let keys = self.clone();
        let sorted = move || {
            let mut claimed = Claimed::default();
            let mut users = BTreeMap::new();
            for (user_id, devices) in request {
                if !keys.is_local(&user_id) {
                    claimed.remote.insert(user_id, devices);
                } else if let Some(user) = keys.local_nid(&user_id)? {
                    users.insert(user, (user_id, devices));
                }
            }
            Ok::<_, StoreError>((claimed, users))
        };
        let (mut claimed, users) = blocking(sorted).await??;
        let mut last = None;
        for (user, (user_id, devices)) in users {
            let plan =
                move |keys: &Keys, w: &mut Write| claim(&keys.store().newest(), w, user, devices);
            let (found, applied) = self.apply_in_lane(user, plan).await?;
            last = Some(applied);
            let found = found?;
            if !found.is_empty() {
                claimed.keys.insert(user_id, found);
            }
        }
        // Commits become durable in their order: the last one covers all.
        if let Some(applied) = last {
            self.store().durable(&applied).await?;
        }
        Ok(claimed)
    }
}

/// Keys by device and full id.
type Found = BTreeMap<String, BTreeMap<String, Box<RawValue>>>;

fn claim(
    snap: &Snapshot,
    w: &mut Write,
    user: UserNid,
    devices: BTreeMap<String, String>,
) -> Result<Found, KeysError> {
    let mut found = BTreeMap::new();
    for (device, algorithm) in devices {
        if let Some((id, json)) = claim_one(snap, w, (user, device.clone()), algorithm)? {
            let key = signed::raw("one_time_key", json)?;
            found.insert(device, BTreeMap::from([(id, key)]));
        }
    }
    Ok(found)
}

/// Takes the next key of one device, as its full id and its JSON.
fn claim_one(
    snap: &Snapshot,
    w: &mut Write,
    slot: (UserNid, String),
    algorithm: String,
) -> Result<Option<(String, String)>, StoreError> {
    let Some(mut row) = snap.get::<KeyCountsTable>(&slot)? else {
        return Ok(None);
    };
    let (user, device) = slot.clone();
    let after = row
        .one_time
        .iter()
        .find(|queue| queue.algorithm == algorithm && queue.count > 0);
    if let Some(after) = after.map(|queue| queue.after) {
        let start = (user, device.clone(), algorithm.clone());
        let from = (user, device.clone(), algorithm.clone(), after);
        let next = snap
            .scan::<OneTimeKeyTable>(Scan::prefix(&start).after(&from).limit(1))
            .next();
        if let Some((place, key)) = next.transpose()? {
            let queue = counts::queue(&mut row, &algorithm);
            queue.count = queue.count.saturating_sub(1);
            queue.after = place.3;
            w.delete::<OneTimeKeyTable>(&place);
            let id = format!("{algorithm}:{}", key.key_id);
            let id_row = (user, device, id.clone());
            let digest = *blake3::hash(key.json.as_bytes()).as_bytes();
            w.put::<OneTimeIdTable>(
                &id_row,
                &OneTimeIdRow {
                    digest,
                    claimed: true,
                },
            );
            counts::put(w, slot, row);
            return Ok(Some((id, key.json)));
        }
    }
    let place = (user, device, algorithm);
    let Some(key) = snap.get::<FallbackKeyTable>(&place)? else {
        return Ok(None);
    };
    let found = (format!("{}:{}", place.2, key.key_id), key.json.clone());
    if !key.used {
        w.put::<FallbackKeyTable>(&place, &FallbackKeyRow { used: true, ..key });
        counts::fallback_unused(&mut row, place.2, false);
        counts::put(w, slot, row);
    }
    Ok(Some(found))
}
