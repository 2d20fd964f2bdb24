//! What another server is told when a facade refuses.

use skerry_account::AccountError;
use skerry_core::event::FormatError;
use skerry_http::{ApiError, StatusCode};
use skerry_remote::federation::{FederationError, PduFault};
use skerry_room::{PolicyRefusal, RoomError};
use skerry_store::StoreError;

/// A failure of the store. Only a full disk says what it is; all else is for the log.
pub(crate) fn store(error: &StoreError) -> ApiError {
    match error {
        StoreError::Full => ApiError::no_space("The server has no space left to store this"),
        StoreError::TooLarge(_) => ApiError::too_large("The request is too large to be stored"),
        StoreError::Closed => ApiError::unavailable("The server is stopping"),
        other => ApiError::internal(other),
    }
}

/// A refusal of the rooms.
pub(crate) fn room(error: RoomError) -> ApiError {
    let text = error.to_string();
    match error {
        RoomError::Store(error) => store(&error),
        RoomError::NotFound(_) => ApiError::not_found(text),
        RoomError::InvalidParam(_) | RoomError::BadState(_) => ApiError::invalid_param(text),
        RoomError::BadJson(_) => ApiError::bad_json(text),
        RoomError::TooLarge(_) => ApiError::too_large(text),
        RoomError::Policy(refusal) => policy(refusal),
        RoomError::UnsupportedVersion(_) => ApiError::unsupported_room_version(text),
        RoomError::IncompatibleVersion(version) => {
            ApiError::incompatible_room_version(text).with("room_version", version)
        }
        RoomError::UnableToAuthoriseJoin(_) => ApiError::unable_to_authorise_join(text),
        RoomError::UnableToGrantJoin(_) => ApiError::unable_to_grant_join(text),
        RoomError::InviteBlocked(_) => ApiError::invite_blocked(text),
        // All others are ways of saying that it is not allowed.
        _ => ApiError::forbidden(text),
    }
}

/// What a policy server said, as it is; or that it said nothing.
pub(crate) fn policy(refusal: PolicyRefusal) -> ApiError {
    match refusal {
        PolicyRefusal::Said {
            status,
            errcode,
            error,
        } => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
            ApiError::relayed(status, &errcode, &error)
        }
        silent @ PolicyRefusal::Silent { .. } => ApiError::bad_gateway(silent.to_string()),
    }
}

/// What became of something that other servers had to help with.
pub(crate) fn federation(error: FederationError) -> ApiError {
    match error {
        FederationError::Room(error) => room(error),
        other => ApiError::bad_gateway(other.to_string()),
    }
}

/// An event that is not genuine.
pub(crate) fn pdu(wrong: &PduFault) -> ApiError {
    let text = wrong.to_string();
    match wrong {
        PduFault::Format(FormatError::Json(_)) => ApiError::bad_json(text),
        PduFault::Format(FormatError::TooLarge(_)) => ApiError::too_large(text),
        // The specification wants this code for signatures too.
        PduFault::Format(_) | PduFault::Signature(_) => ApiError::invalid_param(text),
        PduFault::Unchecked => ApiError::internal(text),
    }
}

/// A refusal of the accounts.
pub(crate) fn account(error: AccountError) -> ApiError {
    let text = error.to_string();
    match error {
        AccountError::Store(error) => store(&error),
        AccountError::NotFound(why) => ApiError::not_found(why),
        AccountError::Invalid(why) => ApiError::invalid_param(why),
        AccountError::BadJson(why) => ApiError::bad_json(why),
        AccountError::Missing(_) => ApiError::missing_param(text),
        AccountError::Forbidden(why) => ApiError::forbidden(why),
        other => ApiError::internal(other),
    }
}
