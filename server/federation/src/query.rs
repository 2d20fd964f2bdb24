//! Questions about what lives here: aliases, profiles, public rooms; and which program this is.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};
use skerry_core::names;
use skerry_http::{Answer, ApiError, Call, Route, route};
use skerry_room::{DirectoryAsk, DirectoryPlace, Network};
use skerry_store::{StoreError, blocking};

use crate::{Ctx, fault};

/// The endpoints of this file.
pub(crate) const ROUTES: &[Route<Ctx>] = &[
    route!(GET "/_matrix/federation/v1/version", None, Free, version),
    route!(GET "/_matrix/federation/v1/query/directory", Server, Federation, directory),
    route!(GET "/_matrix/federation/v1/query/profile", Server, Federation, profile),
    route!(GET "/_matrix/federation/v1/query/{queryType}", Server, Federation, unknown),
    route!(GET "/_matrix/federation/v1/publicRooms", Server, Federation, rooms),
    route!(POST "/_matrix/federation/v1/publicRooms", Server, Federation, search),
];

/// Rooms in one answer where the server does not say, and at most.
const LIMIT: usize = 500;

/// How many servers are named with an alias.
const MAX_SERVERS: usize = 100;

/// `GET /version`
async fn version(ctx: Arc<Ctx>, _: Call) -> Result<Answer, ApiError> {
    Answer::json(&json!({ "server": { "name": "Skerry", "version": ctx.config.version } }))
}

fn asked(call: &Call, name: &'static str) -> Result<String, ApiError> {
    let missing = || ApiError::missing_param(format!("The query parameter {name} is missing"));
    call.query(name).ok_or_else(missing)
}

/// `GET /query/directory`
async fn directory(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let alias = asked(&call, "room_alias")?;
    if names::server_of(&alias) != Some(&*ctx.config.server_name) {
        return Err(ApiError::invalid_param(
            "The alias is not one of this server",
        ));
    }
    let room_id = ctx.rooms.resolve(&alias).await.map_err(fault::room)?;
    let servers = servers_of(&ctx, room_id.clone()).await;
    let servers = servers.map_err(|error| fault::store(&error))?;
    let servers: Vec<&str> = servers.iter().map(|server| &**server).collect();
    Answer::json(&json!({ "room_id": room_id, "servers": servers }))
}

/// Servers that hold a room of ours, this one first.
async fn servers_of(ctx: &Ctx, room_id: String) -> Result<Vec<Arc<str>>, StoreError> {
    let (rooms, own) = (ctx.rooms.clone(), Arc::clone(&ctx.config.server_name));
    blocking(move || {
        let mut servers = vec![own];
        if let Some(room) = rooms.store().room_nid(&room_id)? {
            servers.extend(rooms.servers_in(&rooms.store().snapshot(), room)?);
        }
        servers.truncate(MAX_SERVERS);
        Ok(servers)
    })
    .await?
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

/// `GET /publicRooms`
async fn rooms(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let all = call.query_as("include_all_networks")?;
    let ask = DirectoryAsk {
        network: network(all, call.query("third_party_instance_id"))?,
        from: place(call.query("since").as_deref())?,
        limit: bounded(call.query_as("limit")?),
        ..DirectoryAsk::default()
    };
    page(&ctx, ask).await
}

/// `POST /publicRooms`: as `GET`, with a filter.
async fn search(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    #[derive(Deserialize, Default)]
    struct Filter {
        generic_search_term: Option<String>,
        room_types: Option<Vec<Option<String>>>,
    }
    #[derive(Deserialize)]
    struct Body {
        limit: Option<u64>,
        since: Option<String>,
        filter: Option<Filter>,
        include_all_networks: Option<bool>,
        third_party_instance_id: Option<String>,
    }
    let body: Body = call.json()?;
    let filter = body.filter.unwrap_or_default();
    let ask = DirectoryAsk {
        term: filter.generic_search_term,
        room_types: filter.room_types,
        network: network(body.include_all_networks, body.third_party_instance_id)?,
        from: place(body.since.as_deref())?,
        limit: bounded(body.limit),
        ..DirectoryAsk::default()
    };
    page(&ctx, ask).await
}

async fn page(ctx: &Ctx, ask: DirectoryAsk) -> Result<Answer, ApiError> {
    if !ctx.config.directory {
        return Err(ApiError::forbidden(
            "The room directory is not for other servers",
        ));
    }
    let ask = DirectoryAsk {
        federated: true,
        ..ask
    };
    let page = ctx.rooms.public_rooms(ask).await.map_err(fault::room)?;
    Answer::json(&page.json())
}

fn network(all: Option<bool>, instance: Option<String>) -> Result<Network, ApiError> {
    let wrong = "`third_party_instance_id` names one network of all";
    Network::asked(all, instance).ok_or_else(|| ApiError::invalid_param(wrong))
}

/// The place that a token of a page stands for.
fn place(since: Option<&str>) -> Result<Option<DirectoryPlace>, ApiError> {
    let Some(since) = since.filter(|since| !since.is_empty()) else {
        return Ok(None);
    };
    let wrong = |_| ApiError::invalid_param("`since` is none that was given out");
    since.parse().map(Some).map_err(wrong)
}

/// No limit and a limit of 0 both ask for as many as there are.
fn bounded(limit: Option<u64>) -> usize {
    let limit = limit.filter(|limit| *limit > 0);
    let limit = limit.map_or(LIMIT, |limit| usize::try_from(limit).unwrap_or(LIMIT));
    limit.min(LIMIT)
}
