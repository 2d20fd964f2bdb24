//! Profiles.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use skerry_http::{Answer, ApiError, Call, Requester, Route, route};

use crate::{Ctx, fault, scope};

/// The endpoints of this file.
pub(crate) const ROUTES: &[Route<Ctx>] = &[
    route!(GET "/_matrix/client/v3/profile/{userId}", None, Free, all),
    route!(GET "/_matrix/client/v3/profile/{userId}/{keyName}", None, Free, get),
    route!(PUT "/_matrix/client/v3/profile/{userId}/{keyName}", Token, Send, put).max_body(70_000),
    route!(DELETE "/_matrix/client/v3/profile/{userId}/{keyName}", Token, Send, delete),
];

/// `GET /profile/{userId}`
async fn all(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let profile = ctx.accounts.profile(call.param("userId")).await;
    Answer::json(&profile.map_err(fault::account)?)
}

/// `GET /profile/{userId}/{keyName}`
async fn get(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let field = call.param("keyName");
    let value = ctx
        .accounts
        .profile_field(call.param("userId"), field)
        .await;
    Answer::json(&json!({ field: value.map_err(fault::account)? }))
}

/// `PUT /profile/{userId}/{keyName}`: a display name or avatar also reaches the member events of
/// one's rooms, soon after.
async fn put(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let mut body: Map<String, Value> = call.json()?;
    let who = scope::own(&call)?;
    let field = call.param("keyName");
    guests_name_only(who, field)?;
    let missing = || ApiError::missing_param(format!("Missing parameter: {field}"));
    let value = body.remove(field).ok_or_else(missing)?;
    ctx.accounts
        .set_profile_field(who.user, field, value)
        .await
        .map_err(fault::account)?;
    Ok(Answer::empty())
}

/// `DELETE /profile/{userId}/{keyName}`: nothing happens where the field is not set.
async fn delete(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let who = scope::own(&call)?;
    let field = call.param("keyName");
    guests_name_only(who, field)?;
    ctx.accounts
        .remove_profile_field(who.user, field)
        .await
        .map_err(fault::account)?;
    Ok(Answer::empty())
}

/// Guests have a name and nothing else to show (client-server API, "Guest access").
fn guests_name_only(who: &Requester, field: &str) -> Result<(), ApiError> {
    if who.is_guest && field != "displayname" {
        let text = "Guests may only change their display name";
        return Err(ApiError::guest_access_forbidden(text));
    }
    Ok(())
}
