//! Requests to other servers: signed, bounded, and none to those that are left alone.

mod error;
mod gates;

use std::sync::Arc;
use std::time::Duration;

use ::http::Method;
use ::http::header::RETRY_AFTER;
use bytes::Bytes;
use skerry_core::canonical::Object;
use skerry_core::keys::SigningKey;
use skerry_core::{Clock, DiceSource, names};
use skerry_store::{Store, StoreError};

use super::carry::{Carry, Outbound};
use super::policy::Policy;
use super::standing::Standings;
use super::xmatrix::Signed;
use crate::http::{HttpError, Response, Streamed};

pub use error::PeerError;
use gates::Gates;

/// How much of a refusal is read, in bytes.
const REFUSAL_MAX: usize = 64 << 10;

/// What a request may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long it may take (of [`Peers::open`]: to the head of the answer, and then between any
    /// two pieces).
    pub timeout: Duration,
    /// How many bytes the answer may have.
    pub max_response: usize,
    /// Whether it goes out although the server is left alone because it was not reached: somebody
    /// waits for it.
    pub even_if_resting: bool,
}

impl Limits {
    /// So long, so large, and not while the server rests.
    #[must_use]
    pub const fn new(timeout: Duration, max_response: usize) -> Limits {
        Limits {
            timeout,
            max_response,
            even_if_resting: false,
        }
    }

    /// Also while the server rests.
    #[must_use]
    pub const fn even_if_resting(self) -> Limits {
        Limits {
            even_if_resting: true,
            ..self
        }
    }
}

impl Default for Limits {
    /// 30 s and 1 MiB.
    fn default() -> Limits {
        Limits::new(Duration::from_secs(30), 1 << 20)
    }
}

/// What [`Peers`] is made of.
pub struct PeersOptions {
    /// This server's name.
    pub own_name: Arc<str>,
    /// Signs requests.
    pub key: Arc<SigningKey>,
    /// Carries them.
    pub carry: Arc<dyn Carry>,
    /// Whom we talk with.
    pub policy: Policy,
    /// Remembers who was reached.
    pub store: Arc<Store>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Chance in pauses.
    pub dice: Arc<dyn DiceSource>,
}

/// The other servers. A cheap handle: clone it freely.
#[derive(Clone)]
pub struct Peers {
    inner: Arc<Inner>,
}

struct Inner {
    own_name: Arc<str>,
    key: Arc<SigningKey>,
    carry: Arc<dyn Carry>,
    policy: Policy,
    standings: Standings,
    gates: Gates,
}

impl Peers {
    /// Reads from the store who was not reached lately.
    ///
    /// # Errors
    /// The store's.
    pub fn new(options: PeersOptions) -> Result<Peers, StoreError> {
        let standings = Standings::open(options.store, options.clock, options.dice)?;
        Ok(Peers {
            inner: Arc::new(Inner {
                own_name: options.own_name,
                key: options.key,
                carry: options.carry,
                policy: options.policy,
                standings,
                gates: Gates::default(),
            }),
        })
    }

    /// This server's name.
    #[must_use]
    pub fn own_name(&self) -> &Arc<str> {
        &self.inner.own_name
    }

