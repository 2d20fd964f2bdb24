//! EDUs that other servers send. Whatever is not as the spec has it, and whatever is said in the
//! name of another server's user, is passed over: there is nobody to tell.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;
use skerry_account::e2e::{self, ListUpdate, SigningKeyUpdate, Taken, is_of};
use skerry_account::{PresenceAbroad, PresenceState};
use skerry_core::UserNid;
use skerry_room::PublicReceipt;
use skerry_store::{Snapshot, StoreError, blocking};

use super::{Inner, People};

/// Most users in one EDU about presence, and most receipts in one.
const ENTRIES_MAX: usize = 1_000;
/// Longest status message, in bytes.
const STATUS_BYTES_MAX: usize = 1_024;

#[derive(Deserialize)]
struct Typing {
    room_id: String,
    user_id: String,
    typing: bool,
}

#[derive(Deserialize)]
struct Presence {
    push: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct PresenceOf {
    user_id: String,
    presence: String,
    #[serde(default)]
    status_msg: Option<String>,
    #[serde(default)]
    last_active_ago: Option<u64>,
    #[serde(default)]
    currently_active: bool,
}

/// By room, kind and user.
type Receipts = BTreeMap<String, BTreeMap<String, BTreeMap<String, serde_json::Value>>>;

#[derive(Deserialize)]
struct Receipt {
    event_ids: Vec<String>,
    data: ReceiptData,
}

#[derive(Deserialize)]
struct ReceiptData {
    ts: u64,
    #[serde(default)]
    thread_id: Option<String>,
}

impl People {
    /// Takes an EDU from the server that sent it. When this is done, it is stored as far as it has
    /// to outlast a restart; taking it twice does no harm. It never waits for a network.
    ///
    /// # Errors
    /// The store's: then it was not taken.
    pub async fn take(
        &self,
        origin: &str,
        edu_type: &str,
        content: &RawValue,
    ) -> Result<(), StoreError> {
        match edu_type {
            "m.direct_to_device" => {
                self.inner.keys.take_direct(origin, content).await?;
            }
            "m.device_list_update" => self.take_device(origin, content).await?,
            // The second name is the one that it had before it was in the spec.
            "m.signing_key_update" | "org.matrix.signing_key_update" => {
                self.take_signing_keys(origin, content).await?;
            }
            "m.receipt" => self.take_receipts(origin, content).await?,
            "m.typing" | "m.presence" => {
                let (inner, origin) = (self.inner.clone(), origin.to_owned());
                let (typing, content) = (edu_type == "m.typing", content.get().to_owned());
                let work = move || match typing {
                    true => inner.take_typing(&origin, &content),
                    false => inner.take_presence(&origin, &content),
                };
                blocking(work).await??;
            }
            _ => tracing::debug!(origin, edu_type, "an EDU of a type that is not known"),
        }
        Ok(())
    }

    async fn take_device(&self, origin: &str, content: &RawValue) -> Result<(), StoreError> {
        let Ok(update) = serde_json::from_str::<ListUpdate>(content.get()) else {
            return Ok(());
        };
        if !is_of(&update.user_id, origin) {
            return Ok(());
        }
        let shared = self.is_shared(&update.user_id).await?;
        if self.inner.keys.take_list_update(update, shared).await? == Taken::Gap {
            self.inner.stale.notify_one();
        }
        Ok(())
    }

    async fn take_signing_keys(&self, origin: &str, content: &RawValue) -> Result<(), StoreError> {
        let Ok(update) = serde_json::from_str::<SigningKeyUpdate>(content.get()) else {
            return Ok(());
        };
        if is_of(&update.user_id, origin) {
            let shared = self.is_shared(&update.user_id).await?;
            self.inner.keys.take_signing_keys(update, shared).await?;
        }
        Ok(())
    }

