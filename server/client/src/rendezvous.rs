//! Rendezvous: two devices of one person, one of them not logged in yet, pass a few short
//! messages to each other (sign-in with a QR code). What they say is encrypted; this server only
//! keeps the newest message for a while, in memory.
//!
//! Two forms are in use: plain text with entity tags (MSC4108), JSON with sequence tokens
//! (MSC4388).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{
    CONTENT_TYPE, ETAG, EXPIRES, HeaderName, IF_MATCH, IF_NONE_MATCH, LAST_MODIFIED, PRAGMA,
    X_CONTENT_TYPE_OPTIONS,
};
use parking_lot::Mutex;
use ruma_common::http_headers::system_time_to_http_date;
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest, Sha256};
use skerry_core::keys::random_name;
use skerry_http::{Answer, ApiError, Call, Route, StatusCode, route};

use crate::Ctx;

/// The endpoints of this file.
pub(crate) const ROUTES: &[Route<Ctx>] = &[
    route!(
        POST "/_matrix/client/unstable/org.matrix.msc4108/rendezvous", None, Login, text_create
    )
    .bytes()
    .max_body(DATA_MAX),
    route!(
        GET "/_matrix/client/unstable/org.matrix.msc4108/rendezvous/{sessionId}",
        None, Send, text_get
    ),
    route!(
        PUT "/_matrix/client/unstable/org.matrix.msc4108/rendezvous/{sessionId}",
        None, Send, text_put
    )
    .bytes()
    .max_body(DATA_MAX),
    route!(
        DELETE "/_matrix/client/unstable/org.matrix.msc4108/rendezvous/{sessionId}",
        None, Send, text_delete
    ),
    route!(
        GET "/_matrix/client/unstable/io.element.msc4388/rendezvous",
        TokenOptional, Send, json_discover
    ),
    route!(
        POST "/_matrix/client/unstable/io.element.msc4388/rendezvous",
        TokenOptional, Login, json_create
    ),
    route!(
        GET "/_matrix/client/unstable/io.element.msc4388/rendezvous/{sessionId}",
        None, Send, json_get
    ),
    route!(
        PUT "/_matrix/client/unstable/io.element.msc4388/rendezvous/{sessionId}",
        None, Send, json_put
    ),
    route!(
        DELETE "/_matrix/client/unstable/io.element.msc4388/rendezvous/{sessionId}",
        None, Send, json_delete
    ),
];

/// The longest message, in bytes.
const DATA_MAX: usize = 4_096;
/// Sessions kept at once; a further one takes the place of the oldest.
const SESSIONS_MAX: usize = 1_000;
/// Sessions that one address may have at once.
const PER_PEER_MAX: usize = 20;
/// How long a session lasts, in ms.
const LIFE_MS: u64 = 300_000;
/// Length of a session's id: nobody guesses it.
const ID_CHARS: usize = 24;

/// The sessions under way.
#[derive(Default)]
pub struct Rendezvous(Mutex<Sessions>);

#[derive(Default)]
struct Sessions {
    /// By age.
    all: BTreeMap<u64, Session>,
    next: u64,
}

#[derive(Clone)]
struct Session {
    id: String,
    /// In which of the two forms it was made.
    json: bool,
    peer: IpAddr,
    data: Vec<u8>,
    /// Says which message this is.
    tag: String,
    /// The tag of the message before, so that a repeated request is recognized.
    before: Option<String>,
    changed_ms: u64,
    expires_ms: u64,
}

/// Why a message was not taken.
enum Refused {
    /// No such session, or not any more.
    Unknown,
    /// Somebody else was quicker; the session as it is.
    Stale(Box<Session>),
}

impl Sessions {
    fn sweep(&mut self, now_ms: u64) {
        self.all.retain(|_, session| session.expires_ms > now_ms);
    }

    fn find(&mut self, id: &str, json: bool, now_ms: u64) -> Option<&mut Session> {
        self.sweep(now_ms);
        let mut all = self.all.values_mut();
        all.find(|session| session.id == id && session.json == json)
    }
}

