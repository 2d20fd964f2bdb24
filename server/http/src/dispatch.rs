//! The way of one request: find the route, read who asks, keep the limits, read the body, run the
//! handler, render what it says, log it once.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::RequestExt;
use axum::body::Body;
use axum::extract::{ConnectInfo, RawPathParams, Request};
use bytes::Bytes;
use futures_util::FutureExt;
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_LENGTH, USER_AGENT};
use http::request::Parts;
use http::{Extensions, HeaderMap, HeaderValue, Method, Response};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::sync::watch;
use tracing::Instrument;

use crate::call::query_pairs;
use crate::metrics::Class;
use crate::rate::Who;
use crate::shell::{Entries, Entry};
use crate::{
    Answer, ApiError, Auth, BodyKind, BodyStream, Call, Credentials, HandlerFuture, Rate,
    Requester, Shell, SignedRequest, Standing, Verb,
};
use crate::{cors, json};

/// How long a client may take to send a body that is read whole.
const READ_TIME: Duration = Duration::from_secs(120);

/// How much of a body that is too large is read and thrown away, in bytes, and for how long.
const DISCARD_MAX: usize = 16 << 20;
/// See [`DISCARD_MAX`].
const DISCARD_TIME: Duration = Duration::from_secs(5);

/// How long a read may go on once the server stops.
const STOP_GRACE: Duration = Duration::from_millis(200);