    /// Whether a room is shared with a user of another server whose list is not followed; it need
    /// not be known of others.
    async fn is_shared(&self, user_id: &str) -> Result<bool, StoreError> {
        let (inner, user_id) = (self.inner.clone(), user_id.to_owned());
        let shared = move || {
            let Some(user) = inner.store.user_nid(&user_id)? else {
                return Ok(false);
            };
            let snap = inner.store.snapshot();
            Ok(!e2e::is_followed(&snap, user)? && inner.rooms.is_met(&snap, user, None)?)
        };
        blocking(shared).await?
    }

    async fn take_receipts(&self, origin: &str, content: &RawValue) -> Result<(), StoreError> {
        let Ok(rooms) = serde_json::from_str::<Receipts>(content.get()) else {
            return Ok(());
        };
        let mut left = ENTRIES_MAX;
        for (room_id, mut kinds) in rooms {
            let users = kinds.remove("m.read").unwrap_or_default();
            let receipts = users.into_iter().filter_map(|(user_id, given)| {
                let given: Receipt = serde_json::from_value(given).ok()?;
                let event_id = given.event_ids.into_iter().next()?;
                is_of(&user_id, origin).then_some(PublicReceipt {
                    user_id,
                    event_id,
                    thread: given.data.thread_id,
                    ts: given.data.ts,
                })
            });
            let receipts: Vec<_> = receipts.take(left).collect();
            left -= receipts.len();
            if !receipts.is_empty() && self.may_speak(&room_id, origin).await? {
                self.inner.take_receipts(&room_id, receipts).await?;
            }
        }
        Ok(())
    }

    async fn may_speak(&self, room_id: &str, origin: &str) -> Result<bool, StoreError> {
        let (inner, room_id) = (self.inner.clone(), room_id.to_owned());
        let origin = origin.to_owned();
        blocking(move || inner.may_speak(&inner.store.snapshot(), &room_id, &origin)).await?
    }
}

impl Inner {
    /// Whether the access list of a room lets a server take part in it.
    fn may_speak(&self, snap: &Snapshot, room_id: &str, origin: &str) -> Result<bool, StoreError> {
        match self.store.room_nid(room_id)? {
            Some(room) => self.rooms.acl_allows(snap, room, origin),
            None => Ok(false),
        }
    }

    fn take_typing(&self, origin: &str, content: &str) -> Result<(), StoreError> {
        let Ok(typing) = serde_json::from_str::<Typing>(content) else {
            return Ok(());
        };
        let snap = self.store.snapshot();
        if is_of(&typing.user_id, origin) && self.may_speak(&snap, &typing.room_id, origin)? {
            let (room, user) = (&typing.room_id, &typing.user_id);
            self.rooms.take_typing(&snap, room, user, typing.typing)?;
        }
        Ok(())
    }

    fn take_presence(&self, origin: &str, content: &str) -> Result<(), StoreError> {
        let Ok(presence) = serde_json::from_str::<Presence>(content) else {
            return Ok(());
        };
        if !self.presence {
            return Ok(());
        }
        for given in presence.push.into_iter().take(ENTRIES_MAX) {
            let Ok(given) = serde_json::from_value::<PresenceOf>(given) else {
                continue;
            };
            let state = PresenceState::named(&given.presence);
            let Some(state) = state.filter(|_| is_of(&given.user_id, origin)) else {
                continue;
            };
            let words = given.status_msg;
            let told = PresenceAbroad {
                state,
                status_msg: words.filter(|t| !t.is_empty() && t.len() <= STATUS_BYTES_MAX),
                last_active_ago_ms: given.last_active_ago,
                currently_active: given.currently_active,
            };
            self.note_presence(&given.user_id, told)?;
        }
        Ok(())
    }

    /// A user of another server who shares a room with somebody here.
    pub(super) fn met(
        &self,
        snap: &Snapshot,
        user_id: &str,
    ) -> Result<Option<UserNid>, StoreError> {
        match self.store.user_nid(user_id)? {
            Some(user) if self.rooms.is_met(snap, user, None)? => Ok(Some(user)),
            _ => Ok(None),
        }
    }
}
