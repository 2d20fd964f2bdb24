//! End-to-end encryption: what devices publish, and what they send each other.

use skerry_core::UserNid;
use skerry_store::{Snapshot, StoreError, Write};

/// Takes everything of a device out in the batch that deletes it.
pub(crate) fn forget_device(
    _snap: &Snapshot,
    _w: &mut Write,
    _user: UserNid,
    _device: &str,
) -> Result<(), StoreError> {
    Ok(())
}

/// Notes in the batch that renames a device that its public name changed.
pub(crate) fn device_renamed(
    _snap: &Snapshot,
    _w: &mut Write,
    _user: UserNid,
    _device: &str,
) -> Result<(), StoreError> {
    Ok(())
}
