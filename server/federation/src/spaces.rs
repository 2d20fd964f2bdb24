//! Spaces as other servers see them.

use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;
use skerry_http::{Answer, ApiError, Call, Route, route};
use skerry_room::PublicRoom;

use crate::{Ctx, fault};

/// The endpoints of this file.
pub(crate) const ROUTES: &[Route<Ctx>] =
    &[route!(GET "/_matrix/federation/v1/hierarchy/{roomId}", Server, Federation, hierarchy)];

/// `GET /hierarchy/{roomId}`
async fn hierarchy(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    #[derive(Serialize)]
    struct Room {
        #[serde(flatten)]
        summary: Value,
        children_state: Box<RawValue>,
    }
    #[derive(Serialize)]
    struct Body {
        room: Room,
        children: Vec<Value>,
        inaccessible_children: Vec<String>,
    }
    let suggested = call.query_as("suggested_only")?.unwrap_or(false);
    let space = ctx
        .rooms
        .served_hierarchy(call.origin()?, call.param("roomId"), suggested)
        .await
        .map_err(fault::room)?;
    let children = String::from_utf8(space.room.children).map_err(ApiError::internal)?;
    Answer::json(&Body {
        room: Room {
            summary: space.room.room.summary(),
            children_state: RawValue::from_string(children).map_err(ApiError::internal)?,
        },
        children: space.children.iter().map(PublicRoom::summary).collect(),
        inaccessible_children: space.inaccessible,
    })
}
