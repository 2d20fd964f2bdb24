//! Why a server did not give what it was asked for.

use std::time::Duration;

use serde::Deserialize;

use crate::http::HttpError;

/// How much of what a server says in words is kept, in characters.
const WORDS_MAX: usize = 256;
/// The longest room version that is repeated, in bytes.
const VERSION_MAX: usize = 32;

/// Why a server did not give what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// It is this server itself.
    #[error("this is the server itself")]
    Ourselves,
    /// It is no server name, or one with which the operator does not want to talk.
    #[error("this server does not talk with that one")]
    Denied,
    /// It was not reached lately and is left alone.
    #[error("it was not reached lately and is left alone for a while")]
    Resting {
        /// Until when, in ms since the epoch.
        until_ms: u64,
    },
    /// It was not reached, or broke off.
    #[error("it was not reached: {0}")]
    Unreachable(String),
    /// It answered, with a status of failure.
    #[error("it answered {status} {}: {error}", .errcode.as_deref().unwrap_or("without a code"))]
    Refused {
        /// The status.
        status: u16,
        /// The code, where there is one.
        errcode: Option<String>,
        /// In words, at most 256 characters of them.
        error: String,
        /// The version of the room, where that is what it refuses for.
        room_version: Option<String>,
        /// For how long it wants not to be asked again.
        retry_after: Option<Duration>,
    },
    /// Its answer is not what was asked for.
    #[error("its answer is not understood: {0}")]
    Answer(String),
}

impl PeerError {
    /// The status of a refusal.
    #[must_use]
    pub const fn status(&self) -> Option<u16> {
        match self {
            PeerError::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether it refused with this code.
    #[must_use]
    pub fn is_code(&self, code: &str) -> bool {
        matches!(self, PeerError::Refused { errcode: Some(given), .. } if given == code)
    }

    /// A refusal, read from the body of an error as Matrix has it; any other body says nothing.
    pub(super) fn refused(status: u16, retry_after: Option<Duration>, body: &[u8]) -> PeerError {
        #[derive(Default, Deserialize)]
        struct Said {
            errcode: Option<String>,
            #[serde(default)]
            error: String,
            room_version: Option<String>,
            retry_after_ms: Option<u64>,
        }
        let said: Said = serde_json::from_slice(body).unwrap_or_default();
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"._".contains(&b);
        let is_code = |code: &String| code.len() <= WORDS_MAX && code.bytes().all(plain);
        PeerError::Refused {
            status,
            errcode: said.errcode.filter(is_code),
            error: said.error.chars().take(WORDS_MAX).collect(),
            room_version: said
                .room_version
                .filter(|version| version.len() <= VERSION_MAX),
            retry_after: retry_after.or(said.retry_after_ms.map(Duration::from_millis)),
        }
    }

    /// Whether it is the server, not what was asked of it, that is not well; and for how long it
    /// wants to be left alone, where it says so.
    #[must_use]
    pub const fn wants_rest(&self) -> Option<Option<Duration>> {
        match self {
            PeerError::Unreachable(_) => Some(None),
            PeerError::Refused {
                status: 429 | 502..=504,
                retry_after,
                ..
            } => Some(*retry_after),
            _ => None,
        }
    }
}

impl From<HttpError> for PeerError {
    fn from(error: HttpError) -> PeerError {
        match error {
            HttpError::Answer(_) | HttpError::TooLarge(_) => PeerError::Answer(error.to_string()),
            other => PeerError::Unreachable(other.to_string()),
        }
    }
}
