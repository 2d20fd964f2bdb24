//! Why something that other servers have a part in was not done.

use skerry_room::RoomError;
use skerry_store::StoreError;

use super::PeerError;
use super::pieces::PiecesError;

/// Why something that other servers have a part in was not done.
#[derive(Debug, thiserror::Error)]
pub enum FederationError {
    /// A room refused, or this server's own rules, or its store failed.
    #[error(transparent)]
    Room(#[from] RoomError),
    /// Nobody is known who could be asked.
    #[error("{0}")]
    Nobody(String),
    /// Another server refused.
    #[error("{server} refused: {error}")]
    Refused {
        /// The server.
        server: String,
        /// The status of its answer.
        status: u16,
        /// Its errcode.
        errcode: String,
        /// What it said, cut to a sensible length.
        error: String,
        /// The version of the room, where that is what it refuses for.
        room_version: Option<String>,
    },
    /// Another server gave no answer.
    #[error("{server} cannot be reached: {cause}")]
    Unreachable {
        /// The server.
        server: String,
        /// Why.
        cause: String,
    },
    /// Another server's answer is not what was asked for.
    #[error("the answer of {server} is of no use: {cause}")]
    Answer {
        /// The server.
        server: String,
        /// What is wrong with it.
        cause: String,
    },
    /// A server made us fetch more than it may for now.
    #[error("{server} has made this server fetch more than it may for now")]
    Budget {
        /// The server.
        server: String,
    },
    /// Work was given up: the server stops, or a fault of ours.
    #[error("given up: {0}")]
    Stopped(String),
    /// An event rests on others that nobody gives us.
    #[error("what the event {event} rests on cannot be had: {cause}")]
    Incomplete {
        /// The event.
        event: String,
        /// What is missing.
        cause: String,
    },
}

/// The longest text of another server that is repeated, in bytes.
const TEXT_MAX: usize = 300;

impl FederationError {
    /// What became of asking a server.
    pub(super) fn of(server: &str, error: PeerError) -> FederationError {
        let server = server.to_owned();
        match error {
            PeerError::Refused {
                status,
                errcode,
                error,
                room_version,
                ..
            } => FederationError::Refused {
                server,
                status,
                errcode: errcode.unwrap_or_default(),
                error: cut(&error),
                room_version,
            },
            PeerError::Answer(cause) => FederationError::Answer { server, cause },
            other => FederationError::Unreachable {
                server,
                cause: other.to_string(),
            },
        }
    }

    /// An answer that is not what was asked for.
    pub(super) fn answer(server: &str, cause: impl Into<String>) -> FederationError {
        FederationError::Answer {
            server: server.to_owned(),
            cause: cause.into(),
        }
    }

    /// An answer that cannot be read.
    pub(super) fn unread(server: &str, error: &PiecesError) -> FederationError {
        FederationError::answer(server, error.to_string())
    }

    /// Whether it has to do with us or with limits of ours: asking further does not help.
    pub(super) fn is_ours(&self) -> bool {
        matches!(
            self,
            FederationError::Room(_) | FederationError::Stopped(_) | FederationError::Budget { .. }
        )
    }

    /// How much an error says to somebody who asked several servers: the more, the likelier it is
    /// told.
    fn weight(&self) -> u8 {
        match self {
            FederationError::Room(_) => 5,
            FederationError::Refused { status: 403, .. } => 4,
            FederationError::Refused { errcode, .. } if errcode.starts_with("M_UNABLE_TO") => 3,
            FederationError::Refused { status: 400, .. } => 3,
            FederationError::Refused { status: 404, .. } => 2,
            FederationError::Nobody(_) => 0,
            _ => 1,
        }
    }

    /// The one of two errors that says more; of equals the first.
    pub(super) fn or(self, other: FederationError) -> FederationError {
        if other.weight() > self.weight() {
            other
        } else {
            self
        }
    }
}

impl From<StoreError> for FederationError {
    fn from(error: StoreError) -> FederationError {
        FederationError::Room(error.into())
    }
}

fn cut(text: &str) -> String {
    let end = text.floor_char_boundary(TEXT_MAX);
    text.get(..end).unwrap_or_default().to_owned()
}
