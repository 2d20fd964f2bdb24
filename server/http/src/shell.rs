//! Building the router out of lists of routes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::extract::Request;
use skerry_core::Clock;
use tokio::sync::watch;

use crate::dispatch;
use crate::metrics::Class;
use crate::rate::Limiter;
use crate::{
    Auth, Authenticator, BodyKind, Call, HandlerFuture, Metrics, Rate, RateLimits, Route, Standing,
    Verb,
};

/// What the shell itself can be told.
#[derive(Clone, Debug)]
pub struct Options {
    /// The largest body of a request, in bytes, where the route names no other.
    pub max_body: usize,
    /// Whether an access token may stand in the query string (`?access_token=`), which old
    /// clients do and which leaves tokens in the logs of proxies.
    pub query_tokens: bool,
    /// Rate limits.
    pub rates: RateLimits,
    /// Becomes true when the server stops: reads that are still waiting then, such as long
    /// polls, are answered 503 soon after.
    pub stop: Option<watch::Receiver<bool>>,
    /// Where requests are counted.
    pub metrics: Arc<Metrics>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            max_body: 1024 * 1024,
            query_tokens: true,
            rates: RateLimits::default(),
            stop: None,
            metrics: Arc::default(),
        }
    }
}

/// What all requests share.
pub struct Shell {
    pub(crate) options: Options,
    pub(crate) authenticator: Arc<dyn Authenticator>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) limiter: Limiter,
    next_id: AtomicU64,
}

/// A route without its context's type.
pub(crate) struct Entry {
    pub(crate) path: &'static str,
    pub(crate) auth: Auth,
    pub(crate) standing: Standing,
    pub(crate) rate: Rate,
    pub(crate) class: Class,
    pub(crate) body: BodyKind,
    pub(crate) max_body: Option<usize>,
    /// A page for a browser: it is nobody else's to read, so it gets no cross-origin headers.
    pub(crate) page: bool,
    pub(crate) run: Box<dyn Fn(Call) -> HandlerFuture + Send + Sync>,
}

/// All methods of one path.
pub(crate) type Entries = BTreeMap<Verb, Entry>;

/// Collects routes until [`ShellBuilder::router`].
pub struct ShellBuilder {
    shell: Shell,
    paths: BTreeMap<&'static str, Entries>,
    pages: Option<Arc<Entries>>,
}

impl Shell {
    /// Starts a router. `authenticator` tells who a token belongs to.
    #[must_use]
    pub fn builder(
        options: Options,
        authenticator: Arc<dyn Authenticator>,
        clock: Arc<dyn Clock>,
    ) -> ShellBuilder {
        let limiter = Limiter::new(options.rates);
        let shell = Shell {
            options,
            authenticator,
            clock,
            limiter,
            next_id: AtomicU64::new(1),
        };
        ShellBuilder {
            shell,
            paths: BTreeMap::new(),
            pages: None,
        }
    }

    /// A name for the next request, unique in this process.
    pub(crate) fn new_id(&self) -> String {
        format!("{:06x}", self.next_id.fetch_add(1, Ordering::Relaxed))
    }
}

impl ShellBuilder {
    /// Adds a list of routes with the context that their handlers get. Of two routes with the
    /// same method and path the later one counts.
    #[must_use]
    pub fn routes<C: Send + Sync + 'static>(mut self, ctx: &Arc<C>, routes: &[Route<C>]) -> Self {
        for route in routes {
            let ctx = Arc::clone(ctx);
            let handler = route.handler;
            let entry = Entry {
                path: route.path,
                auth: route.auth,
                standing: route.standing,
                rate: route.rate,
                class: Class::of(route.path, route.rate),
                body: route.body,
                max_body: route.max_body,
                page: false,
                run: Box::new(move |call| handler(Arc::clone(&ctx), call)),
            };
            self.paths
                .entry(route.path)
                .or_default()
                .insert(route.verb, entry);
        }
        self
    }

    /// Answers `GET` of every path that no route has and that is no API's: a web client's files.
    #[must_use]
    pub fn pages<C: Send + Sync + 'static>(
        mut self,
        ctx: &Arc<C>,
        handler: fn(Arc<C>, Call) -> HandlerFuture,
    ) -> Self {
        let ctx = Arc::clone(ctx);
        let entry = Entry {
            path: "page",
            auth: Auth::None,
            standing: Standing {
                guests: true,
                locked: true,
                suspended: true,
            },
            rate: Rate::Free,
            class: Class::Page,
            body: BodyKind::Bytes,
            max_body: Some(0),
            page: true,
            run: Box::new(move |call| handler(Arc::clone(&ctx), call)),
        };
        self.pages = Some(Arc::new(Entries::from([(Verb::GET, entry)])));
        self
    }

    /// The router over all routes added. Unknown paths answer 404 and unknown methods 405, both
    /// `M_UNRECOGNIZED`.
    ///
    /// # Panics
    /// Where two paths cannot be told apart; a fault in a list of routes, found by any test that
    /// builds the router.
    pub fn router(self) -> Router {
        let shell = Arc::new(self.shell);
        let mut router = Router::new();
        for (path, entries) in self.paths {
            let shell = Arc::clone(&shell);
            let entries = Arc::new(entries);
            let serve = move |request: Request| {
                dispatch::serve(Arc::clone(&shell), Some(Arc::clone(&entries)), request)
            };
            if let Some(old) = old_path(path) {
                router = router.route(&old, axum::routing::any(serve.clone()));
            }
            router = router.route(path, axum::routing::any(serve));
        }
        let pages = self.pages;
        router.fallback(move |request: Request| {
            let pages = pages.clone().filter(|_| !is_api(request.uri().path()));
            dispatch::serve(Arc::clone(&shell), pages, request)
        })
    }
}

/// Whether a path belongs to an API, and never to a page: `/_matrix`, `/_synapse`, `/.well-known`.
fn is_api(path: &str) -> bool {
    path.starts_with("/_") || path.starts_with("/.")
}

/// The path under which clients from before v1.1 of the specification call an endpoint; some
/// command-line clients and bots still do.
fn old_path(path: &str) -> Option<String> {
    ["/_matrix/client/", "/_matrix/media/"]
        .into_iter()
        .find_map(|api| {
            let rest = path.strip_prefix(api)?.strip_prefix("v3/")?;
            Some(format!("{api}r0/{rest}"))
        })
}
