//! HTTP to other machines: one client that refuses addresses of private networks, keeps
//! connections, and bounds time and size of everything.
//!
//! A request is a [`Request`]; [`Client::send`] answers with the whole body, [`Client::open`]
//! with the head and a body to read piece by piece. Where a request may go is decided by the
//! [`Guard`], after each name has been resolved and again for each redirect.

mod body;
mod client;
mod connect;
mod error;
mod guard;
mod pool;
mod request;
mod resolve;
mod target;
mod tls;

pub use body::Streamed;
pub use client::{Client, ClientOptions, Transport};
pub use error::{HttpError, SetupError};
pub use guard::Guard;
pub use request::{Request, Response};
pub use resolve::{Resolve, Service, SystemResolver};
pub use target::Route;
pub use tls::Tls;
