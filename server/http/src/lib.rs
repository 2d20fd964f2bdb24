//! The request shell: turns an HTTP request into a [`Call`], checks who asks, keeps the limits,
//! and turns an [`Answer`] or an [`ApiError`] into an HTTP response.
//!
//! It deliberately knows no table, no facade and no endpoint: a crate with endpoints hands over a
//! list of [`Route`]s and a context of its own choosing, and `app` hands over an
//! [`Authenticator`]. Everything generic about an endpoint is two lines (parse this request type,
//! render this response type); the rest are plain functions, compiled once.
//!
//! Start reading at [`Shell::router`], then `dispatch.rs`, which is the way of one request.

mod answer;
mod auth;
mod call;
mod cors;
mod dispatch;
mod error;
mod json;
mod metrics;
mod rate;
mod route;
mod shell;

pub use answer::{Answer, AnswerBody, Source};
pub use auth::{Authenticator, Credentials, Requester, SignedRequest};
pub use call::{BodyStream, Call};
pub use error::ApiError;
pub use json::MAX_JSON_DEPTH;
pub use metrics::{Figures, Kind, Metrics};
pub use rate::{Allowance, Rate, RateLimits};
pub use route::{Auth, BodyKind, HandlerFuture, LARGE_BODY, Route, Standing, Verb};
pub use shell::{Options, Shell, ShellBuilder};

/// What lists of routes become: a service for any listener.
pub use axum::Router;
pub use futures_util::future::BoxFuture;
pub use http::StatusCode;
