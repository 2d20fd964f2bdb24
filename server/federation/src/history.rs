//! What other servers read of rooms: single events, state, what came before. Who may see what is
//! decided by `skerry_room`.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::json;
use skerry_core::canonical::Value;
use skerry_http::{Answer, ApiError, Call, Route, route};
use skerry_room::MissingAsk;

use crate::pieces::{self, Part};
use crate::{Ctx, fault};

/// The endpoints of this file.
pub(crate) const ROUTES: &[Route<Ctx>] = &[
    route!(GET "/_matrix/federation/v1/event/{eventId}", Server, Federation, event),
    route!(GET "/_matrix/federation/v1/event_auth/{roomId}/{eventId}", Server, Federation, event_auth),
    route!(GET "/_matrix/federation/v1/state/{roomId}", Server, Federation, state),
    route!(GET "/_matrix/federation/v1/state_ids/{roomId}", Server, Federation, state_ids),
    route!(GET "/_matrix/federation/v1/backfill/{roomId}", Server, Federation, backfill),
    route!(POST "/_matrix/federation/v1/get_missing_events/{roomId}", Server, Federation, missing),
    route!(GET "/_matrix/federation/v1/timestamp_to_event/{roomId}", Server, Federation, timestamp),
];

/// The most ids of events of one list that are looked at.
const MAX_IDS: usize = 100;

/// `GET /event/{eventId}`
async fn event(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let event = ctx
        .rooms
        .served_event(call.origin()?, call.param("eventId"))
        .await
        .map_err(fault::room)?;
    Ok(transaction(&ctx, &[event]))
}

/// PDUs in the form of a transaction, as these endpoints answer.
fn transaction(ctx: &Ctx, pdus: &[String]) -> Answer {
    let origin = Value::from(&*ctx.config.server_name);
    let (now_ms, pdus) = (ctx.clock.now_ms(), pieces::array(pdus));
    Answer::json_bytes(format!(
        "{{\"origin\":{origin},\"origin_server_ts\":{now_ms},\"pdus\":{pdus}}}"
    ))
}

/// `GET /event_auth/{roomId}/{eventId}`
async fn event_auth(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let (room_id, event_id) = (call.param("roomId"), call.param("eventId"));
    let chain = ctx
        .rooms
        .served_auth_chain(call.origin()?, room_id, event_id)
        .await
        .map_err(fault::room)?;
    let parts = vec![
        Part::Text("{\"auth_chain\":[".to_owned()),
        Part::Pdus(chain),
        Part::Text("]}".to_owned()),
    ];
    Ok(pieces::answer(&ctx.rooms, parts))
}

/// `GET /state/{roomId}`
async fn state(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let (room_id, event_id) = (call.param("roomId"), asked_event(&call)?);
    let served = ctx
        .rooms
        .served_state(call.origin()?, room_id, &event_id)
        .await
        .map_err(fault::room)?;
    let parts = vec![
        Part::Text("{\"pdus\":[".to_owned()),
        Part::Pdus(served.state),
        Part::Text("],\"auth_chain\":[".to_owned()),
        Part::Pdus(served.auth_chain),
        Part::Text("]}".to_owned()),
    ];
    Ok(pieces::answer(&ctx.rooms, parts))
}

/// `GET /state_ids/{roomId}`
async fn state_ids(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let (room_id, event_id) = (call.param("roomId"), asked_event(&call)?);
    let served = ctx
        .rooms
        .served_state(call.origin()?, room_id, &event_id)
        .await
        .map_err(fault::room)?;
    let rooms = ctx.rooms.clone();
    let ids = skerry_store::blocking(move || {
        let pdu_ids = rooms.event_ids(&served.state)?;
        Ok((pdu_ids, rooms.event_ids(&served.auth_chain)?))
    });
    let ids: Result<_, skerry_store::StoreError> = ids.await.and_then(|ids| ids);
    let (pdu_ids, auth_chain_ids) = ids.map_err(|error| fault::store(&error))?;
    let texts = |ids: &[Arc<str>]| ids.iter().map(ToString::to_string).collect::<Vec<String>>();
    Answer::json(&json!({
        "pdu_ids": texts(&pdu_ids),
        "auth_chain_ids": texts(&auth_chain_ids),
    }))
}

fn asked_event(call: &Call) -> Result<String, ApiError> {
    let id = call.query("event_id");
    id.ok_or_else(|| ApiError::missing_param("The query parameter event_id is missing"))
}

/// `GET /backfill/{roomId}`
async fn backfill(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let from: Vec<String> = call.query_all("v").take(MAX_IDS).collect();
    if from.is_empty() {
        return Err(ApiError::missing_param("The query parameter v is missing"));
    }
    let limit = call.query_as("limit")?;
    let limit: usize =
        limit.ok_or_else(|| ApiError::missing_param("The query parameter limit is missing"))?;
    let pdus = ctx
        .rooms
        .served_backfill(call.origin()?, call.param("roomId"), &from, limit)
        .await
        .map_err(fault::room)?;
    Ok(transaction(&ctx, &pdus))
}

/// `POST /get_missing_events/{roomId}`
async fn missing(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    #[derive(Deserialize)]
    struct Body {
        #[serde(default = "ten")]
        limit: usize,
        #[serde(default)]
        min_depth: u64,
        // Required, but what is missing asks for nothing.
        #[serde(default)]
        earliest_events: Vec<String>,
        #[serde(default)]
        latest_events: Vec<String>,
    }
    fn ten() -> usize {
        10
    }
    let mut body: Body = call.json()?;
    body.earliest_events.truncate(MAX_IDS);
    body.latest_events.truncate(MAX_IDS);
    let ask = MissingAsk {
        earliest: body.earliest_events,
        latest: body.latest_events,
        limit: body.limit,
        min_depth: body.min_depth,
    };
    let events = ctx
        .rooms
        .served_missing_events(call.origin()?, call.param("roomId"), ask)
        .await
        .map_err(fault::room)?;
    Ok(Answer::json_bytes(format!(
        "{{\"events\":{}}}",
        pieces::array(&events)
    )))
}

/// `GET /timestamp_to_event/{roomId}`
async fn timestamp(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let ts = call.query_as("ts")?;
    let ts = ts.ok_or_else(|| ApiError::missing_param("The query parameter ts is missing"))?;
    let back = match call.query("dir").as_deref() {
        Some("b") => true,
        Some("f") => false,
        _ => return Err(ApiError::invalid_param("The query parameter dir is f or b")),
    };
    let (event_id, origin_server_ts) = ctx
        .rooms
        .served_timestamp(call.origin()?, call.param("roomId"), ts, back)
        .await
        .map_err(fault::room)?;
    Answer::json(&json!({ "event_id": event_id, "origin_server_ts": origin_server_ts }))
}
