//! Paging through a room.

use skerry_http::{Answer, ApiError, Call, Route, route};
use skerry_room::MessagesAsk;

use crate::reading::{Context, cut, filter, is_back, limit, param, viewer};
use crate::{Ctx, fault};

/// The endpoints of this file.
pub(crate) const ROUTES: &[Route<Ctx>] =
    &[route!(GET "/_matrix/client/v3/rooms/{roomId}/messages", Token, Heavy, messages)];

/// `GET /rooms/{roomId}/messages`: 10 events unless asked otherwise; `end` is absent where there
/// is nothing more. History that is not here is fetched from other servers.
async fn messages(ctx: Context, call: Call) -> Result<Answer, ApiError> {
    let room = param(&call, "roomId");
    let filter = filter(&call)?;
    let default = filter
        .limit
        .map_or(10, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let page = MessagesAsk {
        from: cut(&call, "from")?,
        to: cut(&call, "to")?,
        back: is_back(&call, None)?,
        limit: limit(&call, 1, default)?,
        filter,
    };
    let json = ctx.federation.messages(viewer(&call)?, room, page).await;
    Ok(Answer::json_bytes(json.map_err(fault::federation)?))
}
