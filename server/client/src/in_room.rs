//! Helpers that the endpoints about rooms share.

use serde::Deserialize;
use skerry_account::TxnKey;
use skerry_core::event::MAX_STICKY_MS;
use skerry_core::names;
use skerry_http::{ApiError, Call, StatusCode};
use skerry_room::{PolicyRefusal, RoomError, Who};

use crate::fault;

/// Who asks, as the rooms know them.
pub(crate) fn who(call: &Call) -> Result<Who, ApiError> {
    let requester = call.requester()?;
    Ok(Who {
        user_id: requester.user_id.clone(),
        user: requester.user,
        device: requester.device.clone(),
        guest: requester.is_guest,
        suspended: requester.suspended,
        admin: requester.admin,
        appservice: requester.appservice.clone(),
    })
}

/// The path's `{roomId}`.
///
/// # Errors
/// 400 `M_INVALID_PARAM` for what is no room id.
pub(crate) fn room_id(call: &Call) -> Result<&str, ApiError> {
    let id = call.param("roomId");
    if names::is_room_id(id) {
        Ok(id)
    } else {
        Err(ApiError::invalid_param(format!("{id:?} is not a room id")))
    }
}

/// The transaction of a request whose path ends in `{txnId}`, and its id.
pub(crate) fn txn(call: &Call) -> Result<(TxnKey, String), ApiError> {
    let (requester, id) = (call.requester()?, call.param("txnId"));
    let path = call.uri.path();
    let path = path.rsplit_once('/').map_or(path, |(path, _)| path);
    let method = call.method.as_str();
    let key = TxnKey::new(requester.user, requester.txn_scope(), method, path, id);
    Ok((key.map_err(fault::account)?, id.to_owned()))
}

/// The time that an application service wants its event to bear, in ms since the epoch; nobody
/// else is asked (application service API, "Timestamp massaging").
pub(crate) fn ts(call: &Call) -> Result<Option<u64>, ApiError> {
    const LARGEST: u64 = (1 << 53) - 1;
    if call.requester()?.appservice.is_none() {
        return Ok(None);
    }
    let ts = call.query_as::<u64>("ts")?;
    if ts.is_some_and(|ts| ts > LARGEST) {
        return Err(ApiError::invalid_param("`ts` is too large"));
    }
    Ok(ts)
}

/// For how long the client wants the event to be sticky (MSC4354): an hour at most.
pub(crate) fn sticky_ms(call: &Call) -> Result<Option<u32>, ApiError> {
    let asked = call.query_as::<u64>("org.matrix.msc4354.sticky_duration_ms")?;
    Ok(asked.map(|ms| u32::try_from(ms).map_or(MAX_STICKY_MS, |ms| ms.min(MAX_STICKY_MS))))
}

/// The body as an event's content; an empty one is an empty object.
pub(crate) fn content(call: &Call) -> Vec<u8> {
    if call.body.is_empty() {
        b"{}".to_vec()
    } else {
        call.body.to_vec()
    }
}

/// A body with no more than a reason.
#[derive(Deserialize)]
pub(crate) struct Reason {
    pub(crate) reason: Option<String>,
}

/// A body that names a user, and maybe a reason.
#[derive(Deserialize)]
pub(crate) struct Target {
    pub(crate) user_id: String,
    pub(crate) reason: Option<String>,
    /// To a removal: what the user sent is to be redacted (MSC4293).
    #[serde(rename = "org.matrix.msc4293.redact_events")]
    pub(crate) redact_events: Option<bool>,
}

/// A refusal of the rooms as the client's error.
pub(crate) fn refusal(error: RoomError) -> ApiError {
    let text = error.to_string();
    match error {
        RoomError::Forbidden(_) => ApiError::forbidden(text),
        RoomError::GuestForbidden(_) => ApiError::guest_access_forbidden(text),
        RoomError::Suspended(_) => ApiError::user_suspended(text),
        RoomError::Exclusive(_) => ApiError::exclusive(text),
        RoomError::NotFound(_) => ApiError::not_found(text),
        RoomError::UnsupportedVersion(_) => ApiError::unsupported_room_version(text),
        RoomError::InvalidState(_) => ApiError::invalid_room_state(text),
        RoomError::AliasInUse(_) => ApiError::conflict(text),
        RoomError::BadAlias(_) => ApiError::bad_alias(text),
        RoomError::TooLarge(_) => ApiError::too_large(text),
        RoomError::BadJson(_) => ApiError::bad_json(text),
        RoomError::InvalidParam(_) => ApiError::invalid_param(text),
        RoomError::UnableToAuthoriseJoin(_) => ApiError::unable_to_authorise_join(text),
        RoomError::UnableToGrantJoin(_) => ApiError::unable_to_grant_join(text),
        RoomError::IncompatibleVersion(version) => {
            ApiError::incompatible_room_version(text).with("room_version", version)
        }
        RoomError::BadState(_) => ApiError::bad_state(text),
        RoomError::InviteBlocked(_) => ApiError::invite_blocked(text),
        RoomError::NoticeRoom(_) => ApiError::cannot_leave_notice_room(text),
        RoomError::DuplicateAnnotation(_) => ApiError::duplicate_annotation(text),
        RoomError::ThreadOnRelation(_) => ApiError::unknown(text),
        RoomError::NotInThread(_) => ApiError::not_in_thread(text),
        RoomError::Unsubscribed(_) => ApiError::conflicting_unsubscription(text),
        RoomError::OriginalGone { keep_ms } => {
            ApiError::original_gone(text).with("fi.mau.msc2815.content_keep_ms", keep_ms)
        }
        RoomError::DelayTooLong(max_ms) => {
            ApiError::delay_too_long(text).with("org.matrix.msc4140.max_delay", max_ms)
        }
        RoomError::DelayedLimit(retry_after_ms) => ApiError::limit(retry_after_ms),
        RoomError::DelayedOver(_) => ApiError::conflict(text),
        RoomError::Policy(refusal) => policy(refusal),
        RoomError::Store(error) => fault::store(&error),
    }
}

/// What a room's policy server said, as it is where that is one of the refusals it may have
/// (server-server API, `/policy/v1/sign`); no other code of it may look like one of ours.
fn policy(refusal: PolicyRefusal) -> ApiError {
    let text = refusal.to_string();
    let PolicyRefusal::Said {
        status, errcode, ..
    } = refusal
    else {
        return ApiError::bad_gateway(text);
    };
    let known = matches!(
        (status, errcode.as_str()),
        (400, "M_FORBIDDEN" | "M_BAD_JSON" | "M_NOT_JSON")
            | (403, "M_FORBIDDEN")
            | (404, "M_NOT_FOUND")
            | (429, "M_LIMIT_EXCEEDED")
    );
    match StatusCode::from_u16(status) {
        Ok(status) if known => ApiError::relayed(status, &errcode, &text),
        _ => ApiError::forbidden(text),
    }
}
