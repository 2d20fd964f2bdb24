//! The network as people across servers need it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;

/// What is asked of another server.
#[derive(Clone, Debug)]
pub enum Ask {
    /// `GET`, with path and query.
    Get(String),
    /// `POST`, with path and a JSON object in canonical form.
    Post(String, String),
}

/// Why there is no answer: the server refuses, cannot be reached, or is left alone for now.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unanswered(pub String);

/// How other servers are asked, and told what need not arrive.
pub trait Reach: Send + Sync + 'static {
    /// Asks a server; gives the body of an answer whose status is 200.
    fn ask<'a>(
        &'a self,
        server: &'a str,
        ask: Ask,
        within: Duration,
    ) -> BoxFuture<'a, Result<Bytes, Unanswered>>;

    /// Tells servers something that lives for a moment. A later one under the same `key` takes
    /// the place of one that is not sent yet.
    fn send_soon(&self, servers: &[Arc<str>], edu_type: &'static str, key: String, content: String);
}
