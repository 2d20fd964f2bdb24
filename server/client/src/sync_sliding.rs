//! Sliding sync (MSC4186): news of the rooms that a client shows, instead of all.

mod render;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};
use skerry_http::{Answer, ApiError, Call, Route, route};
use skerry_sync::SyncError;
use skerry_sync::sliding::{SlidingAsk, SlidingRequest};

use crate::Ctx;
use crate::sync::{presence_of, refusal};

/// The endpoints of this file.
pub(crate) const ROUTES: &[Route<Ctx>] = &[
    // Guests may use it as they may use the other sync.
    route!(POST "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync", Token, Free, post)
        .guests(),
];

/// `POST ../org.matrix.simplified_msc3575/sync`
///
/// * Without `pos`, a connection begins (under its `conn_id`) and is answered at once; with `pos`,
///   at once if there is anything new, else when there is, or when `timeout` (in ms) is over.
/// * The same `pos` gives the same news again; a later one acknowledges it. A `pos` that is not
///   known (any more) is refused with `M_UNKNOWN_POS`: the client begins anew.
async fn post(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let presence = presence_of(&call)?;
    let timeout = Duration::from_millis(call.query_as::<u64>("timeout")?.unwrap_or(0));
    let request = request_of(&call)?;
    let txn_id = request.ask.txn_id.clone();
    let stopping = call.stopping();
    // The call is not to be held while waiting.
    drop(call);
    let answer = tokio::select! {
        answer = ctx.sync.slide(request.clone(), presence, timeout) => answer,
        // The next request may wait with whoever runs next.
        () = stopping => ctx.sync.slide(request, presence, Duration::ZERO).await,
    };
    let answer = answer.map_err(|error| match error {
        SyncError::UnknownPos => ApiError::unknown_pos("The connection is not known (any more)"),
        error => refusal(error),
    })?;
    Ok(Answer::json_bytes(render::render(
        &answer,
        txn_id.as_deref(),
    )))
}

fn request_of(call: &Call) -> Result<SlidingRequest, ApiError> {
    let requester = call.requester()?;
    // Read as an object first: a list would do for it in serde's eyes.
    let body: Map<String, Value> = call.json()?;
    let ask = serde_json::from_value(Value::Object(body));
    let ask: SlidingAsk = ask.map_err(|error| ApiError::bad_json(error.to_string()))?;
    ask.check()
        .map_err(|error| ApiError::invalid_param(error.to_string()))?;
    Ok(SlidingRequest {
        user: requester.user,
        user_id: requester.user_id.clone(),
        device: requester.device.clone(),
        pos: call.query("pos"),
        ask,
    })
}
