//! The accept loops and their orderly end.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use crate::connection;
use crate::listener::{Listener, Socket};

/// What a connection may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long a client may take to send a request's headers, and how long a connection may be
    /// idle between requests.
    pub header_read: Duration,
    /// How long a TLS handshake may take.
    pub handshake: Duration,
    /// How many connections may be open at once, over all listeners; further ones wait.
    pub max_connections: usize,
    /// How long open requests get to finish at the end.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            header_read: Duration::from_secs(60),
            handshake: Duration::from_secs(10),
            max_connections: 4096,
            drain: Duration::from_secs(5),
        }
    }
}

/// A listener and what it serves.
pub struct Door {
    /// The socket.
    pub listener: Listener,
    /// What answers.
    pub router: Router,
}

/// Anything a connection runs over.
pub(crate) trait Wire: AsyncRead + AsyncWrite + Unpin + Send + 'static {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Wire for T {}

/// Serves all doors until `stop` becomes true, then lets open requests finish for as long as
/// [`Limits::drain`] says. Returns when the last connection is closed or that time is over.
pub async fn serve(doors: Vec<Door>, limits: Limits, stop: watch::Receiver<bool>) {
    let room = Arc::new(Semaphore::new(limits.max_connections));
    let mut loops = JoinSet::new();
    for door in doors {
        let room = match &door.listener.socket {
            Socket::Tcp(_) => Arc::clone(&room),
            // Who floods the ports must not keep the owner out of the server.
            Socket::Unix(_) => Arc::new(Semaphore::new(limits.max_connections)),
        };
        loops.spawn(accept_loop(door, limits, room, stop.clone()));
    }
    while loops.join_next().await.is_some() {}
}

async fn accept_loop(
    door: Door,
    limits: Limits,
    room: Arc<Semaphore>,
    stop: watch::Receiver<bool>,
) {
    let mut stop_loop = stop.clone();
    let mut open = JoinSet::new();
    let stopped = async move {
        // An error means that the sender is gone, which is an end as well.
        let _ = stop_loop.wait_for(|stop| *stop).await;
    };
    tokio::pin!(stopped);
    loop {
        let accepted = tokio::select! {
            accepted = accept_one(&door.listener, &room) => accepted,
            () = &mut stopped => break,
        };
        while open.try_join_next().is_some() {}
        let (peer, stream, permit) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                refused(&error).await;
                continue;
            }
        };
        let client = Client {
            peer,
            router: door.router.clone(),
            limits,
            stop: stop.clone(),
            _permit: permit,
        };
        match (stream, &door.listener.tls) {
            (Stream::Tcp(tcp), Some(tls)) => {
                open.spawn(connection::over_tls(client, tcp, Arc::clone(tls)));
            }
            (Stream::Tcp(tcp), None) => {
                open.spawn(connection::plain(client, tcp));
            }
            (Stream::Unix(unix), _) => {
                open.spawn(connection::plain(client, unix));
            }
        }
    }
    // The socket closes first, so that nobody connects to a server that is about to end.
    drop(door);
    let all = async { while open.join_next().await.is_some() {} };
    if tokio::time::timeout(limits.drain, all).await.is_err() {
        tracing::debug!("connections were still open at the end");
    }
}

/// One client's connection, before its bytes are looked at.
pub(crate) struct Client {
    pub(crate) peer: SocketAddr,
    pub(crate) router: Router,
    pub(crate) limits: Limits,
    pub(crate) stop: watch::Receiver<bool>,
    _permit: OwnedSemaphorePermit,
}

enum Stream {
    Tcp(tokio::net::TcpStream),
    Unix(tokio::net::UnixStream),
}

async fn accept_one(
    listener: &Listener,
    room: &Arc<Semaphore>,
) -> io::Result<(SocketAddr, Stream, OwnedSemaphorePermit)> {
    let permit = Arc::clone(room)
        .acquire_owned()
        .await
        .map_err(io::Error::other)?;
    match &listener.socket {
        Socket::Tcp(tcp) => {
            let (stream, peer) = tcp.accept().await?;
            // Small answers have to leave at once.
            let _ = stream.set_nodelay(true);
            Ok((peer, Stream::Tcp(stream), permit))
        }
        Socket::Unix(unix) => {
            let (stream, _) = unix.accept().await?;
            let here = SocketAddr::from((IpAddr::V4(Ipv4Addr::LOCALHOST), 0));
            Ok((here, Stream::Unix(stream), permit))
        }
    }
}

/// A failed accept: one that concerns that client alone is nothing; without file descriptors it
/// has to wait, or the loop would spin.
async fn refused(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    if matches!(
        error.kind(),
        ConnectionAborted | ConnectionReset | Interrupted
    ) {
        return;
    }
    tracing::warn!(%error, "cannot accept a connection");
    tokio::time::sleep(Duration::from_millis(200)).await;
}
