//! The accept loops and their orderly end.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use crate::acme::Acme;
use crate::address::{self, ClientHeader, Trusted};
use crate::connection;
use crate::counters::Counters;
use crate::headers::Hsts;
use crate::limits::{Limits, Places};
use crate::listener::{Listener, Socket};
use crate::rates::Rates;
use crate::tls::{self, TlsDoor};

/// A listener and what it serves.
pub struct Door {
    /// The socket.
    pub listener: Listener,
    /// What answers.
    pub router: Router,
}

/// What holds at all doors.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// What connections may take.
    pub limits: Limits,
    /// The proxies that are believed. Unix sockets count as this machine.
    pub trusted: Trusted,
    /// In which header they name the client.
    pub client_header: ClientHeader,
    /// What browsers are told to remember.
    pub hsts: Hsts,
    /// Who gets certificates, and answers the CA.
    pub acme: Option<Acme>,
    /// Where connections are counted.
    pub counters: Arc<Counters>,
}

/// What is said to open doors.
#[derive(Clone, Debug)]
pub struct Orders {
    /// True: end.
    pub stop: watch::Receiver<bool>,
    /// Each change: read certificates anew.
    pub reload: watch::Receiver<()>,
}

/// Anything a connection runs over.
pub(crate) trait Wire: AsyncRead + AsyncWrite + Unpin + Send + 'static {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Wire for T {}

/// What the connections of one door share.
pub(crate) struct Shared {
    pub(crate) settings: Arc<Settings>,
    pub(crate) router: Router,
    pub(crate) tls: Option<TlsDoor>,
    pub(crate) proxy_protocol: bool,
    pub(crate) redirect: Option<String>,
    pub(crate) places: Arc<Places>,
    pub(crate) rates: Arc<Rates>,
    pub(crate) stop: watch::Receiver<bool>,
}

/// Serves all doors until told to stop, then lets open requests finish for as long as
/// [`Limits::drain`] says. Returns when the last connection is closed or that time is over.
pub async fn serve(doors: Vec<Door>, settings: Settings, orders: Orders) {
    let settings = Arc::new(settings);
    let most = settings.limits.max_connections;
    let room = Arc::new(Semaphore::new(most));
    let places = Arc::new(Places::default());
    let rates = Arc::new(Rates::new(settings.limits.requests));
    let mut loops = JoinSet::new();
    if let Some(acme) = &settings.acme {
        let orders = orders.clone();
        loops.spawn(acme.clone().run(orders.reload, orders.stop));
    }
    for Door { listener, router } in doors {
        let room = match &listener.socket {
            Socket::Tcp(_) => Arc::clone(&room),
            // Who floods the ports must not keep the owner out of the server.
            Socket::Unix(_) => Arc::new(Semaphore::new(most)),
        };
        if let Some(tls) = &listener.tls {
            loops.spawn(tls::watch(
                Arc::clone(&tls.certificates),
                settings.limits,
                orders.reload.clone(),
                orders.stop.clone(),
            ));
        }
        let shared = Arc::new(Shared {
            settings: Arc::clone(&settings),
            router,
            tls: listener.tls.clone(),
            proxy_protocol: listener.proxy_protocol,
            redirect: listener.redirect.clone(),
            places: Arc::clone(&places),
            rates: Arc::clone(&rates),
            stop: orders.stop.clone(),
        });
        loops.spawn(accept_loop(listener, shared, room));
    }
    while loops.join_next().await.is_some() {}
}

async fn accept_loop(listener: Listener, shared: Arc<Shared>, room: Arc<Semaphore>) {
    let mut stop = shared.stop.clone();
    let mut open = JoinSet::new();
    let stopped = async move {
        // An error means that the sender is gone, which is an end as well.
        let _ = stop.wait_for(|stop| *stop).await;
    };
    tokio::pin!(stopped);
    loop {
        let accepted = tokio::select! {
            accepted = accept_one(&listener, &room) => accepted,
            () = &mut stopped => break,
        };
        while open.try_join_next().is_some() {}
        match accepted {
            Ok((peer, Stream::Tcp(stream), permit)) => {
                let shared = Arc::clone(&shared);
                open.spawn(connection::run(shared, peer, stream, permit));
            }
            Ok((peer, Stream::Unix(stream), permit)) => {
                let shared = Arc::clone(&shared);
                open.spawn(connection::run(shared, peer, stream, permit));
            }
            Err(error) => refused(&error).await,
        }
    }
    // The socket closes first, so that nobody connects to a server that is about to end.
    drop(listener);
    let all = async { while open.join_next().await.is_some() {} };
    let drain = shared.settings.limits.drain;
    if tokio::time::timeout(drain, all).await.is_err() {
        tracing::debug!("connections were still open at the end");
    }
}

/// Who is at the other end.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Peer {
    /// Somebody with an address.
    Net(SocketAddr),
    /// A program on this machine, by a Unix socket.
    Local,
}

impl Peer {
    pub(crate) fn addr(self) -> SocketAddr {
        match self {
            Peer::Net(addr) => SocketAddr::new(addr.ip().to_canonical(), addr.port()),
            Peer::Local => address::here(),
        }
    }
}

enum Stream {
    Tcp(tokio::net::TcpStream),
    Unix(tokio::net::UnixStream),
}

async fn accept_one(
    listener: &Listener,
    room: &Arc<Semaphore>,
) -> io::Result<(Peer, Stream, OwnedSemaphorePermit)> {
    let permit = Arc::clone(room)
        .acquire_owned()
        .await
        .map_err(io::Error::other)?;
    match &listener.socket {
        Socket::Tcp(tcp) => {
            let (stream, peer) = tcp.accept().await?;
            // Small answers have to leave at once.
            let _ = stream.set_nodelay(true);
            Ok((Peer::Net(peer), Stream::Tcp(stream), permit))
        }
        Socket::Unix(unix) => {
            let (stream, _) = unix.accept().await?;
            Ok((Peer::Local, Stream::Unix(stream), permit))
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
