//! One's own account: who am I, password, deactivation.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};
use skerry_http::{Answer, ApiError, Call, Route, route};

use crate::{Ctx, fault, scope};

/// The endpoints of this file.
pub(crate) const ROUTES: &[Route<Ctx>] = &[
    route!(GET "/_matrix/client/v3/account/whoami", Token, Free, whoami),
    route!(POST "/_matrix/client/v3/account/password", TokenOptional, Login, change_password),
    route!(POST "/_matrix/client/v3/account/deactivate", Token, Login, deactivate),
];

/// `GET /account/whoami`
async fn whoami(_: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let who = call.requester()?;
    let mut body = json!({ "user_id": &*who.user_id, "is_guest": who.is_guest });
    // An application service may act without a device.
    if let Some(fields) = body.as_object_mut().filter(|_| !who.device.is_empty()) {
        fields.insert("device_id".to_owned(), (&*who.device).into());
    }
    Answer::json(&body)
}

/// `POST /account/password`: after proving the old one, or, without a token, an address of the
/// account; logs the other devices out unless told not to.
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
    let (scope, auth) = (scope::uia(&call), body.auth.as_ref());
    let (new, log_out) = (body.new_password, body.logout_devices);
    let changed = match call.requester_opt() {
        Some(who) => {
            let keep = Some(who.device.to_string());
            let changing = ctx
                .accounts
                .change_password(scope, auth, new, keep, log_out);
            changing.await
        }
        None => ctx.accounts.reset_password(scope, auth, new, log_out).await,
    };
    changed.map_err(fault::account)?;
    Ok(Answer::empty())
}

fn yes() -> bool {
    true
}

/// `POST /account/deactivate`: after proving the password; for good. Identity servers that were
/// told of the user through this server forget them.
async fn deactivate(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    #[derive(Deserialize)]
    struct Body {
        #[serde(default)]
        auth: Option<Value>,
        #[serde(default)]
        erase: bool,
    }
    let body: Body = call.json()?;
    let closed = ctx
        .identity
        .close_account(scope::uia(&call), body.auth.as_ref(), body.erase);
    let result = match closed.await.map_err(fault::identity)? {
        true => "success",
        false => "no-support",
    };
    Answer::json(&json!({ "id_server_unbind_result": result }))
}
