//! What accounts that are not ordinary ones may call: guests, locked and suspended accounts. One
//! list for each, laid over the routes of all files.

use skerry_http::{Route, Verb};

use crate::Ctx;

/// A method, and a path without `/_matrix/client/`.
type Place = (Verb, &'static str);

/// What guests may call (client-server API, "Guest access", client behaviour), and with it what
/// belongs together: lists beside single pieces, the unstable forms of a call, and logging out.
const GUESTS: &[Place] = &[
    (Verb::GET, "v3/rooms/{roomId}/state"),
    (Verb::GET, "v3/rooms/{roomId}/context/{eventId}"),
    (Verb::GET, "v3/rooms/{roomId}/event/{eventId}"),
    (Verb::GET, "v3/rooms/{roomId}/state/{eventType}"),
    (Verb::GET, "v3/rooms/{roomId}/state/{eventType}/"),
    (Verb::GET, "v3/rooms/{roomId}/state/{eventType}/{stateKey}"),
    (Verb::GET, "v3/rooms/{roomId}/messages"),
    (Verb::GET, "v3/rooms/{roomId}/members"),
    (Verb::GET, "v3/rooms/{roomId}/initialSync"),
    (Verb::GET, "v1/rooms/{roomId}/relations/{eventId}"),
    (Verb::GET, "v1/rooms/{roomId}/relations/{eventId}/{relType}"),
    (
        Verb::GET,
        "v1/rooms/{roomId}/relations/{eventId}/{relType}/{eventType}",
    ),
    (Verb::GET, "v1/rooms/{roomId}/hierarchy"),
    (Verb::GET, "v1/room_summary/{roomIdOrAlias}"),
    (Verb::GET, "v3/joined_rooms"),
    (Verb::GET, "v3/sync"),
    (Verb::POST, "unstable/org.matrix.simplified_msc3575/sync"),
    (Verb::GET, "v3/events"),
    (Verb::POST, "v3/user/{userId}/filter"),
    (Verb::GET, "v3/user/{userId}/filter/{filterId}"),
    (Verb::GET, "v3/capabilities"),
    (Verb::GET, "v3/publicRooms"),
    (Verb::POST, "v3/publicRooms"),
    (Verb::POST, "v3/join/{roomIdOrAlias}"),
    (Verb::POST, "v3/rooms/{roomId}/join"),
    (Verb::POST, "v3/rooms/{roomId}/leave"),
    (Verb::PUT, "v3/rooms/{roomId}/send/{eventType}/{txnId}"),
    (Verb::PUT, "v3/rooms/{roomId}/state/{eventType}"),
    (Verb::PUT, "v3/rooms/{roomId}/state/{eventType}/"),
    (Verb::PUT, "v3/rooms/{roomId}/state/{eventType}/{stateKey}"),
    (
        Verb::PUT,
        "unstable/org.matrix.msc4140/rooms/{roomId}/delayed_event/{eventType}/{txnId}",
    ),
    (Verb::GET, "unstable/org.matrix.msc4140/delayed_events"),
    (Verb::GET, "unstable/org.matrix.msc4143/rtc/transports"),
    (
        Verb::POST,
        "unstable/io.element.msc4195/rtc/livekit/get_token",
    ),
    (
        Verb::POST,
        "unstable/io.element.msc4195/rtc/livekit/delegate_delayed_leave",
    ),
    (Verb::GET, "v3/voip/turnServer"),
    (
        Verb::GET,
        "unstable/org.matrix.msc4140/delayed_events/{delayId}",
    ),
    (Verb::PUT, "v3/sendToDevice/{eventType}/{txnId}"),
    (Verb::PUT, "v3/profile/{userId}/{keyName}"),
    (Verb::DELETE, "v3/profile/{userId}/{keyName}"),
    (Verb::GET, "v3/devices"),
    (Verb::GET, "v3/devices/{deviceId}"),
    (Verb::PUT, "v3/devices/{deviceId}"),
    (Verb::GET, "v3/account/whoami"),
    (Verb::POST, "v3/keys/upload"),
    (Verb::POST, "v3/keys/query"),
    (Verb::POST, "v3/keys/claim"),
    (Verb::GET, "v3/keys/changes"),
    (Verb::POST, "v3/keys/signatures/upload"),
    (Verb::POST, "v3/logout"),
    (Verb::POST, "v3/logout/all"),
];

/// What locked accounts may call (client-server API, "Account locking"). What the server can do
/// is told to everybody.
const LOCKED: &[Place] = &[
    (Verb::POST, "v3/logout"),
    (Verb::POST, "v3/logout/all"),
    (Verb::GET, "versions"),
];

/// What suspended accounts may not call (client-server API, "Account suspension"). Messages and
/// redactions are sorted by the rooms: one's own events may be redacted.
const NOT_SUSPENDED: &[Place] = &[
    (Verb::POST, "v3/join/{roomIdOrAlias}"),
    (Verb::POST, "v3/rooms/{roomId}/join"),
    (Verb::POST, "v3/knock/{roomIdOrAlias}"),
    (Verb::POST, "v3/rooms/{roomId}/invite"),
    (Verb::POST, "v3/rooms/{roomId}/kick"),
    (Verb::POST, "v3/rooms/{roomId}/ban"),
    (Verb::POST, "v3/rooms/{roomId}/unban"),
    (Verb::POST, "v3/rooms/{roomId}/upgrade"),
    (Verb::POST, "v3/createRoom"),
    (Verb::PUT, "v3/rooms/{roomId}/state/{eventType}"),
    (Verb::PUT, "v3/rooms/{roomId}/state/{eventType}/"),
    (Verb::PUT, "v3/rooms/{roomId}/state/{eventType}/{stateKey}"),
    (
        Verb::PUT,
        "unstable/org.matrix.msc4140/rooms/{roomId}/delayed_event/{eventType}/{txnId}",
    ),
    (Verb::PUT, "v3/directory/room/{roomAlias}"),
    (Verb::PUT, "v3/profile/{userId}/{keyName}"),
    (Verb::DELETE, "v3/profile/{userId}/{keyName}"),
];

/// Lays the lists over routes.
pub(crate) fn lay(routes: &mut [Route<Ctx>]) {
    for route in routes {
        let path = route.path.strip_prefix("/_matrix/client/");
        let named =
            |places: &[Place]| path.is_some_and(|path| places.contains(&(route.verb, path)));
        let (guests, locked, closed) = (named(GUESTS), named(LOCKED), named(NOT_SUSPENDED));
        route.standing.guests |= guests;
        route.standing.locked |= locked;
        route.standing.suspended &= !closed;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::{GUESTS, LOCKED, NOT_SUSPENDED};
    use crate::routes;

    #[test]
    fn every_place_of_the_lists_is_served() {
        let routes = routes();
        for (verb, path) in [GUESTS, LOCKED, NOT_SUSPENDED].concat() {
            let whole = format!("/_matrix/client/{path}");
            let served = |route: &skerry_http::Route<_>| route.verb == verb && route.path == whole;
            assert!(routes.iter().any(served), "{} {whole}", verb.as_str());
        }
    }
}
