//! Helpers that the endpoints of one's own account share.

use skerry_account::UiaScope;
use skerry_http::{ApiError, Call, Requester};

/// What a session of user-interactive authentication for this request is good for.
pub(crate) fn uia(call: &Call) -> UiaScope {
    UiaScope {
        user: call.requester_opt().map(|requester| requester.user),
        method: call.method.to_string(),
        path: call.uri.path().to_owned(),
        appservice: call.requester_opt().is_some_and(|r| r.appservice.is_some()),
    }
}

/// Who asks, if the path's `{userId}` is their own.
///
/// # Errors
/// 403 `M_FORBIDDEN` for somebody else's.
pub(crate) fn own(call: &Call) -> Result<&Requester, ApiError> {
    let requester = call.requester()?;
    if call.param("userId") == &*requester.user_id {
        Ok(requester)
    } else {
        Err(ApiError::forbidden("This belongs to another user"))
    }
}
