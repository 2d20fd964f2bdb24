//! Which versions of the spec this server follows.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;
use skerry_http::{Answer, ApiError, Call, Route, route};

use crate::Ctx;

/// The endpoints of this file.
pub(crate) const ROUTES: &[Route<Ctx>] =
    &[route!(GET "/_matrix/client/versions", TokenOptional, Free, versions)];

/// Versions by whose name a client may look for features and find them: 1.2 for the hierarchy of
/// spaces, 1.3 for relations, 1.4 for threads, 1.7 for intentional mentions, 1.10 for recursive
/// relations, 1.11 for authenticated media, 1.13 and 1.14 for reports, 1.15 for room summaries,
/// 1.16 for profile fields and `use_state_after`.
const VERSIONS: &[&str] = &[
    "v1.1", "v1.2", "v1.3", "v1.4", "v1.5", "v1.6", "v1.7", "v1.8", "v1.9", "v1.10", "v1.11",
    "v1.12", "v1.13", "v1.14", "v1.15", "v1.16",
];

/// What is served that no version in the list says: the names are those that clients look for.
const FEATURES: &[&str] = &[
    // Sliding sync.
    "org.matrix.simplified_msc3575",
    // Dehydrated devices.
    "org.matrix.msc3814",
    // Delayed events, in both forms.
    "org.matrix.msc4140",
    // A channel between two devices for signing in by QR code, in both forms.
    "org.matrix.msc4108",
    "io.element.msc4388",
    // Application services ask to be pinged.
    "fi.mau.msc2659.stable",
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
    // Subscriptions to threads.
    "org.matrix.msc4306",
    // Account data is deleted.
    "org.matrix.msc3391",
    // Accounts are locked and suspended by the client API.
    "uk.timedout.msc4323",
    // Moderators read what was redacted.
    "fi.mau.msc2815",
    // Filters of `/messages` by how events relate to others.
    "org.matrix.msc3874",
    // Redaction of what relates to an event.
    "org.matrix.msc3912",
    // Redactions by `/send`, also in rooms before version 11.
    "com.beeper.msc4169",
    // Rooms that one shares with another user.
    "uk.half-shot.msc2666.query_mutual_rooms",
    "uk.half-shot.msc2666.query_mutual_rooms.stable",
    // Kinds of rooms in the filter of the directory.
    "org.matrix.msc3827.stable",
    // Any fields in profiles.
    "uk.tcpip.msc4133",
    "uk.tcpip.msc4133.stable",
    // Where a change of the profile is shown.
    "org.matrix.msc4069",
    "computer.gingershaped.msc4466",
    // Whose invites one wants: none, or those that a filter lets through.
    "org.matrix.msc4380",
    "org.matrix.msc4380.stable",
    "org.matrix.msc4155",
    // Blurhashes of uploaded pictures.
    "xyz.amorgan.blurhash",
    // Why people are invited to a new room.
    "uk.timedout.msc4491.create_room_invite_reasons",
];

/// `GET /versions`
async fn versions(_: Arc<Ctx>, _: Call) -> Result<Answer, ApiError> {
    let features: BTreeMap<&str, bool> = FEATURES.iter().map(|name| (*name, true)).collect();
    Answer::json(&json!({ "versions": VERSIONS, "unstable_features": features }))
}
