//! Room aliases.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::json;
use skerry_core::names;
use skerry_http::{Answer, ApiError, Call, Route, route};

use crate::in_room::{refusal, room_id, who};
use crate::{Ctx, bridge};

/// The endpoints of this file.
pub(crate) const ROUTES: &[Route<Ctx>] = &[
    route!(GET "/_matrix/client/v3/directory/room/{roomAlias}", None, Free, resolve),
    route!(PUT "/_matrix/client/v3/directory/room/{roomAlias}", Token, Send, add),
    route!(DELETE "/_matrix/client/v3/directory/room/{roomAlias}", Token, Send, remove),
    route!(GET "/_matrix/client/v3/rooms/{roomId}/aliases", Token, Free, list),
];

/// `GET /directory/room/{roomAlias}`
async fn resolve(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let found = bridge::resolve(&ctx, call.param("roomAlias")).await?;
    Answer::json(&json!({ "room_id": found.room_id, "servers": found.servers }))
}

/// `PUT /directory/room/{roomAlias}`: one of two who ask for the same alias gets it.
async fn add(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    #[derive(Deserialize)]
    struct Body {
        room_id: String,
    }
    let body: Body = call.json()?;
    if !names::is_room_id(&body.room_id) {
        return Err(ApiError::invalid_param(format!(
            "{:?} is not a room id",
            body.room_id
        )));
    }
    let added = ctx
        .rooms
        .add_alias(who(&call)?, call.param("roomAlias"), &body.room_id)
        .await;
    added.map_err(refusal)?;
    Ok(Answer::empty())
}

/// `DELETE /directory/room/{roomAlias}`
async fn remove(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    ctx.rooms
        .remove_alias(who(&call)?, call.param("roomAlias"))
        .await
        .map_err(refusal)?;
    Ok(Answer::empty())
}

/// `GET /rooms/{roomId}/aliases`: for members, and for everybody where the room can be read by
/// everybody.
async fn list(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let aliases = ctx
        .rooms
        .aliases(who(&call)?, room_id(&call)?)
        .await
        .map_err(refusal)?;
    Answer::json(&json!({ "aliases": aliases }))
}