/// Answers a request; `entries` are the routes of its path, if there are any.
pub(crate) async fn serve(
    shell: Arc<Shell>,
    entries: Option<Arc<Entries>>,
    request: Request,
) -> Response<Body> {
    if request.method() == Method::OPTIONS {
        return cors::preflight();
    }
    let id = shell.new_id();
    let method = request.method().clone();
    let class = class_of(entries.as_deref(), &method);
    let asked = shell.options.metrics.begin(class);
    let path = entries
        .as_ref()
        .and_then(|e| e.values().next())
        .map_or("unknown", |entry| entry.path);
    let page = entries
        .as_ref()
        .is_some_and(|e| e.values().any(|entry| entry.page));
    let peer = peer_of(request.extensions());
    let guesses = is_guess(entries.as_deref(), &method);
    let user = tracing::field::Empty;
    let span = tracing::info_span!("request", %method, path, id, %peer, user);
    let answered = AssertUnwindSafe(answer(&shell, entries.as_deref(), request, &id))
        .catch_unwind()
        .instrument(span.clone())
        .await;
    let _entered = span.enter();
    let result = answered.unwrap_or_else(|panic| Err(panicked(panic.as_ref())));
    let mut response = match result {
        Ok(response) => {
            tracing::debug!(status = response.status().as_u16(), "answered");
            response
        }
        Err(error) => {
            log(&error);
            if guesses && error.errcode() == "M_FORBIDDEN" {
                failed_log_in(peer);
            }
            error.into_response(&id)
        }
    };
    let headers = response.headers_mut();
    if !page {
        cors::mark(headers);
    }
    // Answers are for the one who asked; those that may be kept (media) say so themselves.
    headers
        .entry(CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    asked.answered(response.status().as_u16());
    response
}

/// The class that a request is counted in.
fn class_of(entries: Option<&Entries>, method: &Method) -> Class {
    let entry = entries.and_then(|entries| entries.get(&Verb::of(method)?));
    entry.map_or(Class::Unknown, |entry| entry.class)
}

/// Whether a request may try out secrets.
fn is_guess(entries: Option<&Entries>, method: &Method) -> bool {
    let entry = entries.and_then(|entries| entries.get(&Verb::of(method)?));
    entry.is_some_and(|entry| entry.rate == Rate::Login)
}

/// The one line that `deploy/fail2ban` looks for. It stands outside the request's span: nothing in
/// it is anybody's to choose but the address.
fn failed_log_in(peer: IpAddr) {
    let peer = peer.to_canonical();
    tracing::info!(target: "skerry::login", parent: None, "failed log-in from {peer}");
}

fn log(error: &ApiError) {
    let (status, errcode, message) = (error.status().as_u16(), error.errcode(), error.message());
    match error.cause() {
        Some(cause) if status >= 500 => {
            tracing::error!(status, errcode, cause, "request failed: {message}");
        }
        Some(cause) => tracing::debug!(status, errcode, cause, "refused: {message}"),
        None => tracing::debug!(status, errcode, "refused: {message}"),
    }
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> ApiError {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    ApiError::internal(format!("panic in a handler: {text}"))
}

async fn answer(
    shell: &Shell,
    entries: Option<&Entries>,
    mut request: Request,
    id: &str,
) -> Result<Response<Body>, ApiError> {
    let entries = entries.ok_or_else(|| ApiError::unrecognized("Unknown endpoint"))?;
    let entry = Verb::of(request.method())
        .and_then(|verb| entries.get(&verb))
        .ok_or_else(|| ApiError::wrong_method("The endpoint has no such method"))?;
    let params = request
        .extract_parts::<RawPathParams>()
        .await
        .map(|raw| {
            raw.iter()
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .collect()
        })
        .or_else(|e| match e {
            axum::extract::rejection::RawPathParamsRejection::MissingPathParams(_) => {
                Ok(Vec::new())
            }
            _ => Err(ApiError::invalid_param("The path is not UTF-8")),
        })?;
    let (parts, body) = request.into_parts();
    let peer = peer_of(&parts.extensions);
    let signed = entry.auth == Auth::Server;
    if signed {
        // Before the body is read: most of what is not signed at all is not meant for servers.
        proofs_of(&parts.headers)?;
    }
    let requester = authenticate(shell, entry, &parts, peer).await?;
    let who = requester
        .as_ref()
        .map_or(Who::Peer(peer), |r| Who::User(r.user));
    if !signed && !requester.as_ref().is_some_and(|r| r.unlimited) {
        shell.limiter.take(entry.rate, who, shell.clock.now_ms())?;
    }
    let (body, stream) = read_body(shell, entry, &parts.headers, body).await?;
    let origin = match signed {
        true => Some(origin_of(shell, entry, &parts, &body).await?),
        false => None,
    };
    // Who does not prove who they are does not learn what is wrong with what they say.
    if entry.body == BodyKind::Json {
        json::check(&body)?;
    }
    let Parts {
        method,
        uri,
        headers,
        ..
    } = parts;
    let id = id.to_owned();
    let call = Call {
        method,
        uri,
        headers,
        body,
        peer,
        id,
        params,
        requester,
        origin,
        stop: shell.options.stop.clone(),
        stream: std::sync::Mutex::new(stream),
    };
    let reads = call.method == Method::GET;
    let running = (entry.run)(call);
    let answer = match &shell.options.stop {
        Some(stop) if reads => unless_stopped(stop.clone(), running).await,
        _ => running.await,
    };
    answer.map(Answer::into_response)
}

/// A write goes on to its end; a read that still waits a moment after the server began to stop
/// is given up, so that long polls do not hold it.
async fn unless_stopped(
    mut stop: watch::Receiver<bool>,
    running: HandlerFuture,
) -> Result<Answer, ApiError> {
    let stopping = async {
        if stop.wait_for(|stop| *stop).await.is_err() {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(STOP_GRACE).await;
    };
    tokio::select! {
        answer = running => answer,
        () = stopping => Err(ApiError::unavailable("The server is stopping")),
    }
}

/// Whom a request is from, as the front door says; this machine where it says nothing.
fn peer_of(extensions: &Extensions) -> IpAddr {
    let info = extensions.get::<ConnectInfo<SocketAddr>>();
    info.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |info| info.0.ip())
}

async fn authenticate(
    shell: &Shell,
    entry: &Entry,
    parts: &Parts,
    peer: IpAddr,
) -> Result<Option<Requester>, ApiError> {
    if matches!(entry.auth, Auth::None | Auth::Server) {
        return Ok(None);
    }
    let Some(token) = token_of(parts, shell.options.query_tokens)? else {
        return match entry.auth {
            Auth::Token => Err(ApiError::missing_token("Missing access token")),
            _ => Ok(None),
        };
    };
    let user_agent = parts.headers.get(USER_AGENT).and_then(|v| v.to_str().ok());
    let user_agent = user_agent.map(|text| text.get(..512).unwrap_or(text));
    let bridges_only = entry.auth == Auth::Bridge;
    let query = parts.uri.query().unwrap_or("");
    let acts_as = named(query, &["user_id"]).filter(|_| !bridges_only);
    let device = named(query, &["device_id", "org.matrix.msc3202.device_id"]);
    let credentials = Credentials {
        token: &token,
        peer,
        user_agent,
        acts_as: acts_as.as_deref(),
        device: device.as_deref().filter(|_| !bridges_only),
    };
    let requester = match shell.authenticator.authenticate(credentials).await {
        Ok(requester) if bridges_only && requester.appservice.is_none() => return Ok(None),
        Err(refused) if bridges_only && refused.status().is_client_error() => return Ok(None),
        answer => answer?,
    };
    tracing::Span::current().record("user", &*requester.user_id);
    check_standing(entry, &requester)?;
    Ok(Some(requester))
}

/// The most signatures of one request that are looked at.
const MAX_PROOFS: usize = 8;

/// The values of the `Authorization` headers of scheme `X-Matrix`.
fn proofs_of(headers: &HeaderMap) -> Result<Vec<&str>, ApiError> {
    let scheme = |text: &&str| {
        let word = text.split([' ', '\t']).next().unwrap_or_default();
        word.eq_ignore_ascii_case("x-matrix")
    };
    let values = headers.get_all(AUTHORIZATION).iter();
    let proofs: Vec<&str> = values
        .filter_map(|value| value.to_str().ok())
        .filter(scheme)
        .take(MAX_PROOFS)
        .collect();
    if proofs.is_empty() {
        let text = "The request has to be signed by a server (X-Matrix)";
        return Err(ApiError::unauthorized(text));
    }
    Ok(proofs)
}

/// The server that signed a request, within its rate.
async fn origin_of(
    shell: &Shell,
    entry: &Entry,
    parts: &Parts,
    body: &[u8],
) -> Result<Arc<str>, ApiError> {
    let proofs = proofs_of(&parts.headers)?;
    let uri = parts.uri.path_and_query().map_or("/", |uri| uri.as_str());
    let request = SignedRequest {
        proofs: &proofs,
        method: parts.method.as_str(),
        uri,
        body,
    };
    let origin = shell.authenticator.authenticate_server(request).await?;
    tracing::Span::current().record("user", &*origin);
    let who = shell.limiter.server(&origin);
    shell.limiter.take(entry.rate, who, shell.clock.now_ms())?;
    Ok(origin)
}

/// Whether an account that is not an ordinary one may call this route. What anybody may do
/// without a token is open to guests too.
fn check_standing(entry: &Entry, requester: &Requester) -> Result<(), ApiError> {
    let Standing {
        guests,
        locked,
        suspended,
    } = entry.standing;
    if requester.locked && !locked {
        return Err(ApiError::user_locked("This account has been locked").soft_logout());
    }
    if requester.suspended && !suspended {
        let why = "You cannot perform this action while suspended";
        return Err(ApiError::user_suspended(why));
    }
    if requester.is_guest && !guests && entry.auth == Auth::Token {
        return Err(ApiError::guest_access_forbidden("Not for guests"));
    }
    Ok(())
}

/// The first query parameter that has one of these names.
fn named<'a>(query: &'a str, names: &[&str]) -> Option<std::borrow::Cow<'a, str>> {
    query_pairs(query)
        .find(|(key, _)| names.contains(&&**key))
        .map(|(_, value)| value)
}

