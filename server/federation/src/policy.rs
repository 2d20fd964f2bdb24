//! Rooms that chose this server as their policy server.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use skerry_core::policy::KEY_ID;
use skerry_core::verify::is_whole;
use skerry_http::{Answer, ApiError, Call, Route, route};
use skerry_remote::federation::PolicyDesk;

use crate::member::{event_of, version_of};
use crate::{Ctx, fault};

/// The endpoints of this file.
pub(crate) const ROUTES: &[Route<Ctx>] = &[route!(
    POST "/_matrix/policy/v1/sign", Server, Send, sign
)];

/// `POST /_matrix/policy/v1/sign`: the signature of an event that the operator's rules let pass.
async fn sign(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let not_ours = || fault::policy(PolicyDesk::no_desk());
    let desk = ctx.federation.desk().ok_or_else(not_ours)?;
    // Which version the event is of depends on its room.
    let body: Map<String, Value> = call.json()?;
    let room_id = body.get("room_id").and_then(Value::as_str);
    let room_id = room_id.ok_or_else(|| ApiError::bad_json("The event has no room_id"))?;
    if !desk.serves(room_id) {
        return Err(not_ours());
    }
    let version = version_of(&ctx, room_id).map_err(|_| not_ours())?;
    may_ask(&ctx, call.origin()?, room_id)?;
    let event = event_of(&call.body, version)?;
    let checker = ctx.federation.checker();
    let checked = checker.check_pdus(version, vec![event]).await;
    let checked = checked.map_err(|error| fault::store(&error))?;
    let event = match checked.into_iter().next() {
        // What is signed stands for its content: that must be what was looked at.
        Some(Ok(event)) if event.object().is_ok_and(|object| is_whole(&object)) => event,
        Some(Ok(_)) => return Err(ApiError::bad_json("The event's hash is not its content's")),
        Some(Err(wrong)) => return Err(ApiError::bad_json(wrong.to_string())),
        None => return Err(ApiError::internal("an event was not checked")),
    };
    let signature = desk.sign(&event).await.map_err(fault::policy)?;
    Answer::json(&json!({ &*ctx.config.server_name: { KEY_ID: signature } }))
}

/// Whether the room lets a server ask.
fn may_ask(ctx: &Ctx, origin: &str, room_id: &str) -> Result<(), ApiError> {
    let snap = ctx.rooms.store().snapshot();
    let room = ctx.rooms.room_nid(&snap, room_id);
    let allowed = room.and_then(|room| match room {
        Some(room) => ctx.rooms.acl_allows(&snap, room, origin),
        None => Ok(false),
    });
    match allowed.map_err(|error| fault::store(&error))? {
        true => Ok(()),
        false => Err(ApiError::forbidden("The room keeps your server out")),
    }
}
