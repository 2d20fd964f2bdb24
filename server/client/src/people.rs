//! Finding people, and the rooms one shares with them.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};
use skerry_core::RoomNid;
use skerry_http::{Answer, ApiError, Call, Route, route};
use skerry_room::{Found, MutualRooms};

use crate::Ctx;
use crate::in_room::{refusal, who};

/// The endpoints of this file.
pub(crate) const ROUTES: &[Route<Ctx>] = &[
    route!(POST "/_matrix/client/v3/user_directory/search", Token, Heavy, search),
    route!(GET "/_matrix/client/v1/mutual_rooms", Token, Heavy, mutual),
    route!(
        GET "/_matrix/client/unstable/uk.half-shot.msc2666/user/mutual_rooms",
        Token, Heavy, mutual_unstable
    ),
];

/// People in one answer where the client does not say, and at most.
const LIMIT: usize = 10;
const MAX_LIMIT: usize = 50;

/// `POST /user_directory/search`
async fn search(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    #[derive(Deserialize)]
    struct Body {
        search_term: String,
        limit: Option<usize>,
    }
    let body: Body = call.json()?;
    let limit = body.limit.unwrap_or(LIMIT).min(MAX_LIMIT);
    let found = ctx
        .rooms
        .search_people(who(&call)?, &body.search_term, limit)
        .await
        .map_err(refusal)?;
    let results: Vec<Value> = found.people.iter().map(person).collect();
    Answer::json(&json!({ "results": results, "limited": found.limited }))
}

fn person(found: &Found) -> Value {
    let mut person = json!({ "user_id": found.user_id });
    let fields = [
        ("display_name", &found.display_name),
        ("avatar_url", &found.avatar_url),
    ];
    for (name, text) in fields {
        if let (Some(text), Some(person)) = (text, person.as_object_mut()) {
            person.insert(name.into(), text.as_str().into());
        }
    }
    person
}

/// `GET /mutual_rooms`
async fn mutual(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let found = shared(&ctx, &call, "from").await?;
    let mut body = json!({ "joined": found.joined, "count": found.count });
    if let (Some(next), Some(fields)) = (found.next, body.as_object_mut()) {
        fields.insert("next_batch".into(), next.0.to_string().into());
    }
    Answer::json(&body)
}

/// The same as clients called it before (MSC2666).
async fn mutual_unstable(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let found = shared(&ctx, &call, "batch_token").await?;
    let mut body = json!({ "joined": found.joined });
    if let (Some(next), Some(fields)) = (found.next, body.as_object_mut()) {
        fields.insert("next_batch_token".into(), next.0.to_string().into());
    }
    Answer::json(&body)
}

async fn shared(ctx: &Ctx, call: &Call, from: &'static str) -> Result<MutualRooms, ApiError> {
    let other = call
        .query("user_id")
        .ok_or_else(|| ApiError::missing_param("Missing parameter: user_id"))?;
    let from = call.query_as::<u64>(from)?.map(RoomNid);
    let found = ctx.rooms.mutual(who(call)?, &other, from).await;
    found.map_err(refusal)
}
