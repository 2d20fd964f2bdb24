//! Logging in and out, refreshing tokens.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};
use skerry_account::{Grant, LoginRequest, NewDevice, PasswordLogin};
use skerry_http::{Answer, ApiError, Call, Route, route};

use crate::{Ctx, fault};

/// The endpoints of this file.
pub(crate) const ROUTES: &[Route<Ctx>] = &[
    route!(GET "/_matrix/client/v3/login", None, Free, flows),
    route!(POST "/_matrix/client/v3/login", None, Login, log_in),
    route!(POST "/_matrix/client/v3/refresh", None, Login, refresh),
    route!(POST "/_matrix/client/v3/logout", Token, Free, log_out),
    route!(POST "/_matrix/client/v3/logout/all", Token, Free, log_out_all),
];

/// The members of an answer that logs a device in.
pub(crate) fn grant_json(grant: &Grant, server_name: &str) -> Value {
    let mut body = json!({
        "user_id": &*grant.user_id,
        "access_token": grant.access_token,
        "device_id": grant.device,
        "home_server": server_name,
    });
    if let (Some(map), Some(token)) = (body.as_object_mut(), &grant.refresh_token) {
        map.insert("refresh_token".to_owned(), json!(token));
    }
    if let (Some(map), Some(ms)) = (body.as_object_mut(), grant.expires_in_ms) {
        map.insert("expires_in_ms".to_owned(), json!(ms));
    }
    body
}

/// `GET /login`: passwords are the only way in.
async fn flows(_: Arc<Ctx>, _: Call) -> Result<Answer, ApiError> {
    Answer::json(&json!({ "flows": [{ "type": "m.login.password" }] }))
}

#[derive(Deserialize)]
struct Identifier {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    user: Option<String>,
}

#[derive(Deserialize)]
struct LoginBody {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    identifier: Option<Identifier>,
    #[serde(default)]
    user: Option<String>,
    #[serde(default)]
    password: Option<String>,
    #[serde(default)]
    device_id: Option<String>,
    #[serde(default)]
    initial_device_display_name: Option<String>,
    #[serde(default)]
    refresh_token: bool,
}

impl LoginBody {
    /// The name given, by `identifier` or by the deprecated `user`.
    fn name(&mut self) -> Result<String, ApiError> {
        let given = match self.identifier.take() {
            Some(identifier) if identifier.kind != "m.id.user" => {
                return Err(ApiError::unknown(
                    "This type of identifier is not supported",
                ));
            }
            Some(identifier) => identifier.user.or(self.user.take()),
            None => self.user.take(),
        };
        given.ok_or_else(|| ApiError::missing_param("Missing parameter: identifier.user"))
    }
}

/// `POST /login`: by password; tells neither by text nor by time whether a name exists.
async fn log_in(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let mut body: LoginBody = call.json()?;
    if body.kind != "m.login.password" {
        return Err(ApiError::unknown("This type of login is not supported"));
    }
    let user = body.name()?;
    let password = body.password;
    let password =
        password.ok_or_else(|| ApiError::missing_param("Missing parameter: password"))?;
    let device = NewDevice {
        device_id: body.device_id,
        display_name: body.initial_device_display_name,
        refresh: body.refresh_token,
    };
    let by = PasswordLogin { user, password };
    let grant = ctx.accounts.log_in(LoginRequest { by, device }).await;
    Answer::json(&grant_json(
        &grant.map_err(fault::account)?,
        ctx.accounts.server_name(),
    ))
}

/// `POST /refresh`: the old refresh token stays good until one of the new tokens is used.
async fn refresh(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    #[derive(Deserialize)]
    struct Body {
        refresh_token: String,
    }
    let body: Body = call.json()?;
    let grant = ctx
        .accounts
        .refresh(&body.refresh_token)
        .await
        .map_err(fault::account)?;
    Answer::json(&json!({
        "access_token": grant.access_token,
        "refresh_token": grant.refresh_token,
        "expires_in_ms": grant.expires_in_ms,
    }))
}

/// `POST /logout`: the device goes with its tokens, keys and waiting messages.
async fn log_out(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let who = call.requester()?;
    ctx.accounts
        .log_out(who.user, &who.device)
        .await
        .map_err(fault::account)?;
    Ok(Answer::empty())
}

/// `POST /logout/all`: every device goes.
async fn log_out_all(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    ctx.accounts
        .log_out_all(call.requester()?.user)
        .await
        .map_err(fault::account)?;
    Ok(Answer::empty())
}
