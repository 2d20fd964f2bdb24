//! Presence.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};
use skerry_account::{PresenceState, PresenceView};
use skerry_core::{Membership, UserNid};
use skerry_http::{Answer, ApiError, Call, Route, route};
use skerry_room::Rooms;
use skerry_store::{Snapshot, StoreError};

use crate::{Ctx, fault, scope};

/// The endpoints of this file.
pub(crate) const ROUTES: &[Route<Ctx>] = &[
    route!(GET "/_matrix/client/v3/presence/{userId}/status", Token, Free, get),
    route!(PUT "/_matrix/client/v3/presence/{userId}/status", Token, Send, put),
];

/// Longest status message, in bytes.
const MAX_STATUS_BYTES: usize = 1024;

/// The members that presence has in answers and in events.
pub(crate) fn presence_json(view: &PresenceView) -> Value {
    let mut body = json!({
        "presence": view.state.name(),
        "currently_active": view.currently_active,
    });
    if let Some(map) = body.as_object_mut() {
        if let Some(text) = &view.status_msg {
            map.insert("status_msg".to_owned(), json!(text));
        }
        if let Some(ago) = view.last_active_ago_ms {
            map.insert("last_active_ago".to_owned(), json!(ago));
        }
    }
    body
}

/// Whether two users are joined to a room together.
fn share_room(
    rooms: &Rooms,
    snap: &Snapshot,
    one: UserNid,
    other: UserNid,
) -> Result<bool, StoreError> {
    for (room, member) in rooms.rooms_of(snap, one)? {
        if member.membership == Membership::Join && rooms.is_joined(snap, room, other)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// `GET /presence/{userId}/status`: of oneself and of those with whom one shares a room.
async fn get(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let asker = call.requester()?.user;
    let strangers = || ApiError::forbidden("You share no room with this user");
    let user_id = call.param("userId");
    let subject = if ctx.rooms.is_local(user_id) {
        let found = ctx.accounts.find_user(user_id).await;
        found.map_err(fault::account)?
    } else {
        let known = ctx.store.user_nid(user_id);
        let known = known.map_err(|error| fault::store(&error))?;
        known.ok_or_else(strangers)?
    };
    let rooms = ctx.rooms.clone();
    let snap = ctx.store.snapshot();
    let shared = skerry_store::blocking(move || share_room(&rooms, &snap, asker, subject)).await;
    let shared = shared
        .and_then(|shared| shared)
        .map_err(|error| fault::store(&error))?;
    if asker != subject && !shared {
        return Err(strangers());
    }
    Answer::json(&presence_json(&ctx.accounts.presence().of(subject)))
}

/// `PUT /presence/{userId}/status`
async fn put(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    #[derive(Deserialize)]
    struct Body {
        presence: String,
        #[serde(default)]
        status_msg: Option<String>,
    }
    let body: Body = call.json()?;
    let who = scope::own(&call)?;
    let state = PresenceState::named(&body.presence);
    let state = state.ok_or_else(|| ApiError::invalid_param("No such presence"))?;
    if body
        .status_msg
        .as_ref()
        .is_some_and(|text| text.len() > MAX_STATUS_BYTES)
    {
        return Err(ApiError::invalid_param("The status message is too long"));
    }
    let text = body.status_msg.filter(|text| !text.is_empty());
    ctx.accounts
        .presence()
        .set(who.user, &who.device, state, text);
    Ok(Answer::empty())
}
