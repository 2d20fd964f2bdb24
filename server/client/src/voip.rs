//! Calls between two: relays for what does not find a way by itself (client-server API, "Voice
//! over IP").

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use skerry_http::{Answer, ApiError, Call, Route, route};

use crate::Ctx;

/// The endpoints of this file.
pub(crate) const ROUTES: &[Route<Ctx>] =
    &[route!(GET "/_matrix/client/v3/voip/turnServer", Token, Send, turn_server)];

/// Relays, and how clients log in there.
#[derive(Clone)]
pub struct Turn {
    /// `turn:` and `turns:` URIs.
    pub uris: Vec<String>,
    /// How clients log in.
    pub login: TurnLogin,
    /// For how long a login is good, in seconds.
    pub ttl_s: u64,
    /// Whether guests get one.
    pub guests: bool,
}

/// How clients log in to a relay.
#[derive(Clone)]
pub enum TurnLogin {
    /// By a name that says how long it is good, and a password made from it and this secret,
    /// which the relay knows too.
    Secret(String),
    /// All by this name and password.
    Fixed(String, String),
}

/// `GET /voip/turnServer`: an empty object where there are no relays.
async fn turn_server(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let requester = call.requester()?;
    let turn = ctx.calls.turn.as_ref();
    if requester.is_guest && !turn.is_some_and(|turn| turn.guests) {
        return Err(ApiError::guest_access_forbidden(
            "Guests may not use the relays",
        ));
    }
    let Some(turn) = turn else {
        return Ok(Answer::empty());
    };
    let (username, password) = match &turn.login {
        TurnLogin::Secret(secret) => {
            let until_s = ctx.clock.now_ms() / 1_000 + turn.ttl_s;
            let name = format!("{until_s}:{}", requester.user_id);
            let mac = skerry_account::hmac_sha1(secret.as_bytes(), name.as_bytes());
            (name, STANDARD.encode(mac))
        }
        TurnLogin::Fixed(name, password) => (name.clone(), password.clone()),
    };
    Answer::json(&json!({
        "username": username,
        "password": password,
        "uris": turn.uris,
        "ttl": turn.ttl_s,
    }))
}
