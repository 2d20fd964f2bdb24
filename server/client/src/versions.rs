//! Which versions of the spec this server follows.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;
use skerry_http::{Answer, ApiError, Call, Route, route};

use crate::Ctx;

/// The endpoints of this file.
pub(crate) const ROUTES: &[Route<Ctx>] =
    &[route!(GET "/_matrix/client/versions", TokenOptional, Free, versions)];

/// Versions by whose name a client may look for features and find them: 1.3 for relations, 1.4 for
/// threads, 1.7 for intentional mentions, 1.10 for recursive relations, 1.11 for authenticated
/// media, 1.16 for profile fields and `use_state_after`.
///
/// Left out are those that mainly added what is not served: 1.2 (the hierarchy of spaces), 1.13
/// and 1.14 (reports), 1.15 (room summaries).
const VERSIONS: &[&str] = &[
    "v1.1", "v1.3", "v1.4", "v1.5", "v1.6", "v1.7", "v1.8", "v1.9", "v1.10", "v1.11", "v1.12",
    "v1.16",
];

/// What is served that no version in the list says: the names are those that clients look for.
const FEATURES: &[&str] = &[
    // Sliding sync.
    "org.matrix.simplified_msc3575",
    // Delayed events, in both forms.
    "org.matrix.msc4140",
    // A channel between two devices for signing in by QR code, in both forms.
    "org.matrix.msc4108",
    "io.element.msc4388",
    // Pushers are switched on and off from other devices.
    "org.matrix.msc3881",
    // Pushers that do not want to know how much is unread.
    "org.matrix.msc4076",
    // Push to browsers without a gateway.
    "org.matrix.msc4174",
    // Over which server group calls go.
    "org.matrix.msc4143",
    // Sticky events.
    "org.matrix.msc4354",
    // Moderators read what was redacted.
    "fi.mau.msc2815",
    // Filters of `/messages` by how events relate to others.
    "org.matrix.msc3874",
    // Redaction of what relates to an event.
    "org.matrix.msc3912",
    // Redactions by `/send`, also in rooms before version 11.
    "com.beeper.msc4169",
];

/// `GET /versions`
async fn versions(_: Arc<Ctx>, _: Call) -> Result<Answer, ApiError> {
    let features: BTreeMap<&str, bool> = FEATURES.iter().map(|name| (*name, true)).collect();
    Answer::json(&json!({ "versions": VERSIONS, "unstable_features": features }))
}