    /// Whom we talk with.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.inner.policy
    }

    pub(crate) fn key(&self) -> &Arc<SigningKey> {
        &self.inner.key
    }

    pub(crate) fn standings(&self) -> &Standings {
        &self.inner.standings
    }

    /// Asks a server; gives the whole answer, whose status says that all went well. `path` holds
    /// the query too, percent-encoded.
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn call(
        &self,
        to: &str,
        method: Method,
        path: &str,
        body: Option<&Object>,
        limits: Limits,
    ) -> Result<Response, PeerError> {
        let body = body.map(Object::to_string);
        self.call_text(to, method, path, body, limits).await
    }

    /// The same with a body that is canonical JSON already.
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn call_text(
        &self,
        to: &str,
        method: Method,
        path: &str,
        body: Option<String>,
        limits: Limits,
    ) -> Result<Response, PeerError> {
        let request = self.signed(to, method, path, body, limits);
        let asked = async { read(self.open_request(to, request).await?).await };
        let done = tokio::time::timeout(limits.timeout, asked).await;
        self.settle(
            to,
            done.unwrap_or(Err(HttpError::Timeout(limits.timeout).into())),
        )
    }

    /// Asks a server; the body of the answer, whose status says that all went well, is still to
    /// be read.
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn open(
        &self,
        to: &str,
        method: Method,
        path: &str,
        body: Option<&Object>,
        limits: Limits,
    ) -> Result<Streamed, PeerError> {
        let request = self.signed(to, method, path, body.map(Object::to_string), limits);
        let opened = self.open_request(to, request);
        let done = tokio::time::timeout(limits.timeout, opened).await;
        self.settle(
            to,
            done.unwrap_or(Err(HttpError::Timeout(limits.timeout).into())),
        )
    }

    /// Asks a server for what everybody may have, without saying who asks: its keys.
    ///
    /// # Errors
    /// [`PeerError`].
    pub(crate) async fn call_unsigned(
        &self,
        to: &str,
        method: Method,
        path: &str,
        body: Option<String>,
        limits: Limits,
    ) -> Result<Response, PeerError> {
        let request = outbound(method, path, None, body, limits);
        let asked = async { read(self.open_request(to, request).await?).await };
        let done = tokio::time::timeout(limits.timeout, asked).await;
        self.settle(
            to,
            done.unwrap_or(Err(HttpError::Timeout(limits.timeout).into())),
        )
    }

    /// Whether a request may go to a server at all, and now.
    pub(crate) fn may_ask(&self, to: &str, limits: &Limits) -> Result<(), PeerError> {
        let inner = &self.inner;
        if to == &*inner.own_name {
            return Err(PeerError::Ourselves);
        }
        if !names::is_server_name(to) || !inner.policy.permits(to) {
            return Err(PeerError::Denied);
        }
        match inner.standings.resting_until(to) {
            Some(until_ms) if !limits.even_if_resting => Err(PeerError::Resting { until_ms }),
            _ => Ok(()),
        }
    }

    fn signed(
        &self,
        to: &str,
        method: Method,
        path: &str,
        body: Option<String>,
        limits: Limits,
    ) -> Outbound {
        let signed = Signed {
            method: method.as_str(),
            uri: path,
            origin: &self.inner.own_name,
            destination: to,
            content: body.as_deref(),
        };
        let authorization = signed.authorization(&self.inner.key);
        outbound(method, path, Some(authorization), body, limits)
    }

    /// Sends; what comes back with a status of failure is a refusal.
    async fn open_request(&self, to: &str, request: Outbound) -> Result<Streamed, PeerError> {
        self.may_ask(to, &request.limits)?;
        let _gate = self.inner.gates.enter(to).await;
        let answer = self.inner.carry.open(to, request).await?;
        if answer.status.is_success() {
            return Ok(answer);
        }
        Err(refusal(answer).await)
    }

    /// Notes how it went.
    fn settle<T>(&self, to: &str, done: Result<T, PeerError>) -> Result<T, PeerError> {
        let standings = &self.inner.standings;
        match &done {
            // It is there, whatever it thinks of what was asked.
            Ok(_) => standings.succeeded(to),
            Err(error) => match (error.wants_rest(), error) {
                (Some(after), _) => {
                    standings.failed(to, &error.to_string(), after);
                }
                // It failed at this, which need not mean that it is not well.
                (None, PeerError::Refused { status: 500.., .. }) => {}
                (None, PeerError::Refused { .. } | PeerError::Answer(_)) => standings.succeeded(to),
                (None, _) => {}
            },
        }
        done
    }
}

fn outbound(
    method: Method,
    path: &str,
    authorization: Option<String>,
    body: Option<String>,
    limits: Limits,
) -> Outbound {
    Outbound {
        method,
        path: path.to_owned(),
        authorization,
        body: body.map(Bytes::from).unwrap_or_default(),
        limits,
    }
}

async fn read(mut answer: Streamed) -> Result<Response, PeerError> {
    Ok(Response {
        body: answer.rest().await?,
        status: answer.status,
        headers: answer.headers,
    })
}

async fn refusal(mut answer: Streamed) -> PeerError {
    let retry_after = answer.headers.get(RETRY_AFTER);
    let seconds = retry_after.and_then(|v| v.to_str().ok()?.trim().parse::<u64>().ok());
    // An answer that cannot be read has its status all the same.
    let body = answer.start(REFUSAL_MAX).await.unwrap_or_default();
    let seconds = seconds.map(Duration::from_secs);
    PeerError::refused(answer.status.as_u16(), seconds, &body)
}

#[cfg(test)]
mod tests;
