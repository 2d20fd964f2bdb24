//! Filters kept for syncs.

use std::sync::Arc;

use ruma_client_api::filter::create_filter;
use serde_json::{Value, json};
use skerry_http::{Answer, ApiError, Call, Route, route};
use skerry_sync::Filter;

use crate::{Ctx, fault, scope};

/// The endpoints of this file.
pub(crate) const ROUTES: &[Route<Ctx>] = &[
    route!(POST "/_matrix/client/v3/user/{userId}/filter", Token, Send, create).max_body(65_536),
    route!(GET "/_matrix/client/v3/user/{userId}/filter/{filterId}", Token, Free, get),
];

/// `POST /user/{userId}/filter`: the same filter always has the same id.
async fn create(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let who = scope::own(&call)?;
    // Only to check the shape: what is kept is what the client sent, unknown members included.
    call.parse::<create_filter::v3::Request>()?;
    Filter::parse(&call.body).map_err(|error| ApiError::bad_json(error.to_string()))?;
    let body: Value = call.json()?;
    let id = ctx
        .accounts
        .create_filter(who.user, &body)
        .await
        .map_err(fault::account)?;
    Answer::json(&json!({ "filter_id": id }))
}

/// `GET /user/{userId}/filter/{filterId}`
async fn get(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let who = scope::own(&call)?;
    let json = ctx.accounts.filter(who.user, call.param("filterId")).await;
    Ok(Answer::json_bytes(json.map_err(fault::account)?))
}
