//! The state of a room.

use skerry_http::{Answer, ApiError, Call, Route, route};

use crate::Ctx;
use crate::reading::{Context, ask, param};

/// The endpoints of this file.
pub(crate) const ROUTES: &[Route<Ctx>] = &[
    route!(GET "/_matrix/client/v3/rooms/{roomId}/state", Token, Free, all),
    route!(GET "/_matrix/client/v3/rooms/{roomId}/state/{eventType}", Token, Free, one),
    route!(GET "/_matrix/client/v3/rooms/{roomId}/state/{eventType}/", Token, Free, one),
    route!(GET "/_matrix/client/v3/rooms/{roomId}/state/{eventType}/{stateKey}", Token, Free, one),
];

/// `GET /rooms/{roomId}/state`: as it is now, or as it was when the user left.
async fn all(ctx: Context, call: Call) -> Result<Answer, ApiError> {
    let room = param(&call, "roomId");
    let json = ask(&ctx, &call, move |rooms, snap, viewer| {
        rooms.state_json(snap, viewer, &room)
    });
    Ok(Answer::json_bytes(json.await?))
}

/// `GET /rooms/{roomId}/state/{eventType}/{stateKey}`: the content, or with `format=event` the
/// whole event.
async fn one(ctx: Context, call: Call) -> Result<Answer, ApiError> {
    let whole = match call.query("format").as_deref() {
        None | Some("content") => false,
        Some("event") => true,
        Some(_) => return Err(ApiError::invalid_param("format must be content or event")),
    };
    let room = param(&call, "roomId");
    let (kind, key) = (param(&call, "eventType"), param(&call, "stateKey"));
    let json = ask(&ctx, &call, move |rooms, snap, viewer| {
        rooms.state_event_json(snap, viewer, &room, (&kind, &key), whole)
    });
    Ok(Answer::json_bytes(json.await?))
}
