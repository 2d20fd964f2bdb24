//! Tags of rooms.

use std::sync::Arc;

use serde_json::{Value, json};
use skerry_http::{Answer, ApiError, Call, Route, route};

use crate::{Ctx, fault, scope};

/// The endpoints of this file.
pub(crate) const ROUTES: &[Route<Ctx>] = &[
    route!(GET "/_matrix/client/v3/user/{userId}/rooms/{roomId}/tags", Token, Free, all),
    route!(PUT "/_matrix/client/v3/user/{userId}/rooms/{roomId}/tags/{tag}", Token, Send, put),
    route!(DELETE "/_matrix/client/v3/user/{userId}/rooms/{roomId}/tags/{tag}",
        Token, Send, delete),
];

/// `GET /user/{userId}/rooms/{roomId}/tags`
async fn all(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let who = scope::own(&call)?;
    let tags = ctx
        .accounts
        .tags(who.user, call.param("roomId"))
        .await
        .map_err(fault::account)?;
    Answer::json(&json!({ "tags": tags }))
}

/// `PUT /user/{userId}/rooms/{roomId}/tags/{tag}`
async fn put(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let body: Value = call.json()?;
    let who = scope::own(&call)?;
    let (room, tag) = (call.param("roomId"), call.param("tag"));
    ctx.accounts
        .set_tag(who.user, room, tag, body)
        .await
        .map_err(fault::account)?;
    Ok(Answer::empty())
}

/// `DELETE /user/{userId}/rooms/{roomId}/tags/{tag}`: nothing happens where there is none.
async fn delete(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let who = scope::own(&call)?;
    let (room, tag) = (call.param("roomId"), call.param("tag"));
    ctx.accounts
        .remove_tag(who.user, room, tag)
        .await
        .map_err(fault::account)?;
    Ok(Answer::empty())
}
