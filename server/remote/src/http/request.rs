//! Requests and whole answers.

use std::time::Duration;

use ::http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use ::http::{Method, StatusCode};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use skerry_core::canonical::{Mode, Object};

use super::error::HttpError;
use super::target::Route;

/// How long a request may take when nothing else is said.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How long an answer may be when nothing else is said, in bytes.
const MAX_RESPONSE: usize = 1 << 20;

/// A request to another machine. Begins with sensible limits and no redirects.
#[derive(Clone, Debug)]
pub struct Request {
    pub(super) method: Method,
    pub(super) url: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) timeout: Duration,
    pub(super) max_response: usize,
    pub(super) redirects: usize,
    pub(super) secure: bool,
    pub(super) trusted: bool,
    pub(super) route: Option<Route>,
    /// A header that could not be taken; the request fails with it.
    pub(super) fault: Option<String>,
}

impl Request {
    /// A request without a body.
    #[must_use]
    pub fn new(method: Method, url: &str) -> Request {
        Request {
            method,
            url: url.to_owned(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            timeout: TIMEOUT,
            max_response: MAX_RESPONSE,
            redirects: 0,
            secure: false,
            trusted: false,
            route: None,
            fault: None,
        }
    }

    /// The URL asked for.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// `GET`.
    #[must_use]
    pub fn get(url: &str) -> Request {
        Request::new(Method::GET, url)
    }

    /// `POST`.
    #[must_use]
    pub fn post(url: &str) -> Request {
        Request::new(Method::POST, url)
    }

    /// `PUT`.
    #[must_use]
    pub fn put(url: &str) -> Request {
        Request::new(Method::PUT, url)
    }

    /// Adds a header; one that HTTP does not allow fails the request when it is sent.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Request {
        match (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            (Ok(name), Ok(value)) => {
                self.headers.append(name, value);
            }
            _ => self.fault = Some(format!("the header {name:?} is not allowed")),
        }
        self
    }

    /// Adds the header `Authorization: Bearer`.
    #[must_use]
    pub fn bearer(self, token: &str) -> Request {
        self.header("authorization", &format!("Bearer {token}"))
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: Bytes) -> Request {
        self.body = body;
        self
    }

    /// Sets the body to JSON, and its type.
    #[must_use]
    pub fn json(mut self, value: &impl Serialize) -> Request {
        match serde_json::to_vec(value) {
            Ok(bytes) => {
                let kind = HeaderValue::from_static("application/json");
                self.headers.insert(CONTENT_TYPE, kind);
                self.body = bytes.into();
            }
            Err(error) => self.fault = Some(error.to_string()),
        }
        self
    }

    /// How long it may take, from looking up the name to the last byte of the answer (of a
    /// streamed answer: to its head, and then between any two pieces). 30 s unless said.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Request {
        self.timeout = timeout;
        self
    }

    /// How many bytes the answer's body may have. 1 MiB unless said.
    #[must_use]
    pub fn max_response(mut self, bytes: usize) -> Request {
        self.max_response = bytes;
        self
    }

    /// Follows so many redirects, each checked like the first URL. None unless said: a redirect
    /// is then an answer like any other.
    #[must_use]
    pub fn follow(mut self, redirects: usize) -> Request {
        self.redirects = redirects;
        self
    }

    /// Follows redirects to `https` alone: what is learned has to come from who proved to be it.
    #[must_use]
    pub fn secure(mut self) -> Request {
        self.secure = true;
        self
    }

    /// The operator wrote this URL: any address is good. Redirects are not.
    #[must_use]
    pub fn trusted(mut self) -> Request {
        self.trusted = true;
        self
    }

    /// Connects elsewhere than the URL's host says.
    #[must_use]
    pub fn via(mut self, route: Route) -> Request {
        self.route = Some(route);
        self
    }
}

/// An answer, whole.
#[derive(Clone, Debug)]
pub struct Response {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

impl Response {
    /// The body, read as a JSON object, numbers of any kind in it.
    ///
    /// # Errors
    /// `Answer` where it is something else.
    pub fn object(&self) -> Result<Object, HttpError> {
        // The body was bounded when it was read.
        Object::parse_within(&self.body, Mode::Lenient, usize::MAX)
            .map_err(|error| HttpError::Answer(error.to_string()))
    }

    /// The body, read as JSON.
    ///
    /// # Errors
    /// `Answer` where it is something else.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, HttpError> {
        serde_json::from_slice(&self.body).map_err(|error| HttpError::Answer(error.to_string()))
    }
}
