//! Profiles.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use skerry_account::AccountError;
use skerry_account::profile::Propagate;
use skerry_core::names;
use skerry_http::{Answer, ApiError, Call, Requester, Route, route};

use crate::{Ctx, bridge, fault, scope};

/// The endpoints of this file.
pub(crate) const ROUTES: &[Route<Ctx>] = &[
    route!(GET "/_matrix/client/v3/profile/{userId}", None, Free, all),
    route!(GET "/_matrix/client/v3/profile/{userId}/{keyName}", None, Free, get),
    route!(PUT "/_matrix/client/v3/profile/{userId}/{keyName}", Token, Send, put).max_body(70_000),
    route!(DELETE "/_matrix/client/v3/profile/{userId}/{keyName}", Token, Send, delete),
];

/// `GET /profile/{userId}`
async fn all(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let user_id = call.param("userId");
    if !ctx.rooms.is_local(user_id) && names::is_user_id(user_id) {
        let profile = ctx.federation.profile(user_id).await;
        return Answer::json(&*profile.map_err(fault::federation)?);
    }
    let mut profile = ctx.accounts.profile(user_id).await;
    if missing(&profile) && bridge::wake(&ctx, user_id).await? {
        profile = ctx.accounts.profile(user_id).await;
    }
    Answer::json(&profile.map_err(fault::account)?)
}

/// `GET /profile/{userId}/{keyName}`
async fn get(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let (user_id, field) = (call.param("userId"), call.param("keyName"));
    if !ctx.rooms.is_local(user_id) && names::is_user_id(user_id) {
        let profile = ctx.federation.profile(user_id).await;
        return match profile.map_err(fault::federation)?.get(field) {
            Some(value) => Answer::json(&json!({ field: value })),
            None => Ok(Answer::empty()),
        };
    }
    let mut value = ctx.accounts.profile_field(user_id, field).await;
    if missing(&value) && bridge::wake(&ctx, user_id).await? {
        value = ctx.accounts.profile_field(user_id, field).await;
    }
    match value.map_err(fault::account)? {
        Some(value) => Answer::json(&json!({ field: value })),
        None => Ok(Answer::empty()),
    }
}

/// What is not there may be made by an application service, if it is asked.
fn missing<T>(found: &Result<T, AccountError>) -> bool {
    matches!(found, Err(AccountError::NotFound(_)))
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
        .set_profile_field(who.user, field, value, propagation(&call))
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
        .remove_profile_field(who.user, field, propagation(&call))
        .await
        .map_err(fault::account)?;
    Ok(Answer::empty())
}

/// In which rooms a change is to be shown (MSC4466; MSC4069 knew all or none). What is not known
/// counts as not said.
fn propagation(call: &Call) -> Propagate {
    let to = call.query("computer.gingershaped.msc4466.propagate_to");
    match to.as_deref() {
        Some("unchanged") => Propagate::Unchanged,
        Some("none") => Propagate::Nowhere,
        Some("all") => Propagate::All,
        _ if call.query("org.matrix.msc4069.propagate").as_deref() == Some("false") => {
            Propagate::Nowhere
        }
        _ => Propagate::All,
    }
}

/// Guests have a name and nothing else to show (client-server API, "Guest access").
fn guests_name_only(who: &Requester, field: &str) -> Result<(), ApiError> {
    if who.is_guest && field != "displayname" {
        let text = "Guests may only change their display name";
        return Err(ApiError::guest_access_forbidden(text));
    }
    Ok(())
}
