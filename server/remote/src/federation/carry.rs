//! From a signed request to an answer: what lies between us and another server.

use std::sync::Arc;

use ::http::Method;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use skerry_core::Clock;

use super::discover::Discovery;
use super::peers::Limits;
use crate::http::{Client, HttpError, Request, Resolve, Streamed, Transport};

/// How many of the places where a server may be are tried.
const ROUTES: usize = 4;

/// A request to another server, complete.
#[derive(Clone, Debug)]
pub struct Outbound {
    /// The method.
    pub method: Method,
    /// Path and query, as they are signed.
    pub path: String,
    /// The `Authorization` header; none where nothing has to be proved.
    pub authorization: Option<String>,
    /// The body, JSON; empty: none.
    pub body: Bytes,
    /// What the answer may cost.
    pub limits: Limits,
}

/// Carries requests to servers by their names. [`Internet`] does it; several servers in one
/// process may be given something else.
pub trait Carry: Send + Sync {
    /// Sends a request; the body of the answer is still to be read. Any status is an answer.
    ///
    /// # Errors
    /// [`HttpError`].
    fn open<'a>(
        &'a self,
        to: &'a str,
        request: Outbound,
    ) -> BoxFuture<'a, Result<Streamed, HttpError>>;
}

/// Finds servers by their names and talks to them over TLS.
pub struct Internet {
    discovery: Discovery,
    client: Client,
}

impl Internet {
    /// By this client, whose guard says which addresses are reached.
    #[must_use]
    pub fn new(client: Client, resolver: Arc<dyn Resolve>, clock: Arc<dyn Clock>) -> Internet {
        let transport: Arc<dyn Transport> = Arc::new(client.clone());
        Internet {
            discovery: Discovery::new(transport, resolver, clock),
            client,
        }
    }

    async fn opened(&self, to: &str, request: Outbound) -> Result<Streamed, HttpError> {
        let place = self.discovery.find(to).await;
        let place = place.ok_or_else(|| HttpError::Url(to.to_owned()))?;
        let url = format!("https://{}{}", place.host, request.path);
        let mut last = HttpError::Url(to.to_owned());
        for route in place.routes.into_iter().take(ROUTES) {
            let mut message = Request::new(request.method.clone(), &url)
                .timeout(request.limits.timeout)
                .max_response(request.limits.max_response)
                .via(route);
            if let Some(authorization) = &request.authorization {
                message = message.header("authorization", authorization);
            }
            if !request.body.is_empty() {
                message = message
                    .header("content-type", "application/json")
                    .body(request.body.clone());
            }
            match self.client.open(message).await {
                Err(error) if error.is_unconnected() => last = error,
                done => return done,
            }
        }
        // It may have moved since it said where it is.
        self.discovery.forget(to);
        Err(last)
    }
}

impl Carry for Internet {
    fn open<'a>(
        &'a self,
        to: &'a str,
        request: Outbound,
    ) -> BoxFuture<'a, Result<Streamed, HttpError>> {
        Box::pin(self.opened(to, request))
    }
}