impl Rendezvous {
    fn create(
        &self,
        ctx: &Ctx,
        call: &Call,
        json: bool,
        data: Vec<u8>,
    ) -> Result<Session, ApiError> {
        let now_ms = ctx.clock.now_ms();
        let mut sessions = self.0.lock();
        sessions.sweep(now_ms);
        let own = sessions
            .all
            .values()
            .filter(|session| session.peer == call.peer);
        if own.count() >= PER_PEER_MAX {
            return Err(ApiError::limit(LIFE_MS));
        }
        if sessions.all.len() >= SESSIONS_MAX {
            sessions.all.pop_first();
        }
        let n = sessions.next;
        sessions.next += 1;
        let session = Session {
            id: random_name(&mut *ctx.dice.dice(), ID_CHARS),
            json,
            peer: call.peer,
            tag: tag(&data, now_ms),
            data,
            before: None,
            changed_ms: now_ms,
            expires_ms: now_ms.saturating_add(LIFE_MS),
        };
        sessions.all.insert(n, session.clone());
        Ok(session)
    }

    fn get(&self, ctx: &Ctx, call: &Call, json: bool) -> Result<Session, ApiError> {
        let mut sessions = self.0.lock();
        let found = sessions.find(call.param("sessionId"), json, ctx.clock.now_ms());
        found.cloned().ok_or_else(unknown)
    }

    /// Puts a message where the newest one is that of `tag`.
    fn put(
        &self,
        ctx: &Ctx,
        call: &Call,
        (json, seen): (bool, &str),
        data: Vec<u8>,
    ) -> Result<Session, Refused> {
        let now_ms = ctx.clock.now_ms();
        let mut sessions = self.0.lock();
        let found = sessions.find(call.param("sessionId"), json, now_ms);
        let session = found.ok_or(Refused::Unknown)?;
        if session.tag != seen {
            let repeated = session.before.as_deref() == Some(seen) && session.data == data;
            return match repeated {
                true => Ok(session.clone()),
                false => Err(Refused::Stale(Box::new(session.clone()))),
            };
        }
        let tag = tag(&data, now_ms);
        session.before = Some(std::mem::replace(&mut session.tag, tag));
        session.data = data;
        session.changed_ms = now_ms;
        Ok(session.clone())
    }

    fn delete(&self, ctx: &Ctx, call: &Call, json: bool) -> Result<(), ApiError> {
        let id = self.get(ctx, call, json)?.id;
        self.0.lock().all.retain(|_, session| session.id != id);
        Ok(())
    }
}

/// Differs for every message, also for the same words at another time.
fn tag(data: &[u8], now_ms: u64) -> String {
    let hash = Sha256::new()
        .chain_update(data)
        .chain_update(now_ms.to_be_bytes())
        .finalize();
    URL_SAFE_NO_PAD.encode(hash)
}

fn unknown() -> ApiError {
    ApiError::not_found("There is no such session, or not any more")
}

/// The answer with what it says of a session in its headers.
fn described(answer: Answer, session: &Session) -> Answer {
    let date = |ms: u64| {
        let time = UNIX_EPOCH + Duration::from_millis(ms);
        let value = system_time_to_http_date(&time).ok();
        value.and_then(|value| value.to_str().map(str::to_owned).ok())
    };
    answer
        // Strangers wrote it: it is neither a page nor a script of this server.
        .header(X_CONTENT_TYPE_OPTIONS, "nosniff")
        .header(ETAG, &format!("\"{}\"", session.tag))
        .header(PRAGMA, "no-cache")
        .header(EXPIRES, &date(session.expires_ms).unwrap_or_default())
        .header(LAST_MODIFIED, &date(session.changed_ms).unwrap_or_default())
}

/// The message of a request in plain text.
fn text(call: &Call) -> Result<Vec<u8>, ApiError> {
    let kind = call.header(&CONTENT_TYPE).unwrap_or_default();
    if kind.split(';').next().map(str::trim) != Some("text/plain") {
        return Err(ApiError::invalid_param(
            "The content type has to be text/plain",
        ));
    }
    Ok(call.body.to_vec())
}

/// The entity tags of a header; `None` where there is no such header.
fn tags<'a>(call: &'a Call, name: &HeaderName) -> Option<impl Iterator<Item = &'a str>> {
    let value = call.header(name)?;
    Some(value.split(',').map(|tag| {
        let tag = tag.trim();
        tag.strip_prefix("W/").unwrap_or(tag).trim_matches('"')
    }))
}

/// `POST /rendezvous` (MSC4108)
async fn text_create(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let session = ctx.rendezvous.create(&ctx, &call, false, text(&call)?)?;
    let base = &ctx.config.base_url;
    let path = "/_matrix/client/unstable/org.matrix.msc4108/rendezvous";
    let answer = Answer::json(&json!({ "url": format!("{base}{path}/{}", session.id) }))?;
    Ok(described(answer.status(StatusCode::CREATED), &session))
}

