//! Devices and keys of our users, for other servers.

use std::sync::Arc;

use serde::Deserialize;
use skerry_account::e2e::{ClaimRequest, KeyQuery, KeysError};
use skerry_http::{Answer, ApiError, Call, Route, route};

use crate::{Ctx, fault};

/// The endpoints of this file.
pub(crate) const ROUTES: &[Route<Ctx>] = &[
    route!(GET "/_matrix/federation/v1/user/devices/{userId}", Server, Federation, devices),
    route!(POST "/_matrix/federation/v1/user/keys/query", Server, Federation, query),
    route!(POST "/_matrix/federation/v1/user/keys/claim", Server, Federation, claim),
];

/// `GET /user/devices/{userId}`
async fn devices(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let list = ctx.people.devices(call.param("userId")).await;
    Answer::json(&list.map_err(refusal)?)
}

/// `POST /user/keys/query`
async fn query(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let asked: KeyQuery = call.json()?;
    let found = ctx.people.query_keys(asked).await;
    Answer::json(&found.map_err(refusal)?)
}

/// `POST /user/keys/claim`
async fn claim(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    #[derive(Deserialize)]
    struct Body {
        one_time_keys: ClaimRequest,
    }
    let body: Body = call.json()?;
    let claimed = ctx.people.claim_keys(body.one_time_keys).await;
    Answer::json(&claimed.map_err(refusal)?)
}

fn refusal(error: KeysError) -> ApiError {
    match error {
        KeysError::Store(error) => fault::store(&error),
        KeysError::NoDevice => ApiError::not_found("There is no such user here"),
        other => ApiError::invalid_param(other.to_string()),
    }
}
