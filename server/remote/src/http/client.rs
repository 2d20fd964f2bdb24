//! The client: takes a connection or makes one, writes the request, follows redirects.

use std::sync::Arc;
use std::time::Duration;

use ::http::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderValue, LOCATION, USER_AGENT,
};
use ::http::uri::PathAndQuery;
use ::http::{Method, StatusCode, Uri, Version};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body_util::Full;
use hyper::body::Incoming;

use super::body::Streamed;
use super::connect::Connector;
use super::error::HttpError;
use super::guard::Guard;
use super::pool::{Line, Pool};
use super::request::{Request, Response};
use super::resolve::Resolve;
use super::target::{Target, joined};
use super::tls::Tls;

/// How long making a connection may take when nothing else is said.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Sends requests; what features hold of a [`Client`], so that a test can put something else in
/// its place.
pub trait Transport: Send + Sync {
    /// Sends a request and reads the whole answer. Any status is an answer.
    ///
    /// # Errors
    /// [`HttpError`].
    fn send(&self, request: Request) -> BoxFuture<'_, Result<Response, HttpError>>;
}

/// What a client is made of.
pub struct ClientOptions {
    /// Which addresses it connects to.
    pub guard: Guard,
    /// Looks names up.
    pub resolver: Arc<dyn Resolve>,
    /// Whom it believes.
    pub tls: Arc<Tls>,
    /// How long making a connection may take.
    pub connect_timeout: Duration,
    /// What it calls itself.
    pub user_agent: HeaderValue,
}

impl ClientOptions {
    /// Usual time limits and name.
    #[must_use]
    pub fn new(guard: Guard, resolver: Arc<dyn Resolve>, tls: Arc<Tls>) -> ClientOptions {
        ClientOptions {
            guard,
            resolver,
            tls,
            connect_timeout: CONNECT_TIMEOUT,
            user_agent: HeaderValue::from_static(concat!("Skerry/", env!("CARGO_PKG_VERSION"))),
        }
    }
}

/// Sends requests to other machines. A cheap handle: clone it freely. Two clients share no
/// connections, so their guards do not mix.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    connector: Connector,
    pool: Arc<Pool>,
    connect_timeout: Duration,
    user_agent: HeaderValue,
}

impl Client {
    /// A client without any connection yet.
    #[must_use]
    pub fn new(options: ClientOptions) -> Client {
        Client {
            inner: Arc::new(Inner {
                connector: Connector {
                    guard: options.guard,
                    resolver: options.resolver,
                    tls: options.tls,
                },
                pool: Arc::default(),
                connect_timeout: options.connect_timeout,
                user_agent: options.user_agent,
            }),
        }
    }

    /// Sends a request and reads the whole answer. Any status is an answer.
    ///
    /// # Errors
    /// [`HttpError`].
    pub async fn send(&self, request: Request) -> Result<Response, HttpError> {
        let limit = request.timeout;
        let whole = async {
            let mut streamed = self.opened(request).await?;
            Ok(Response {
                body: streamed.rest().await?,
                status: streamed.status,
                headers: streamed.headers,
            })
        };
        let done = tokio::time::timeout(limit, whole).await;
        done.map_err(|_| HttpError::Timeout(limit))?
    }

    /// Sends a request; the body of the answer is still to be read.
    ///
    /// # Errors
    /// [`HttpError`].
    pub async fn open(&self, request: Request) -> Result<Streamed, HttpError> {
        let limit = request.timeout;
        let opened = tokio::time::timeout(limit, self.opened(request)).await;
        opened.map_err(|_| HttpError::Timeout(limit))?
    }

    async fn opened(&self, mut request: Request) -> Result<Streamed, HttpError> {
        if let Some(fault) = request.fault {
            return Err(HttpError::Request(fault));
        }
        let parsed = request.url.parse();
        let mut uri: Uri = parsed.map_err(|_| HttpError::url(&request.url))?;
        let mut redirects = 0;
        loop {
            let answer = self.once(&request, &uri).await?;
            let next = match answer.headers().get(LOCATION) {
                Some(next) if request.redirects > 0 && is_redirect(answer.status()) => next,
                _ => return Streamed::new(answer, request.timeout, request.max_response),
            };
            let next = next.to_str().ok().and_then(|next| joined(&uri, next));
            let next = next.ok_or(HttpError::Redirect)?;
            redirects += 1;
            let plain = request.secure && next.scheme_str() != Some("https");
            if plain || redirects > request.redirects {
                return Err(HttpError::Redirect);
            }
            redirect(&mut request, answer.status(), &uri, &next);
            uri = next;
        }
    }