/// The access token of a request: from the header, or (where allowed) from the query string.
fn token_of(parts: &Parts, query_tokens: bool) -> Result<Option<String>, ApiError> {
    if let Some(value) = parts.headers.get(AUTHORIZATION) {
        let token = value.to_str().ok().and_then(|text| {
            let (scheme, token) = text.split_once(' ')?;
            scheme
                .eq_ignore_ascii_case("bearer")
                .then(|| token.trim().to_owned())
        });
        return match token {
            Some(token) if !token.is_empty() => Ok(Some(token)),
            _ => Err(ApiError::missing_token(
                "The Authorization header holds no access token",
            )),
        };
    }
    if !query_tokens {
        return Ok(None);
    }
    let found = query_pairs(parts.uri.query().unwrap_or(""))
        .find(|(key, _)| key == "access_token")
        .map(|(_, token)| token.into_owned());
    Ok(found.filter(|token| !token.is_empty()))
}

/// Reads on in a body that is refused for its size, up to a limit: a client that is still sending
/// would find the connection broken instead of the answer.
async fn discard(mut body: Body) {
    let reading = async {
        let mut left = DISCARD_MAX;
        while let Some(Ok(frame)) = body.frame().await {
            let size = frame.data_ref().map_or(0, Bytes::len);
            match left.checked_sub(size) {
                Some(rest) => left = rest,
                None => break,
            }
        }
    };
    // The answer is the same however far this came.
    let _ = tokio::time::timeout(DISCARD_TIME, reading).await;
}

async fn read_body(
    shell: &Shell,
    entry: &Entry,
    headers: &HeaderMap,
    body: Body,
) -> Result<(Bytes, Option<BodyStream>), ApiError> {
    let length = headers
        .get(CONTENT_LENGTH)
        .and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    if entry.body == BodyKind::Stream {
        return Ok((Bytes::new(), Some(BodyStream::new(body, length))));
    }
    let limit = entry.max_body.unwrap_or(shell.options.max_body);
    let too_large = || ApiError::too_large(format!("The body is larger than {limit} bytes"));
    if length.is_some_and(|length| length > limit as u64) {
        discard(body).await;
        return Err(too_large());
    }
    let reading = tokio::time::timeout(READ_TIME, Limited::new(body, limit).collect());
    let slow = |_| ApiError::unknown("The request took too long to arrive");
    let read = reading.await.map_err(slow)?.map_err(|e| {
        if e.is::<LengthLimitError>() {
            too_large()
        } else {
            ApiError::unknown("The request ended before its end").caused_by(e)
        }
    })?;
    Ok((read.to_bytes(), None))
}
