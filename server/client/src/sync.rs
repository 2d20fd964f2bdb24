//! Waiting for news.

use std::sync::Arc;
use std::time::Duration;

use skerry_account::PresenceState;
use skerry_http::{Answer, ApiError, Call, Route, route};
use skerry_sync::{BadFilter, Request, SyncError, Token};

use crate::{Ctx, fault, in_room, sync_v3};

/// The endpoints of this file.
pub(crate) const ROUTES: &[Route<Ctx>] = &[route!(GET "/_matrix/client/v3/sync", Token, Free, get)];

/// What the parameter `use_state_after` was called before v1.16.
const USE_STATE_AFTER_OLD: &str = "org.matrix.msc4222.use_state_after";

/// `GET /sync`.
///
/// * Answers at once if there is anything new since `since`, and without `since`; else when there
///   is, or when `timeout` (in ms) is over, or the server stops.
/// * The same `since` gives the same news again; a later one acknowledges it.
/// * With `use_state_after` (also under its name before v1.16), `state_after` takes the place of
///   `state`.
async fn get(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let presence = presence_of(&call)?;
    let timeout = Duration::from_millis(call.query_as::<u64>("timeout")?.unwrap_or(0));
    let mut request = request_of(&call)?;
    let stopping = call.stopping();
    let after = match call.query("use_state_after") {
        None if request.state_after => "org.matrix.msc4222.state_after",
        _ => "state_after",
    };
    if let Some(text) = call.query("filter") {
        // The call is not to be held while waiting.
        drop(call);
        request.filter = ctx
            .sync
            .filter(request.user, &text)
            .await
            .map_err(refusal)?;
    }
    let delta = tokio::select! {
        delta = ctx.sync.wait(request.clone(), presence, timeout) => delta,
        // The next request may wait with whoever runs next.
        () = stopping => ctx.sync.wait(request, presence, Duration::ZERO).await,
    };
    let delta = delta.map_err(refusal)?;
    Ok(Answer::json_bytes(sync_v3::render(&delta, after)))
}

/// What is asked, but for the filter.
fn request_of(call: &Call) -> Result<Request, ApiError> {
    let requester = call.requester()?;
    let since = match call.query("since").filter(|text| !text.is_empty()) {
        None => None,
        Some(text) => Some(Token::parse(&text).map_err(|_| bad_token())?),
    };
    let after = call.query_as::<bool>("use_state_after")?;
    let after = after.or(call.query_as::<bool>(USE_STATE_AFTER_OLD)?);
    Ok(Request {
        user: requester.user,
        user_id: requester.user_id.clone(),
        device: requester.device.clone(),
        since,
        filter: Arc::default(),
        full_state: call.query_as::<bool>("full_state")?.unwrap_or(false),
        state_after: after.unwrap_or(false),
    })
}

/// What a sync makes of its user's presence.
pub(crate) fn presence_of(call: &Call) -> Result<PresenceState, ApiError> {
    match call.query("set_presence") {
        None => Ok(PresenceState::Online),
        Some(name) => PresenceState::named(&name)
            .ok_or_else(|| ApiError::invalid_param("set_presence is not a state of presence")),
    }
}

fn bad_token() -> ApiError {
    ApiError::invalid_param("since is not a token of this server")
}

pub(crate) fn refusal(error: SyncError) -> ApiError {
    match error {
        SyncError::UnknownPos => ApiError::unknown_pos("since is ahead of this server"),
        SyncError::NoFilter => ApiError::invalid_param("There is no such filter"),
        SyncError::Filter(BadFilter::TooLarge) => {
            ApiError::invalid_param("The filter is too large")
        }
        SyncError::Filter(BadFilter::NotJson) => ApiError::not_json("The filter is not JSON"),
        SyncError::Filter(BadFilter::Shape(text)) => ApiError::bad_json(text),
        SyncError::Account(error) => fault::account(error),
        SyncError::Room(error) => in_room::refusal(error),
        SyncError::Store(error) => fault::store(&error),
    }
}
