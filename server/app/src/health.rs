//! The endpoints of the house itself: is it well, and where do clients find it.

use std::sync::Arc;

use serde_json::json;
use skerry_http::{Answer, ApiError, Call, Route, StatusCode, route};
use skerry_store::Store;

/// What these endpoints look at.
pub struct Health {
    /// The database.
    pub store: Arc<Store>,
    /// Where clients reach this server.
    pub base_url: String,
}

/// The endpoints.
pub const ROUTES: &[Route<Health>] = &[
    route!(GET "/health", None, Free, health),
    route!(GET "/.well-known/matrix/client", None, Free, well_known),
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
    Answer::json(&json!({ "m.homeserver": { "base_url": health.base_url } }))
}
