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
    /// A suspended account may not do it.
    #[error("{0}")]
    Suspended(String),
    /// An alias that belongs to an application service, or does not belong to the one that asks.
    #[error("{0}")]
    Exclusive(String),
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
    /// A restricted join of another server's user who meets the conditions, but whom nobody of
    /// this server may let in: another server may be asked.
    #[error("{0}")]
    UnableToGrantJoin(String),
    /// The room is of a version that the other server does not know; holds the room's version.
    #[error("The room's version is {0}")]
    IncompatibleVersion(String),
    /// The member's state is not what the request needs (banned, not banned, ...).
    #[error("{0}")]
    BadState(String),
    /// The invited user wants no invites.
    #[error("{0}")]
    InviteBlocked(String),
    /// The room is the one in which the server speaks to the user: its invite cannot be declined.
    #[error("{0}")]
    NoticeRoom(String),
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
    /// A delay is longer than the longest allowed one, in ms.
    #[error("The requested delay exceeds the allowed maximum of {0} ms")]
    DelayTooLong(u64),
    /// The user has scheduled too many events; so many ms from now the first is sent.
    #[error("The maximum number of delayed events has been reached")]
    DelayedLimit(u64),
    /// Something else has become of a delayed event than is asked for.
    #[error("{0}")]
    DelayedOver(String),
    /// What a redacted event said is not kept any more (MSC2815).
    #[error("What the event said is not kept any more")]
    OriginalGone {
        /// For how long such things are kept, in ms.
        keep_ms: u64,
    },
    /// The room's policy server does not recommend the event, or gave no answer.
    #[error(transparent)]
    Policy(crate::PolicyRefusal),
    /// The store failed.
    #[error(transparent)]
    Store(StoreError),
}

impl From<StoreError> for RoomError {
    fn from(error: StoreError) -> RoomError {
        RoomError::Store(error)
    }
}

impl RoomError {
    /// The code under which it is noted why a delayed event was not sent.
    pub(crate) fn errcode(&self) -> &str {
        match self {
            RoomError::Forbidden(_) => "M_FORBIDDEN",
            RoomError::Policy(refusal) => refusal.errcode(),
            RoomError::GuestForbidden(_) => "M_GUEST_ACCESS_FORBIDDEN",
            RoomError::Suspended(_) => "M_USER_SUSPENDED",
            RoomError::NotFound(_) => "M_NOT_FOUND",
            RoomError::BadAlias(_) => "M_BAD_ALIAS",
            RoomError::TooLarge(_) => "M_TOO_LARGE",
            RoomError::BadJson(_) => "M_BAD_JSON",
            RoomError::InvalidParam(_) => "M_INVALID_PARAM",
            RoomError::UnableToAuthoriseJoin(_) => "M_UNABLE_TO_AUTHORISE_JOIN",
            RoomError::UnableToGrantJoin(_) => "M_UNABLE_TO_GRANT_JOIN",
            RoomError::IncompatibleVersion(_) => "M_INCOMPATIBLE_ROOM_VERSION",
            RoomError::BadState(_) => "M_BAD_STATE",
            RoomError::InviteBlocked(_) => "M_INVITE_BLOCKED",
            RoomError::DuplicateAnnotation(_) => "M_DUPLICATE_ANNOTATION",
            _ => "M_UNKNOWN",
        }
    }
}
