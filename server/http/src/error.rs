//! The one error type of endpoints: a status and an errcode that always belong together.

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;

use http::{HeaderValue, Response, StatusCode};
use serde_json::{Map, Value};

/// Why a request got no answer.
///
/// The message goes to the client; the cause goes to the log only. Made by the constructors, one
/// for each errcode, so that a status cannot disagree with its code.
pub struct ApiError(Box<Parts>);

struct Parts {
    status: StatusCode,
    errcode: Cow<'static, str>,
    message: Cow<'static, str>,
    /// Further members of the body beside `errcode` and `error`.
    extra: Map<String, Value>,
    /// The whole body, where it is not the usual shape (user-interactive authentication).
    body: Option<Value>,
    cause: Option<String>,
}

/// Declares constructors: name, status, errcode.
macro_rules! errors {
    ($($(#[$doc:meta])* $name:ident: $status:ident $code:literal,)*) => {
        impl ApiError {
            $(
                $(#[$doc])*
                #[must_use]
                pub fn $name(message: impl Into<Cow<'static, str>>) -> ApiError {
                    ApiError::new(StatusCode::$status, $code, message.into())
                }
            )*

            #[cfg(test)]
            fn all_constructed() -> Vec<(&'static str, ApiError)> {
                vec![$((stringify!($name), ApiError::$name("text")),)*]
            }
        }
    };
}

errors! {
    /// 403 `M_FORBIDDEN`: not allowed, for example not in the room.
    forbidden: FORBIDDEN "M_FORBIDDEN",
    /// 401 `M_UNAUTHORIZED`: user-interactive authentication that cannot go on.
    unauthorized: UNAUTHORIZED "M_UNAUTHORIZED",
    /// 401 `M_MISSING_TOKEN`: a token is needed and none was sent.
    missing_token: UNAUTHORIZED "M_MISSING_TOKEN",
    /// 401 `M_UNKNOWN_TOKEN`; see also [`ApiError::soft_logout`].
    unknown_token: UNAUTHORIZED "M_UNKNOWN_TOKEN",
    /// 401 `M_USER_LOCKED`: the account is locked by an administrator.
    user_locked: UNAUTHORIZED "M_USER_LOCKED",
    /// 403 `M_USER_SUSPENDED`: the account may not do this while it is suspended.
    user_suspended: FORBIDDEN "M_USER_SUSPENDED",
    /// 403 `M_USER_DEACTIVATED`: the account was deactivated.
    user_deactivated: FORBIDDEN "M_USER_DEACTIVATED",
    /// 400 `M_BAD_JSON`: JSON, but not of the right shape.
    bad_json: BAD_REQUEST "M_BAD_JSON",
    /// 400 `M_NOT_JSON`: not JSON.
    not_json: BAD_REQUEST "M_NOT_JSON",
    /// 404 `M_NOT_FOUND`: no such thing.
    not_found: NOT_FOUND "M_NOT_FOUND",
    /// 404 `FI.MAU.MSC2815_UNREDACTED_CONTENT_DELETED`: what a redacted event said is gone.
    original_gone: NOT_FOUND "FI.MAU.MSC2815_UNREDACTED_CONTENT_DELETED",
    /// 404 `M_UNRECOGNIZED`: no such endpoint.
    unrecognized: NOT_FOUND "M_UNRECOGNIZED",
    /// 405 `M_UNRECOGNIZED`: the endpoint has no such method.
    wrong_method: METHOD_NOT_ALLOWED "M_UNRECOGNIZED",
    /// 405 `M_BAD_JSON`: account data that only the server writes.
    server_managed: METHOD_NOT_ALLOWED "M_BAD_JSON",
    /// 400 `M_UNKNOWN`: refused for a reason that has no code of its own.
    unknown: BAD_REQUEST "M_UNKNOWN",
    /// 409 `M_UNKNOWN`: clashes with something that exists (an alias in use).
    conflict: CONFLICT "M_UNKNOWN",
    /// 500 `M_UNKNOWN` with a text for the client; see [`ApiError::internal`] for faults.
    server_error: INTERNAL_SERVER_ERROR "M_UNKNOWN",
    /// 502 `M_UNKNOWN`: another server gave no usable answer.
    bad_gateway: BAD_GATEWAY "M_UNKNOWN",
    /// 502 `M_TOO_LARGE`: another server's file is larger than what is fetched.
    remote_too_large: BAD_GATEWAY "M_TOO_LARGE",
    /// 504 `M_UNKNOWN`: another server gave no answer in time.
    gateway_timeout: GATEWAY_TIMEOUT "M_UNKNOWN",
    /// 503 `M_UNKNOWN`: stopping, or too busy.
    unavailable: SERVICE_UNAVAILABLE "M_UNKNOWN",
    /// 507 `M_UNKNOWN`: no space left for writing.
    no_space: INSUFFICIENT_STORAGE "M_UNKNOWN",
    /// 400 `M_USER_IN_USE`: the name is taken.
    user_in_use: BAD_REQUEST "M_USER_IN_USE",
    /// 400 `M_INVALID_USERNAME`: not a name an account may have.
    invalid_username: BAD_REQUEST "M_INVALID_USERNAME",
    /// 400 `M_WEAK_PASSWORD`: the password does not meet the rules.
    weak_password: BAD_REQUEST "M_WEAK_PASSWORD",
    /// 400 `M_ROOM_IN_USE`: the alias given to createRoom is taken.
    room_in_use: BAD_REQUEST "M_ROOM_IN_USE",
    /// 400 `M_INVALID_ROOM_STATE`: the initial state of a room cannot be.
    invalid_room_state: BAD_REQUEST "M_INVALID_ROOM_STATE",
    /// 400 `M_UNSUPPORTED_ROOM_VERSION`: a room version not known here.
    unsupported_room_version: BAD_REQUEST "M_UNSUPPORTED_ROOM_VERSION",
    /// 400 `M_INCOMPATIBLE_ROOM_VERSION`: the room's version is not known to the other server.
    incompatible_room_version: BAD_REQUEST "M_INCOMPATIBLE_ROOM_VERSION",
    /// 400 `M_BAD_STATE`: the state of things does not allow it.
    bad_state: BAD_REQUEST "M_BAD_STATE",
    /// 403 `M_INVITE_BLOCKED`: the user wants no invites.
    invite_blocked: FORBIDDEN "M_INVITE_BLOCKED",
    /// 403 `M_GUEST_ACCESS_FORBIDDEN`: not for guests.
    guest_access_forbidden: FORBIDDEN "M_GUEST_ACCESS_FORBIDDEN",
    /// 400 `M_MISSING_PARAM`: a parameter is missing.
    missing_param: BAD_REQUEST "M_MISSING_PARAM",
    /// 400 `M_INVALID_PARAM`: a parameter has a value it cannot have.
    invalid_param: BAD_REQUEST "M_INVALID_PARAM",
    /// 400 `M_INVALID_SIGNATURE`: a signature is missing or wrong.
    invalid_signature: BAD_REQUEST "M_INVALID_SIGNATURE",
    /// 413 `M_TOO_LARGE`: the body or the event is too large.
    too_large: PAYLOAD_TOO_LARGE "M_TOO_LARGE",
    /// 400 `M_EXCLUSIVE`: reserved by an application service.
    exclusive: BAD_REQUEST "M_EXCLUSIVE",
    /// 403 `M_RESOURCE_LIMIT_EXCEEDED`: a quota is used up.
    resource_limit: FORBIDDEN "M_RESOURCE_LIMIT_EXCEEDED",
    /// 507 `M_RESOURCE_LIMIT_EXCEEDED`: no space for files; `admin_contact` may be added.
    storage_limit: INSUFFICIENT_STORAGE "M_RESOURCE_LIMIT_EXCEEDED",
    /// 403 `M_USER_LIMIT_EXCEEDED`: a limit of the account is reached; add `info_uri` by
    /// [`ApiError::with`].
    user_limit: FORBIDDEN "M_USER_LIMIT_EXCEEDED",
    /// 403 `M_CANNOT_LEAVE_SERVER_NOTICE_ROOM`.
    cannot_leave_notice_room: FORBIDDEN "M_CANNOT_LEAVE_SERVER_NOTICE_ROOM",
    /// 400 `M_BAD_ALIAS`: an alias that does not point to the room.
    bad_alias: BAD_REQUEST "M_BAD_ALIAS",
    /// 403 `M_WRONG_ROOM_KEYS_VERSION`: not the current backup; add `current_version` by
    /// [`ApiError::with`].
    wrong_room_keys_version: FORBIDDEN "M_WRONG_ROOM_KEYS_VERSION",
    /// 400 `M_DUPLICATE_ANNOTATION`: the same reaction was sent before.
    duplicate_annotation: BAD_REQUEST "M_DUPLICATE_ANNOTATION",
    /// 504 `M_NOT_YET_UPLOADED`: the media id is reserved, its content is not here yet.
    not_yet_uploaded: GATEWAY_TIMEOUT "M_NOT_YET_UPLOADED",
    /// 409 `M_CANNOT_OVERWRITE_MEDIA`: the media id has content.
    cannot_overwrite_media: CONFLICT "M_CANNOT_OVERWRITE_MEDIA",
    /// 400 `M_UNKNOWN_POS`: a sliding sync position that is not known (any more).
    unknown_pos: BAD_REQUEST "M_UNKNOWN_POS",
    /// 400 `M_KEY_TOO_LARGE`: a profile field's name is too long.
    key_too_large: BAD_REQUEST "M_KEY_TOO_LARGE",
    /// 400 `M_PROFILE_TOO_LARGE`: the profile would be too large.
    profile_too_large: BAD_REQUEST "M_PROFILE_TOO_LARGE",
    /// 400 `M_UNABLE_TO_AUTHORISE_JOIN`: this server cannot vouch for a restricted join.
    unable_to_authorise_join: BAD_REQUEST "M_UNABLE_TO_AUTHORISE_JOIN",
    /// 400 `M_UNABLE_TO_GRANT_JOIN`: another server could vouch for a restricted join.
    unable_to_grant_join: BAD_REQUEST "M_UNABLE_TO_GRANT_JOIN",
    /// 400 `M_THREEPID_IN_USE`: the address belongs to an account.
    threepid_in_use: BAD_REQUEST "M_THREEPID_IN_USE",
    /// 400 `M_THREEPID_NOT_FOUND`: no account has the address.
    threepid_not_found: BAD_REQUEST "M_THREEPID_NOT_FOUND",
    /// 403 `M_THREEPID_DENIED`: the address may not be used.
    threepid_denied: FORBIDDEN "M_THREEPID_DENIED",
    /// 401 `M_THREEPID_AUTH_FAILED`: the address was not validated.
    threepid_auth_failed: UNAUTHORIZED "M_THREEPID_AUTH_FAILED",
    /// 400 `M_THREEPID_MEDIUM_NOT_SUPPORTED`: not a kind of address known here.
    threepid_medium_not_supported: BAD_REQUEST "M_THREEPID_MEDIUM_NOT_SUPPORTED",
    /// 400 `M_SERVER_NOT_TRUSTED`: the identity server is not trusted here.
    server_not_trusted: BAD_REQUEST "M_SERVER_NOT_TRUSTED",
    /// 400 `M_NOT_IN_THREAD` (MSC4306): the event is not in the thread.
    not_in_thread: BAD_REQUEST "IO.ELEMENT.MSC4306.M_NOT_IN_THREAD",
    /// 409 `M_CONFLICTING_UNSUBSCRIPTION` (MSC4306): the user unsubscribed after the event.
    conflicting_unsubscription: CONFLICT "IO.ELEMENT.MSC4306.M_CONFLICTING_UNSUBSCRIPTION",
    /// 400 `M_UNKNOWN_DEVICE`: an application service named a device that the user has not.
    unknown_device: BAD_REQUEST "M_UNKNOWN_DEVICE",
    /// 400 `M_URL_NOT_SET`: the application service listens nowhere.
    url_not_set: BAD_REQUEST "M_URL_NOT_SET",
    /// 502 `M_BAD_STATUS`: the application service answered, but not with success.
    bad_status: BAD_GATEWAY "M_BAD_STATUS",
    /// 502 `M_CONNECTION_FAILED`: the application service cannot be reached.
    connection_failed: BAD_GATEWAY "M_CONNECTION_FAILED",
    /// 504 `M_CONNECTION_TIMEOUT`: the application service gave no answer in time.
    connection_timeout: GATEWAY_TIMEOUT "M_CONNECTION_TIMEOUT",
    /// 408 `M_UNKNOWN`: an application service that was asked gave no answer in time.
    request_timeout: REQUEST_TIMEOUT "M_UNKNOWN",
    /// 410 `M_EXPIRED_ACTIVATION_TOKEN` (MSC4174): the pusher proved too late that it is reached.
    activation_expired: GONE "M_EXPIRED_ACTIVATION_TOKEN",
    /// 400 `M_UNKNOWN_ACTIVATION_TOKEN` (MSC4174): not what the pusher was sent.
    activation_unknown: BAD_REQUEST "M_UNKNOWN_ACTIVATION_TOKEN",
    /// 400 `M_MAX_DELAY_EXCEEDED` (MSC4140): an event may not be delayed for so long.
    delay_too_long: BAD_REQUEST "ORG.MATRIX.MSC4140_MAX_DELAY_EXCEEDED",
    /// 409 `M_CONCURRENT_WRITE` (MSC4388): somebody else was quicker.
    concurrent_write: CONFLICT "IO_ELEMENT_MSC4388_CONCURRENT_WRITE",
    /// 400 `M_APPSERVICE_LOGIN_UNSUPPORTED`.
    appservice_login_unsupported: BAD_REQUEST "M_APPSERVICE_LOGIN_UNSUPPORTED",
}

impl ApiError {
    fn new(status: StatusCode, errcode: &'static str, message: Cow<'static, str>) -> ApiError {
        ApiError(Box::new(Parts {
            status,
            errcode: Cow::Borrowed(errcode),
            message,
            extra: Map::new(),
            body: None,
            cause: None,
        }))
    }

    /// 500 `M_UNKNOWN` for a fault: the client reads a plain text with the request's id, the log
    /// has the cause under the same id.
    #[must_use]
    pub fn internal(cause: impl fmt::Display) -> ApiError {
        ApiError::server_error("Internal server error").caused_by(cause)
    }

    /// 429 `M_LIMIT_EXCEEDED`; the client should wait so many milliseconds.
    #[must_use]
    pub fn limit(retry_after_ms: u64) -> ApiError {
        let status = StatusCode::TOO_MANY_REQUESTS;
        ApiError::new(
            status,
            "M_LIMIT_EXCEEDED",
            Cow::Borrowed("Too many requests"),
        )
        .with("retry_after_ms", retry_after_ms)
    }

    /// 400 with a code that another server gave: what it refuses is passed on to who asked for it.
    #[must_use]
    pub fn passed_on(errcode: String, message: impl Into<Cow<'static, str>>) -> ApiError {
        let mut error = ApiError::unknown(message);
        error.0.errcode = Cow::Owned(errcode);
        error
    }

    /// 401 with the given body: the next step of user-interactive authentication (`flows`,
    /// `params`, `session`, `completed`, and after a failed step `errcode` and `error`).
    #[must_use]
    pub fn uia(body: Value) -> ApiError {
        let mut error = ApiError::unauthorized("Further authentication is needed");
        error.0.body = Some(body);
        error
    }

    /// What another server said, as it is: its status, code and words.
    #[must_use]
    pub fn relayed(status: StatusCode, errcode: &str, error: &str) -> ApiError {
        let mut relayed = ApiError::forbidden(error.to_owned());
        relayed.0.status = status;
        relayed.0.body = Some(serde_json::json!({ "errcode": errcode, "error": error }));
        relayed
    }

    /// Marks an unknown token as one that only has to be refreshed (`soft_logout`).
    #[must_use]
    pub fn soft_logout(self) -> ApiError {
        self.with("soft_logout", true)
    }

    /// The same error with a further member in its body.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> ApiError {
        self.0.extra.insert(key.to_owned(), value.into());
        self
    }

    /// The same error with a cause, which only the log shows.
    #[must_use]
    pub fn caused_by(mut self, cause: impl fmt::Display) -> ApiError {
        self.0.cause = Some(cause.to_string());
        self
    }

    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// The errcode, such as `M_FORBIDDEN`.
    #[must_use]
    pub fn errcode(&self) -> &str {
        &self.0.errcode
    }

    /// The text for the client.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The cause, for the log.
    #[must_use]
    pub fn cause(&self) -> Option<&str> {
        self.0.cause.as_deref()
    }

    /// The body as the client gets it; `id` is named where the fault is ours.
    #[must_use]
    pub fn body(&self, id: Option<&str>) -> Value {
        if let Some(body) = &self.0.body {
            return body.clone();
        }
        let mut map = self.0.extra.clone();
        let text = match id {
            Some(id) if self.0.status.is_server_error() && self.0.cause.is_some() => {
                format!("{} (request {id})", self.0.message)
            }
            _ => self.0.message.to_string(),
        };
        map.insert("errcode".to_owned(), Value::from(&*self.0.errcode));
        map.insert("error".to_owned(), Value::from(text));
        Value::Object(map)
    }

    pub(crate) fn into_response(self, id: &str) -> Response<axum::body::Body> {
        let body = self.body(Some(id)).to_string();
        let mut response = Response::new(axum::body::Body::from(body));
        *response.status_mut() = self.0.status;
        let headers = response.headers_mut();
        headers.insert(
            http::header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        if let Some(ms) = self.0.extra.get("retry_after_ms").and_then(Value::as_u64) {
            headers.insert(
                http::header::RETRY_AFTER,
                HeaderValue::from(ms.div_ceil(1000)),
            );
        }
        response
    }
}

impl fmt::Debug for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiError")
            .field("status", &self.0.status.as_u16())
            .field("errcode", &self.0.errcode)
            .field("message", &self.0.message)
            .field("cause", &self.0.cause)
            .finish()
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {}: {}",
            self.0.status.as_u16(),
            self.0.errcode,
            self.0.message
        )
    }
}

impl std::error::Error for ApiError {}
