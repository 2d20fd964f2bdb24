//! Pushers: the applications that want to be notified, and where they are reached (spec, module
//! push; MSC3881 remote toggling, MSC4174 web push).
//!
//! A pusher belongs to the device that set it and goes with it. Who has pushers, and what is
//! waiting for them, is read by whoever sends notifications; what waits is a [`PushItem`] in the
//! outbox.

mod item;
mod set;

use serde_json::Value;
use skerry_core::UserNid;
use skerry_store::schema::push as t;
use skerry_store::{Change, Scan, Snapshot, StoreError, Write};

use crate::{AccountError, Accounts};

pub use item::PushItem;
pub use set::{GatewayCheck, NewPusher, SetPusher};
pub use skerry_store::schema::push::{Pusher, PusherKind};

/// Pushers of one user.
pub(crate) const MAX_PUSHERS: usize = 100;

/// Which pusher of a user: application and key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PusherKey {
    /// Id of the application.
    pub app_id: String,
    /// Key under which the gateway knows the device.
    pub pushkey: String,
}

impl PusherKey {
    fn row(&self, user: UserNid) -> (UserNid, String, String) {
        (user, self.app_id.clone(), self.pushkey.clone())
    }
}

/// All pushers of a user.
///
/// # Errors
/// Those of the store.
pub fn of_user(snap: &Snapshot, user: UserNid) -> Result<Vec<(PusherKey, Pusher)>, StoreError> {
    snap.scan::<t::Pushers>(Scan::prefix(&user))
        .map(|row| {
            let ((_, app_id, pushkey), pusher) = row?;
            Ok((PusherKey { app_id, pushkey }, pusher))
        })
        .collect()
}

/// One pusher.
///
/// # Errors
/// Those of the store.
pub fn one(snap: &Snapshot, user: UserNid, key: &PusherKey) -> Result<Option<Pusher>, StoreError> {
    snap.get::<t::Pushers>(&key.row(user))
}

/// Everyone who has a pusher that is in use.
///
/// # Errors
/// Those of the store.
pub fn owners(snap: &Snapshot) -> Result<Vec<UserNid>, StoreError> {
    let mut owners: Vec<UserNid> = Vec::new();
    for row in snap.scan::<t::Pushers>(Scan::all()) {
        let ((user, _, _), pusher) = row?;
        if in_use(&pusher) && owners.last() != Some(&user) {
            owners.push(user);
        }
    }
    Ok(owners)
}

/// Whether notifications are sent to it.
#[must_use]
pub fn in_use(pusher: &Pusher) -> bool {
    pusher.enabled && pusher.activated
}

/// Where a pusher is reached.
#[must_use]
pub fn url(pusher: &Pusher) -> Option<String> {
    let data: Value = serde_json::from_str(&pusher.data).ok()?;
    data.get("url")?.as_str().map(str::to_owned)
}

/// Adds the removal of a pusher to a batch.
pub fn remove(w: &mut Write, user: UserNid, key: &PusherKey) {
    w.delete::<t::Pushers>(&key.row(user));
    w.delete::<t::PushersByKey>(&(key.app_id.clone(), key.pushkey.clone(), user));
    w.log(Change::Pusher { user });
}

/// Takes out the pushers that a device set.
pub(crate) fn forget_device(
    snap: &Snapshot,
    w: &mut Write,
    user: UserNid,
    device: &str,
) -> Result<(), StoreError> {
    for (key, pusher) in of_user(snap, user)? {
        if pusher.device == device {
            remove(w, user, &key);
        }
    }
    Ok(())
}

impl Accounts {
    /// All pushers of a user, as they see them.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn pushers(&self, user: UserNid) -> Result<Vec<(PusherKey, Pusher)>, AccountError> {
        self.read(move |_, snap| Ok(of_user(snap, user)?)).await
    }

    /// Takes out a pusher that its gateway or push service does not know any more, unless it was
    /// set anew since `seen`.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn reject_pusher(
        &self,
        user: UserNid,
        key: PusherKey,
        seen: Pusher,
    ) -> Result<(), AccountError> {
        self.change(user, move |tx| {
            if one(&tx.snap, user, &key)?.is_some_and(|now| now.pos == seen.pos) {
                remove(&mut tx.w, user, &key);
            }
            Ok(())
        })
        .await
    }
}
