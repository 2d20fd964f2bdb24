//! What rooms show of themselves: summaries, and the rooms of a space.

use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;
use skerry_http::{Answer, ApiError, Call, Route, route};
use skerry_room::{HierarchyAsk, HierarchyPage, HierarchyRoom};

use crate::Ctx;
use crate::in_room::{room_id, who};
use crate::{fault, membership};

/// The endpoints of this file. The unstable forms are those of MSC3266 as clients call them.
pub(crate) const ROUTES: &[Route<Ctx>] = &[
    route!(
        GET "/_matrix/client/v1/room_summary/{roomIdOrAlias}", TokenOptional, Heavy, summary
    ),
    route!(
        GET "/_matrix/client/unstable/im.nheko.summary/summary/{roomIdOrAlias}",
        TokenOptional, Heavy, summary
    ),
    route!(
        GET "/_matrix/client/unstable/im.nheko.summary/rooms/{roomIdOrAlias}/summary",
        TokenOptional, Heavy, summary
    ),
    route!(GET "/_matrix/client/v1/rooms/{roomId}/hierarchy", Token, Heavy, hierarchy),
];

/// Rooms in one answer where the client does not say.
const LIMIT: usize = 50;

/// `GET /room_summary/{roomIdOrAlias}`: also for those who are not logged in, where the room is
/// open to all.
async fn summary(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let named = membership::named_room(&ctx, &call).await?;
    let who = match call.requester_opt() {
        Some(_) => Some(who(&call)?),
        None => None,
    };
    let found = ctx
        .federation
        .summary(who.as_ref(), &named.room_id, named.via)
        .await;
    let (room, membership) = found.map_err(fault::federation)?;
    let mut body = room.summary();
    if let (Some(_), Some(fields)) = (who, body.as_object_mut()) {
        let membership = membership.map_or("leave", |membership| membership.as_str());
        fields.insert("membership".into(), membership.into());
    }
    Answer::json(&body)
}

/// `GET /rooms/{roomId}/hierarchy`: rooms that this server is not in are asked for elsewhere.
async fn hierarchy(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let limit = call.query_as("limit")?;
    if limit == Some(0) {
        return Err(ApiError::invalid_param("`limit` has to be at least 1"));
    }
    let ask = HierarchyAsk {
        suggested_only: call.query_as("suggested_only")?.unwrap_or(false),
        max_depth: call.query_as("max_depth")?,
        limit: limit.unwrap_or(LIMIT),
        from: call.query("from"),
    };
    let page = ctx
        .federation
        .hierarchy(who(&call)?, room_id(&call)?, ask)
        .await;
    Answer::json(&page_body(page.map_err(fault::federation)?)?)
}

#[derive(Serialize)]
struct Page {
    rooms: Vec<Room>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_batch: Option<String>,
}

#[derive(Serialize)]
struct Room {
    #[serde(flatten)]
    summary: Value,
    children_state: Box<RawValue>,
}

fn page_body(page: HierarchyPage) -> Result<Page, ApiError> {
    let room = |room: HierarchyRoom| {
        let children = String::from_utf8(room.children).map_err(ApiError::internal)?;
        Ok(Room {
            summary: room.room.summary(),
            children_state: RawValue::from_string(children).map_err(ApiError::internal)?,
        })
    };
    Ok(Page {
        rooms: page
            .rooms
            .into_iter()
            .map(room)
            .collect::<Result<_, ApiError>>()?,
        next_batch: page.next,
    })
}