/// `GET /rendezvous/{sessionId}` (MSC4108)
async fn text_get(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let session = ctx.rendezvous.get(&ctx, &call, false)?;
    let known = tags(&call, &IF_NONE_MATCH)
        .is_some_and(|mut tags| tags.any(|tag| tag == "*" || tag == session.tag));
    let answer = if known {
        Answer::bytes("text/plain", Vec::new()).status(StatusCode::NOT_MODIFIED)
    } else {
        Answer::bytes("text/plain", session.data.clone())
    };
    Ok(described(answer, &session))
}

/// `PUT /rendezvous/{sessionId}` (MSC4108)
async fn text_put(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let data = text(&call)?;
    let seen = tags(&call, &IF_MATCH).and_then(|mut tags| tags.next());
    let seen = seen.ok_or_else(|| ApiError::missing_param("If-Match is missing"))?;
    match ctx.rendezvous.put(&ctx, &call, (false, seen), data) {
        Ok(session) => {
            // An answer without a type loses its tag on the way through some proxies.
            let answer = Answer::bytes("text/plain", Vec::new()).status(StatusCode::ACCEPTED);
            Ok(described(answer, &session))
        }
        Err(Refused::Unknown) => Err(unknown()),
        Err(Refused::Stale(session)) => {
            let body = json!({
                "errcode": "M_UNKNOWN",
                "error": "The message has changed meanwhile",
                "org.matrix.msc4108.errcode": "M_CONCURRENT_WRITE",
            });
            let answer = Answer::json(&body)?.status(StatusCode::PRECONDITION_FAILED);
            Ok(described(answer, &session))
        }
    }
}

/// `DELETE /rendezvous/{sessionId}` (MSC4108)
async fn text_delete(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    ctx.rendezvous.delete(&ctx, &call, false)?;
    Ok(Answer::bytes("text/plain", Vec::new()).status(StatusCode::NO_CONTENT))
}

/// `GET /rendezvous` (MSC4388): whether sessions can be made, which everybody may.
async fn json_discover(_: Arc<Ctx>, _: Call) -> Result<Answer, ApiError> {
    Answer::json(&json!({ "create_available": true }))
}

#[derive(Deserialize)]
struct Create {
    data: String,
}

/// `POST /rendezvous` (MSC4388)
async fn json_create(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let body: Create = call.json()?;
    check_length(&body.data)?;
    let data = body.data.into_bytes();
    let session = ctx.rendezvous.create(&ctx, &call, true, data)?;
    Answer::json(&json!({
        "id": session.id,
        "sequence_token": session.tag,
        "expires_in_ms": LIFE_MS,
    }))
}

/// `GET /rendezvous/{sessionId}` (MSC4388): nothing that a browser would show to a person.
async fn json_get(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let said = |name| call.header(&HeaderName::from_static(name));
    let shown = said("sec-fetch-dest").is_some_and(|dest| dest != "empty")
        || said("sec-fetch-mode") == Some("navigate")
        || said("sec-fetch-user") == Some("?1")
        || said("sec-fetch-site") == Some("none");
    if shown {
        return Err(ApiError::forbidden("Not for being shown in a browser"));
    }
    let session = ctx.rendezvous.get(&ctx, &call, true)?;
    Answer::json(&json!({
        "data": String::from_utf8_lossy(&session.data),
        "sequence_token": session.tag,
        "expires_in_ms": session.expires_ms.saturating_sub(ctx.clock.now_ms()),
    }))
}

#[derive(Deserialize)]
struct Put {
    sequence_token: String,
    data: String,
}

/// `PUT /rendezvous/{sessionId}` (MSC4388)
async fn json_put(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let body: Put = call.json()?;
    check_length(&body.data)?;
    let seen = (true, body.sequence_token.as_str());
    match ctx
        .rendezvous
        .put(&ctx, &call, seen, body.data.into_bytes())
    {
        Ok(session) => Answer::json(&json!({ "sequence_token": session.tag })),
        Err(Refused::Unknown) => Err(unknown()),
        Err(Refused::Stale(_)) => Err(ApiError::concurrent_write(
            "The message has changed meanwhile",
        )),
    }
}

/// `DELETE /rendezvous/{sessionId}` (MSC4388)
async fn json_delete(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    ctx.rendezvous.delete(&ctx, &call, true)?;
    Ok(Answer::empty())
}

fn check_length(data: &str) -> Result<(), ApiError> {
    if data.len() > DATA_MAX {
        return Err(ApiError::too_large("The message is longer than 4096 bytes"));
    }
    Ok(())
}
