//! One entry in a list of endpoints.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::{Answer, ApiError, Call, Rate};

/// What a handler gives back: the answer, or why there is none.
pub type HandlerFuture = BoxFuture<'static, Result<Answer, ApiError>>;

/// The body limit, in bytes, of a route made with [`Route::large`].
pub const LARGE_BODY: usize = 16 * 1024 * 1024;

/// An HTTP method that endpoints use. A `HEAD` is answered by the `GET` route of its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(clippy::upper_case_acronyms)]
pub enum Verb {
    /// `DELETE`
    DELETE,
    /// `GET`, and with it `HEAD`
    GET,
    /// `POST`
    POST,
    /// `PUT`
    PUT,
}

impl Verb {
    /// The verb of an HTTP method, if any endpoint could use it.
    #[must_use]
    pub fn of(method: &http::Method) -> Option<Verb> {
        match *method {
            http::Method::GET | http::Method::HEAD => Some(Verb::GET),
            http::Method::POST => Some(Verb::POST),
            http::Method::PUT => Some(Verb::PUT),
            http::Method::DELETE => Some(Verb::DELETE),
            _ => None,
        }
    }

    /// The method's name in capitals.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Verb::DELETE => "DELETE",
            Verb::GET => "GET",
            Verb::POST => "POST",
            Verb::PUT => "PUT",
        }
    }
}

/// Who may call a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// Anybody; a token that is sent is not looked at.
    None,
    /// Whoever has a valid access token.
    Token,
    /// Anybody; a token that is sent has to be valid.
    TokenOptional,
    /// Anybody; an application service is known by its token, as itself. Other tokens, valid or
    /// not, are not looked at: clients send old ones when they log in.
    Bridge,
    /// Another Matrix server that signed the request; the body is read first, since it is signed
    /// too.
    Server,
}

/// How the body of a request reaches the handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyKind {
    /// Read whole and checked to be a JSON object (or nothing at all) before the handler runs.
    Json,
    /// Read whole, not looked at.
    Bytes,
    /// Not read: the handler takes it as a stream by [`Call::take_stream`] and limits it itself.
    Stream,
}

/// What accounts that are not ordinary ones may do with a route that asks for a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Guests may call it.
    pub guests: bool,
    /// Locked accounts may call it.
    pub locked: bool,
    /// Suspended accounts may call it.
    pub suspended: bool,
}

/// An endpoint: method, path, who may call it, and the function that answers.
///
/// Made by [`route!`](crate::route).
pub struct Route<C> {
    /// The method.
    pub verb: Verb,
    /// The path, with `{name}` for each parameter.
    pub path: &'static str,
    /// Who may call it.
    pub auth: Auth,
    /// What guests, locked and suspended accounts may do with it.
    pub standing: Standing,
    /// Which rate limit it counts against.
    pub rate: Rate,
    /// How the body is handed over.
    pub body: BodyKind,
    /// The largest body in bytes; `None` is the shell's default. Not used for streams.
    pub max_body: Option<usize>,
    /// The function that answers.
    pub handler: fn(Arc<C>, Call) -> HandlerFuture,
}

impl<C> Route<C> {
    /// The same route with another body limit, in bytes.
    #[must_use]
    pub const fn max_body(mut self, bytes: usize) -> Self {
        self.max_body = Some(bytes);
        self
    }

    /// The same route for bodies of up to [`LARGE_BODY`] bytes (key backups, key uploads).
    #[must_use]
    pub const fn large(self) -> Self {
        self.max_body(LARGE_BODY)
    }

    /// The same route, for guests too.
    #[must_use]
    pub const fn guests(mut self) -> Self {
        self.standing.guests = true;
        self
    }

    /// The same route, for locked accounts too.
    #[must_use]
    pub const fn locked(mut self) -> Self {
        self.standing.locked = true;
        self
    }

    /// The same route, closed to suspended accounts.
    #[must_use]
    pub const fn not_suspended(mut self) -> Self {
        self.standing.suspended = false;
        self
    }

    /// The same route, taking its body as a stream.
    #[must_use]
    pub const fn stream(mut self) -> Self {
        self.body = BodyKind::Stream;
        self
    }

    /// The same route, taking bytes that need not be JSON.
    #[must_use]
    pub const fn bytes(mut self) -> Self {
        self.body = BodyKind::Bytes;
        self
    }
}

impl<C> Clone for Route<C> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<C> Copy for Route<C> {}

/// Makes a [`Route`]: method, path, [`Auth`], [`Rate`], handler.
///
/// The handler is an `async fn(Arc<C>, Call) -> Result<Answer, ApiError>`:
///
/// ```ignore
/// pub const ROUTES: &[Route<Ctx>] = &[
///     route!(PUT "/_matrix/client/v3/rooms/{roomId}/send/{eventType}/{txnId}", Token, Send, put),
///     route!(POST "/_matrix/media/v3/upload", Token, Media, upload).stream(),
/// ];
/// ```
#[macro_export]
macro_rules! route {
    ($verb:ident $path:literal, $auth:ident, $rate:ident, $handler:path) => {
        $crate::Route {
            verb: $crate::Verb::$verb,
            path: $path,
            auth: $crate::Auth::$auth,
            standing: $crate::Standing {
                guests: false,
                locked: false,
                suspended: true,
            },
            rate: $crate::Rate::$rate,
            body: $crate::BodyKind::Json,
            max_body: None,
            handler: |ctx, call| ::std::boxed::Box::pin($handler(ctx, call)),
        }
    };
}
