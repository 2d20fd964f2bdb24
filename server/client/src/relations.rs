//! What relates to an event, and the threads of a room.

use skerry_http::{Answer, ApiError, Call, Route, route};
use skerry_room::{RelationsAsk, ThreadsAsk};

use crate::Ctx;
use crate::reading::{Context, ask, cut, is_back, limit, param};

/// Children given unless the client asks for another number.
const CHILDREN: usize = 50;
/// Threads given unless the client asks for another number.
const THREADS: usize = 20;

/// The endpoints of this file.
pub(crate) const ROUTES: &[Route<Ctx>] = &[
    route!(GET "/_matrix/client/v1/rooms/{roomId}/relations/{eventId}", Token, Heavy, relations),
    route!(GET "/_matrix/client/v1/rooms/{roomId}/relations/{eventId}/{relType}",
        Token, Heavy, relations),
    route!(GET "/_matrix/client/v1/rooms/{roomId}/relations/{eventId}/{relType}/{eventType}",
        Token, Heavy, relations),
    route!(GET "/_matrix/client/v1/rooms/{roomId}/threads", Token, Heavy, threads),
];

/// `GET /rooms/{roomId}/relations/{eventId}[/{relType}[/{eventType}]]`: newest first unless asked
/// otherwise.
async fn relations(ctx: Context, call: Call) -> Result<Answer, ApiError> {
    let room = param(&call, "roomId");
    let given = |name| Some(param(&call, name)).filter(|text| !text.is_empty());
    let wanted = RelationsAsk {
        event_id: param(&call, "eventId"),
        rel_type: given("relType"),
        event_type: given("eventType"),
        from: cut(&call, "from")?,
        to: cut(&call, "to")?,
        back: is_back(&call, Some(true))?,
        limit: limit(&call, 1, CHILDREN)?,
        recurse: call.query_as::<bool>("recurse")?.unwrap_or(false),
    };
    let json = ask(&ctx, &call, move |rooms, snap, viewer| {
        rooms.relations_json(snap, viewer, &room, &wanted)
    });
    Ok(Answer::json_bytes(json.await?))
}

/// `GET /rooms/{roomId}/threads`
async fn threads(ctx: Context, call: Call) -> Result<Answer, ApiError> {
    let room = param(&call, "roomId");
    let participated = match call.query("include").as_deref() {
        None | Some("all") => false,
        Some("participated") => true,
        Some(_) => {
            return Err(ApiError::invalid_param(
                "include must be all or participated",
            ));
        }
    };
    let wanted = ThreadsAsk {
        participated,
        from: cut(&call, "from")?,
        limit: limit(&call, 1, THREADS)?,
    };
    let json = ask(&ctx, &call, move |rooms, snap, viewer| {
        rooms.threads_json(snap, viewer, &room, &wanted)
    });
    Ok(Answer::json_bytes(json.await?))
}
