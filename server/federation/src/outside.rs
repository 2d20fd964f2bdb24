//! Events of rooms that nobody of this server is in, where they end an invite or a knock of one
//! of our users: the one thing of such rooms that concerns us.

use std::sync::Arc;

use skerry_core::canonical::{Mode, Object};
use skerry_core::{RoomVersion, StoredEvent};
use skerry_room::Rooms;
use skerry_store::{Snapshot, StoreError};

/// The version of the room, if an event may be one that ends what a user of ours waits for there.
pub(crate) fn version(
    rooms: &Rooms,
    snap: &Snapshot,
    event: &Object,
) -> Result<Option<RoomVersion>, StoreError> {
    let ends = event.str("type") == Some("m.room.member")
        && event
            .object("content")
            .and_then(|content| content.str("membership"))
            .is_some_and(|membership| matches!(membership, "leave" | "ban"));
    let of_ours = event.str("state_key").filter(|id| rooms.is_local(id));
    let (Some(user_id), Some(room_id), true) = (of_ours, event.str("room_id"), ends) else {
        return Ok(None);
    };
    let Some(user) = rooms.store().user_nid(user_id)? else {
        return Ok(None);
    };
    let waiting = rooms.waiting(snap, user, room_id)?;
    Ok(waiting.map(|waiting| waiting.event.version()))
}

/// The same of an event as it came.
pub(crate) fn version_of(
    rooms: &Rooms,
    snap: &Snapshot,
    text: &[u8],
) -> Result<Option<RoomVersion>, StoreError> {
    match Object::parse(text, Mode::Lenient) {
        Ok(object) => version(rooms, snap, &object),
        Err(_) => Ok(None),
    }
}

/// Notes that the wait of a user is over, where this event ends it.
pub(crate) async fn end(rooms: &Rooms, event: Arc<StoredEvent>) -> Result<(), StoreError> {
    let event_id = event.event_id().to_owned();
    match rooms.taken_back(event).await {
        Ok(ended) => {
            tracing::debug!(event_id, ended, "an event of a room nobody here is in");
            Ok(())
        }
        Err(skerry_room::RoomError::Store(error)) => Err(error),
        Err(error) => {
            tracing::debug!(event_id, %error, "an invite was not taken back");
            Ok(())
        }
    }
}
