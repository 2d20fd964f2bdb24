//! What this server can do for its users.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use skerry_core::RoomVersion;
use skerry_http::{Answer, ApiError, Call, Route, route};

use crate::Ctx;

/// The endpoints of this file.
pub(crate) const ROUTES: &[Route<Ctx>] =
    &[route!(GET "/_matrix/client/v3/capabilities", Token, Free, capabilities)];

/// `GET /capabilities`
async fn capabilities(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let who = call.requester()?;
    let default = &ctx.config.default_room_version;
    let available: Map<String, Value> = RoomVersion::all()
        .map(|version| (version.as_str().to_owned(), json!("stable")))
        .collect();
    let delays = ctx.rooms.delays();
    let mut capabilities = json!({
        "org.matrix.msc4140.delayed_events": {
            "max_delay_ms": delays.max_ms,
            "max_scheduled": delays.per_user,
        },
        "org.matrix.msc4174.webpush": {
            "enabled": true,
            "vapid": ctx.config.vapid,
        },
        "m.room_versions": {
            "default": default,
            "available": available,
        },
        "m.change_password": { "enabled": true },
        "m.set_displayname": { "enabled": true },
        "m.set_avatar_url": { "enabled": true },
        "m.profile_fields": { "enabled": true },
        "m.3pid_changes": { "enabled": ctx.accounts.settings().email },
        "m.get_login_token": { "enabled": true },
        "m.forget_forced_upon_leave": { "enabled": false },
    });
    if let Some(map) = capabilities.as_object_mut().filter(|_| who.admin) {
        let moderation = json!({ "lock": true, "suspend": true });
        map.insert("m.account_moderation".to_owned(), moderation.clone());
        map.insert("uk.timedout.msc4323".to_owned(), moderation);
    }
    Answer::json(&json!({ "capabilities": capabilities }))
}
