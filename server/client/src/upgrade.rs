//! Replacing a room by one of another version.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::json;
use skerry_http::{Answer, ApiError, Call, Route, route};

use crate::Ctx;
use crate::in_room::{refusal, room_id, who};

/// The endpoints of this file.
pub(crate) const ROUTES: &[Route<Ctx>] =
    &[route!(POST "/_matrix/client/v3/rooms/{roomId}/upgrade", Token, Join, upgrade)];

/// `POST /rooms/{roomId}/upgrade`: both rooms change in one commit.
async fn upgrade(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    #[derive(Deserialize)]
    struct Body {
        new_version: String,
        #[serde(default)]
        additional_creators: Vec<String>,
    }
    let Body {
        new_version,
        additional_creators,
    } = call.json()?;
    let who = who(&call)?;
    let made = ctx
        .rooms
        .upgrade(who, room_id(&call)?, &new_version, additional_creators)
        .await;
    Answer::json(&json!({ "replacement_room": made.map_err(refusal)? }))
}
