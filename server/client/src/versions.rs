//! Which versions of the spec this server follows.

use std::sync::Arc;

use serde_json::json;
use skerry_http::{Answer, ApiError, Call, Route, route};

use crate::Ctx;

/// The endpoints of this file.
pub(crate) const ROUTES: &[Route<Ctx>] =
    &[route!(GET "/_matrix/client/versions", TokenOptional, Free, versions)];

/// Versions whose additions for clients are served. A client takes from this where an endpoint
/// is, so each entry stands for paths and parameters that work: 1.11 for authenticated media,
/// 1.16 for profile fields and `use_state_after`.
const VERSIONS: &[&str] = &[
    "v1.1", "v1.2", "v1.3", "v1.4", "v1.5", "v1.6", "v1.7", "v1.8", "v1.9", "v1.10", "v1.11",
    "v1.12", "v1.13", "v1.14", "v1.15", "v1.16",
];

/// `GET /versions`
async fn versions(_: Arc<Ctx>, _: Call) -> Result<Answer, ApiError> {
    Answer::json(&json!({ "versions": VERSIONS, "unstable_features": {} }))
}
