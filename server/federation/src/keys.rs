//! Signing keys: ours, and those of others that we vouch for. Anybody may ask.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use skerry_http::{Answer, ApiError, Call, Route, route};
use skerry_remote::federation::KeysAsked;

use crate::{Ctx, fault};

/// The endpoints of this file.
pub(crate) const ROUTES: &[Route<Ctx>] = &[
    route!(GET "/_matrix/key/v2/server", None, Free, own),
    // Deprecated: all keys are given whichever is asked for.
    route!(GET "/_matrix/key/v2/server/{keyId}", None, Free, own),
    route!(GET "/_matrix/key/v2/query/{serverName}", None, Heavy, query_one),
    // Gone from the specification; old servers ask so.
    route!(GET "/_matrix/key/v2/query/{serverName}/{keyId}", None, Heavy, query_key),
    route!(POST "/_matrix/key/v2/query", None, Heavy, query),
];

/// `GET /_matrix/key/v2/server`
async fn own(ctx: Arc<Ctx>, _: Call) -> Result<Answer, ApiError> {
    Ok(Answer::json_bytes(ctx.federation.keys().own_keys()))
}

/// `GET /_matrix/key/v2/query/{serverName}`
async fn query_one(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let asked = KeysAsked {
        until_ms: call.query_as("minimum_valid_until_ts")?,
        ..KeysAsked::default()
    };
    let server = call.param("serverName").to_owned();
    tell(&ctx, BTreeMap::from([(server, asked)])).await
}

/// `GET /_matrix/key/v2/query/{serverName}/{keyId}`
async fn query_key(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let until_ms = call.query_as("minimum_valid_until_ts")?;
    let asked = KeysAsked {
        ids: BTreeMap::from([(call.param("keyId").to_owned(), until_ms)]),
        until_ms: None,
    };
    let server = call.param("serverName").to_owned();
    tell(&ctx, BTreeMap::from([(server, asked)])).await
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
    let keys = |ids: BTreeMap<String, Criteria>| {
        let ids = ids.into_iter();
        KeysAsked {
            ids: ids.map(|(id, c)| (id, c.minimum_valid_until_ts)).collect(),
            until_ms: None,
        }
    };
    let asked = body.server_keys.into_iter();
    tell(
        &ctx,
        asked.map(|(server, ids)| (server, keys(ids))).collect(),
    )
    .await
}

async fn tell(ctx: &Ctx, asked: BTreeMap<String, KeysAsked>) -> Result<Answer, ApiError> {
    let told = ctx.federation.keys().notary(asked).await;
    Ok(Answer::json_bytes(
        told.map_err(|error| fault::store(&error))?,
    ))
}
