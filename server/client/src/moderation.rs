//! What administrators do to accounts by the client-server API: locks, suspensions, and who was
//! seen from where.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use skerry_account::{DeviceView, HoldChange};
use skerry_http::{Answer, ApiError, Call, Route, route};

use crate::{Ctx, fault};

/// The endpoints of this file; the unstable ones are those of MSC4323.
pub(crate) const ROUTES: &[Route<Ctx>] = &[
    route!(GET "/_matrix/client/v3/admin/whois/{userId}", Token, Free, whois),
    route!(GET "/_matrix/client/v1/admin/lock/{userId}", Token, Free, locked),
    route!(PUT "/_matrix/client/v1/admin/lock/{userId}", Token, Send, lock),
    route!(GET "/_matrix/client/v1/admin/suspend/{userId}", Token, Free, suspended),
    route!(PUT "/_matrix/client/v1/admin/suspend/{userId}", Token, Send, suspend),
    route!(GET "/_matrix/client/unstable/uk.timedout.msc4323/admin/lock/{userId}",
        Token, Free, locked),
    route!(PUT "/_matrix/client/unstable/uk.timedout.msc4323/admin/lock/{userId}",
        Token, Send, lock),
    route!(GET "/_matrix/client/unstable/uk.timedout.msc4323/admin/suspend/{userId}",
        Token, Free, suspended),
    route!(PUT "/_matrix/client/unstable/uk.timedout.msc4323/admin/suspend/{userId}",
        Token, Send, suspend),
];

/// `GET /admin/lock/{userId}`
async fn locked(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let by = call.requester()?.user;
    let hold = ctx.accounts.hold(by, call.param("userId")).await;
    Answer::json(&json!({ "locked": hold.map_err(fault::account)?.locked }))
}

/// `PUT /admin/lock/{userId}`: from the next request on, all the user can do is to log out.
async fn lock(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    #[derive(Deserialize)]
    struct Body {
        locked: bool,
    }
    let locked = call.json::<Body>()?.locked;
    set(&ctx, &call, HoldChange::Locked(locked)).await?;
    Answer::json(&json!({ "locked": locked }))
}

/// `GET /admin/suspend/{userId}`
async fn suspended(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let by = call.requester()?.user;
    let hold = ctx.accounts.hold(by, call.param("userId")).await;
    Answer::json(&json!({ "suspended": hold.map_err(fault::account)?.suspended }))
}

/// `PUT /admin/suspend/{userId}`: from the next request on, the user can read and tidy up only.
async fn suspend(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    #[derive(Deserialize)]
    struct Body {
        suspended: bool,
    }
    let suspended = call.json::<Body>()?.suspended;
    set(&ctx, &call, HoldChange::Suspended(suspended)).await?;
    Answer::json(&json!({ "suspended": suspended }))
}

async fn set(ctx: &Ctx, call: &Call, change: HoldChange) -> Result<(), ApiError> {
    let by = call.requester()?.user;
    let set = ctx
        .accounts
        .set_hold(by, call.param("userId"), change)
        .await;
    set.map_err(fault::account)
}

/// `GET /admin/whois/{userId}`: one's own, or as an administrator anybody's.
async fn whois(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let (by, user_id) = (call.requester()?.user, call.param("userId"));
    let devices = ctx.accounts.whois(by, user_id).await;
    let devices: Map<String, Value> = devices.map_err(fault::account)?.iter().map(seen).collect();
    Answer::json(&json!({ "user_id": user_id, "devices": devices }))
}

/// A device and where it was last seen; no connections where it never was.
fn seen(device: &DeviceView) -> (String, Value) {
    let connections: Vec<Value> = device
        .last_seen_ms
        .map(|at| {
            json!({
                "ip": device.last_seen_ip.as_deref().unwrap_or_default(),
                "last_seen": at,
                "user_agent": device.user_agent.as_deref().unwrap_or_default(),
            })
        })
        .into_iter()
        .collect();
    let sessions = json!([{ "connections": connections }]);
    (device.device_id.clone(), json!({ "sessions": sessions }))
}
