//! What a client is told when a facade refuses: errors that many endpoints share.

use skerry_account::AccountError;
use skerry_http::ApiError;
use skerry_remote::federation::FederationError;
use skerry_remote::identity::IdentityError;
use skerry_store::StoreError;

use crate::in_room::refusal;

/// A failure of the store as the client's error. Only a full disk and a write that is too large
/// say what they are; all else is a fault whose cause is for the log.
pub(crate) fn store(error: &StoreError) -> ApiError {
    match error {
        StoreError::Full => ApiError::no_space("The server has no space left to store this"),
        StoreError::TooLarge(_) => ApiError::too_large("The request is too large to be stored"),
        StoreError::Closed => ApiError::unavailable("The server is stopping"),
        other => ApiError::internal(other),
    }
}

/// What went wrong with an identity server as the client's error.
pub(crate) fn identity(error: IdentityError) -> ApiError {
    let text = error.to_string();
    match error {
        IdentityError::Account(error) => account(error),
        IdentityError::Room(error) => refusal(error),
        IdentityError::Elsewhere(error) => federation(error),
        IdentityError::Name(_) => ApiError::invalid_param(text),
        IdentityError::Missing(_) => ApiError::missing_param(text),
        IdentityError::Signature(_) => ApiError::forbidden(text),
        IdentityError::Refused { errcode, .. } => match errcode.as_str() {
            "M_SESSION_NOT_VALIDATED" | "M_NO_VALID_SESSION" | "M_SESSION_EXPIRED" => {
                ApiError::threepid_auth_failed(text)
            }
            "M_UNAUTHORIZED" | "M_TERMS_NOT_SIGNED" | "M_FORBIDDEN" => ApiError::forbidden(text),
            _ => ApiError::unknown(text),
        },
        IdentityError::Answer | IdentityError::Unreachable(_) => ApiError::bad_gateway(text),
    }
}

/// How long a client waits before it asks again for what another server is too busy for, in ms.
const BUSY_ELSEWHERE_MS: u64 = 5_000;

/// Codes that say something about the client's own session, which is no other server's affair; and
/// those that the server-server API wants kept from clients ("the request SHOULD fail with a 5xx
/// error"), since the request that they are about was this server's.
const NOT_PASSED_ON: [&str; 13] = [
    "M_MISSING_PARAM",
    "M_INVALID_PARAM",
    "M_UNRECOGNIZED",
    "M_UNAUTHORIZED",
    "M_MISSING_TOKEN",
    "M_UNKNOWN_TOKEN",
    "M_USER_DEACTIVATED",
    "M_USER_LOCKED",
    "M_USER_SUSPENDED",
    "M_CONSENT_NOT_GIVEN",
    "M_RESOURCE_LIMIT_EXCEEDED",
    "M_GUEST_ACCESS_FORBIDDEN",
    "M_CAPTCHA_NEEDED",
];

/// What other servers did not do as the client's error. What they refuse with a status of 400 is
/// passed on, as the server-server API wants it, "so that clients may give better feedback"; of the
/// rest, codes that mean something to a client are. The words are ours and theirs.
pub(crate) fn federation(error: FederationError) -> ApiError {
    let text = error.to_string();
    match error {
        FederationError::Room(error) => refusal(error),
        FederationError::Nobody(text) => ApiError::not_found(text),
        FederationError::Refused {
            status,
            errcode,
            room_version,
            ..
        } => match (errcode.as_str(), status) {
            ("M_UNABLE_TO_AUTHORISE_JOIN", _) => ApiError::unable_to_authorise_join(text),
            ("M_UNABLE_TO_GRANT_JOIN", _) => ApiError::unable_to_grant_join(text),
            ("M_INCOMPATIBLE_ROOM_VERSION", _) => {
                let refused = ApiError::incompatible_room_version(text);
                match room_version {
                    Some(version) => refused.with("room_version", version),
                    None => refused,
                }
            }
            ("M_INVITE_BLOCKED", _) => ApiError::invite_blocked(text),
            ("M_LIMIT_EXCEEDED", _) => ApiError::limit(BUSY_ELSEWHERE_MS),
            ("M_FORBIDDEN", _) | (_, 403) => ApiError::forbidden(text),
            ("M_NOT_FOUND", 404) => ApiError::not_found(text),
            (code, 400) if code.starts_with("M_") && !NOT_PASSED_ON.contains(&code) => {
                ApiError::passed_on(errcode, text)
            }
            _ => ApiError::bad_gateway(text),
        },
        FederationError::Unreachable { .. }
        | FederationError::Answer { .. }
        | FederationError::Budget { .. }
        | FederationError::Incomplete { .. } => ApiError::bad_gateway(text),
        FederationError::Stopped(cause) => ApiError::internal(cause),
    }
}

