//! One connection, from its first byte to its close.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::ConnectInfo;
use http::header::{CONNECTION, CONTENT_TYPE, LOCATION};
use http::{HeaderValue, Request, Response, StatusCode, Version};
use hyper::body::{Body as _, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::sync::OwnedSemaphorePermit;
use tokio_rustls::TlsAcceptor;
use tower::Service;

use crate::Limits;
use crate::acme::challenges::Challenges;
use crate::address::client_of;
use crate::body::{Outgoing, Paced};
use crate::compress::{self, Asker};
use crate::headers::{self, Hsts};
use crate::limits::Place;
use crate::proxy_protocol;
use crate::rates;
use crate::serve::{Peer, Shared, Wire};
use crate::tls::ACME_TLS;
use crate::wire::{Activity, Patience, Watched};

/// How long the first request of a connection is waited for when the server stops.
const FIRST_REQUEST: Duration = Duration::from_millis(500);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Http {
    One,
    Two,
}

/// Who is served: the peer as the PROXY protocol names it.
struct Client {
    peer: SocketAddr,
    shared: Arc<Shared>,
    /// Whether browsers can be told to rely on this connection's certificate.
    promised: bool,
}

/// Serves a connection until it closes, or is not worth it.
pub(crate) async fn run(
    shared: Arc<Shared>,
    peer: Peer,
    mut stream: impl Wire,
    _permit: OwnedSemaphorePermit,
) {
    let handshake = shared.settings.limits.handshake;
    let counters = Arc::clone(&shared.settings.counters);
    let _open = counters.accept();
    let introduced = introduce(&shared, peer, &mut stream);
    let (peer, _place) = match tokio::time::timeout(handshake, introduced).await {
        Ok(Some(introduced)) => introduced,
        Ok(None) => return,
        Err(_) => {
            tracing::debug!(peer = %peer.addr(), "the PROXY protocol took too long");
            return;
        }
    };
    let mut client = Client {
        peer,
        shared: Arc::clone(&shared),
        promised: false,
    };
    let Some(tls) = &shared.tls else {
        // Plain bytes: HTTP/1 alone, as browsers and reverse proxies speak it there.
        return speak(client, stream, Http::One).await;
    };
    let accepting = TlsAcceptor::from(Arc::clone(&tls.config)).accept(stream);
    let stream = match tokio::time::timeout(handshake, accepting).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            counters.handshake(false);
            tracing::debug!(%peer, %error, "TLS handshake failed");
            return;
        }
        Err(_) => {
            counters.handshake(false);
            tracing::debug!(%peer, "TLS handshake took too long");
            return;
        }
    };
    counters.handshake(true);
    let session = stream.get_ref().1;
    client.promised = tls.certificates.is_promised(session.server_name());
    let http = match session.alpn_protocol() {
        // The CA has seen what it wanted to see.
        Some(ACME_TLS) => return,
        Some(b"h2") => Http::Two,
        _ => Http::One,
    };
    speak(client, stream, http).await;
}

/// Who it is, and a place among the connections of that address; `None` for nobody that is
/// served.
async fn introduce(
    shared: &Shared,
    peer: Peer,
    stream: &mut impl Wire,
) -> Option<(SocketAddr, Option<Place>)> {
    let settings = &shared.settings;
    let mut addr = peer.addr();
    let mut counted = matches!(peer, Peer::Net(_)) && !settings.trusted.contains(addr.ip());
    if shared.proxy_protocol && settings.trusted.contains(addr.ip()) {
        match proxy_protocol::read(stream).await {
            Ok(None) => {}
            Ok(Some(source)) => {
                addr = source;
                counted = !settings.trusted.contains(addr.ip());
            }
            Err(why) => {
                tracing::debug!(peer = %addr, "dropped, it lacks the PROXY protocol: {why}");
                return None;
            }
        }
    }
    if !counted {
        return Some((addr, None));
    }
    if shared.rates.take(addr.ip(), Instant::now()).is_err() {
        settings.counters.drop_one();
        tracing::debug!(peer = %addr, "dropped, it asks too much");
        return None;
    }
    let most = settings.limits.per_address;
    if most == 0 {
        return Some((addr, None));
    }
    let place = shared.places.take(addr.ip(), most);
    if place.is_none() {
        settings.counters.drop_one();
        tracing::debug!(peer = %addr, "dropped, it has too many connections");
    }
    Some((addr, Some(place?)))
}

