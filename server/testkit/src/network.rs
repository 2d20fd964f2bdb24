//! Several servers in one process: what one says to another goes to the other's router, or gets
//! lost on the way, as a seed decides.
//!
//! Whether a request is lost, comes twice or late depends only on the seed, on the two servers
//! and on how many requests went between them before, so a seed that failed fails again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use skerry_core::fixtures::SeededDice;
use skerry_http::{BoxFuture, Router};
use skerry_remote::federation::{Carry, Outbound};
use skerry_remote::http::{HttpError, Streamed};
use tower::ServiceExt;

use crate::TestServer;

/// How bad the network is; in percent of all requests, but for the delay.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Never arrive.
    pub lost: u64,
    /// Arrive, but the answer does not.
    pub unanswered: u64,
    /// Arrive twice; the first answer is the one that comes back.
    pub twice: u64,
    /// Each takes up to so long, in ms: later ones overtake earlier ones.
    pub delay_ms: u64,
}

/// A network between servers of this process. A cheap handle.
#[derive(Clone)]
pub struct Network {
    inner: Arc<Inner>,
}

struct Inner {
    seed: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    routers: HashMap<String, Router>,
    faults: Faults,
    /// Which servers reach each other: those of the same group. Others are in group 0.
    groups: HashMap<String, usize>,
    /// How many requests went from one to another.
    counts: BTreeMap<(String, String), u64>,
}

/// What a request meets on its way.
struct Fate {
    lost: bool,
    unanswered: bool,
    twice: bool,
    delay: Duration,
}

impl Network {
    /// A network without faults, until [`Network::set_faults`].
    #[must_use]
    pub fn new(seed: u64) -> Network {
        Network {
            inner: Arc::new(Inner {
                seed,
                state: Mutex::default(),
            }),
        }
    }

    /// A new server of this name in the network, with more configuration than tests begin with.
    #[must_use]
    pub fn server(&self, name: &str, extra: &str) -> TestServer {
        TestServer::start_in(self, name, extra)
    }

    /// What goes wrong from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.inner.state.lock().unwrap().faults = faults;
    }

    /// From now on only the servers of one group reach each other; those not named are a group.
    pub fn part(&self, groups: &[&[&str]]) {
        let named = groups.iter().enumerate().flat_map(|(n, group)| {
            let names = group.iter();
            names.map(move |name| ((*name).to_owned(), n + 1))
        });
        self.inner.state.lock().unwrap().groups = named.collect();
    }

    /// All reach each other again, and nothing goes wrong any more.
    pub fn heal(&self) {
        self.part(&[]);
        self.set_faults(Faults::default());
    }

    /// How many requests one server has sent to another.
    #[must_use]
    pub fn count(&self, from: &str, to: &str) -> u64 {
        let key = (from.to_owned(), to.to_owned());
        let state = self.inner.state.lock().unwrap();
        state.counts.get(&key).copied().unwrap_or(0)
    }

    /// The way out for a server of this name.
    pub(crate) fn wire(&self, from: &str) -> Arc<dyn Carry> {
        Arc::new(Wire {
            network: self.clone(),
            from: from.to_owned(),
        })
    }

    /// A server is there, or there again.
    pub(crate) fn join(&self, name: &str, router: Router) {
        let mut state = self.inner.state.lock().unwrap();
        state.routers.insert(name.to_owned(), router);
    }

    /// A server is down.
    pub(crate) fn leave(&self, name: &str) {
        self.inner.state.lock().unwrap().routers.remove(name);
    }

    /// The server that a request goes to, and what it meets on its way.
    fn route(&self, from: &str, to: &str) -> Result<(Router, Fate), HttpError> {
        let unreachable = || HttpError::Connect {
            host: to.to_owned(),
            cause: "it cannot be reached in this network".to_owned(),
        };
        let mut state = self.inner.state.lock().unwrap();
        let group = |name: &str| state.groups.get(name).copied().unwrap_or(0);
        if group(from) != group(to) {
            return Err(unreachable());
        }
        let router = state.routers.get(to).cloned().ok_or_else(unreachable)?;
        let faults = state.faults;
        let count = state.counts.entry((from.to_owned(), to.to_owned()));
        let count = count.or_default();
        *count += 1;
        let mut dice = SeededDice::new(mixed(self.inner.seed, from, to, *count));
        let mut happens = |percent: u64| dice.below(100) < percent;
        let (lost, unanswered) = (happens(faults.lost), happens(faults.unanswered));
        let twice = happens(faults.twice);
        let delay = Duration::from_millis(dice.below(faults.delay_ms + 1));
        let fate = Fate {
            lost,
            unanswered,
            twice,
            delay,
        };
        Ok((router, fate))
    }
}

/// A seed for one request.
fn mixed(seed: u64, from: &str, to: &str, count: u64) -> u64 {
    let text = format!("{seed} {from} {to} {count}");
    let step = |sum: u64, b: u8| (sum ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3);
    text.bytes().fold(0xcbf2_9ce4_8422_2325, step)
}

/// What a server of the network talks through.
struct Wire {
    network: Network,
    from: String,
}

impl Carry for Wire {
    fn open<'a>(
        &'a self,
        to: &'a str,
        request: Outbound,
    ) -> BoxFuture<'a, Result<Streamed, HttpError>> {
        Box::pin(self.carry(to, request))
    }
}

impl Wire {
    async fn carry(&self, to: &str, request: Outbound) -> Result<Streamed, HttpError> {
        let (router, fate) = self.network.route(&self.from, to)?;
        tokio::time::sleep(fate.delay).await;
        let late = || HttpError::Timeout(request.limits.timeout);
        if fate.lost {
            return Err(late());
        }
        let answer = call(&router, &request).await;
        if fate.twice {
            call(&router, &request).await;
        }
        if fate.unanswered {
            return Err(late());
        }
        let (parts, body) = answer.into_parts();
        let max = request.limits.max_response;
        Ok(Streamed::held(parts.status, parts.headers, body, max))
    }
}

async fn call(router: &Router, request: &Outbound) -> Response<Bytes> {
    let mut message = Request::builder()
        .method(request.method.clone())
        .uri(&request.path);
    if let Some(authorization) = &request.authorization {
        message = message.header(AUTHORIZATION, authorization);
    }
    if !request.body.is_empty() {
        message = message.header(CONTENT_TYPE, "application/json");
    }
    let message = message.body(Full::new(request.body.clone())).unwrap();
    let answer = router.clone().oneshot(message).await.unwrap();
    let (parts, body) = answer.into_parts();
    Response::from_parts(parts, body.collect().await.unwrap().to_bytes())
}
