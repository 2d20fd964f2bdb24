//! Moving people: join, leave, invite, kick, ban, unban, knock, forget.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use skerry_http::{Answer, ApiError, Call, Route, route};
use skerry_room::Move;

use crate::in_room::{Reason, Target, refusal, room_id, who};
use crate::{Ctx, bridge, fault};

/// The endpoints of this file.
pub(crate) const ROUTES: &[Route<Ctx>] = &[
    route!(POST "/_matrix/client/v3/join/{roomIdOrAlias}", Token, Join, join_any),
    route!(POST "/_matrix/client/v3/rooms/{roomId}/join", Token, Join, join),
    route!(POST "/_matrix/client/v3/knock/{roomIdOrAlias}", Token, Join, knock),
    route!(POST "/_matrix/client/v3/rooms/{roomId}/leave", Token, Send, leave),
    route!(POST "/_matrix/client/v3/rooms/{roomId}/forget", Token, Send, forget),
    route!(POST "/_matrix/client/v3/rooms/{roomId}/invite", Token, Join, invite),
    route!(POST "/_matrix/client/v3/rooms/{roomId}/kick", Token, Send, kick),
    route!(POST "/_matrix/client/v3/rooms/{roomId}/ban", Token, Send, ban),
    route!(POST "/_matrix/client/v3/rooms/{roomId}/unban", Token, Send, unban),
];

/// The most servers of a query that are looked at.
const MAX_VIA: usize = 50;
/// Fields of the body of a join that are no content of the member event.
const NOT_CONTENT: [&str; 2] = ["membership", "reason"];

/// `POST /join/{roomIdOrAlias}`: joined, durably, when answered; through the servers that `via`
/// names where this one does not take part in the room.
async fn join_any(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let named = named_room(&ctx, &call).await?;
    enter(&ctx, &call, named).await
}

/// `POST /rooms/{roomId}/join`: as by `POST /join`.
async fn join(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let named = Named {
        room_id: room_id(&call)?.to_owned(),
        via: via(&call),
    };
    enter(&ctx, &call, named).await
}

async fn enter(ctx: &Ctx, call: &Call, named: Named) -> Result<Answer, ApiError> {
    let Named { room_id, via } = named;
    let mut body: Map<String, Value> = call.json()?;
    let reason = reason(call)?.reason;
    let signed = body.remove("third_party_signed");
    body.retain(|name, _| !NOT_CONTENT.contains(&name.as_str()));
    let content = (!body.is_empty()).then(|| Value::Object(body).to_string().into_bytes());
    let (who, how) = (who(call)?, Move { reason, content });
    let joined = match signed.filter(|signed| !signed.is_null()) {
        Some(signed) => {
            let joined = ctx.identity.join(who, &room_id, signed, how).await;
            joined.map_err(fault::identity)?
        }
        None => {
            let joined = ctx.federation.join(who, &room_id, via, how).await;
            joined.map_err(fault::federation)?
        }
    };
    Answer::json(&json!({ "room_id": joined }))
}

/// `POST /knock/{roomIdOrAlias}`
async fn knock(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let how = reason(&call)?;
    let Named { room_id, via } = named_room(&ctx, &call).await?;
    let knocked = ctx.federation.knock(who(&call)?, &room_id, via, how).await;
    Answer::json(&json!({ "room_id": knocked.map_err(fault::federation)? }))
}

/// `POST /rooms/{roomId}/leave`: also declines an invite.
async fn leave(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let how = reason(&call)?;
    let left = ctx
        .federation
        .leave(who(&call)?, room_id(&call)?, how)
        .await;
    left.map_err(fault::federation)?;
    Ok(Answer::empty())
}

/// `POST /rooms/{roomId}/forget`: only rooms one has left.
async fn forget(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    ctx.rooms
        .forget(who(&call)?, room_id(&call)?)
        .await
        .map_err(refusal)?;
    Ok(Answer::empty())
}

/// `POST /rooms/{roomId}/invite`: a user, or whoever has an address.
async fn invite(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let body: Map<String, Value> = call.json()?;
    if body.contains_key("medium") {
        let (who, room_id, reason) = (who(&call)?, room_id(&call)?, reason(&call)?.reason);
        let invited = ctx.identity.invite(who, room_id, call.json()?, reason);
        invited.await.map_err(fault::identity)?;
        return Ok(Answer::empty());
    }
    let (user_id, how) = target(&call)?;
    bridge::wake(&ctx, &user_id).await?;
    let done = ctx
        .federation
        .invite(who(&call)?, room_id(&call)?, &user_id, how)
        .await;
    done.map_err(fault::federation)?;
    Ok(Answer::empty())
}

/// `POST /rooms/{roomId}/kick`
async fn kick(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let (user_id, how) = removed(&call)?;
    let done = ctx
        .rooms
        .kick(who(&call)?, room_id(&call)?, &user_id, how)
        .await;
    done.map_err(refusal)?;
    Ok(Answer::empty())
}

/// `POST /rooms/{roomId}/ban`
async fn ban(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let (user_id, how) = removed(&call)?;
    let done = ctx
        .rooms
        .ban(who(&call)?, room_id(&call)?, &user_id, how)
        .await;
    done.map_err(refusal)?;
    Ok(Answer::empty())
}

/// `POST /rooms/{roomId}/unban`
async fn unban(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let (user_id, how) = target(&call)?;
    let done = ctx
        .rooms
        .unban(who(&call)?, room_id(&call)?, &user_id, how)
        .await;
    done.map_err(refusal)?;
    Ok(Answer::empty())
}

fn reason(call: &Call) -> Result<Move, ApiError> {
    let body: Reason = call.json()?;
    Ok(Move {
        reason: body.reason,
        content: None,
    })
}

fn target(call: &Call) -> Result<(String, Move), ApiError> {
    let body: Target = call.json()?;
    Ok((
        body.user_id,
        Move {
            reason: body.reason,
            content: None,
        },
    ))
}

/// Whom to remove, and how: maybe with all that they sent (MSC4293).
fn removed(call: &Call) -> Result<(String, Move), ApiError> {
    let body: Target = call.json()?;
    let content = body.redact_events.map(|redact| {
        let content = json!({ "org.matrix.msc4293.redact_events": redact });
        content.to_string().into_bytes()
    });
    Ok((
        body.user_id,
        Move {
            reason: body.reason,
            content,
        },
    ))
}

/// A room that a client names, and servers that know it.
pub(crate) struct Named {
    pub(crate) room_id: String,
    pub(crate) via: Vec<String>,
}

/// The servers that a query names: `via`, or as it was called before.
pub(crate) fn via(call: &Call) -> Vec<String> {
    let pairs = call.query_pairs();
    let named = pairs.filter(|(name, _)| matches!(&**name, "via" | "server_name"));
    named.map(|(_, server)| server).take(MAX_VIA).collect()
}

/// The room that the path names by id or alias.
pub(crate) async fn named_room(ctx: &Ctx, call: &Call) -> Result<Named, ApiError> {
    let (name, mut via) = (call.param("roomIdOrAlias"), via(call));
    if name.starts_with('#') {
        let found = bridge::resolve(ctx, name).await?;
        via.extend(found.servers);
        return Ok(Named {
            room_id: found.room_id,
            via,
        });
    }
    if skerry_core::names::is_room_id(name) {
        return Ok(Named {
            room_id: name.to_owned(),
            via,
        });
    }
    Err(ApiError::invalid_param(format!(
        "{name:?} is neither a room id nor a room alias"
    )))
}
