//! Which threads a user wants to hear of (MSC4306, MSC4308).

use serde_json::{Map, Value, json};
use skerry_core::Pos;
use skerry_http::{Answer, ApiError, Call, Route, route};
use skerry_room::{Cut, RoomError, ThreadChanges};

use crate::reading::{Context, ask, is_back, param, viewer};
use crate::{Ctx, in_room};

/// Changes given unless the client asks for another number.
const CHANGES: u64 = 100;
/// The most changes in one answer.
const CHANGES_MAX: u64 = 512;

/// The endpoints of this file.
pub(crate) const ROUTES: &[Route<Ctx>] = &[
    route!(GET "/_matrix/client/unstable/io.element.msc4306/rooms/{roomId}/thread/{eventId}/subscription",
        Token, Free, get),
    route!(PUT "/_matrix/client/unstable/io.element.msc4306/rooms/{roomId}/thread/{eventId}/subscription",
        Token, Send, put),
    route!(DELETE "/_matrix/client/unstable/io.element.msc4306/rooms/{roomId}/thread/{eventId}/subscription",
        Token, Send, delete),
    route!(GET "/_matrix/client/unstable/io.element.msc4308/thread_subscriptions",
        Token, Free, changes),
];

/// The thread that the path names, by room and root.
fn thread(call: &Call) -> Result<(String, String), ApiError> {
    let room = in_room::room_id(call)?.to_owned();
    let root = param(call, "eventId");
    if !root.starts_with('$') {
        return Err(ApiError::invalid_param("A thread is named by an event id"));
    }
    Ok((room, root))
}

/// `GET ../rooms/{roomId}/thread/{eventId}/subscription`
async fn get(ctx: Context, call: Call) -> Result<Answer, ApiError> {
    let (room, root) = thread(&call)?;
    let automatic = ask(&ctx, &call, move |rooms, snap, viewer| {
        let subscribed = rooms.thread_subscription(snap, viewer, &room, &root)?;
        let missing = || RoomError::NotFound("Not subscribed to this thread".to_owned());
        subscribed.ok_or_else(missing)
    });
    Answer::json(&json!({ "automatic": automatic.await? }))
}

/// `PUT ../rooms/{roomId}/thread/{eventId}/subscription`: `automatic` names the event that made
/// the client subscribe on its own.
async fn put(ctx: Context, call: Call) -> Result<Answer, ApiError> {
    let (room, root) = thread(&call)?;
    let body: Map<String, Value> = call.json()?;
    let cause = match body.get("automatic") {
        None | Some(Value::Null) => None,
        Some(Value::String(cause)) => Some(cause.clone()),
        Some(_) => return Err(ApiError::bad_json("automatic must be an event id")),
    };
    ctx.rooms
        .subscribe_thread(viewer(&call)?, room, root, cause)
        .await
        .map_err(in_room::refusal)?;
    Ok(Answer::empty())
}

/// `DELETE ../rooms/{roomId}/thread/{eventId}/subscription`
async fn delete(ctx: Context, call: Call) -> Result<Answer, ApiError> {
    let (room, root) = thread(&call)?;
    ctx.rooms
        .unsubscribe_thread(viewer(&call)?, room, root)
        .await
        .map_err(in_room::refusal)?;
    Ok(Answer::empty())
}

/// `GET ../thread_subscriptions`: what was said about threads, the newest first, from the end of
/// what sliding sync told (`prev_batch`) back to where it began (`to`, a position of it).
async fn changes(ctx: Context, call: Call) -> Result<Answer, ApiError> {
    if !is_back(&call, None)? {
        return Err(ApiError::invalid_param("dir must be b"));
    }
    let limit = call.query_as::<u64>("limit")?.unwrap_or(CHANGES);
    if limit == 0 {
        return Err(ApiError::invalid_param("limit must be greater than 0"));
    }
    let limit = usize::try_from(limit.min(CHANGES_MAX)).unwrap_or(usize::MAX);
    let since = pos(&call, "to")?.unwrap_or(Pos::ZERO);
    let upto = pos(&call, "from")?;
    let found = ask(&ctx, &call, move |rooms, snap, viewer| {
        let upto = upto.unwrap_or(snap.head());
        Ok(rooms.thread_changes(snap, viewer.user, (since, upto), limit)?)
    });
    let found = found.await?;
    let mut body = listed(&found);
    if let Some(rest) = found.rest {
        body.insert("end".to_owned(), Value::String(token(rest)));
    }
    Answer::json(&body)
}

/// A place in the changes, for going on from there.
pub(crate) fn token(pos: Pos) -> String {
    Cut::at(pos).to_string()
}

fn pos(call: &Call, name: &str) -> Result<Option<Pos>, ApiError> {
    let Some(text) = call.query(name) else {
        return Ok(None);
    };
    let unknown = || ApiError::invalid_param(format!("Unknown pagination token in {name}"));
    let cut = Cut::parse(&text).ok_or_else(unknown)?;
    Ok(Some(cut.pos()))
}

/// Changes as JSON: `{"subscribed": {room: {root: {..}}}, "unsubscribed": {..}}`, each only if
/// there are any.
pub(crate) fn listed(found: &ThreadChanges) -> Map<String, Value> {
    let mut body = Map::new();
    for change in &found.changes {
        let (list, entry) = match change.automatic {
            Some(automatic) => (
                "subscribed",
                json!({ "automatic": automatic, "bump_stamp": change.pos.0 }),
            ),
            None => ("unsubscribed", json!({ "bump_stamp": change.pos.0 })),
        };
        let rooms = body.entry(list).or_insert_with(|| json!({}));
        let Some(rooms) = rooms.as_object_mut() else {
            continue;
        };
        let room = rooms.entry(&*change.room_id).or_insert_with(|| json!({}));
        if let Some(room) = room.as_object_mut() {
            room.insert(change.root.clone(), entry);
        }
    }
    body
}
