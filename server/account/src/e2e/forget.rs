//! What has to go when a device or an account goes, and what others learn when devices change.

use skerry_core::UserNid;
use skerry_store::schema::e2e::{
    BackupKeyTable, BackupTable, CrossKeyTable, CrossKind, DehydratedTable, DeviceKeyTable,
    FallbackKeyTable, KeyCountsTable, KeySignatureTable, OneTimeIdTable, OneTimeKeyTable,
    PrivateListTable, ToDeviceLast, ToDeviceTable,
};
use skerry_store::{Scan, Snapshot, StoreError, Write};

use super::{dehydrated, lists, outgoing, signatures};

/// Adds to the batch that deletes a device: its keys, the signatures by and about it and the
/// messages waiting for it go too, and the user's contacts learn of it. The caller holds the
/// user's lane.
///
/// # Errors
/// Those of the store.
pub fn forget_device(
    snap: &Snapshot,
    w: &mut Write,
    user: UserNid,
    device: &str,
) -> Result<(), StoreError> {
    let slot = (user, device.to_owned());
    if snap.get::<DeviceKeyTable>(&slot)?.is_some() {
        w.delete::<DeviceKeyTable>(&slot);
        signatures::drop_about(snap, w, user, device)?;
    }
    if snap.get::<KeyCountsTable>(&slot)?.is_some() {
        w.delete::<KeyCountsTable>(&slot);
        w.delete_range::<OneTimeKeyTable>(slot.clone());
        w.delete_range::<OneTimeIdTable>(slot.clone());
        w.delete_range::<FallbackKeyTable>(slot.clone());
    }
    if dehydrated::of(snap, user)?.is_some_and(|row| row.device == device) {
        w.delete::<DehydratedTable>(&user);
    }
    // Without a look first: a message may be on its way, and its commit goes before this one or
    // fails because the device is gone.
    w.delete::<ToDeviceLast>(&slot);
    w.delete_range::<ToDeviceTable>(slot);
    lists::note_device(w, user, device);
    Ok(())
}

/// Adds to the batch that deactivates an account: its cross-signing keys, all signatures about
/// its keys and its key backups go. Its devices are deleted one by one with [`forget_device`].
///
/// # Errors
/// Those of the store.
pub fn forget_user(snap: &Snapshot, w: &mut Write, user: UserNid) -> Result<(), StoreError> {
    for kind in [
        CrossKind::Master,
        CrossKind::SelfSigning,
        CrossKind::UserSigning,
    ] {
        w.delete::<CrossKeyTable>(&(user, kind));
    }
    w.delete_range::<KeySignatureTable>(user);
    w.delete_range::<PrivateListTable>(user);
    w.delete_range::<BackupKeyTable>(user);
    for row in snap.scan::<BackupTable>(Scan::prefix(&user)) {
        w.delete::<BackupTable>(&row?.0);
    }
    lists::note_own_keys(w, user);
    Ok(())
}

/// Adds to the batch that makes a device: the user's contacts learn of it. So that those who come
/// and go leave no endless trace, devices that went long ago are forgotten here. The caller holds
/// the user's lane.
///
/// # Errors
/// Those of the store.
pub fn device_added(
    snap: &Snapshot,
    w: &mut Write,
    user: UserNid,
    device: &str,
) -> Result<(), StoreError> {
    outgoing::trim(snap, w, user, device)?;
    lists::note_device(w, user, device);
    Ok(())
}

/// Adds to the batch that gives a device another name: the user's contacts learn of it, since
/// `/keys/query` tells the name.
pub fn device_renamed(w: &mut Write, user: UserNid, device: &str) {
    lists::note_device(w, user, device);
}
