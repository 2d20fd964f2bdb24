//! A request as a handler sees it.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::StreamExt;
use http::{HeaderMap, Method, Uri};
use ruma_common::api::{IncomingRequest, IncomingRequestExt};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use crate::{ApiError, Requester, json};

/// A request: what was asked, by whom, from where.
pub struct Call {
    /// The method.
    pub method: Method,
    /// Path and query as they came.
    pub uri: Uri,
    /// The headers as they came.
    pub headers: HeaderMap,
    /// The whole body; empty for a route that takes a stream.
    pub body: Bytes,
    /// Where the request comes from.
    pub peer: IpAddr,
    /// The request's number in the log.
    pub id: String,
    pub(crate) params: Vec<(String, String)>,
    pub(crate) requester: Option<Requester>,
    pub(crate) origin: Option<Arc<str>>,
    pub(crate) stop: Option<watch::Receiver<bool>>,
    /// In a mutex only so that a call can be shared between threads, as handlers do across awaits.
    pub(crate) stream: Mutex<Option<BodyStream>>,
}

impl Call {
    /// Who asks.
    ///
    /// # Errors
    /// 401 `M_MISSING_TOKEN` where nobody said who they are (only on routes where the token is
    /// optional or not looked at).
    pub fn requester(&self) -> Result<&Requester, ApiError> {
        self.requester
            .as_ref()
            .ok_or_else(|| ApiError::missing_token("Missing access token"))
    }

    /// Who asks, if they said so.
    #[must_use]
    pub fn requester_opt(&self) -> Option<&Requester> {
        self.requester.as_ref()
    }

    /// The server that signed the request, on a route for servers.
    ///
    /// # Errors
    /// 401 `M_UNAUTHORIZED` on other routes, a fault of ours.
    pub fn origin(&self) -> Result<&Arc<str>, ApiError> {
        self.origin
            .as_ref()
            .ok_or_else(|| ApiError::unauthorized("The request is not signed"))
    }

    /// Reads the request as one of ruma's request types.
    ///
    /// # Errors
    /// 400 with `M_NOT_JSON`, `M_BAD_JSON`, `M_MISSING_PARAM` or `M_INVALID_PARAM`.
    pub fn parse<R: IncomingRequest>(&self) -> Result<R, ApiError> {
        let args: Vec<&str> = self
            .params
            .iter()
            .map(|(_, value)| value.as_str())
            .collect();
        R::try_from_http_request(self.borrowed(), &args).map_err(|e| json::ruma_error(&e))
    }

    /// Reads the request as one of ruma's request types, with path parameters of one's own: for
    /// routes whose paths have fewer or more of them than ruma's type.
    ///
    /// # Errors
    /// As [`Call::parse`].
    pub fn parse_with<R: IncomingRequest>(&self, args: &[&str]) -> Result<R, ApiError> {
        R::try_from_http_request(self.borrowed(), args).map_err(|e| json::ruma_error(&e))
    }

    fn borrowed(&self) -> http::Request<&[u8]> {
        let mut request = http::Request::new(self.body.as_ref());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        request
    }

    /// Reads the JSON body as the given type; an empty body reads as `{}`.
    ///
    /// # Errors
    /// 400 with `M_NOT_JSON`, `M_BAD_JSON` or `M_MISSING_PARAM`.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        let body: &[u8] = if self.body.is_empty() {
            b"{}"
        } else {
            &self.body
        };
        serde_json::from_slice(body).map_err(|e| json::shape_error(&e))
    }

    /// The path parameter at the given place, decoded; empty where the path has fewer.
    #[must_use]
    pub fn path(&self, index: usize) -> &str {
        self.params
            .get(index)
            .map_or("", |(_, value)| value.as_str())
    }

    /// The path parameter of the given name, decoded; empty where the path has none such.
    #[must_use]
    pub fn param(&self, name: &str) -> &str {
        self.params
            .iter()
            .find(|(key, _)| key == name)
            .map_or("", |(_, value)| value.as_str())
    }

    /// The first value of a query parameter, decoded.
    #[must_use]
    pub fn query(&self, name: &str) -> Option<String> {
        self.query_all(name).next()
    }

    /// All values of a query parameter, decoded, in order.
    pub fn query_all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = String> + 'a {
        query_pairs(self.uri.query().unwrap_or(""))
            .filter(move |(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
    }

    /// All query parameters, decoded, in order.
    pub fn query_pairs(&self) -> impl Iterator<Item = (String, String)> + '_ {
        query_pairs(self.uri.query().unwrap_or(""))
            .map(|(key, value)| (key.into_owned(), value.into_owned()))
    }

    /// The first value of a field of a form (`application/x-www-form-urlencoded`), decoded; for
    /// routes made with `.bytes()`.
    #[must_use]
    pub fn form(&self, name: &str) -> Option<String> {
        let body = std::str::from_utf8(&self.body).ok()?;
        let (_, value) = query_pairs(body).find(|(key, _)| key == name)?;
        Some(value.into_owned())
    }

    /// The first value of a query parameter as a number or other type that reads from text.
    ///
    /// # Errors
    /// 400 `M_INVALID_PARAM` where it is there and does not read.
    pub fn query_as<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, ApiError> {
        let Some(text) = self.query(name) else {
            return Ok(None);
        };
        let wrong = || ApiError::invalid_param(format!("The query parameter {name} is not valid"));
        text.parse().map(Some).map_err(|_| wrong())
    }

    /// Comes to an end when the server stops: who waits for news answers then with what there is.
    pub fn stopping(&self) -> impl Future<Output = ()> + Send + use<> {
        let stop = self.stop.clone();
        async move {
            let told = match stop {
                Some(mut stop) => stop.wait_for(|stop| *stop).await.is_ok(),
                None => false,
            };
            if !told {
                std::future::pending::<()>().await;
            }
        }
    }

    /// A header's value as text.
    #[must_use]
    pub fn header(&self, name: &http::HeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The body as a stream, once, on a route made with `.stream()`.
    ///
    /// # Errors
    /// 500 where the route takes no stream or it was taken already, a fault of ours.
    pub fn take_stream(&mut self) -> Result<BodyStream, ApiError> {
        self.stream
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
            .ok_or_else(|| ApiError::internal("no body stream on this route"))
    }
}

/// The parts of a query string, decoded; what is not UTF-8 is replaced.
pub(crate) fn query_pairs(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    query
        .split('&')
        .filter(|part| !part.is_empty())
        .map(|part| {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            (decode(key), decode(value))
        })
}

fn decode(text: &str) -> Cow<'_, str> {
    if !text.contains(['%', '+']) {
        return Cow::Borrowed(text);
    }
    let spaced = text.replace('+', " ");
    Cow::Owned(
        percent_encoding::percent_decode_str(&spaced)
            .decode_utf8_lossy()
            .into_owned(),
    )
}

/// A request's body, piece by piece.
pub struct BodyStream {
    inner: axum::body::BodyDataStream,
    /// The length the client announced, in bytes.
    pub length: Option<u64>,
}

impl BodyStream {
    pub(crate) fn new(body: axum::body::Body, length: Option<u64>) -> BodyStream {
        BodyStream {
            inner: body.into_data_stream(),
            length,
        }
    }

    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// 400 `M_UNKNOWN` where the connection broke before the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ApiError> {
        match self.inner.next().await {
            None => Ok(None),
            Some(Ok(bytes)) => Ok(Some(bytes)),
            Some(Err(e)) => Err(ApiError::unknown("The upload ended before its end").caused_by(e)),
        }
    }
}
