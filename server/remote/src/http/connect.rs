//! New connections: look up, check, connect, prove.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::{http1, http2};
use hyper::rt::{Read, Write};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::error::HttpError;
use super::guard::Guard;
use super::pool::Line;
use super::resolve::Resolve;
use super::target::Target;
use super::tls::Tls;

/// How long one of several addresses is tried before the next.
const NEXT_ADDRESS_AFTER: Duration = Duration::from_secs(4);
/// How many addresses of one name are tried.
const MAX_ADDRESSES: usize = 6;
/// Longest head of an answer, in bytes.
const MAX_HEAD: usize = 64 << 10;
/// How often a connection of HTTP/2 with a request under way is asked whether it still lives.
const PING_EVERY: Duration = Duration::from_secs(20);

/// Makes connections.
pub(super) struct Connector {
    pub(super) guard: Guard,
    pub(super) resolver: Arc<dyn Resolve>,
    pub(super) tls: Arc<Tls>,
}

impl Connector {
    /// Connects to a target.
    pub(super) async fn connect(&self, target: &Target) -> Result<Line, HttpError> {
        let stream = self.tcp(target).await?;
        let Some(name) = &target.tls_name else {
            return one(TokioIo::new(stream)).await;
        };
        let failed = |cause: String| HttpError::Tls {
            host: name.clone(),
            cause,
        };
        let server = ServerName::try_from(name.clone()).map_err(|e| failed(e.to_string()))?;
        let tls = self.tls.config().map_err(failed)?;
        let stream = TlsConnector::from(tls).connect(server, stream).await;
        let stream = stream.map_err(|error| failed(error.to_string()))?;
        let two = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let stream = TokioIo::new(stream);
        if two {
            self::two(stream).await
        } else {
            one(stream).await
        }
    }

    async fn tcp(&self, target: &Target) -> Result<TcpStream, HttpError> {
        let addresses = self.addresses(target).await?;
        let mut cause = String::new();
        let last = addresses.len().saturating_sub(1);
        for (n, address) in addresses.into_iter().enumerate() {
            let connecting = TcpStream::connect(SocketAddr::new(address, target.port));
            // The last one may take all the time there is.
            let limit = if n == last {
                Duration::MAX
            } else {
                NEXT_ADDRESS_AFTER
            };
            match tokio::time::timeout(limit, connecting).await {
                Ok(Ok(stream)) => {
                    // Small requests shall not wait for company.
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(%error, "a connection stays with Nagle's algorithm");
                    }
                    return Ok(stream);
                }
                Ok(Err(error)) => cause = error.to_string(),
                Err(_) => "it did not answer in time".clone_into(&mut cause),
            }
        }
        Err(HttpError::Connect {
            host: target.host.clone(),
            cause,
        })
    }

    /// The addresses of a target that may be connected to.
    async fn addresses(&self, target: &Target) -> Result<Vec<IpAddr>, HttpError> {
        let host = &target.host;
        let found = match host.parse::<IpAddr>() {
            Ok(address) => vec![address],
            Err(_) => {
                let found = self.resolver.addresses(host).await;
                found.map_err(|cause| HttpError::Dns {
                    host: host.clone(),
                    cause,
                })?
            }
        };
        let mut refused = None;
        let mut allowed = Vec::new();
        for address in found {
            if target.trusted || self.guard.allows(host, address) {
                allowed.push(address);
            } else {
                refused = Some(address);
            }
        }
        allowed.truncate(MAX_ADDRESSES);
        match refused {
            Some(address) if allowed.is_empty() => Err(HttpError::Refused {
                host: host.clone(),
                address,
            }),
            _ => Ok(allowed),
        }
    }
}

fn broken(error: impl std::fmt::Display) -> HttpError {
    HttpError::Broken(error.to_string())
}

async fn one(io: impl Read + Write + Send + Unpin + 'static) -> Result<Line, HttpError> {
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_HEAD)
        .handshake::<_, Full<Bytes>>(io)
        .await
        .map_err(broken)?;
    // Its errors reach the request that is under way.
    tokio::spawn(connection);
    Ok(Line::One(sender))
}

async fn two(io: impl Read + Write + Send + Unpin + 'static) -> Result<Line, HttpError> {
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_EVERY)
        .max_header_list_size(u32::try_from(MAX_HEAD).unwrap_or(u32::MAX))
        .handshake::<_, Full<Bytes>>(io)
        .await
        .map_err(broken)?;
    tokio::spawn(connection);
    Ok(Line::Two(sender))
}
