//! Questions about who lives here, and which program this is.

use std::sync::Arc;

use serde_json::{Value, json};
use skerry_core::names;
use skerry_http::{Answer, ApiError, Call, Route, route};

use crate::{Ctx, fault};

/// The endpoints of this file.
pub(crate) const ROUTES: &[Route<Ctx>] = &[
    route!(GET "/_matrix/federation/v1/version", None, Free, version),
    route!(GET "/_matrix/federation/v1/query/profile", Server, Heavy, profile),
    route!(GET "/_matrix/federation/v1/query/{queryType}", Server, Heavy, unknown),
];

/// `GET /version`
async fn version(ctx: Arc<Ctx>, _: Call) -> Result<Answer, ApiError> {
    Answer::json(&json!({ "server": { "name": "Skerry", "version": ctx.config.version } }))
}

fn asked(call: &Call, name: &'static str) -> Result<String, ApiError> {
    let missing = || ApiError::missing_param(format!("The query parameter {name} is missing"));
    call.query(name).ok_or_else(missing)
}

/// `GET /query/profile`
async fn profile(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let user_id = asked(&call, "user_id")?;
    if !names::is_user_id(&user_id) || !ctx.rooms.is_local(&user_id) {
        return Err(ApiError::invalid_param(
            "The user is not one of this server",
        ));
    }
    let profile = match call.query("field") {
        None => ctx.accounts.profile(&user_id).await.map(Value::from),
        Some(field) => {
            let value = ctx.accounts.profile_field(&user_id, &field).await;
            value.map(|value| json!({ field: value }))
        }
    };
    Answer::json(&profile.map_err(fault::account)?)
}

/// `GET /query/{queryType}` of a kind that is not known.
async fn unknown(_: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let kind = call.param("queryType");
    Err(ApiError::not_found(format!(
        "There is no query of the kind {kind}"
    )))
}
