//! How it goes with other servers.

use std::sync::Arc;

use serde_json::{Value, json};
use skerry_http::{Answer, ApiError, Call};
use skerry_remote::federation::SendStatus;

use crate::{Admin, admin_only};

/// Servers in one answer at most.
const MAX_PAGE: usize = 1000;
/// Servers in one answer that names no number.
const PAGE: usize = 100;

/// As Synapse's API shows a server; `retry_last_ts` and `retry_interval` together are when it is
/// tried next. What waits for it is ours to say.
fn shown(status: &SendStatus) -> Value {
    let standing = status.standing.as_ref().filter(|s| s.failures > 0);
    let since = standing.map(|standing| standing.failing_since_ms);
    let retry_ms = standing.map_or(0, |standing| standing.retry_at_ms);
    json!({
        "destination": &*status.server,
        "failure_ts": since,
        "failures": standing.map_or(0, |standing| standing.failures),
        "retry_last_ts": since.unwrap_or(0),
        "retry_interval": retry_ms.saturating_sub(since.unwrap_or(0)),
        "last_success_ts": status.standing.as_ref().and_then(|s| s.success_ms),
        "pending_pdus": status.pdus,
        "pending_rooms": status.rooms,
        "pending_edus": status.edus,
    })
}

/// `GET /_synapse/admin/v1/federation/destinations`: the servers that were tried or for which
/// something waits, by name; part of a name as `destination` looks for those.
pub(crate) async fn list(admin: Arc<Admin>, call: Call) -> Result<Answer, ApiError> {
    admin_only(&call)?;
    let from: usize = call.query_as("from")?.unwrap_or(0);
    let limit: usize = call.query_as("limit")?.unwrap_or(PAGE);
    let limit = limit.clamp(1, MAX_PAGE);
    let part = call.query("destination").unwrap_or_default();
    let mut all = admin.federation.sender().statuses();
    all.retain(|status| status.server.contains(part.as_str()));
    let page: Vec<Value> = all.iter().skip(from).take(limit).map(shown).collect();
    let mut answer = json!({ "destinations": page, "total": all.len() });
    let next = from.saturating_add(limit);
    if next < all.len()
        && let Some(answer) = answer.as_object_mut()
    {
        answer.insert("next_token".to_owned(), next.to_string().into());
    }
    Answer::json(&answer)
}

/// `GET /_synapse/admin/v1/federation/destinations/{destination}`
pub(crate) async fn show(admin: Arc<Admin>, call: Call) -> Result<Answer, ApiError> {
    admin_only(&call)?;
    let status = admin.federation.sender().status(call.param("destination"));
    let unknown = || ApiError::not_found("Nothing was ever sent to that server");
    Answer::json(&shown(&status.ok_or_else(unknown)?))
}

/// `POST /_synapse/admin/v1/federation/destinations/{destination}/reset_connection`: a server that
/// was not reached is tried again at once.
pub(crate) async fn reset(admin: Arc<Admin>, call: Call) -> Result<Answer, ApiError> {
    admin_only(&call)?;
    let sender = admin.federation.sender();
    let server = call.param("destination");
    if sender.status(server).is_none() {
        let unknown = "Nothing was ever sent to that server";
        return Err(ApiError::not_found(unknown));
    }
    sender.heard_from(server).map_err(ApiError::internal)?;
    Ok(Answer::empty())
}
