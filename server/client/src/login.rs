//! Logging in and out, refreshing tokens.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};
use skerry_account::{Grant, LoginName, LoginRequest, NewDevice, PasswordLogin};
use skerry_http::{Answer, ApiError, Call, Route, route};

use crate::{Ctx, bridge, fault, scope};

/// The endpoints of this file.
pub(crate) const ROUTES: &[Route<Ctx>] = &[
    route!(GET "/_matrix/client/v3/login", None, Free, flows),
    route!(POST "/_matrix/client/v3/login", Bridge, Login, log_in),
    route!(POST "/_matrix/client/v1/login/get_token", Token, Login, get_token),
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

/// `GET /login`: a password, or a token from a device that is logged in.
async fn flows(_: Arc<Ctx>, _: Call) -> Result<Answer, ApiError> {
    Answer::json(&json!({ "flows": [
        { "type": "m.login.password" },
        { "type": "m.login.token", "get_login_token": true },
        { "type": bridge::LOGIN },
    ] }))
}

/// `POST /login/get_token`: after proving the password, each time anew.
async fn get_token(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    #[derive(Deserialize)]
    struct Body {
        #[serde(default)]
        auth: Option<Value>,
    }
    let body: Body = call.json()?;
    let made = ctx
        .accounts
        .login_token(scope::uia(&call), body.auth.as_ref())
        .await;
    let (token, expires_in_ms) = made.map_err(fault::account)?;
    Answer::json(&json!({ "login_token": token, "expires_in_ms": expires_in_ms }))
}

#[derive(Deserialize, Default)]
struct Identifier {
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    user: Option<String>,
    #[serde(default)]
    medium: Option<String>,
    #[serde(default)]
    address: Option<String>,
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
    medium: Option<String>,
    #[serde(default)]
    address: Option<String>,
    #[serde(default)]
    password: Option<String>,
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    device_id: Option<String>,
    #[serde(default)]
    initial_device_display_name: Option<String>,
    #[serde(default)]
    refresh_token: bool,
}

impl LoginBody {
    fn device(&self) -> NewDevice {
        NewDevice {
            device_id: self.device_id.clone(),
            display_name: self.initial_device_display_name.clone(),
            refresh: self.refresh_token,
        }
    }

    /// Who is meant: by `identifier`, or by the deprecated members beside it.
    fn who(&mut self) -> Result<LoginName, ApiError> {
        let missing = |what: &str| ApiError::missing_param(format!("Missing parameter: {what}"));
        let given = self.identifier.take().unwrap_or_default();
        let user = given.user.or(self.user.take());
        let medium = given.medium.or(self.medium.take());
        match given.kind.as_str() {
            "m.id.user" => {}
            "" if user.is_some() || medium.is_none() => {}
            "" | "m.id.thirdparty" => {
                return Ok(LoginName::Address {
                    medium: medium.ok_or_else(|| missing("medium"))?,
                    address: given
                        .address
                        .or(self.address.take())
                        .ok_or_else(|| missing("address"))?,
                });
            }
            "m.id.phone" => {
                let text = "Phone numbers are not known here";
                return Err(ApiError::threepid_medium_not_supported(text));
            }
            _ => {
                return Err(ApiError::unknown(
                    "This type of identifier is not supported",
                ));
            }
        }
        user.map(LoginName::User)
            .ok_or_else(|| missing("identifier.user"))
    }
}

/// `POST /login`: tells neither by text nor by time whether a name exists.
async fn log_in(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let body: LoginBody = call.json()?;
    let grant = match body.kind.as_str() {
        "m.login.password" => by_password(&ctx, body).await,
        bridge::LOGIN => for_appservice(&ctx, &call, body).await,
        "m.login.token" => {
            let missing = || ApiError::missing_param("Missing parameter: token");
            let token = body.token.as_deref().ok_or_else(missing)?;
            let grant = ctx.accounts.log_in_by_token(token, body.device()).await;
            grant.map_err(fault::account)
        }
        _ => Err(ApiError::unknown("This type of login is not supported")),
    };
    Answer::json(&grant_json(&grant?, ctx.accounts.server_name()))
}

async fn by_password(ctx: &Ctx, mut body: LoginBody) -> Result<Grant, ApiError> {
    let who = body.who()?;
    let device = body.device();
    let password = body.password;
    let password =
        password.ok_or_else(|| ApiError::missing_param("Missing parameter: password"))?;
    let by = PasswordLogin { who, password };
    let grant = ctx.accounts.log_in(LoginRequest { by, device }).await;
    grant.map_err(fault::account)
}

/// An application service logs one of its users in.
async fn for_appservice(ctx: &Ctx, call: &Call, mut body: LoginBody) -> Result<Grant, ApiError> {
    let asker = bridge::asker(call)?;
    let LoginName::User(name) = body.who()? else {
        return Err(ApiError::invalid_param(
            "The user has to be named by its id",
        ));
    };
    let device = body.device();
    let grant = ctx.accounts.log_in_for_appservice(&asker, &name, device);
    grant.await.map_err(fault::account)
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
