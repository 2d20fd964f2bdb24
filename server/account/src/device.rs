//! Devices: list, name, delete.

use serde_json::Value;
use skerry_core::UserNid;
use skerry_store::schema::account as t;
use skerry_store::{Scan, Snapshot, StoreError};

use crate::facade::Inner;
use crate::login::{revoke, tokens_of};
use crate::tx::Tx;
use crate::{AccountError, Accounts, UiaScope, e2e, pusher, txn};

/// Longest device id, in bytes.
const MAX_DEVICE_ID_BYTES: usize = 255;
/// Longest display name of a device, in bytes.
const MAX_DEVICE_NAME_BYTES: usize = 400;
/// Most devices of one user. A script that logs in anew each time it runs must neither fill the
/// disk nor be locked out: beyond it the device goes that was not seen for longest.
pub(crate) const MAX_DEVICES: usize = 1_000;
/// How many devices one call may delete.
const MAX_DELETED: usize = 1_000;

/// A device as its owner sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceView {
    /// Its id.
    pub device_id: String,
    /// What its owner calls it.
    pub display_name: Option<String>,
    /// When it was last seen, in ms since the epoch.
    pub last_seen_ms: Option<u64>,
    /// The address it was last seen from.
    pub last_seen_ip: Option<String>,
    /// What its client said of itself then.
    pub user_agent: Option<String>,
}

pub(crate) fn check_device_id(id: &str) -> Result<(), AccountError> {
    if id.is_empty() || id.len() > MAX_DEVICE_ID_BYTES {
        return Err(AccountError::Invalid(
            "The device id must be 1 to 255 bytes long",
        ));
    }
    Ok(())
}

pub(crate) fn check_display_name(name: Option<&str>) -> Result<(), AccountError> {
    if name.is_some_and(|name| name.len() > MAX_DEVICE_NAME_BYTES) {
        return Err(AccountError::TooLarge(
            "The device's display name is too long",
        ));
    }
    Ok(())
}

/// Makes room for one more device of a user.
pub(crate) fn make_room(tx: &mut Tx<'_>, user: UserNid) -> Result<(), StoreError> {
    let mut devices = Vec::new();
    for row in tx.snap.scan::<t::Devices>(Scan::prefix(&user)) {
        let ((_, device), row) = row?;
        devices.push((row.seen_ms.max(row.created_ms), device));
    }
    let surplus = (devices.len() + 1).saturating_sub(MAX_DEVICES);
    if surplus == 0 {
        return Ok(());
    }
    devices.sort_unstable();
    for (_, device) in devices.iter().take(surplus) {
        drop_device(tx, user, device)?;
    }
    Ok(())
}

/// Takes a device out with all that hangs on it. Nothing happens if there is none.
pub(crate) fn drop_device(tx: &mut Tx<'_>, user: UserNid, device: &str) -> Result<(), StoreError> {
    let key = (user, device.to_owned());
    let Some(row) = tx.snap.get::<t::Devices>(&key)? else {
        return Ok(());
    };
    revoke(tx, tokens_of(&row));
    tx.w.delete::<t::Devices>(&key);
    tx.w.delete::<t::DeviceAgents>(&key);
    txn::forget_device(&mut tx.w, user, device);
    pusher::forget_device(&tx.snap, &mut tx.w, user, device)?;
    e2e::forget_device(&tx.snap, &mut tx.w, user, device)
}

fn view(
    inner: &Inner,
    snap: &Snapshot,
    key: (UserNid, String),
    row: t::Device,
) -> Result<DeviceView, StoreError> {
    let (last_seen_ms, last_seen_ip, user_agent) = match inner.sessions.seen(key.0, &key.1) {
        Some(seen) => (Some(seen.at_ms), Some(seen.ip.to_string()), seen.agent),
        None => (
            (row.seen_ms > 0).then_some(row.seen_ms),
            row.seen_ip,
            snap.get::<t::DeviceAgents>(&key)?,
        ),
    };
    Ok(DeviceView {
        device_id: key.1,
        display_name: row.display_name,
        last_seen_ms,
        last_seen_ip,
        user_agent,
    })
}

/// All devices of a user.
pub(crate) fn list(
    inner: &Inner,
    snap: &Snapshot,
    user: UserNid,
) -> Result<Vec<DeviceView>, StoreError> {
    snap.scan::<t::Devices>(Scan::prefix(&user))
        .map(|row| row.and_then(|(key, row)| view(inner, snap, key, row)))
        .collect()
}

/// Gives a device another name; none leaves it as it is.
pub(crate) fn rename(
    tx: &mut Tx<'_>,
    key: (UserNid, String),
    name: Option<String>,
) -> Result<(), AccountError> {
    let row = tx.snap.get::<t::Devices>(&key)?;
    let mut row = row.ok_or(AccountError::NotFound("No such device"))?;
    if name.is_some() && row.display_name != name {
        row.display_name = name;
        row.pos = tx.w.stamp();
        tx.w.put::<t::Devices>(&key, &row);
        e2e::device_renamed(&mut tx.w, key.0, &key.1);
    }
    Ok(())
}

impl Accounts {
    /// All devices of a user.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn devices(&self, user: UserNid) -> Result<Vec<DeviceView>, AccountError> {
        self.read(move |inner, snap| Ok(list(inner, snap, user)?))
            .await
    }

    /// One device of a user.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn device(&self, user: UserNid, device: &str) -> Result<DeviceView, AccountError> {
        let device = device.to_owned();
        self.read(move |inner, snap| {
            let row = snap.get::<t::Devices>(&(user, device.clone()))?;
            let row = row.ok_or(AccountError::NotFound("No such device"))?;
            Ok(view(inner, snap, (user, device), row)?)
        })
        .await
    }

    /// Gives a device another name; none leaves it as it is.
    ///
    /// # Errors
    /// `NotFound`, `TooLarge`.
    pub async fn rename_device(
        &self,
        user: UserNid,
        device: &str,
        name: Option<String>,
    ) -> Result<(), AccountError> {
        check_display_name(name.as_deref())?;
        let key = (user, device.to_owned());
        self.change(user, move |tx| rename(tx, key, name)).await
    }

    /// Lets a user delete devices of their own, after proving the password. What is proved is
    /// good for the very devices named when it began.
    ///
    /// # Errors
    /// `Interactive`; `Invalid` for more than 1,000 at once.
    pub async fn delete_own_devices(
        &self,
        mut scope: UiaScope,
        auth: Option<&Value>,
        devices: Vec<String>,
    ) -> Result<(), AccountError> {
        let user = scope.user.ok_or(AccountError::Forbidden("Not logged in"))?;
        let mut named = blake3::Hasher::new();
        for device in &devices {
            named.update(&device.len().to_be_bytes());
            named.update(device.as_bytes());
        }
        scope.path.push_str(named.finalize().to_hex().as_str());
        self.prove_owner(scope, auth).await?;
        self.delete_devices(user, devices).await
    }

    /// Deletes devices; those that do not exist are passed over.
    ///
    /// # Errors
    /// `Invalid` for more than 1,000 at once.
    pub async fn delete_devices(
        &self,
        user: UserNid,
        devices: Vec<String>,
    ) -> Result<(), AccountError> {
        if devices.len() > MAX_DELETED {
            return Err(AccountError::Invalid("At most 1,000 devices at once"));
        }
        self.change(user, move |tx| {
            for device in &devices {
                drop_device(tx, user, device)?;
            }
            Ok(())
        })
        .await
    }
}
