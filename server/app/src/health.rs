//! The endpoints of the house itself: is it well, and where do clients and servers find it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::header::CACHE_CONTROL;

use serde_json::{Map, Value, json};
use skerry_core::Clock;
use skerry_http::{Answer, ApiError, Call, Route, StatusCode, route};
use skerry_proxy::{Acme, Standing};
use skerry_store::Store;

/// How long the committer may take to write what is under way.
const COMMIT_WITHIN: Duration = Duration::from_secs(5);
/// How long what is said under `/.well-known` may be kept.
const WELL_KNOWN_KEPT: &str = "public, max-age=3600";

/// What these endpoints look at.
pub struct Health {
    /// The database.
    pub store: Arc<Store>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where data is kept, and how much is to be left free there, in bytes.
    pub disk: (PathBuf, u64),
    /// Who gets certificates, if anybody does.
    pub acme: Option<Acme>,
    /// Where other servers reach this one, as `host:port`; none: nothing is said of it.
    pub server: Option<String>,
    /// Where clients reach this server.
    pub base_url: String,
    /// Whether this server hands out tokens for a LiveKit server.
    pub livekit: bool,
    /// What the operator adds to what clients are told.
    pub client_extra: Map<String, Value>,
    /// The key under which this server recommends events, if it is a policy server.
    pub policy_key: Option<[u8; 32]>,
    /// Whom to ask about this server; empty: nobody is named.
    pub support: Map<String, Value>,
}

/// The endpoints.
pub const ROUTES: &[Route<Health>] = &[
    route!(GET "/health", None, Free, health),
    route!(GET "/ready", None, Free, ready),
    route!(GET "/.well-known/matrix/server", None, Free, server),
    route!(GET "/.well-known/matrix/client", None, Free, well_known),
    route!(GET "/.well-known/matrix/support", None, Free, support),
    route!(GET "/.well-known/matrix/policy_server", None, Free, policy_server),
];

/// `GET /health`: 200 while requests of every kind can be answered, 503 while the database takes
/// no writes, with the reason.
async fn health(health: Arc<Health>, _: Call) -> Result<Answer, ApiError> {
    let text = health.store_is();
    let answer = Answer::json(&json!({ "status": text }))?;
    Ok(answer.status(status(text == OK)))
}

const OK: &str = "ok";

fn status(good: bool) -> StatusCode {
    match good {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// `GET /ready`: 200 while everything that people notice works, 503 where something does not, with
/// a word for each: the database, the committer that makes changes durable, the space on the disk,
/// the certificates.
async fn ready(health: Arc<Health>, _: Call) -> Result<Answer, ApiError> {
    let parts = [
        ("store", health.store_is().to_owned()),
        ("committer", health.committer_is().await.to_owned()),
        ("disk", health.disk_is()),
        ("certificates", health.certificates_are()),
    ];
    let good = parts.iter().all(|(_, word)| word == OK);
    let words: Map<String, Value> = parts
        .into_iter()
        .map(|(part, word)| (part.to_owned(), word.into()))
        .collect();
    Ok(Answer::json(&words)?.status(status(good)))
}

impl Health {
    fn store_is(&self) -> &'static str {
        use skerry_store::Health::{Closed, Full, Good, Poisoned};
        match *self.store.health().borrow() {
            Good => OK,
            Full => "the disk is full",
            Poisoned(_) => "the disk failed",
            Closed => "stopping",
        }
    }

    /// Whether what was applied until now becomes durable soon.
    async fn committer_is(&self) -> &'static str {
        match tokio::time::timeout(COMMIT_WITHIN, self.store.durable(&self.store.barrier())).await {
            Ok(Ok(())) => OK,
            Ok(Err(_)) => "it does not write",
            Err(_) => "it does not come to an end",
        }
    }

    fn disk_is(&self) -> String {
        let (dir, floor) = &self.disk;
        match rustix::fs::statvfs(dir) {
            Ok(facts) if facts.f_bavail.saturating_mul(facts.f_frsize) < *floor => {
                "less space is free than media.free_disk_floor".to_owned()
            }
            Ok(_) => OK.to_owned(),
            Err(error) => format!("the free space cannot be told: {error}"),
        }
    }

    /// Nothing is asked of files that the operator looks after: doctor does that.
    fn certificates_are(&self) -> String {
        let now_ms = self.clock.now_ms();
        let bad = |one: &Standing| match one.until_ms {
            None => Some(format!("there is none for {}", one.name)),
            Some(until) if until <= now_ms => Some(format!("the one for {} ended", one.name)),
            Some(_) => None,
        };
        let all = self.acme.as_ref().map(Acme::standings).unwrap_or_default();
        let bad: Vec<String> = all.iter().filter_map(bad).collect();
        match bad.is_empty() {
            true => OK.to_owned(),
            false => bad.join(", "),
        }
    }
}

/// `GET /.well-known/matrix/server` (server-server API, "Server discovery").
async fn server(health: Arc<Health>, _: Call) -> Result<Answer, ApiError> {
    let Some(server) = &health.server else {
        return Err(ApiError::not_found("Other servers are told nothing here"));
    };
    kept(&json!({ "m.server": server }))
}

/// What may be kept for a while, by browsers and other servers.
fn kept(value: &impl serde::Serialize) -> Result<Answer, ApiError> {
    Ok(Answer::json(value)?.header(CACHE_CONTROL, WELL_KNOWN_KEPT))
}

/// `GET /.well-known/matrix/client` (client-server API, "Server Discovery").
async fn well_known(health: Arc<Health>, _: Call) -> Result<Answer, ApiError> {
    let mut answer = health.client_extra.clone();
    if health.livekit {
        // Where clients look that do not know `/rtc/transports` yet (MSC4143).
        let url = format!("{}{}", health.base_url, skerry_client::SERVICE_PATH);
        let foci = answer.entry("org.matrix.msc4143.rtc_foci");
        foci.or_insert_with(|| json!([{ "type": "livekit", "livekit_service_url": url }]));
    }
    answer.insert(
        "m.homeserver".to_owned(),
        json!({ "base_url": health.base_url }),
    );
    kept(&answer)
}

/// `GET /.well-known/matrix/support` (client-server API, "Server Discovery", 1.10).
async fn support(health: Arc<Health>, _: Call) -> Result<Answer, ApiError> {
    if health.support.is_empty() {
        return Err(ApiError::not_found("Nobody is named for support"));
    }
    kept(&health.support)
}

/// `GET /.well-known/matrix/policy_server` (client-server API, "Policy Servers", 1.18).
async fn policy_server(health: Arc<Health>, _: Call) -> Result<Answer, ApiError> {
    let Some(key) = health.policy_key else {
        return Err(ApiError::not_found("This server is no policy server"));
    };
    let key = skerry_core::hash::base64(&key);
    kept(&json!({ "public_keys": { "ed25519": key } }))
}
