//! Making accounts.

use std::sync::Arc;

use serde_json::{Value, json};
use skerry_account::{NewDevice, Registered, SharedSecretRegistration};
use skerry_http::{Answer, ApiError, Call, Route, route};

use crate::login::grant_json;
use crate::{Ctx, bridge, fault, scope};

/// The endpoints of this file.
pub(crate) const ROUTES: &[Route<Ctx>] = &[
    route!(POST "/_matrix/client/v3/register", Bridge, Register, register),
    route!(GET "/_matrix/client/v3/register/available", None, Register, available),
    route!(GET "/_matrix/client/v1/register/m.login.registration_token/validity",
        None, Register, token_validity),
    route!(GET "/_synapse/admin/v1/register", None, Register, nonce),
    route!(POST "/_synapse/admin/v1/register", None, Register, by_secret),
];

fn registered(made: &Registered, server_name: &str) -> Result<Answer, ApiError> {
    match &made.grant {
        Some(grant) => Answer::json(&grant_json(grant, server_name)),
        None => Answer::json(&json!({ "user_id": &*made.user_id, "home_server": server_name })),
    }
}

/// `POST /register`: by user-interactive authentication; the same session never makes two
/// accounts. `kind=guest` where guests are let in.
async fn register(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let body: Value = call.json()?;
    let made = match call.query("kind").as_deref() {
        None | Some("user") if body.get("type").is_some_and(|kind| kind == bridge::LOGIN) => {
            let asker = bridge::asker(&call)?;
            ctx.accounts.register_for_appservice(&asker, body).await
        }
        None | Some("user") => ctx.accounts.register(scope::uia(&call), body).await,
        Some("guest") => {
            let name = body
                .get("initial_device_display_name")
                .and_then(Value::as_str);
            let display_name = name.map(str::to_owned);
            ctx.accounts
                .register_guest(NewDevice {
                    display_name,
                    ..NewDevice::default()
                })
                .await
        }
        Some(_) => return Err(ApiError::invalid_param("kind must be user or guest")),
    };
    registered(&made.map_err(fault::account)?, ctx.accounts.server_name())
}

/// `GET /register/available`: whether a name could be registered.
async fn available(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let name = call.query("username");
    let name = name.ok_or_else(|| ApiError::missing_param("Missing parameter: username"))?;
    ctx.accounts
        .check_available(&name)
        .await
        .map_err(fault::account)?;
    Answer::json(&json!({ "available": true }))
}

/// `GET /register/m.login.registration_token/validity`
async fn token_validity(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let token = call.query("token");
    let token = token.ok_or_else(|| ApiError::missing_param("Missing parameter: token"))?;
    let valid = ctx
        .accounts
        .registration_token_good(&token)
        .await
        .map_err(fault::account)?;
    Answer::json(&json!({ "valid": valid }))
}

/// `GET /_synapse/admin/v1/register`: a nonce for the next call.
async fn nonce(ctx: Arc<Ctx>, _: Call) -> Result<Answer, ApiError> {
    let nonce = ctx.accounts.registration_nonce().map_err(fault::account)?;
    Answer::json(&json!({ "nonce": nonce }))
}

/// `POST /_synapse/admin/v1/register`: for whoever knows the shared secret.
async fn by_secret(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let body: SharedSecretRegistration = call.json()?;
    let grant = ctx
        .accounts
        .register_by_secret(body)
        .await
        .map_err(fault::account)?;
    Answer::json(&grant_json(&grant, ctx.accounts.server_name()))
}
