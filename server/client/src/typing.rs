//! Who is typing.

use serde::Deserialize;
use skerry_http::{Answer, ApiError, Call, Route, route};
use skerry_room::typing::TYPING_DEFAULT_MS;

use crate::reading::{Context, ask, param};
use crate::{Ctx, scope};

/// The endpoints of this file.
pub(crate) const ROUTES: &[Route<Ctx>] =
    &[route!(PUT "/_matrix/client/v3/rooms/{roomId}/typing/{userId}", Token, Send, typing)];

#[derive(Deserialize)]
struct Body {
    typing: bool,
    timeout: Option<u64>,
}

/// `PUT /rooms/{roomId}/typing/{userId}`: for 30 seconds unless asked otherwise, two minutes at
/// most.
async fn typing(ctx: Context, call: Call) -> Result<Answer, ApiError> {
    let body: Body = call.json()?;
    scope::own(&call)?;
    let room = param(&call, "roomId");
    let for_ms = body
        .typing
        .then(|| body.timeout.unwrap_or(TYPING_DEFAULT_MS));
    ask(&ctx, &call, move |rooms, snap, viewer| {
        rooms.set_typing(snap, viewer.user, &room, for_ms)
    })
    .await?;
    Ok(Answer::empty())
}