/// A refusal of the accounts as the client's error.
pub(crate) fn account(error: AccountError) -> ApiError {
    let text = error.to_string();
    match error {
        AccountError::Store(error) => store(&error),
        AccountError::Interactive(body) => ApiError::uia(*body),
        AccountError::Forbidden(why) => ApiError::forbidden(why),
        AccountError::Deactivated => ApiError::user_deactivated(text),
        AccountError::Locked => ApiError::user_locked(text).soft_logout(),
        AccountError::UnknownToken { soft_logout: true } => {
            ApiError::unknown_token(text).soft_logout()
        }
        AccountError::UnknownToken { soft_logout: false } => ApiError::unknown_token(text),
        AccountError::UserInUse => ApiError::user_in_use(text),
        AccountError::InvalidUsername(why) => ApiError::invalid_username(why),
        AccountError::Exclusive(why) => ApiError::exclusive(why),
        AccountError::UnknownDevice => ApiError::unknown_device(text),
        AccountError::AppserviceLogin => ApiError::appservice_login_unsupported(text),
        AccountError::Registration(_) => ApiError::invalid_param(text),
        AccountError::GuestsDisabled => ApiError::guest_access_forbidden(text),
        AccountError::NotFound(why) => ApiError::not_found(why),
        AccountError::Missing(_) => ApiError::missing_param(text),
        AccountError::Invalid(why) => ApiError::invalid_param(why),
        AccountError::BadJson(why) => ApiError::bad_json(why),
        AccountError::TooLarge(why) => ApiError::too_large(why),
        AccountError::ProfileTooLarge => ApiError::profile_too_large(text),
        AccountError::KeyTooLarge => ApiError::key_too_large(text),
        AccountError::ServerManaged => ApiError::server_managed(text),
        AccountError::AddressInUse => ApiError::threepid_in_use(text),
        AccountError::AddressDenied(why) => ApiError::threepid_denied(why),
        AccountError::AddressUnproved => ApiError::threepid_auth_failed(text),
        AccountError::MediumUnknown(why) => ApiError::threepid_medium_not_supported(why),
        AccountError::ActivationExpired => ApiError::activation_expired(text),
        AccountError::ActivationUnknown => ApiError::activation_unknown(text),
        AccountError::Busy { retry_after_ms } => ApiError::limit(retry_after_ms),
        AccountError::Hashing(cause) => ApiError::internal(cause),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_other_servers_refuse_as_invalid_is_passed_on() {
        let refused = |status: u16, code: &str| {
            let error = federation(FederationError::Refused {
                server: "far.example".to_owned(),
                status,
                errcode: code.to_owned(),
                error: "no".to_owned(),
                room_version: Some("99".to_owned()),
            });
            let version = error.body(None).get("room_version").cloned();
            (error.status().as_u16(), error.errcode().to_owned(), version)
        };
        for (status, code, expected) in [
            (400, "M_SOMETHING_NEW", (400, "M_SOMETHING_NEW")),
            (403, "M_SOMETHING_NEW", (403, "M_FORBIDDEN")),
            // What concerns this server's request, or would end the client's session, is not.
            (400, "M_INVALID_PARAM", (502, "M_UNKNOWN")),
            (400, "M_UNKNOWN_TOKEN", (502, "M_UNKNOWN")),
            (401, "M_UNKNOWN_TOKEN", (502, "M_UNKNOWN")),
            (400, "something", (502, "M_UNKNOWN")),
            (500, "M_SOMETHING_NEW", (502, "M_UNKNOWN")),
        ] {
            let (status_told, code_told, version) = refused(status, code);
            assert_eq!((status_told, &*code_told), expected, "{status} {code}");
            assert_eq!(version, None);
        }
        let (status, code, version) = refused(400, "M_INCOMPATIBLE_ROOM_VERSION");
        assert_eq!((status, &*code), (400, "M_INCOMPATIBLE_ROOM_VERSION"));
        assert_eq!(version, Some("99".into()));
    }
}
