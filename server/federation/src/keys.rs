//! Signing keys: ours, and those of others that we vouch for. Anybody may ask.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use skerry_http::{Answer, ApiError, Call, Route, route};

use crate::{Ctx, fault};

/// The endpoints of this file.
pub(crate) const ROUTES: &[Route<Ctx>] = &[
    route!(GET "/_matrix/key/v2/server", None, Free, own),
    // Deprecated: all keys are given whichever is asked for.
    route!(GET "/_matrix/key/v2/server/{keyId}", None, Free, own),
    route!(GET "/_matrix/key/v2/query/{serverName}", None, Heavy, query_one),
    route!(POST "/_matrix/key/v2/query", None, Heavy, query),
];

/// By server, the ids of keys and until when they should be good, in ms since the epoch.
type Asked = BTreeMap<String, BTreeMap<String, u64>>;

/// `GET /_matrix/key/v2/server`
async fn own(ctx: Arc<Ctx>, _: Call) -> Result<Answer, ApiError> {
    Ok(Answer::json_bytes(ctx.federation.keys().own_keys()))
}

/// `GET /_matrix/key/v2/query/{serverName}`
async fn query_one(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let server = call.param("serverName").to_owned();
    // The time is of a key, and no key is named: whatever is found is told.
    let _: Option<u64> = call.query_as("minimum_valid_until_ts")?;
    tell(&ctx, Asked::from([(server, BTreeMap::new())])).await
}

/// `POST /_matrix/key/v2/query`
async fn query(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    #[derive(Deserialize)]
    struct Criteria {
        minimum_valid_until_ts: Option<u64>,
    }
    #[derive(Deserialize)]
    struct Body {
        server_keys: BTreeMap<String, BTreeMap<String, Criteria>>,
    }
    let body: Body = call.json()?;
    let until = |criteria: Criteria| criteria.minimum_valid_until_ts.unwrap_or_default();
    let keys = |keys: BTreeMap<String, Criteria>| {
        keys.into_iter()
            .map(|(id, asked)| (id, until(asked)))
            .collect()
    };
    let asked = body.server_keys.into_iter();
    tell(
        &ctx,
        asked.map(|(server, ids)| (server, keys(ids))).collect(),
    )
    .await
}

async fn tell(ctx: &Ctx, asked: Asked) -> Result<Answer, ApiError> {
    let told = ctx.federation.keys().notary(asked).await;
    Ok(Answer::json_bytes(
        told.map_err(|error| fault::store(&error))?,
    ))
}