    /// One request, one answer. A kept connection may have been closed by the other side just
    /// now; then nothing was processed, and the request goes out on another.
    async fn once(
        &self,
        request: &Request,
        uri: &Uri,
    ) -> Result<::http::Response<Incoming>, HttpError> {
        let target = Target::of(uri, request.route.as_ref(), request.trusted)?;
        while let Some(line) = self.inner.pool.take(&target) {
            match self.write(line, &target, request, uri).await {
                Err(Unsent::Again) => {}
                Err(Unsent::Failed(error)) => return Err(error),
                Ok(answer) => return Ok(answer),
            }
        }
        let limit = self.inner.connect_timeout;
        let connecting = self.inner.connector.connect(&target);
        let line = tokio::time::timeout(limit, connecting).await;
        let line = line.map_err(|_| HttpError::Timeout(limit))??;
        let sent = self.write(line, &target, request, uri).await;
        sent.map_err(|unsent| match unsent {
            Unsent::Again => HttpError::Broken("it was closed at once".to_owned()),
            Unsent::Failed(error) => error,
        })
    }

    async fn write(
        &self,
        line: Line,
        target: &Target,
        request: &Request,
        uri: &Uri,
    ) -> Result<::http::Response<Incoming>, Unsent> {
        let message = self.message(request, uri, &line).map_err(Unsent::Failed)?;
        let pool = &self.inner.pool;
        match line {
            Line::One(mut sender) => {
                let answer = sender.try_send_request(message).await;
                let answer =
                    answer.map_err(|mut e| unsent(e.take_message().is_some(), e.error()))?;
                let (pool, target) = (Arc::clone(pool), target.clone());
                tokio::spawn(async move {
                    // Once the answer was read to its end.
                    if sender.ready().await.is_ok() {
                        pool.put(&target, Line::One(sender));
                    }
                });
                Ok(answer)
            }
            Line::Two(mut sender) => {
                pool.put(target, Line::Two(sender.clone()));
                let answer = sender.try_send_request(message).await;
                answer.map_err(|mut e| unsent(e.take_message().is_some(), e.error()))
            }
        }
    }

    fn message(
        &self,
        request: &Request,
        uri: &Uri,
        line: &Line,
    ) -> Result<::http::Request<Full<Bytes>>, HttpError> {
        let mut message = ::http::Request::new(Full::new(request.body.clone()));
        *message.method_mut() = request.method.clone();
        *message.headers_mut() = request.headers.clone();
        let headers = message.headers_mut();
        headers
            .entry(USER_AGENT)
            .or_insert(self.inner.user_agent.clone());
        if let Line::Two(_) = line {
            *message.version_mut() = Version::HTTP_2;
            *message.uri_mut() = uri.clone();
            return Ok(message);
        }
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let host = HeaderValue::try_from(authority);
        headers.insert(HOST, host.map_err(|_| HttpError::url(&uri.to_string()))?);
        let path = uri.path_and_query().cloned();
        *message.uri_mut() = path.unwrap_or(PathAndQuery::from_static("/")).into();
        Ok(message)
    }
}

impl Transport for Client {
    fn send(&self, request: Request) -> BoxFuture<'_, Result<Response, HttpError>> {
        Box::pin(Client::send(self, request))
    }
}

/// Why a request was not answered on one connection.
enum Unsent {
    /// The other side never saw it.
    Again,
    /// Nobody knows.
    Failed(HttpError),
}

fn unsent(taken_back: bool, error: &hyper::Error) -> Unsent {
    if taken_back || error.is_canceled() {
        Unsent::Again
    } else {
        Unsent::Failed(HttpError::Broken(error.to_string()))
    }
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Makes a request into what it is after a redirect.
fn redirect(request: &mut Request, status: StatusCode, from: &Uri, to: &Uri) {
    let keeps_method = matches!(status.as_u16(), 307 | 308)
        || matches!(request.method, Method::GET | Method::HEAD);
    if !keeps_method {
        request.method = Method::GET;
        request.body = Bytes::new();
        request.headers.remove(CONTENT_TYPE);
        request.headers.remove(CONTENT_LENGTH);
    }
    if from.authority() != to.authority() || from.scheme() != to.scheme() {
        request.headers.remove(AUTHORIZATION);
        request.route = None;
    }
    // The operator wrote the first URL, not where it leads.
    request.trusted = false;
}

#[cfg(test)]
mod tests;
