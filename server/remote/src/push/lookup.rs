//! What several parts of push look up.

use std::sync::Arc;

use serde_json::Value;
use skerry_account::pusher::Pusher;
use skerry_core::UserNid;
use skerry_room::Viewer;
use skerry_store::{Store, StoreError};

/// A user as one who reads, on no device.
pub(super) fn viewer(store: &Store, user: UserNid) -> Result<Viewer, StoreError> {
    Ok(Viewer {
        user,
        user_id: store.user_id(user)?,
        device: Arc::from(""),
    })
}

/// What a pusher's data say.
pub(super) fn data(pusher: &Pusher) -> serde_json::Map<String, Value> {
    serde_json::from_str(&pusher.data).unwrap_or_default()
}

/// Whether a pusher wants to know how much is unread (MSC4076).
pub(super) fn shows_badge(pusher: &Pusher) -> bool {
    let data = data(pusher);
    [
        "disable_badge_count",
        "org.matrix.msc4076.disable_badge_count",
    ]
    .iter()
    .all(|field| data.get(*field) != Some(&Value::Bool(true)))
}
