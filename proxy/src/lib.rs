//! Listeners: plain TCP, TLS and Unix sockets in front of a router.
//!
//! It owns sockets, handshakes, timeouts, the cap on connections and the orderly end. It
//! deliberately knows no server crate: it is given an axum router for each listener and hands it
//! requests, with the peer's address attached as `ConnectInfo<SocketAddr>`.
//!
//! Start reading at [`Listener::bind`], then [`serve`].

mod connection;
mod listener;
mod serve;
mod tls;

pub use listener::{Addr, Listener, ListenerSpec, ProxyError};
pub use serve::{Door, Limits, serve};
pub use tls::Tls;
