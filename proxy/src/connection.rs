//! One connection, from handshake to close.

use std::sync::Arc;

use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use rustls::ServerConfig;
use tokio_rustls::TlsAcceptor;
use tower::Service;

use crate::serve::{Client, Wire};

/// The largest request head of HTTP/1, in bytes (a read buffer; bodies flow through it).
const MAX_HEAD: usize = 64 * 1024;

#[derive(Clone, Copy)]
enum Http {
    One,
    Two,
}

/// Plain bytes: HTTP/1 alone, as browsers and reverse proxies speak it there.
pub(crate) async fn plain(client: Client, stream: impl Wire) {
    speak(client, stream, Http::One).await;
}

/// TLS: the handshake, then what the client chose by ALPN.
pub(crate) async fn over_tls(client: Client, stream: impl Wire, tls: Arc<ServerConfig>) {
    let handshake = TlsAcceptor::from(tls).accept(stream);
    let stream = match tokio::time::timeout(client.limits.handshake, handshake).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(peer = %client.peer, %error, "TLS handshake failed");
            return;
        }
        Err(_) => {
            tracing::debug!(peer = %client.peer, "TLS handshake took too long");
            return;
        }
    };
    let http = match stream.get_ref().1.alpn_protocol() {
        Some(b"h2") => Http::Two,
        _ => Http::One,
    };
    speak(client, stream, http).await;
}

async fn speak(client: Client, stream: impl Wire, http: Http) {
    let peer = ConnectInfo(client.peer);
    let router = client.router.clone();
    let service = hyper::service::service_fn(move |mut request: http::Request<Incoming>| {
        request.extensions_mut().insert(peer);
        router.clone().call(request)
    });
    let builder = builder(&client, http);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let mut stop = client.stop.clone();
    let stopped = async move {
        // An error means that the sender is gone, which is an end as well.
        let _ = stop.wait_for(|stop| *stop).await;
    };
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopped => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::trace!(peer = %client.peer, error, "connection ended");
    }
}

fn builder(client: &Client, http: Http) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(client.limits.header_read)
        .max_buf_size(MAX_HEAD);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(128)
        .max_header_list_size(32 * 1024)
        .keep_alive_interval(client.limits.header_read)
        .keep_alive_timeout(client.limits.header_read);
    match http {
        Http::One => builder.http1_only(),
        Http::Two => builder.http2_only(),
    }
}
