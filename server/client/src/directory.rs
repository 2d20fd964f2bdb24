//! The directory of this server's public rooms.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::json;
use skerry_http::{Answer, ApiError, Call, Route, route};
use skerry_remote::federation::RemoteDirectory;
use skerry_room::{DirectoryAsk, DirectoryPlace, Network};

use crate::in_room::{refusal, room_id, who};
use crate::{Ctx, fault};

/// The endpoints of this file.
pub(crate) const ROUTES: &[Route<Ctx>] = &[
    route!(GET "/_matrix/client/v3/directory/list/room/{roomId}", None, Free, is_listed),
    route!(PUT "/_matrix/client/v3/directory/list/room/{roomId}", Token, Send, set_listed),
    route!(GET "/_matrix/client/v3/publicRooms", TokenOptional, Heavy, rooms),
    route!(POST "/_matrix/client/v3/publicRooms", Token, Heavy, search),
];

/// Rooms in one answer where the client does not say, and at most.
const LIMIT: usize = 100;
const MAX_LIMIT: usize = 500;

/// `GET /directory/list/room/{roomId}`
async fn is_listed(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let listed = ctx
        .rooms
        .is_listed(room_id(&call)?)
        .await
        .map_err(refusal)?;
    Answer::json(&json!({ "visibility": if listed { "public" } else { "private" } }))
}

/// `PUT /directory/list/room/{roomId}`
async fn set_listed(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    #[derive(Deserialize)]
    struct Body {
        visibility: Option<String>,
    }
    let body: Body = call.json()?;
    let listed = match body.visibility.as_deref() {
        None | Some("public") => true,
        Some("private") => false,
        Some(_) => return Err(ApiError::invalid_param("`visibility` is public or private")),
    };
    ctx.rooms
        .list(who(&call)?, room_id(&call)?, listed)
        .await
        .map_err(refusal)?;
    Ok(Answer::empty())
}

/// `GET /publicRooms`
async fn rooms(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    if !ctx.config.directory_without_auth {
        call.requester()?;
    }
    let wanted = Wanted {
        limit: call.query_as("limit")?,
        since: call.query("since"),
        ..Wanted::default()
    };
    page(&ctx, &call, wanted).await
}

/// `POST /publicRooms`: as `GET`, with a filter.
async fn search(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    page(&ctx, &call, call.json()?).await
}

/// Which rooms a client wants to see.
#[derive(Deserialize, Default)]
struct Wanted {
    limit: Option<u64>,
    since: Option<String>,
    filter: Option<Filter>,
    include_all_networks: Option<bool>,
    third_party_instance_id: Option<String>,
}

#[derive(Deserialize, Serialize, Default)]
struct Filter {
    #[serde(skip_serializing_if = "Option::is_none")]
    generic_search_term: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    room_types: Option<Vec<Option<String>>>,
}

impl Wanted {
    /// As a question to this server.
    fn here(self) -> Result<DirectoryAsk, ApiError> {
        let filter = self.filter.unwrap_or_default();
        let network = Network::asked(self.include_all_networks, self.third_party_instance_id);
        let network = network.ok_or_else(|| {
            ApiError::invalid_param("`third_party_instance_id` names one network of all")
        })?;
        Ok(DirectoryAsk {
            term: filter.generic_search_term,
            room_types: filter.room_types,
            network,
            federated: false,
            from: place(self.since.as_deref())?,
            limit: bounded(self.limit),
        })
    }

    /// As a question to another server.
    fn elsewhere(self) -> RemoteDirectory {
        RemoteDirectory {
            limit: Some(bounded(self.limit) as u64),
            since: self.since,
            filter: self
                .filter
                .and_then(|filter| serde_json::to_value(filter).ok()),
            include_all_networks: self.include_all_networks.unwrap_or(false),
            third_party_instance_id: self.third_party_instance_id,
        }
    }
}

async fn page(ctx: &Ctx, call: &Call, wanted: Wanted) -> Result<Answer, ApiError> {
    let server = call.query("server");
    if let Some(server) = server.filter(|server| **server != *ctx.config.server_name) {
        call.requester()?;
        let page = ctx.federation.public_rooms_of(&server, wanted.elsewhere());
        return Answer::json(&page.await.map_err(fault::federation)?);
    }
    let ask = wanted.here()?;
    let page = ctx.rooms.public_rooms(ask).await.map_err(refusal)?;
    Answer::json(&page.json())
}

/// The place that a token of a page stands for.
fn place(since: Option<&str>) -> Result<Option<DirectoryPlace>, ApiError> {
    let Some(since) = since.filter(|since| !since.is_empty()) else {
        return Ok(None);
    };
    let wrong = |_| ApiError::invalid_param("`since` is none that was given out");
    since.parse().map(Some).map_err(wrong)
}

fn bounded(limit: Option<u64>) -> usize {
    limit.map_or(LIMIT, |limit| {
        usize::try_from(limit)
            .unwrap_or(MAX_LIMIT)
            .clamp(1, MAX_LIMIT)
    })
}
