//! Account data, global and per room.

use std::sync::Arc;

use serde_json::{Map, Value};
use skerry_http::{Answer, ApiError, Call, Route, route};

use crate::{Ctx, fault, scope};

/// The endpoints of this file.
pub(crate) const ROUTES: &[Route<Ctx>] = &[
    route!(GET "/_matrix/client/v3/user/{userId}/account_data/{type}", Token, Free, get),
    route!(PUT "/_matrix/client/v3/user/{userId}/account_data/{type}", Token, Send, put),
    route!(GET "/_matrix/client/v3/user/{userId}/rooms/{roomId}/account_data/{type}",
        Token, Free, get),
    route!(PUT "/_matrix/client/v3/user/{userId}/rooms/{roomId}/account_data/{type}",
        Token, Send, put),
    route!(DELETE
        "/_matrix/client/unstable/org.matrix.msc3391/user/{userId}/account_data/{type}",
        Token, Send, delete),
    route!(DELETE
        "/_matrix/client/unstable/org.matrix.msc3391/user/{userId}/rooms/{roomId}/account_data/{type}",
        Token, Send, delete),
];

/// The room of the path, where it has one.
fn room(call: &Call) -> Option<&str> {
    Some(call.param("roomId")).filter(|room| !room.is_empty())
}

/// `GET /user/{userId}[/rooms/{roomId}]/account_data/{type}`
async fn get(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let who = scope::own(&call)?;
    let json = ctx
        .accounts
        .account_data(who.user, room(&call), call.param("type"))
        .await;
    Ok(Answer::json_bytes(json.map_err(fault::account)?))
}

/// `PUT /user/{userId}[/rooms/{roomId}]/account_data/{type}`: types that have an endpoint of
/// their own are refused with 405.
async fn put(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let body: Value = call.json()?;
    let who = scope::own(&call)?;
    let set = ctx
        .accounts
        .set_account_data(who.user, room(&call), call.param("type"), body);
    set.await.map_err(fault::account)?;
    Ok(Answer::empty())
}

/// `DELETE /user/{userId}[/rooms/{roomId}]/account_data/{type}` (MSC3391): the same as setting it
/// to `{}`; other devices are told so.
async fn delete(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let who = scope::own(&call)?;
    let deleted = Value::Object(Map::new());
    let set = ctx
        .accounts
        .set_account_data(who.user, room(&call), call.param("type"), deleted);
    set.await.map_err(fault::account)?;
    Ok(Answer::empty())
}
