//! Tags: a user's own labels for rooms, kept as account data of the room.

use serde_json::{Map, Value, json};
use skerry_core::UserNid;

use crate::data::{checked_room_id, one, write};
use crate::{AccountError, Accounts};

/// The type of account data that tags are kept in.
pub(crate) const TAG: &str = "m.tag";
/// Longest name of a tag, in bytes (spec, module tagging).
const MAX_TAG_BYTES: usize = 255;
/// How many tags one room can have.
const MAX_TAGS: usize = 100;

fn tags_of(json: Option<&str>) -> Map<String, Value> {
    let content: Option<Value> = json.and_then(|json| serde_json::from_str(json).ok());
    match content.and_then(|mut content| content.get_mut("tags").map(Value::take)) {
        Some(Value::Object(tags)) => tags,
        _ => Map::new(),
    }
}

impl Accounts {
    /// The tags of a room, by name.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn tags(
        &self,
        user: UserNid,
        room_id: &str,
    ) -> Result<Map<String, Value>, AccountError> {
        let room_id = room_id.to_owned();
        self.read(move |inner, snap| {
            let Some(room) = inner.store.room_nid(&room_id)? else {
                return Ok(Map::new());
            };
            let datum = one(snap, user, Some(room), TAG)?;
            Ok(tags_of(datum.as_ref().map(|datum| datum.json.as_str())))
        })
        .await
    }

    /// Sets a tag.
    ///
    /// # Errors
    /// `BadJson` for an `order` that is no number, `Invalid` for one outside of 0 to 1.
    pub async fn set_tag(
        &self,
        user: UserNid,
        room_id: &str,
        tag: &str,
        info: Value,
    ) -> Result<(), AccountError> {
        if tag.is_empty() || tag.len() > MAX_TAG_BYTES {
            return Err(AccountError::Invalid("A tag must be 1 to 255 bytes long"));
        }
        check_info(&info)?;
        let tag = tag.to_owned();
        self.edit_tags(user, room_id, move |tags| {
            if tags.len() >= MAX_TAGS && !tags.contains_key(&tag) {
                return Err(AccountError::TooLarge("At most 100 tags for one room"));
            }
            tags.insert(tag, info);
            Ok(true)
        })
        .await
    }

    /// Takes a tag off; nothing happens if there is none.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn remove_tag(
        &self,
        user: UserNid,
        room_id: &str,
        tag: &str,
    ) -> Result<(), AccountError> {
        let tag = tag.to_owned();
        self.edit_tags(user, room_id, move |tags| Ok(tags.remove(&tag).is_some()))
            .await
    }

    async fn edit_tags(
        &self,
        user: UserNid,
        room_id: &str,
        edit: impl FnOnce(&mut Map<String, Value>) -> Result<bool, AccountError> + Send + 'static,
    ) -> Result<(), AccountError> {
        let room_id = checked_room_id(room_id)?;
        self.change(user, move |tx| {
            let room = Some(tx.inner.store.intern_room(&room_id)?);
            let datum = one(&tx.snap, user, room, TAG)?;
            let mut tags = tags_of(datum.as_ref().map(|datum| datum.json.as_str()));
            if edit(&mut tags)? {
                write(tx, user, room, TAG, &json!({ "tags": tags }))?;
            }
            Ok(())
        })
        .await
    }
}

fn check_info(info: &Value) -> Result<(), AccountError> {
    let Some(info) = info.as_object() else {
        return Err(AccountError::BadJson("The body must be an object"));
    };
    match info.get("order") {
        None => Ok(()),
        Some(order) => match order.as_f64() {
            Some(order) if (0.0..=1.0).contains(&order) => Ok(()),
            Some(_) => Err(AccountError::Invalid("The order must be between 0 and 1")),
            None => Err(AccountError::BadJson("The order must be a number")),
        },
    }
}
