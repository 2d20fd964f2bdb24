//! Who is in a room, and in which rooms one is.

use skerry_core::Membership;
use skerry_http::{Answer, ApiError, Call, Route, route};
use skerry_room::MembersAsk;

use crate::Ctx;
use crate::reading::{Context, ask, cut, param};

/// The endpoints of this file.
pub(crate) const ROUTES: &[Route<Ctx>] = &[
    route!(GET "/_matrix/client/v3/rooms/{roomId}/members", Token, Free, members),
    route!(GET "/_matrix/client/v3/rooms/{roomId}/joined_members", Token, Free, joined_members),
    route!(GET "/_matrix/client/v3/joined_rooms", Token, Free, joined_rooms),
];

/// `GET /rooms/{roomId}/members`: now, when the user left, or at a token.
async fn members(ctx: Context, call: Call) -> Result<Answer, ApiError> {
    let room = param(&call, "roomId");
    let wanted = MembersAsk {
        at: cut(&call, "at")?,
        membership: membership(&call, "membership")?,
        not_membership: membership(&call, "not_membership")?,
    };
    let json = ask(&ctx, &call, move |rooms, snap, viewer| {
        rooms.members_json(snap, viewer, &room, wanted)
    });
    Ok(Answer::json_bytes(json.await?))
}

/// `GET /rooms/{roomId}/joined_members`
async fn joined_members(ctx: Context, call: Call) -> Result<Answer, ApiError> {
    let room = param(&call, "roomId");
    let json = ask(&ctx, &call, move |rooms, snap, viewer| {
        rooms.joined_members_json(snap, viewer, &room)
    });
    Ok(Answer::json_bytes(json.await?))
}

/// `GET /joined_rooms`
async fn joined_rooms(ctx: Context, call: Call) -> Result<Answer, ApiError> {
    let json = ask(&ctx, &call, |rooms, snap, viewer| {
        rooms.joined_rooms_json(snap, viewer.user)
    });
    Ok(Answer::json_bytes(json.await?))
}

fn membership(call: &Call, name: &str) -> Result<Option<Membership>, ApiError> {
    let Some(text) = call.query(name) else {
        return Ok(None);
    };
    let unknown = || ApiError::invalid_param(format!("{name} is not a membership"));
    Membership::parse(&text).map(Some).ok_or_else(unknown)
}
