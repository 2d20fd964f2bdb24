//! What application services ask for, and what is asked of them for clients (application service
//! API, "Client-Server API Extensions" and "Third-party networks").

use std::sync::Arc;

use http::Method;
use http::header::AUTHORIZATION;
use serde::Deserialize;
use serde_json::json;
use skerry_http::{Answer, ApiError, Call, Route, route};
use skerry_remote::appservice::{Entity, Existence, PingError};
use skerry_remote::federation::{Aliased, FederationError};
use skerry_room::RoomError;

use crate::in_room::{refusal, room_id};
use crate::{Ctx, fault};

/// The endpoints of this file.
pub(crate) const ROUTES: &[Route<Ctx>] = &[
    route!(POST "/_matrix/client/v1/appservice/{appserviceId}/ping", Token, Heavy, ping),
    route!(
        PUT "/_matrix/client/v3/directory/list/appservice/{networkId}/{roomId}",
        Token, Send, list_room
    ),
    route!(
        DELETE "/_matrix/client/v3/directory/list/appservice/{networkId}/{roomId}",
        Token, Send, list_room
    ),
    route!(GET "/_matrix/client/v3/thirdparty/protocols", Token, Heavy, protocols).guests(),
    route!(GET "/_matrix/client/v3/thirdparty/protocol/{protocol}", Token, Heavy, protocol)
        .guests(),
    route!(GET "/_matrix/client/v3/thirdparty/user", Token, Heavy, users).guests(),
    route!(GET "/_matrix/client/v3/thirdparty/user/{protocol}", Token, Heavy, users).guests(),
    route!(GET "/_matrix/client/v3/thirdparty/location", Token, Heavy, locations).guests(),
    route!(GET "/_matrix/client/v3/thirdparty/location/{protocol}", Token, Heavy, locations)
        .guests(),
];

/// The type by which application services register users and log them in.
pub(crate) const LOGIN: &str = "m.login.application_service";

/// Query parameters that are for us, not for an application service.
const OURS: [&str; 4] = [
    "access_token",
    "user_id",
    "device_id",
    "org.matrix.msc3202.device_id",
];

/// The id of the application service that asks.
///
/// # Errors
/// 401 `M_MISSING_TOKEN` or `M_UNKNOWN_TOKEN` for anybody else; for routes that know application
/// services alone by their token.
pub(crate) fn asker(call: &Call) -> Result<Arc<str>, ApiError> {
    let asker = call
        .requester_opt()
        .and_then(|requester| requester.appservice.clone());
    asker.ok_or_else(|| {
        if call.header(&AUTHORIZATION).is_some() || call.query("access_token").is_some() {
            ApiError::unknown_token("The token is not an application service's")
        } else {
            ApiError::missing_token("The token of an application service is missing")
        }
    })
}

/// The same where anybody may have got so far with a token of their own: 403 `M_FORBIDDEN`.
fn service(call: &Call) -> Result<Arc<str>, ApiError> {
    let asker = call.requester()?.appservice.clone();
    asker.ok_or_else(|| ApiError::forbidden("Only for application services"))
}

/// The room behind an alias, and servers that know it. An application service may make it because
/// it is asked for; one of another server is asked for there.
pub(crate) async fn resolve(ctx: &Ctx, alias: &str) -> Result<Aliased, ApiError> {
    let first = ctx.federation.resolve(alias).await;
    let unknown = |found: &Result<_, FederationError>| {
        matches!(found, Err(FederationError::Room(RoomError::NotFound(_))))
    };
    if !unknown(&first) {
        return first.map_err(fault::federation);
    }
    match ctx.bridges.find_alias(alias).await {
        Existence::Made => {
            let made = ctx.federation.resolve(alias).await;
            made.map_err(fault::federation)
        }
        Existence::None => first.map_err(fault::federation),
        Existence::Unknown => Err(late()),
    }
}

