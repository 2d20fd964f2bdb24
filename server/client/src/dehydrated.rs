//! Dehydrated devices (MSC3814): they take messages while their owner is not logged in.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use skerry_account::e2e::{KeysError, NewDehydrated, Waiting};
use skerry_core::Pos;
use skerry_http::{Answer, ApiError, Call, Route, route};

use crate::{Ctx, keys};

/// The endpoints of this file.
pub(crate) const ROUTES: &[Route<Ctx>] = &[
    route!(
        PUT "/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device", Token, Send, put
    )
    .large(),
    route!(
        GET "/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device", Token, Send, get
    ),
    route!(
        DELETE "/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device",
        Token, Send, delete
    ),
    route!(
        POST "/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device/{deviceId}/events",
        Token, Send, events
    ),
    route!(
        GET "/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device/{deviceId}/events",
        Token, Send, more_events
    ),
];

fn refusal(error: KeysError) -> ApiError {
    match error {
        KeysError::NoDevice => ApiError::not_found("No dehydrated device available"),
        error => keys::refusal(error),
    }
}

/// `PUT /dehydrated_device`: in place of the one before.
async fn put(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let body: NewDehydrated = call.json()?;
    let id = body.device_id.clone();
    let (keys, owner) = (ctx.accounts.keys(), keys::owner(&call)?);
    keys.put_dehydrated(&owner, body).await.map_err(refusal)?;
    Answer::json(&json!({ "device_id": id }))
}

/// `GET /dehydrated_device`
async fn get(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let device = ctx.accounts.keys().dehydrated(call.requester()?.user).await;
    let device = device.map_err(refusal)?;
    let data = RawValue::from_string(device.data).map_err(ApiError::internal)?;
    Answer::json(&json!({ "device_id": device.device_id, "device_data": data }))
}

/// `DELETE /dehydrated_device`
async fn delete(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let keys = ctx.accounts.keys();
    let id = keys.delete_dehydrated(call.requester()?.user).await;
    Answer::json(&json!({ "device_id": id.map_err(refusal)? }))
}

/// `POST /dehydrated_device/{deviceId}/events`: what the device was sent, oldest first.
async fn events(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    #[derive(Deserialize)]
    struct Body {
        next_batch: Option<String>,
    }
    let body: Body = call.json()?;
    let waiting = waiting(&ctx, &call, body.next_batch.as_deref()).await?;
    let next = format!("d{}", waiting.upto.0);
    Answer::json(&json!({ "events": raw(waiting)?, "next_batch": next }))
}

/// `GET /dehydrated_device/{deviceId}/events`: the same; `next_batch` is there only where there
/// are more.
async fn more_events(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let waiting = waiting(&ctx, &call, call.query("from").as_deref()).await?;
    let next = waiting.more.then(|| format!("d{}", waiting.upto.0));
    let mut answer = json!({ "events": raw(waiting)? });
    if let Some(next) = next {
        answer["next_batch"] = next.into();
    }
    Answer::json(&answer)
}

async fn waiting(ctx: &Ctx, call: &Call, from: Option<&str>) -> Result<Waiting, ApiError> {
    let wrong = || ApiError::invalid_param("The token is not one of this endpoint");
    let since = match from {
        None | Some("") => Pos::ZERO,
        Some(from) => {
            let number = from.strip_prefix('d').and_then(|n| n.parse().ok());
            Pos(number.ok_or_else(wrong)?)
        }
    };
    let limit = call.query_as("limit")?.unwrap_or(100);
    let (user, device) = (call.requester()?.user, call.param("deviceId"));
    let keys = ctx.accounts.keys();
    let found = keys.dehydrated_messages(user, device, since, limit);
    found.await.map_err(|error| match error {
        KeysError::NoDevice => ApiError::forbidden("This is not your dehydrated device"),
        error => refusal(error),
    })
}

fn raw(waiting: Waiting) -> Result<Vec<Box<RawValue>>, ApiError> {
    let messages = waiting.messages.into_iter();
    let raw = messages.map(|message| RawValue::from_string(message).map_err(ApiError::internal));
    raw.collect()
}
