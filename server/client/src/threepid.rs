//! Third-party ids: addresses of accounts, by mail and by identity servers.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};
use skerry_account::address::{AddBy, Purpose};
use skerry_account::validation::ValidationRequest;
use skerry_http::{Answer, ApiError, Call, Requester, Route, route};
use skerry_remote::identity::{BindRequest, OnBind};

use crate::{Ctx, fault, scope};

/// The endpoints of this file.
pub(crate) const ROUTES: &[Route<Ctx>] = &[
    route!(POST "/_matrix/client/v3/register/email/requestToken", None, Login, mail_register),
    route!(POST "/_matrix/client/v3/register/msisdn/requestToken", None, Login, no_phone),
    route!(POST "/_matrix/client/v3/account/password/email/requestToken",
        None, Login, mail_password),
    route!(POST "/_matrix/client/v3/account/password/msisdn/requestToken", None, Login, no_phone),
    route!(POST "/_matrix/client/v3/account/3pid/email/requestToken", None, Login, mail_add),
    route!(POST "/_matrix/client/v3/account/3pid/msisdn/requestToken", None, Login, no_phone),
    route!(GET "/_matrix/client/v3/account/3pid", Token, Free, list),
    route!(POST "/_matrix/client/v3/account/3pid", Token, Login, add_by_token),
    route!(POST "/_matrix/client/v3/account/3pid/add", Token, Login, add),
    route!(POST "/_matrix/client/v3/account/3pid/bind", Token, Login, bind),
    route!(POST "/_matrix/client/v3/account/3pid/delete", Token, Login, delete),
    route!(POST "/_matrix/client/v3/account/3pid/unbind", Token, Login, unbind),
    // The specification says PUT, identity servers there are say POST.
    route!(PUT "/_matrix/federation/v1/3pid/onbind", None, Login, on_bind),
    route!(POST "/_matrix/federation/v1/3pid/onbind", None, Login, on_bind),
];

async fn mail(ctx: &Ctx, call: &Call, purpose: Purpose) -> Result<Answer, ApiError> {
    let body: ValidationRequest = call.json()?;
    let sid = ctx.accounts.request_validation(purpose, body).await;
    Answer::json(&json!({ "sid": sid.map_err(fault::account)? }))
}

/// `POST /register/email/requestToken`: the answer does not tell whether the address has an
/// account; the mail does.
async fn mail_register(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    mail(&ctx, &call, Purpose::Register).await
}

/// `POST /account/password/email/requestToken`: as above.
async fn mail_password(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    mail(&ctx, &call, Purpose::Password).await
}

/// `POST /account/3pid/email/requestToken`: as above.
async fn mail_add(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    mail(&ctx, &call, Purpose::Add).await
}

/// `POST /../msisdn/requestToken`: phone numbers are refused.
async fn no_phone(_: Arc<Ctx>, _: Call) -> Result<Answer, ApiError> {
    let text = "Phone numbers are not known here";
    Err(ApiError::threepid_medium_not_supported(text))
}

/// `GET /account/3pid`
async fn list(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let addresses = ctx.accounts.addresses(call.requester()?.user).await;
    let addresses: Vec<Value> = addresses
        .map_err(fault::account)?
        .iter()
        .map(|address| {
            json!({
                "medium": address.medium,
                "address": address.address,
                "validated_at": address.validated_ms,
                "added_at": address.added_ms,
            })
        })
        .collect();
    Answer::json(&json!({ "threepids": addresses }))
}

/// Whose address it is can be used to set a password, which application services do not.
fn not_a_bridge(call: &Call) -> Result<&Requester, ApiError> {
    let requester = call.requester()?;
    match &requester.appservice {
        Some(_) => Err(ApiError::forbidden(
            "Application services do not add addresses",
        )),
        None => Ok(requester),
    }
}

#[derive(Deserialize)]
struct Creds {
    sid: String,
    client_secret: String,
}

/// `POST /account/3pid` (deprecated): no password is asked for.
async fn add_by_token(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    #[derive(Deserialize)]
    struct Body {
        #[serde(alias = "threePidCreds")]
        three_pid_creds: Creds,
    }
    let creds = call.json::<Body>()?.three_pid_creds;
    let by = AddBy::Token(not_a_bridge(&call)?.user);
    let added = ctx
        .accounts
        .add_address(by, creds.sid, &creds.client_secret)
        .await;
    added.map_err(fault::account)?;
    Ok(Answer::empty())
}

/// `POST /account/3pid/add`: after proving the password.
async fn add(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    #[derive(Deserialize)]
    struct Body {
        sid: String,
        client_secret: String,
        #[serde(default)]
        auth: Option<Value>,
    }
    let body: Body = call.json()?;
    not_a_bridge(&call)?;
    let by = AddBy::Owner(scope::uia(&call), body.auth);
    let added = ctx
        .accounts
        .add_address(by, body.sid, &body.client_secret)
        .await;
    added.map_err(fault::account)?;
    Ok(Answer::empty())
}

/// `POST /account/3pid/bind`: an identity server may tell others whose address it is.
async fn bind(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    #[derive(Deserialize)]
    struct Body {
        id_server: String,
        id_access_token: String,
        sid: String,
        client_secret: String,
    }
    let body: Body = call.json()?;
    let ask = BindRequest {
        id_server: body.id_server,
        id_access_token: body.id_access_token,
        sid: body.sid,
        client_secret: body.client_secret,
    };
    let bound = ctx.identity.bind(call.requester()?.user, ask).await;
    bound.map_err(fault::identity)?;
    Ok(Answer::empty())
}

/// An address, and perhaps the identity server that is to forget it.
#[derive(Deserialize)]
struct Known {
    medium: String,
    address: String,
    #[serde(default)]
    id_server: Option<String>,
}

fn unbound(done: bool) -> Result<Answer, ApiError> {
    let result = if done { "success" } else { "no-support" };
    Answer::json(&json!({ "id_server_unbind_result": result }))
}

/// `POST /account/3pid/delete`: the account has the address no longer, and identity servers do not
/// tell of it either.
async fn delete(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let known: Known = call.json()?;
    let user = call.requester()?.user;
    let removed = ctx
        .identity
        .remove(user, (&known.medium, &known.address), known.id_server);
    unbound(removed.await.map_err(fault::identity)?)
}

/// `POST /account/3pid/unbind`: the account keeps the address.
async fn unbind(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let known: Known = call.json()?;
    let user = call.requester()?.user;
    let ended = ctx
        .identity
        .unbind(user, (&known.medium, &known.address), known.id_server);
    unbound(ended.await.map_err(fault::identity)?)
}

/// `/_matrix/federation/v1/3pid/onbind`: an identity server tells that somebody now has an
/// address for which invites waited. What it says is believed for its signatures.
async fn on_bind(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let told: OnBind = call.json()?;
    ctx.identity.on_bind(told).await.map_err(fault::identity)?;
    Ok(Answer::empty())
}
