//! What another server is told when a facade refuses.

use skerry_account::AccountError;
use skerry_http::ApiError;
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
