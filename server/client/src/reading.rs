//! What the endpoints that read rooms share.

use std::sync::Arc;

use skerry_http::{ApiError, Call};
use skerry_room::{Cut, EventFilter, RoomError, Rooms, Viewer};
use skerry_store::Snapshot;

use crate::{Ctx, fault, in_room};

/// The most events an answer holds, whatever the client asks for.
const LIMIT_MAX: usize = 1_000;

/// Who reads.
///
/// # Errors
/// 401 where nobody said who they are.
pub(crate) fn viewer(call: &Call) -> Result<Viewer, ApiError> {
    let who = call.requester()?;
    Ok(Viewer {
        user: who.user,
        user_id: who.user_id.clone(),
        device: who.device.clone(),
    })
}

/// Asks one question of the rooms, on the newest published snapshot.
///
/// # Errors
/// What the question's answer is, as the client's error.
pub(crate) async fn ask<T: Send + 'static>(
    ctx: &Ctx,
    call: &Call,
    question: impl FnOnce(&Rooms, &Snapshot, &Viewer) -> Result<T, RoomError> + Send + 'static,
) -> Result<T, ApiError> {
    let viewer = viewer(call)?;
    let rooms = ctx.rooms.clone();
    let answer = skerry_store::blocking(move || {
        let snap = rooms.store().snapshot();
        question(&rooms, &snap, &viewer)
    });
    answer
        .await
        .map_err(|error| fault::store(&error))?
        .map_err(in_room::refusal)
}

/// A place in a timeline from a query parameter.
///
/// # Errors
/// 400 `M_INVALID_PARAM` for what was never a token of this server.
pub(crate) fn cut(call: &Call, name: &str) -> Result<Option<Cut>, ApiError> {
    let Some(token) = call.query(name) else {
        return Ok(None);
    };
    let unknown = || ApiError::invalid_param(format!("Unknown pagination token in {name}"));
    Cut::parse(&token).map(Some).ok_or_else(unknown)
}

/// The `limit` of a query: within 1 (or `least`) and 1,000.
///
/// # Errors
/// 400 `M_INVALID_PARAM` for what is no number.
pub(crate) fn limit(call: &Call, least: usize, default: usize) -> Result<usize, ApiError> {
    let asked = call.query_as::<u64>("limit")?;
    let asked = asked.map(|limit| usize::try_from(limit).unwrap_or(LIMIT_MAX));
    Ok(asked.unwrap_or(default).clamp(least, LIMIT_MAX))
}

/// The `dir` of a query: whether it goes back.
///
/// # Errors
/// 400 `M_INVALID_PARAM` for anything but `b` and `f`, `M_MISSING_PARAM` where there is neither
/// a value nor a default.
pub(crate) fn is_back(call: &Call, default: Option<bool>) -> Result<bool, ApiError> {
    match (call.query("dir").as_deref(), default) {
        (Some("b"), _) => Ok(true),
        (Some("f"), _) => Ok(false),
        (Some(_), _) => Err(ApiError::invalid_param("dir must be b or f")),
        (None, Some(default)) => Ok(default),
        (None, None) => Err(ApiError::missing_param("dir is missing")),
    }
}

/// The `filter` of a query.
///
/// # Errors
/// 400 `M_INVALID_PARAM` for what is no filter.
pub(crate) fn filter(call: &Call) -> Result<EventFilter, ApiError> {
    let Some(json) = call.query("filter") else {
        return Ok(EventFilter::default());
    };
    EventFilter::parse(&json).ok_or_else(|| ApiError::invalid_param("filter is not a filter"))
}

/// A path parameter, owned for a thread of its own.
pub(crate) fn param(call: &Call, name: &str) -> String {
    call.param(name).to_owned()
}

/// Shorthand for the handlers' first argument.
pub(crate) type Context = Arc<Ctx>;
