//! Whose devices changed, and who may know.
//!
//! A change of somebody's devices, identity keys, master key or self-signing key concerns everybody
//! who shares a room with them: it moves their row in `device_list`. What only one user may see (a
//! new user-signing key, a signature of it on somebody's master key) moves a row of that viewer.
//! Rows hold the last position only: "changed since" needs no more, and is one read per user.

use skerry_core::{Pos, UserNid};
use skerry_store::schema::e2e::{DeviceListTable, PrivateListTable};
use skerry_store::schema::e2e_remote::DeviceChangeTable;
use skerry_store::{Change, Scan, Snapshot, StoreError, Write};

/// Stands for the user's own public keys among the changes of devices: no device has this id.
pub(super) const OWN_KEYS: &str = "";

/// The viewer's summary row among the private changes: no user has this number.
const ANY: UserNid = UserNid(0);

/// Adds to a batch that a device of the local `user` changed, and gives the position.
///
/// For new, renamed and deleted devices as well as for keys.
pub(super) fn note_device(w: &mut Write, user: UserNid, device: &str) -> Pos {
    let pos = note_list(w, user);
    w.put::<DeviceChangeTable>(&(user, device.to_owned()), &pos);
    pos
}

/// Adds to a batch that the master key or the self-signing key of the local `user` changed.
pub(super) fn note_own_keys(w: &mut Write, user: UserNid) -> Pos {
    note_device(w, user, OWN_KEYS)
}

/// Adds to a batch that those who share a room with `user` have to look at their keys again.
pub(super) fn note_list(w: &mut Write, user: UserNid) -> Pos {
    let pos = w.log(Change::DeviceList { user });
    w.put::<DeviceListTable>(&user, &pos);
    pos
}

/// Adds to a batch that `viewer`, and nobody else, can see something new about the keys of `user`.
pub(super) fn note_private(w: &mut Write, viewer: UserNid, user: UserNid) {
    let pos = w.log(Change::PrivateList { viewer });
    w.put::<PrivateListTable>(&(viewer, user), &pos);
    w.put::<PrivateListTable>(&(viewer, ANY), &pos);
}

/// When the devices or public keys of a user last changed; 0 if never.
pub fn list_pos(snap: &Snapshot, user: UserNid) -> Result<Pos, StoreError> {
    Ok(snap.get::<DeviceListTable>(&user)?.unwrap_or(Pos::ZERO))
}

/// Those of `users` whose devices or public keys changed after `since`, in the order given.
///
/// The caller says which users are of interest: for `/sync` and `/keys/changes` those who share a
/// room with the asking user, and the asking user too. A user who changed after the end of a
/// queried span is among the answer: only last changes are known, and too much does no harm.
pub fn lists_changed(
    snap: &Snapshot,
    users: &[UserNid],
    since: Pos,
) -> Result<Vec<UserNid>, StoreError> {
    let at = snap.get_many::<DeviceListTable>(users)?;
    let changed = users
        .iter()
        .zip(at)
        .filter(|(_, at)| at.is_some_and(|at| at > since));
    Ok(changed.map(|(user, _)| *user).collect())
}

/// Users about whose keys `viewer` alone can see something new since `since`: to be told among
/// `device_lists.changed`, whether or not a room is shared. One point read if there is nothing.
pub fn private_changes(
    snap: &Snapshot,
    viewer: UserNid,
    since: Pos,
) -> Result<Vec<UserNid>, StoreError> {
    let last = snap.get::<PrivateListTable>(&(viewer, ANY))?;
    if last.is_none_or(|last| last <= since) {
        return Ok(Vec::new());
    }
    let mut users = Vec::new();
    for row in snap.scan::<PrivateListTable>(Scan::prefix(&viewer)) {
        let ((_, user), at) = row?;
        if user != ANY && at > since {
            users.push(user);
        }
    }
    Ok(users)
}
