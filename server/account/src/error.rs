//! What can go wrong with an account: one variant for each way a caller acts.

use serde_json::Value;
use skerry_store::StoreError;

/// Why something about an account was not done.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// The store failed.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// More authentication is needed: the body of the 401 of user-interactive authentication.
    #[error("user-interactive authentication is not complete")]
    Interactive(Box<Value>),
    /// Wrong credentials, or not allowed; says why.
    #[error("{0}")]
    Forbidden(&'static str),
    /// The account was deactivated.
    #[error("This account has been deactivated")]
    Deactivated,
    /// The account is locked by an administrator.
    #[error("This account has been locked")]
    Locked,
    /// The access or refresh token is not known.
    #[error("Unknown or expired token")]
    UnknownToken {
        /// The device still exists and the client may log in again keeping its state.
        soft_logout: bool,
    },
    /// The name is taken.
    #[error("This username is already taken")]
    UserInUse,
    /// The name breaks the rules; says which.
    #[error("{0}")]
    InvalidUsername(&'static str),
    /// The name is kept for an application service, or not in its namespace; says which.
    #[error("{0}")]
    Exclusive(&'static str),
    /// The user has no such device.
    #[error("The user has no such device")]
    UnknownDevice,
    /// An application service that manages devices does not log in.
    #[error("This application service may not log in; it has to set inhibit_login")]
    AppserviceLogin,
    /// A registration of an application service cannot be used; says why.
    #[error("{0}")]
    Registration(String),
    /// Guests are not let in.
    #[error("Guest access is disabled")]
    GuestsDisabled,
    /// No such thing; says what.
    #[error("{0}")]
    NotFound(&'static str),
    /// A parameter is missing; says which.
    #[error("Missing parameter: {0}")]
    Missing(&'static str),
    /// A parameter is wrong; says how.
    #[error("{0}")]
    Invalid(&'static str),
    /// A value has the wrong shape; says how.
    #[error("{0}")]
    BadJson(&'static str),
    /// A value is larger than allowed.
    #[error("{0}")]
    TooLarge(&'static str),
    /// The profile would be larger than 64 KiB.
    #[error("The profile would be larger than 64 KiB")]
    ProfileTooLarge,
    /// The profile field's name is longer than 255 bytes.
    #[error("The profile field's name is longer than 255 bytes")]
    KeyTooLarge,
    /// This type of account data is written by another endpoint.
    #[error("This type is managed by the server and has an endpoint of its own")]
    ServerManaged,
    /// The address belongs to another account.
    #[error("This address belongs to another account")]
    AddressInUse,
    /// The address may not be used; says why.
    #[error("{0}")]
    AddressDenied(&'static str),
    /// The address was not validated.
    #[error("The address was not validated, or too long ago")]
    AddressUnproved,
    /// Not a kind of address that is known here; says which is not.
    #[error("{0}")]
    MediumUnknown(&'static str),
    /// What a pusher sends back to prove that it is reached came too late (MSC4174).
    #[error("The activation token has expired")]
    ActivationExpired,
    /// What a pusher sends back is not what it was sent (MSC4174).
    #[error("Unknown activation token")]
    ActivationUnknown,
    /// Too much at once; try again after this many milliseconds.
    #[error("Too many requests")]
    Busy {
        /// When to try again, in ms.
        retry_after_ms: u64,
    },
    /// Hashing a password failed, which the inputs cannot cause.
    #[error("password hashing failed: {0}")]
    Hashing(String),
}
