//! Which state an event has to name as what allows it.

use crate::canonical::Object;
use crate::room_version::RoomVersion;

/// The (type, state key) pairs whose current state events go into `auth_events`
/// (server-server API, "Auth events selection"). Pairs without an event are left out by the caller.
#[must_use]
pub fn auth_types(
    version: RoomVersion,
    event_type: &str,
    sender: &str,
    state_key: Option<&str>,
    content: &Object,
) -> Vec<(&'static str, String)> {
    if event_type == "m.room.create" {
        return Vec::new();
    }
    let mut types = Vec::with_capacity(6);
    if !version.room_id_is_create_event_id() {
        types.push(("m.room.create", String::new()));
    }
    types.push(("m.room.power_levels", String::new()));
    types.push(("m.room.member", sender.to_owned()));
    let (Some(target), "m.room.member") = (state_key, event_type) else {
        return types;
    };
    let mut add = |kind: &'static str, key: &str| {
        if !types.iter().any(|(k, s)| *k == kind && s == key) {
            types.push((kind, key.to_owned()));
        }
    };
    add("m.room.member", target);
    let membership = content.str("membership").unwrap_or_default();
    if matches!(membership, "join" | "invite" | "knock") {
        add("m.room.join_rules", "");
    }
    if membership == "invite"
        && let Some(invite) = content.object("third_party_invite")
        && let Some(token) = invite
            .object("signed")
            .and_then(|signed| signed.str("token"))
    {
        add("m.room.third_party_invite", token);
    }
    if membership == "join"
        && version.has_restricted()
        && let Some(user) = content.str("join_authorised_via_users_server")
    {
        add("m.room.member", user);
    }
    types
}
