//! Listeners: plain TCP, TLS and Unix sockets in front of a router.
//!
//! It owns sockets, handshakes, certificates, the limits of time and number on connections,
//! whose address counts, the headers that belong on every answer of a kind, and the orderly end.
//! It deliberately knows no server crate: it is given an axum router for each listener and hands
//! it requests, with the client's address attached as `ConnectInfo<SocketAddr>`.
//!
//! Start reading at [`Listener::bind`], then [`serve`].

mod acme;
mod address;
mod body;
mod compress;
mod connection;
mod counters;
mod headers;
mod inherited;
mod limits;
mod listener;
mod proxy_protocol;
mod rates;
mod serve;
mod tls;
mod wire;

pub use acme::{
    Acme, AcmeSettings, Challenge, ChallengeKind, Eab, Standing, Trouble, can_have_certificate,
    standings,
};
pub use address::{ClientHeader, Trusted};
pub use counters::{Counted, Counters};
pub use headers::Hsts;
pub use inherited::Inherited;
pub use limits::Limits;
pub use listener::{Addr, Listener, ListenerSpec, ProxyError};
pub use serve::{Door, Orders, Settings, serve};
pub use tls::{CertFiles, Served, Tls};
