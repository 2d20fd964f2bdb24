//! Users of other servers who come and go through us: `make_join` and `send_join`, and the same
//! for leaving and knocking.

use std::sync::Arc;

use serde_json::json;
use skerry_core::canonical::{Object, Value};
use skerry_core::{Membership, RoomVersion, StoredEvent};
use skerry_http::{Answer, ApiError, Call, Route, route};
use skerry_room::Entered;

use crate::pieces::{self, Part};
use crate::{Ctx, fault};

/// The endpoints of this file.
pub(crate) const ROUTES: &[Route<Ctx>] = &[
    route!(GET "/_matrix/federation/v1/make_join/{roomId}/{userId}", Server, Join, make_join),
    route!(GET "/_matrix/federation/v1/make_leave/{roomId}/{userId}", Server, Join, make_leave),
    route!(GET "/_matrix/federation/v1/make_knock/{roomId}/{userId}", Server, Join, make_knock),
    route!(PUT "/_matrix/federation/v1/send_join/{roomId}/{eventId}", Server, Join, send_join_v1),
    route!(PUT "/_matrix/federation/v2/send_join/{roomId}/{eventId}", Server, Join, send_join),
    route!(PUT "/_matrix/federation/v1/send_leave/{roomId}/{eventId}", Server, Join, send_leave_v1),
    route!(PUT "/_matrix/federation/v2/send_leave/{roomId}/{eventId}", Server, Join, send_leave),
    route!(PUT "/_matrix/federation/v1/send_knock/{roomId}/{eventId}", Server, Join, send_knock),
];

/// The most room versions that a server may say it knows.
const MAX_VERSIONS: usize = 100;

/// `GET /make_join/{roomId}/{userId}`
async fn make_join(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    template(&ctx, &call, Membership::Join).await
}

/// `GET /make_leave/{roomId}/{userId}`
async fn make_leave(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    template(&ctx, &call, Membership::Leave).await
}

/// `GET /make_knock/{roomId}/{userId}`
async fn make_knock(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    template(&ctx, &call, Membership::Knock).await
}

async fn template(ctx: &Ctx, call: &Call, to: Membership) -> Result<Answer, ApiError> {
    let mut versions: Vec<String> = call.query_all("ver").take(MAX_VERSIONS).collect();
    if versions.is_empty() {
        // What servers knew when there was nothing to be said about it.
        versions.push(RoomVersion::V1.to_string());
    }
    let (room_id, user_id) = (call.param("roomId"), call.param("userId"));
    let made = ctx
        .rooms
        .template(call.origin()?, room_id, user_id, to, &versions)
        .await
        .map_err(fault::room)?;
    let mut body = Object::new();
    body.insert("room_version", made.version.as_str());
    body.insert("event", made.event);
    Ok(Answer::json_bytes(body.to_string()))
}

/// `PUT /v2/send_join/{roomId}/{eventId}`
async fn send_join(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let omit = call.query_as("omit_members")?.unwrap_or(false);
    let entered = take(&ctx, &call, Membership::Join, omit).await?;
    let parts = join_parts(&ctx, entered, ("", ""));
    Ok(pieces::answer(&ctx.rooms, parts))
}

/// `PUT /v1/send_join/{roomId}/{eventId}`: the answer stands in an array behind its status.
async fn send_join_v1(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let entered = take(&ctx, &call, Membership::Join, false).await?;
    let parts = join_parts(&ctx, entered, ("[200,", "]"));
    Ok(pieces::answer(&ctx.rooms, parts))
}

/// The answer to a join, between two texts.
fn join_parts(ctx: &Ctx, entered: Entered, (before, behind): (&str, &str)) -> Vec<Part> {
    let servers = entered
        .servers
        .iter()
        .map(|server| Value::from(&**server).to_string());
    let servers = pieces::array(&servers.collect::<Vec<_>>());
    let origin = Value::from(&*ctx.config.server_name);
    let head = format!(
        "{before}{{\"event\":{},\"members_omitted\":{},\"origin\":{origin},\
         \"servers_in_room\":{servers},\"state\":[",
        entered.event.json(),
        entered.members_omitted,
    );
    vec![
        Part::Text(head),
        Part::Pdus(entered.state),
        Part::Text("],\"auth_chain\":[".to_owned()),
        Part::Pdus(entered.auth_chain),
        Part::Text(format!("]}}{behind}")),
    ]
}

/// `PUT /v2/send_leave/{roomId}/{eventId}`
async fn send_leave(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    take(&ctx, &call, Membership::Leave, false).await?;
    Ok(Answer::empty())
}

/// `PUT /v1/send_leave/{roomId}/{eventId}`
async fn send_leave_v1(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    take(&ctx, &call, Membership::Leave, false).await?;
    Answer::json(&json!([200, {}]))
}

/// `PUT /send_knock/{roomId}/{eventId}`
async fn send_knock(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let entered = take(&ctx, &call, Membership::Knock, false).await?;
    let state = pieces::array(&entered.stripped);
    Ok(Answer::json_bytes(format!(
        "{{\"knock_room_state\":{state}}}"
    )))
}

/// Checks the event of the body and takes it.
async fn take(
    ctx: &Ctx,
    call: &Call,
    to: Membership,
    omit_members: bool,
) -> Result<Entered, ApiError> {
    let room_id = call.param("roomId");
    let version = version_of(ctx, room_id)?;
    // Under a restricted join that we are to vouch for, our signature is asked for by sending it.
    let event = ctx
        .rooms
        .vouched_draft(event_of(&call.body, version)?, version);
    let event = checked(ctx, version, event).await?;
    if event.event_id() != call.param("eventId") {
        return Err(ApiError::invalid_param(
            "The event has another id than the path says",
        ));
    }
    ctx.rooms
        .take_member(call.origin()?, room_id, event, to, omit_members)
        .await
        .map_err(fault::room)
}

/// The version of a room that is here.
pub(crate) fn version_of(ctx: &Ctx, room_id: &str) -> Result<RoomVersion, ApiError> {
    let snap = ctx.rooms.store().snapshot();
    let version = ctx.rooms.room_version(&snap, room_id);
    let version = version.map_err(|error| fault::store(&error))?;
    version.ok_or_else(|| ApiError::not_found("There is no such room here"))
}

/// An event of a room of this version, as an object.
pub(crate) fn event_of(text: &[u8], version: RoomVersion) -> Result<Object, ApiError> {
    Object::parse(text, version.json_mode()).map_err(|error| ApiError::bad_json(error.to_string()))
}

/// The event, once its form, hashes and signatures were found good.
pub(crate) async fn checked(
    ctx: &Ctx,
    version: RoomVersion,
    event: Object,
) -> Result<Arc<StoredEvent>, ApiError> {
    let checked = ctx.federation.checker().check_pdus(version, vec![event]);
    let checked = checked.await.map_err(|error| fault::store(&error))?;
    match checked.into_iter().next() {
        Some(Ok(event)) => Ok(event),
        Some(Err(wrong)) => Err(fault::pdu(&wrong)),
        None => Err(ApiError::internal("an event was not checked")),
    }
}
