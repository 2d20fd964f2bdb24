//! One's own account: who am I, password, deactivation.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};
use skerry_http::{Answer, ApiError, Call, Route, route};

use crate::{Ctx, fault, scope};

/// The endpoints of this file.
pub(crate) const ROUTES: &[Route<Ctx>] = &[
    route!(GET "/_matrix/client/v3/account/whoami", Token, Free, whoami),
    route!(POST "/_matrix/client/v3/account/password", Token, Login, change_password),
    route!(POST "/_matrix/client/v3/account/deactivate", Token, Login, deactivate),
    route!(GET "/_matrix/client/v3/account/3pid", Token, Free, third_party_ids),
];

/// `GET /account/whoami`
async fn whoami(_: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let who = call.requester()?;
    Answer::json(&json!({
        "user_id": &*who.user_id,
        "device_id": &*who.device,
        "is_guest": who.is_guest,
    }))
}

/// `POST /account/password`: after proving the old one; logs the other devices out unless told
/// not to.
async fn change_password(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    #[derive(Deserialize)]
    struct Body {
        #[serde(default)]
        auth: Option<Value>,
        #[serde(default)]
        new_password: Option<String>,
        #[serde(default = "yes")]
        logout_devices: bool,
    }
    let body: Body = call.json()?;
    let keep = Some(call.requester()?.device.to_string());
    let (scope, auth) = (scope::uia(&call), body.auth.as_ref());
    let changed =
        ctx.accounts
            .change_password(scope, auth, body.new_password, keep, body.logout_devices);
    changed.await.map_err(fault::account)?;
    Ok(Answer::empty())
}

fn yes() -> bool {
    true
}

/// `POST /account/deactivate`: after proving the password; for good.
async fn deactivate(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    #[derive(Deserialize)]
    struct Body {
        #[serde(default)]
        auth: Option<Value>,
        #[serde(default)]
        erase: bool,
    }
    let body: Body = call.json()?;
    let done = ctx
        .accounts
        .deactivate_own(scope::uia(&call), body.auth.as_ref(), body.erase);
    done.await.map_err(fault::account)?;
    Answer::json(&json!({ "id_server_unbind_result": "no-support" }))
}

/// `GET /account/3pid`: accounts here have no addresses (`m.3pid_changes` says so).
async fn third_party_ids(_: Arc<Ctx>, _: Call) -> Result<Answer, ApiError> {
    Answer::json(&json!({ "threepids": [] }))
}
