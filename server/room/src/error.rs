//! Why a room did not do what was asked.

use skerry_store::StoreError;

/// Why a change of a room was refused, or failed. Each variant is something its caller answers
/// differently.
#[derive(Debug, thiserror::Error)]
pub enum RoomError {
    /// The rules of the room, or of this server, do not allow it.
    #[error("{0}")]
    Forbidden(String),
    /// A guest may not do it.
    #[error("{0}")]
    GuestForbidden(String),
    /// There is no such room, event, alias or user, or the caller may not know of it.
    #[error("{0}")]
    NotFound(String),
    /// The room version is not one this server has.
    #[error("room version {0:?} is not supported")]
    UnsupportedVersion(String),
    /// The state that a new room was asked to begin with contradicts the rules.
    #[error("{0}")]
    InvalidState(String),
    /// An alias is taken.
    #[error("{0}")]
    AliasInUse(String),
    /// A canonical alias does not point to the room.
    #[error("{0}")]
    BadAlias(String),
    /// The event is larger than 65,536 bytes, or an id in it than 255.
    #[error("{0}")]
    TooLarge(String),
    /// The content is not what an event may hold.
    #[error("{0}")]
    BadJson(String),
    /// A parameter makes no sense.
    #[error("{0}")]
    InvalidParam(String),
    /// A restricted join that no member of this server can authorise.
    #[error("{0}")]
    UnableToAuthoriseJoin(String),
    /// The member's state is not what the request needs (banned, not banned, ...).
    #[error("{0}")]
    BadState(String),
    /// The invited user wants no invites.
    #[error("{0}")]
    InviteBlocked(String),
    /// The user has annotated the event with the same key before.
    #[error("{0}")]
    DuplicateAnnotation(String),
    /// A thread was to begin at an event that is itself about another one.
    #[error("{0}")]
    ThreadOnRelation(String),
    /// The event that is to have caused a subscription to a thread is not in the thread.
    #[error("{0}")]
    NotInThread(String),
    /// The user ended their subscription after the event that would cause a new one.
    #[error("{0}")]
    Unsubscribed(String),
    /// The store failed.
    #[error(transparent)]
    Store(StoreError),
}

impl From<StoreError> for RoomError {
    fn from(error: StoreError) -> RoomError {
        RoomError::Store(error)
    }
}
