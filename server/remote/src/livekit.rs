//! The LiveKit server that carries group calls: tokens for it, and what is asked of it (MSC4195).
//!
//! LiveKit is to make no rooms on its own: this server makes each room when one of its users
//! first asks for a token for it.

mod jwt;
mod leaves;

use std::sync::Arc;
use std::time::Duration;

use ::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use skerry_core::Clock;
use skerry_core::canonical::write_string;

pub use leaves::Leaves;

use crate::http::{HttpError, Request, Response, Transport};

/// How long a token is good for, in seconds: for entering a room, not for staying in it.
const TOKEN_S: u64 = 3_600;
/// How long a token of our own is good for, in seconds.
const OWN_TOKEN_S: u64 = 60;
/// How long LiveKit keeps a room that nobody has entered yet, in seconds.
const EMPTY_S: u64 = 300;
/// How long LiveKit keeps a room that everybody has left, in seconds.
const DEPARTURE_S: u64 = 20;
/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Where the LiveKit server is, and what lets this one in.
#[derive(Clone, Debug)]
pub struct LiveKitSettings {
    /// Where clients reach it: `wss://..` or `ws://..`, without a slash at the end.
    pub url: String,
    /// The name of the key.
    pub key: String,
    /// The key's secret.
    pub secret: String,
}

/// Why LiveKit did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum LiveKitError {
    /// It was not reached.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// It refused.
    #[error("LiveKit answered {status}: {text}")]
    Refused {
        /// The status.
        status: StatusCode,
        /// The beginning of the answer.
        text: String,
    },
}

/// What somebody may do in a room.
#[derive(Clone, Copy, Debug)]
pub struct Grant<'a> {
    /// LiveKit's name of the room.
    pub room: &'a str,
    /// LiveKit's name of the participant.
    pub identity: &'a str,
    /// Whether they may set data about themselves, as older clients expect.
    pub metadata: bool,
}

/// A LiveKit server. Cheap to clone.
#[derive(Clone)]
pub struct LiveKit {
    settings: Arc<LiveKitSettings>,
    transport: Arc<dyn Transport>,
    clock: Arc<dyn Clock>,
}

/// A name that tells LiveKit nothing about what it was made from: the hash of a JSON array.
#[must_use]
pub fn pseudonym(parts: &[&str]) -> String {
    let mut text = String::from("[");
    for (at, part) in parts.iter().enumerate() {
        if at > 0 {
            text.push(',');
        }
        write_string(part, &mut text);
    }
    text.push(']');
    STANDARD_NO_PAD.encode(Sha256::digest(text.as_bytes()))
}

impl LiveKit {
    /// The server at these settings, asked over this transport.
    #[must_use]
    pub fn new(
        settings: LiveKitSettings,
        transport: Arc<dyn Transport>,
        clock: Arc<dyn Clock>,
    ) -> LiveKit {
        LiveKit {
            settings: Arc::new(settings),
            transport,
            clock,
        }
    }

    /// Where clients reach it.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.settings.url
    }

    /// A token with which a client enters a room, to be seen and heard there. It makes no room.
    #[must_use]
    pub fn token(&self, grant: Grant<'_>) -> String {
        let video = json!({
            "room": grant.room,
            "roomJoin": true,
            "roomCreate": false,
            "canPublish": true,
            "canSubscribe": true,
            "canUpdateOwnMetadata": grant.metadata,
        });
        self.sign(Some(grant.identity), TOKEN_S, &video)
    }

    fn sign(&self, identity: Option<&str>, seconds: u64, video: &Value) -> String {
        let now_s = self.clock.now_ms() / 1_000;
        let mut claims = json!({
            "iss": self.settings.key,
            "nbf": now_s,
            "exp": now_s + seconds,
            "video": video,
        });
        if let (Some(identity), Some(claims)) = (identity, claims.as_object_mut()) {
            claims.insert("sub".to_owned(), identity.into());
        }
        jwt::sign(&claims, self.settings.secret.as_bytes())
    }

    /// Makes a room, if it is not there.
    ///
    /// # Errors
    /// [`LiveKitError`].
    pub async fn create_room(&self, room: &str) -> Result<(), LiveKitError> {
        let body = json!({
            "name": room,
            "empty_timeout": EMPTY_S,
            "departure_timeout": DEPARTURE_S,
        });
        let may = json!({ "roomCreate": true });
        done(self.ask("CreateRoom", &may, &body).await?).map(|_| ())
    }

    /// Whether a participant is in a room now.
    ///
    /// # Errors
    /// [`LiveKitError`]: then it is not known.
    pub async fn is_connected(&self, room: &str, identity: &str) -> Result<bool, LiveKitError> {
        let admin = json!({ "roomAdmin": true, "room": room });
        let body = json!({ "room": room, "identity": identity });
        let answer = self.ask("GetParticipant", &admin, &body).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(false);
        }
        done(answer).map(|_| true)
    }

    async fn ask(&self, method: &str, video: &Value, body: &Value) -> Result<Response, HttpError> {
        // The same server for requests: http for ws, https for wss.
        let base = self.settings.url.replacen("ws", "http", 1);
        let url = format!("{base}/twirp/livekit.RoomService/{method}");
        let token = self.sign(None, OWN_TOKEN_S, video);
        let request = Request::post(&url).bearer(&token).json(body);
        self.transport
            .send(request.trusted().timeout(TIMEOUT))
            .await
    }

    /// Reads what LiveKit tells of its own accord; `None` where it was not LiveKit who said it.
    /// `authorization` is the header of that name.
    #[must_use]
    pub fn hook(&self, authorization: &str, body: &[u8]) -> Option<Hook> {
        let token = authorization
            .strip_prefix("Bearer ")
            .unwrap_or(authorization);
        let claims = jwt::verify(token, self.settings.secret.as_bytes())?;
        let number = |name: &str| claims.get(name).and_then(Value::as_u64);
        let now_s = self.clock.now_ms() / 1_000;
        let fits = claims.get("iss").and_then(Value::as_str) == Some(&self.settings.key)
            && number("exp").is_some_and(|exp| exp > now_s)
            && claims
                .get("sha256")
                .and_then(Value::as_str)
                .is_some_and(|said| {
                    let hash = STANDARD_NO_PAD.encode(Sha256::digest(body));
                    said.trim_end_matches('=') == hash
                });
        if !fits {
            return None;
        }
        let body: Value = serde_json::from_slice(body).ok()?;
        let text = |path: &str| {
            body.pointer(path)
                .and_then(Value::as_str)
                .map(str::to_owned)
        };
        Some(Hook {
            event: text("/event")?,
            room: text("/room/name").unwrap_or_default(),
            identity: text("/participant/identity").unwrap_or_default(),
            wanted: text("/participant/disconnectReason")
                .is_some_and(|why| why == "CLIENT_INITIATED"),
        })
    }
}

/// Something that happened at LiveKit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// What: `participant_joined`, `participant_left`, and others.
    pub event: String,
    /// In which room; empty where it is about none.
    pub room: String,
    /// Who; empty where it is about nobody.
    pub identity: String,
    /// Whether they left because they wanted to.
    pub wanted: bool,
}

fn done(answer: Response) -> Result<Response, LiveKitError> {
    if answer.status.is_success() {
        return Ok(answer);
    }
    let text = String::from_utf8_lossy(&answer.body);
    Err(LiveKitError::Refused {
        status: answer.status,
        text: text.chars().take(200).collect(),
    })
}

#[cfg(test)]
mod tests;