async fn speak(client: Client, stream: impl Wire, http: Http) {
    let limits = client.shared.settings.limits;
    let (peer, mut stop) = (client.peer, client.shared.stop.clone());
    let activity = Arc::new(Activity::default());
    let patience = Patience {
        head: limits.headers,
        write: limits.stalled_write,
    };
    let stream = Watched::new(stream, Arc::clone(&activity), patience, http == Http::Two);
    let service = {
        let (client, activity) = (Arc::new(client), Arc::clone(&activity));
        hyper::service::service_fn(move |request: Request<Incoming>| {
            let (client, open) = (Arc::clone(&client), activity.begin());
            async move {
                let answer = answer(&client, request).await;
                Ok::<_, Infallible>(answer.map(|inner| Outgoing { inner, _open: open }))
            }
        })
    };
    let builder = builder(&limits, http);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let stopped = async move {
        // An error means that the sender is gone, which is an end as well.
        let _ = stop.wait_for(|stop| *stop).await;
    };
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopped => {
            // Who was let in is answered once; the request is on its way.
            tokio::select! {
                _ = connection.as_mut() => return,
                () = activity.first(FIRST_REQUEST) => {}
            }
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        () = activity.idle_for(limits.idle) => {
            connection.as_mut().graceful_shutdown();
            match tokio::time::timeout(limits.drain, connection).await {
                Ok(ended) => ended,
                Err(_) => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::trace!(%peer, error, "connection ended");
    }
}

fn builder(limits: &Limits, http: Http) -> Builder<TokioExecutor> {
    // Hyper is not exact about it; `answer` is.
    let head = limits.head_bytes.max(8 * 1024) + 4 * 1024;
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // Kept by `Watched`, which knows a slow head from a connection that is not used.
        .header_read_timeout(None)
        .max_buf_size(head);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(128)
        .max_header_list_size(u32::try_from(head).unwrap_or(u32::MAX))
        .keep_alive_interval(limits.idle)
        .keep_alive_timeout(limits.headers);
    match http {
        Http::One => builder.http1_only(),
        Http::Two => builder.http2_only(),
    }
}

async fn answer(client: &Client, request: Request<Incoming>) -> Response<Body> {
    let (settings, version) = (&client.shared.settings, request.version());
    let mut response = match &client.shared.redirect {
        _ if head_bytes(&request) > settings.limits.head_bytes => {
            status(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)
        }
        _ if is_for_ca(client, &request) => for_ca(client, &request),
        Some(origin) => redirect(origin, &request),
        None => routed(client, request).await,
    };
    let hsts: Option<Hsts> = client.promised.then_some(settings.hsts);
    headers::complete(response.headers_mut(), hsts);
    let refused = matches!(
        response.status(),
        StatusCode::REQUEST_TIMEOUT | StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
    );
    if refused && version < Version::HTTP_2 {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(CONNECTION, close);
    }
    response
}

/// Whether it may be a CA that looks whether a name is ours.
fn is_for_ca(client: &Client, request: &Request<Incoming>) -> bool {
    client.shared.settings.acme.is_some() && Challenges::is_place(request.uri().path())
}

fn for_ca(client: &Client, request: &Request<Incoming>) -> Response<Body> {
    let acme = client.shared.settings.acme.as_ref();
    let answer = acme.and_then(|acme| acme.challenges().answer(request.uri().path()));
    match answer {
        Some(answer) => {
            let kind = HeaderValue::from_static("application/octet-stream");
            let mut response = Response::new(Body::from(answer));
            response.headers_mut().insert(CONTENT_TYPE, kind);
            response
        }
        None => status(StatusCode::NOT_FOUND),
    }
}

/// How long a request's head is, as HTTP/1.1 writes it.
fn head_bytes(request: &Request<Incoming>) -> usize {
    let uri = request.uri();
    let place = [
        uri.scheme_str().map_or(0, |scheme| scheme.len() + 3),
        uri.authority().map_or(0, |host| host.as_str().len()),
        uri.path_and_query().map_or(0, |path| path.as_str().len()),
    ];
    let fields = request.headers().iter();
    let fields = fields.map(|(name, value)| name.as_str().len() + value.len() + 4);
    let line = request.method().as_str().len() + " HTTP/1.1\r\n\r\n".len() + 1;
    line + place.iter().sum::<usize>() + fields.sum::<usize>()
}

async fn routed(client: &Client, request: Request<Incoming>) -> Response<Body> {
    let settings = &client.shared.settings;
    let (trusted, header) = (&settings.trusted, settings.client_header);
    let asker = Asker::of(request.method(), request.headers());
    let from = client_of(client.peer, request.headers(), trusted, header);
    if !trusted.contains(from.ip())
        && let Err(wait) = client.shared.rates.take(from.ip(), Instant::now())
    {
        settings.counters.refuse();
        tracing::debug!(%from, "refused, it asks too much");
        return rates::busy(wait);
    }
    let slow = Arc::new(AtomicBool::new(false));
    let mut request = request.map(|body| match body.is_end_stream() {
        true => Body::empty(),
        false => Body::new(Paced::new(body, &settings.limits, Arc::clone(&slow))),
    });
    request.extensions_mut().insert(ConnectInfo(from));
    let Ok(response) = client.shared.router.clone().call(request).await;
    if slow.load(Ordering::Relaxed) {
        // Whatever was made of it, it was not the whole request.
        tracing::debug!(%from, "a body came too slowly");
        return status(StatusCode::REQUEST_TIMEOUT);
    }
    compress::pack(asker, response)
}

/// To the same path and query at the origin. What the client calls the host does not matter.
fn redirect(origin: &str, request: &Request<Incoming>) -> Response<Body> {
    let path = request
        .uri()
        .path_and_query()
        .map_or("/", |path| path.as_str());
    let path = if path.starts_with('/') { path } else { "/" };
    match HeaderValue::from_str(&format!("{origin}{path}")) {
        Ok(place) => {
            let mut response = status(StatusCode::PERMANENT_REDIRECT);
            response.headers_mut().insert(LOCATION, place);
            response
        }
        Err(_) => status(StatusCode::BAD_REQUEST),
    }
}

fn status(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}
