//! Single events, what stands around them, and finding them by time.

use serde_json::json;
use skerry_http::{Answer, ApiError, Call, Route, route};
use skerry_room::ContextAsk;

use crate::reading::{Context, ask, filter, is_back, limit, param, viewer};
use crate::{Ctx, fault};

/// The endpoints of this file.
pub(crate) const ROUTES: &[Route<Ctx>] = &[
    route!(GET "/_matrix/client/v3/rooms/{roomId}/event/{eventId}", Token, Free, event),
    route!(GET "/_matrix/client/v3/rooms/{roomId}/context/{eventId}", Token, Heavy, context),
    route!(GET "/_matrix/client/v1/rooms/{roomId}/timestamp_to_event", Token, Heavy, by_time),
];

/// In the query of `/event`: what a redacted event said is wanted (MSC2815).
const UNREDACTED: &str = "fi.mau.msc2815.include_unredacted_content";

/// `GET /rooms/{roomId}/event/{eventId}`: with
/// `fi.mau.msc2815.include_unredacted_content=true` as it was before it was redacted, for those
/// who may redact in the room.
async fn event(ctx: Context, call: Call) -> Result<Answer, ApiError> {
    let (room, event) = (param(&call, "roomId"), param(&call, "eventId"));
    let whole = call.query_as::<bool>(UNREDACTED)?.unwrap_or(false);
    let admin = call.requester()?.admin;
    let json = ask(&ctx, &call, move |rooms, snap, viewer| {
        if whole {
            rooms.original_json(snap, viewer, admin, (&room, &event))
        } else {
            rooms.event_json(snap, viewer, &room, &event)
        }
    });
    Ok(Answer::json_bytes(json.await?))
}

/// `GET /rooms/{roomId}/context/{eventId}`: 10 events around it unless asked otherwise.
async fn context(ctx: Context, call: Call) -> Result<Answer, ApiError> {
    let room = param(&call, "roomId");
    let about = ContextAsk {
        event_id: param(&call, "eventId"),
        limit: limit(&call, 0, 10)?,
        filter: filter(&call)?,
    };
    let json = ctx.federation.context(viewer(&call)?, room, about).await;
    Ok(Answer::json_bytes(json.map_err(fault::federation)?))
}

/// `GET /rooms/{roomId}/timestamp_to_event`
async fn by_time(ctx: Context, call: Call) -> Result<Answer, ApiError> {
    let room = param(&call, "roomId");
    let ts = call.query_as::<u64>("ts")?;
    let ts = ts.ok_or_else(|| ApiError::missing_param("ts is missing"))?;
    let back = is_back(&call, None)?;
    let found = ctx
        .federation
        .event_at(viewer(&call)?, room, (ts, back))
        .await;
    let (event_id, at) = found.map_err(fault::federation)?;
    Answer::json(&json!({ "event_id": event_id, "origin_server_ts": at }))
}
