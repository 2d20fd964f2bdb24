//! Invites of our users into rooms of other servers, and invites by address that one of our users
//! made.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;
use skerry_core::RoomVersion;
use skerry_core::canonical::{Mode, Object, Value};
use skerry_http::{Answer, ApiError, Call, Route, route};

use crate::member::{checked, event_of};
use crate::{Ctx, fault};

/// The endpoints of this file.
pub(crate) const ROUTES: &[Route<Ctx>] = &[
    route!(PUT "/_matrix/federation/v1/invite/{roomId}/{eventId}", Server, Join, invite_v1),
    route!(PUT "/_matrix/federation/v2/invite/{roomId}/{eventId}", Server, Join, invite),
    route!(PUT "/_matrix/federation/v1/exchange_third_party_invite/{roomId}",
        Server, Join, exchange),
];

/// The most state events with which a room may show itself; further ones are not looked at.
const MAX_SHOWN: usize = 50;

/// `PUT /v2/invite/{roomId}/{eventId}`
async fn invite(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    #[derive(Deserialize)]
    struct Body {
        room_version: String,
        event: Box<RawValue>,
        #[serde(default)]
        invite_room_state: Vec<Box<RawValue>>,
    }
    let body: Body = call.json()?;
    let Some(version) = RoomVersion::parse(&body.room_version) else {
        let text = format!("The room version {} is not known here", body.room_version);
        let refused = ApiError::incompatible_room_version(text);
        return Err(refused.with("room_version", body.room_version));
    };
    let mut shown = Vec::new();
    for event in body.invite_room_state.iter().take(MAX_SHOWN) {
        shown.push(event_of(event.get().as_bytes(), version)?);
    }
    let event = event_of(body.event.get().as_bytes(), version)?;
    let event = signed(&ctx, &call, version, event, shown).await?;
    Ok(Answer::json_bytes(format!("{{\"event\":{event}}}")))
}

/// `PUT /v1/invite/{roomId}/{eventId}`: for rooms of versions 1 and 2, which have the same form.
async fn invite_v1(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let event = event_of(&call.body, RoomVersion::V1)?;
    let shown = event
        .object("unsigned")
        .and_then(|unsigned| unsigned.get("invite_room_state"))
        .and_then(Value::as_array)
        .unwrap_or_default();
    let shown = shown.iter().filter_map(Value::as_object).take(MAX_SHOWN);
    let shown: Vec<Object> = shown.cloned().collect();
    let event = signed(&ctx, &call, RoomVersion::V1, event, shown).await?;
    Ok(Answer::json_bytes(format!("[200,{{\"event\":{event}}}]")))
}

/// The invite with our signature beside the other server's.
async fn signed(
    ctx: &Ctx,
    call: &Call,
    version: RoomVersion,
    event: Object,
    shown: Vec<Object>,
) -> Result<String, ApiError> {
    let event = checked(ctx, version, event).await?;
    if event.event_id() != call.param("eventId") || event.room_id() != call.param("roomId") {
        return Err(ApiError::invalid_param(
            "The event is another one than the path says",
        ));
    }
    let taken = ctx.rooms.take_invite(call.origin()?, event, shown).await;
    Ok(taken.map_err(fault::room)?.json().to_owned())
}

/// `PUT /exchange_third_party_invite/{roomId}`: somebody whom one of our users invited by an
/// address turned out to be a user of the server that asks.
async fn exchange(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let asked = Object::parse(&call.body, Mode::Lenient)
        .map_err(|error| ApiError::bad_json(error.to_string()))?;
    let (origin, room_id) = (call.origin()?, call.param("roomId"));
    ctx.federation
        .exchange_invite(origin, room_id, &asked)
        .await
        .map_err(fault::federation)?;
    Ok(Answer::empty())
}