/// Lets an application service make a user who is asked for, if the user is one of its own and
/// does not exist yet. Whether the user is there now.
///
/// # Errors
/// 408 `M_UNKNOWN` where it gave no answer in time.
pub(crate) async fn wake(ctx: &Ctx, user_id: &str) -> Result<bool, ApiError> {
    match ctx.bridges.find_user(user_id).await {
        Existence::Made => Ok(true),
        Existence::None => Ok(false),
        Existence::Unknown => Err(late()),
    }
}

fn late() -> ApiError {
    ApiError::request_timeout("The application service gave no answer in time")
}

/// `POST /appservice/{appserviceId}/ping`
async fn ping(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    #[derive(Deserialize)]
    struct Body {
        transaction_id: Option<String>,
    }
    let body: Body = call.json()?;
    let known = ctx.accounts.appservices();
    let asker = service(&call)?;
    let one = known.get(&asker).filter(|one| *one.id == *call.path(0));
    let one = one.ok_or_else(|| ApiError::forbidden("This is another application service"))?;
    let took = ctx.bridges.ping(one, body.transaction_id.as_deref()).await;
    let took = took.map_err(unreached)?;
    // Begun milliseconds count: some frameworks take 0 for no answer.
    let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    Answer::json(&json!({ "duration_ms": took_ms.max(1) }))
}

fn unreached(error: PingError) -> ApiError {
    let text = error.to_string();
    match error {
        PingError::NoUrl => ApiError::url_not_set(text),
        PingError::Timeout => ApiError::connection_timeout(text),
        PingError::Unreachable(_) => ApiError::connection_failed(text),
        PingError::Status { status, body } => ApiError::bad_status(text)
            .with("status", status)
            .with("body", body),
    }
}

/// `PUT /directory/list/appservice/{networkId}/{roomId}`; and `DELETE`, which takes the room out.
async fn list_room(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    #[derive(Deserialize)]
    struct Body {
        visibility: Option<String>,
    }
    let body: Body = call.json()?;
    let listed = match body.visibility.as_deref() {
        _ if call.method == Method::DELETE => false,
        Some("public") => true,
        Some("private") => false,
        None => return Err(ApiError::missing_param("Missing parameter: visibility")),
        Some(_) => return Err(ApiError::invalid_param("`visibility` is public or private")),
    };
    let instance = format!("{}|{}", service(&call)?, call.param("networkId"));
    ctx.rooms
        .list_in_network(instance, room_id(&call)?, listed)
        .await
        .map_err(refusal)?;
    Ok(Answer::empty())
}

/// `GET /thirdparty/protocols`
async fn protocols(ctx: Arc<Ctx>, _: Call) -> Result<Answer, ApiError> {
    Answer::json(&ctx.bridges.protocols().await)
}

/// `GET /thirdparty/protocol/{protocol}`
async fn protocol(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    match ctx.bridges.protocol(call.param("protocol")).await {
        Some(protocol) => Answer::json(&protocol),
        None => Err(ApiError::not_found("Nobody here speaks this protocol")),
    }
}

/// `GET /thirdparty/user[/{protocol}]`
async fn users(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    look_up(&ctx, &call, Entity::User, "userid").await
}

/// `GET /thirdparty/location[/{protocol}]`
async fn locations(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    look_up(&ctx, &call, Entity::Location, "alias").await
}

async fn look_up(ctx: &Ctx, call: &Call, entity: Entity, id: &str) -> Result<Answer, ApiError> {
    let protocol = Some(call.param("protocol")).filter(|protocol| !protocol.is_empty());
    let mut query: Vec<(String, String)> = call.query_pairs().collect();
    query.retain(|(key, _)| !OURS.contains(&key.as_str()));
    if protocol.is_none() && !query.iter().any(|(key, _)| key == id) {
        return Err(ApiError::missing_param(format!("Missing parameter: {id}")));
    }
    Answer::json(&ctx.bridges.look_up(entity, protocol, &query).await)
}
