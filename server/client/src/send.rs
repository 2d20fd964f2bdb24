//! Sending into rooms: messages, state, redactions.

use std::sync::Arc;

use http::Method;
use serde::Deserialize;
use serde_json::json;
use skerry_account::TxnKey;
use skerry_http::{Answer, ApiError, Call, Route, route};
use skerry_room::{Message, Redaction, StateEvent};

use crate::in_room::{content, refusal, room_id, sticky_ms, ts, txn, who};
use crate::{Ctx, delayed};

/// The endpoints of this file.
pub(crate) const ROUTES: &[Route<Ctx>] = &[
    route!(PUT "/_matrix/client/v3/rooms/{roomId}/send/{eventType}/{txnId}", Token, Send, message),
    route!(POST "/_matrix/client/v3/rooms/{roomId}/send/{eventType}", Token, Send, message),
    route!(PUT "/_matrix/client/v3/rooms/{roomId}/redact/{eventId}/{txnId}", Token, Send, redact),
    route!(POST "/_matrix/client/v3/rooms/{roomId}/redact/{eventId}", Token, Send, redact),
    route!(PUT "/_matrix/client/v3/rooms/{roomId}/state/{eventType}", Token, Send, state),
    route!(PUT "/_matrix/client/v3/rooms/{roomId}/state/{eventType}/", Token, Send, state),
    route!(
        PUT "/_matrix/client/v3/rooms/{roomId}/state/{eventType}/{stateKey}", Token, Send, state
    ),
];

/// `PUT /rooms/{roomId}/send/{eventType}/{txnId}`: durable before the answer; the same
/// transaction of the same device makes one event, also across restarts.
///
/// `POST /rooms/{roomId}/send/{eventType}`: as clients sent before there were transactions; no
/// longer in the specification, and each request makes an event.
async fn message(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    if let Some(answer) = delayed::by_query(&ctx, &call, None).await? {
        return Ok(answer);
    }
    let message = Message {
        kind: call.param("eventType").to_owned(),
        content: content(&call),
        txn: txn_of_put(&call)?,
        sticky_ms: sticky_ms(&call)?,
        ts: ts(&call)?,
    };
    let sent = ctx.rooms.send(who(&call)?, room_id(&call)?, message).await;
    let event_id = sent.map_err(refusal)?;
    ctx.accounts.presence().touch(call.requester()?.user);
    Answer::json(&json!({ "event_id": event_id }))
}

/// The transaction of a request, if its method has one.
fn txn_of_put(call: &Call) -> Result<Option<(TxnKey, String)>, ApiError> {
    (call.method == Method::PUT).then(|| txn(call)).transpose()
}

/// Most kinds of relation that one redaction may name.
const REL_TYPES_MAX: usize = 50;

/// What a redaction's content has to be beside being an object.
#[derive(Deserialize)]
struct Redacts {
    #[serde(rename = "reason")]
    _reason: Option<String>,
    with_rel_types: Option<Vec<String>>,
    /// What `with_rel_types` is called until MSC3912 is part of the specification.
    #[serde(rename = "org.matrix.msc3912.with_relations")]
    with_relations: Option<Vec<String>>,
}

/// `PUT /rooms/{roomId}/redact/{eventId}/{txnId}`: idempotent as sending. With `with_rel_types`
/// (MSC3912), what relates to the event in these ways is redacted too.
///
/// `POST /rooms/{roomId}/redact/{eventId}`: as before there were transactions, like sending.
async fn redact(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let body = call.json::<Redacts>()?;
    let rel_types = body.with_rel_types.or(body.with_relations);
    let with_rel_types = rel_types.unwrap_or_default();
    if with_rel_types.len() > REL_TYPES_MAX || with_rel_types.iter().any(|name| name.len() > 255) {
        return Err(ApiError::invalid_param("with_rel_types is too long"));
    }
    let redaction = Redaction {
        target: call.param("eventId").to_owned(),
        content: content(&call),
        with_rel_types,
        txn: txn_of_put(&call)?,
    };
    let sent = ctx
        .rooms
        .redact(who(&call)?, room_id(&call)?, redaction)
        .await;
    Answer::json(&json!({ "event_id": sent.map_err(refusal)? }))
}

/// `PUT /rooms/{roomId}/state/{eventType}[/{stateKey}]`: setting what is there makes no event.
async fn state(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let key = call.param("stateKey").to_owned();
    if let Some(answer) = delayed::by_query(&ctx, &call, Some(key)).await? {
        return Ok(answer);
    }
    let state = StateEvent {
        kind: call.param("eventType").to_owned(),
        key: call.param("stateKey").to_owned(),
        content: content(&call),
        sticky_ms: sticky_ms(&call)?,
        ts: ts(&call)?,
    };
    let set = ctx
        .rooms
        .set_state(who(&call)?, room_id(&call)?, state)
        .await;
    Answer::json(&json!({ "event_id": set.map_err(refusal)? }))
}
