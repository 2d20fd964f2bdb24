//! The endpoints of the house itself: is it well, and where do clients find it.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use skerry_http::{Answer, ApiError, Call, Route, StatusCode, route};
use skerry_store::Store;

/// What these endpoints look at.
pub struct Health {
    /// The database.
    pub store: Arc<Store>,
    /// Where clients reach this server.
    pub base_url: String,
    /// Whether this server hands out tokens for a LiveKit server.
    pub livekit: bool,
    /// What the operator adds to what clients are told.
    pub client_extra: Map<String, Value>,
    /// Whom to ask about this server; empty: nobody is named.
    pub support: Map<String, Value>,
}

/// The endpoints.
pub const ROUTES: &[Route<Health>] = &[
    route!(GET "/health", None, Free, health),
    route!(GET "/.well-known/matrix/client", None, Free, well_known),
    route!(GET "/.well-known/matrix/support", None, Free, support),
];

/// `GET /health`: 200 while requests of every kind can be answered, 503 while the database takes
/// no writes, with the reason.
async fn health(health: Arc<Health>, _: Call) -> Result<Answer, ApiError> {
    use skerry_store::Health::{Closed, Full, Good, Poisoned};
    let state = health.store.health().borrow().clone();
    let (status, text) = match state {
        Good => (StatusCode::OK, "ok"),
        Full => (StatusCode::SERVICE_UNAVAILABLE, "the disk is full"),
        Poisoned(_) => (StatusCode::SERVICE_UNAVAILABLE, "the disk failed"),
        Closed => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
    };
    Ok(Answer::json(&json!({ "status": text }))?.status(status))
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
    Answer::json(&answer)
}

/// `GET /.well-known/matrix/support` (client-server API, "Server Discovery", 1.10).
async fn support(health: Arc<Health>, _: Call) -> Result<Answer, ApiError> {
    if health.support.is_empty() {
        return Err(ApiError::not_found("Nobody is named for support"));
    }
    Answer::json(&health.support)
}
