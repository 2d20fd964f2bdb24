//! The directory of this server's public rooms.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};
use skerry_core::RoomNid;
use skerry_http::{Answer, ApiError, Call, Route, route};
use skerry_room::{DirectoryAsk, DirectoryPlace, Network, PublicRoom};

use crate::Ctx;
use crate::in_room::{refusal, room_id, who};

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
    let (limit, since) = (call.query_as("limit")?, call.query("since"));
    let ask = DirectoryAsk {
        from: place(since.as_deref())?,
        limit: bounded(limit),
        ..DirectoryAsk::default()
    };
    page(&ctx, &call, ask).await
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
    let network = match (body.include_all_networks, body.third_party_instance_id) {
        (Some(true), None) => Network::All,
        (Some(true), Some(_)) => {
            let text = "`third_party_instance_id` names one network of all";
            return Err(ApiError::invalid_param(text));
        }
        (_, Some(instance)) => Network::One(instance),
        (_, None) => Network::Own,
    };
    let ask = DirectoryAsk {
        term: filter.generic_search_term,
        room_types: filter.room_types,
        network,
        federated: false,
        from: place(body.since.as_deref())?,
        limit: bounded(body.limit),
    };
    page(&ctx, &call, ask).await
}

async fn page(ctx: &Ctx, call: &Call, ask: DirectoryAsk) -> Result<Answer, ApiError> {
    if let Some(server) = call
        .query("server")
        .filter(|server| **server != *ctx.config.server_name)
    {
        return Err(ApiError::not_found(format!(
            "Cannot reach the server {server}"
        )));
    }
    let page = ctx.rooms.public_rooms(ask).await.map_err(refusal)?;
    let mut body = json!({
        "chunk": page.rooms.iter().map(entry).collect::<Vec<_>>(),
        "total_room_count_estimate": page.total,
    });
    for (name, place) in [("next_batch", page.next), ("prev_batch", page.prev)] {
        if let (Some(place), Some(fields)) = (place, body.as_object_mut()) {
            fields.insert(name.into(), token(place).into());
        }
    }
    Answer::json(&body)
}

/// A room as lists of rooms show it.
pub(crate) fn entry(room: &PublicRoom) -> Value {
    let mut entry = json!({
        "room_id": room.room_id,
        "num_joined_members": room.joined,
        "world_readable": room.world_readable,
        "guest_can_join": room.guest_can_join,
        "join_rule": room.join_rule,
    });
    let texts = [
        ("name", &room.name),
        ("topic", &room.topic),
        ("avatar_url", &room.avatar_url),
        ("canonical_alias", &room.canonical_alias),
        ("room_type", &room.room_type),
    ];
    for (name, text) in texts {
        if let (Some(text), Some(fields)) = (text, entry.as_object_mut()) {
            fields.insert(name.into(), text.as_str().into());
        }
    }
    entry
}

/// A place as its token: the direction, and the room beside it.
fn token(place: DirectoryPlace) -> String {
    let direction = if place.backwards { 'b' } else { 'f' };
    format!("{direction}{}_{}", place.joined, place.room.0)
}

/// The place that a token of a page stands for.
fn place(since: Option<&str>) -> Result<Option<DirectoryPlace>, ApiError> {
    let Some(since) = since.filter(|since| !since.is_empty()) else {
        return Ok(None);
    };
    let (backwards, rest) = match (since.strip_prefix('f'), since.strip_prefix('b')) {
        (Some(rest), _) => (false, rest),
        (None, Some(rest)) => (true, rest),
        (None, None) => (false, ""),
    };
    let read = |(joined, room): (&str, &str)| {
        Some(DirectoryPlace {
            backwards,
            joined: joined.parse().ok()?,
            room: RoomNid(room.parse().ok()?),
        })
    };
    let place = rest.split_once('_').and_then(read);
    let place = place.ok_or_else(|| ApiError::invalid_param("`since` is none that was given out"));
    place.map(Some)
}

fn bounded(limit: Option<u64>) -> usize {
    limit.map_or(LIMIT, |limit| {
        usize::try_from(limit)
            .unwrap_or(MAX_LIMIT)
            .clamp(1, MAX_LIMIT)
    })
}
