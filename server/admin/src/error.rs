//! What an administrator is told when something about an account was not done.

use skerry_account::AccountError;
use skerry_http::ApiError;
use skerry_room::RoomError;
use skerry_store::StoreError;

/// The admin API's answer for each way an account can refuse.
pub(crate) fn refuse(error: AccountError) -> ApiError {
    let text = error.to_string();
    match error {
        AccountError::NotFound(_) => ApiError::not_found(text),
        AccountError::UserInUse => ApiError::user_in_use(text),
        AccountError::InvalidUsername(_) => ApiError::invalid_username(text),
        AccountError::Exclusive(_) => ApiError::exclusive(text),
        AccountError::Registration(_) => ApiError::invalid_param(text),
        AccountError::Invalid(_) => ApiError::invalid_param(text),
        AccountError::Missing(_) => ApiError::missing_param(text),
        AccountError::BadJson(_) => ApiError::bad_json(text),
        AccountError::TooLarge(_) => ApiError::too_large(text),
        AccountError::Forbidden(_) => ApiError::forbidden(text),
        AccountError::Deactivated => ApiError::user_deactivated(text),
        AccountError::Busy { retry_after_ms } => ApiError::limit(retry_after_ms),
        AccountError::Store(StoreError::Full) => {
            ApiError::no_space("The disk is full; nothing was changed")
        }
        _ => ApiError::internal(text),
    }
}

/// The admin API's answer for each way a room can refuse.
pub(crate) fn refuse_room(error: RoomError) -> ApiError {
    let text = error.to_string();
    match error {
        RoomError::NotFound(_) => ApiError::not_found(text),
        RoomError::InvalidParam(_) => ApiError::invalid_param(text),
        RoomError::BadJson(_) => ApiError::bad_json(text),
        RoomError::TooLarge(_) => ApiError::too_large(text),
        RoomError::Forbidden(_) => ApiError::forbidden(text),
        RoomError::Store(StoreError::Full) => {
            ApiError::no_space("The disk is full; nothing was changed")
        }
        _ => ApiError::internal(text),
    }
}
