//! How far a user has read: receipts and the fully-read marker.

use serde_json::{Map, Value};
use skerry_http::{Answer, ApiError, Call, Route, route};
use skerry_room::ReadMarks;

use crate::reading::{Context, viewer};
use crate::{Ctx, in_room};

/// The endpoints of this file.
pub(crate) const ROUTES: &[Route<Ctx>] = &[
    route!(POST "/_matrix/client/v3/rooms/{roomId}/receipt/{receiptType}/{eventId}",
        Token, Send, receipt),
    route!(POST "/_matrix/client/v3/rooms/{roomId}/read_markers", Token, Send, read_markers),
];

/// `POST /rooms/{roomId}/receipt/{receiptType}/{eventId}`: one that would go back stays.
async fn receipt(ctx: Context, call: Call) -> Result<Answer, ApiError> {
    let body: Map<String, Value> = call.json()?;
    let thread = match body.get("thread_id") {
        None => None,
        Some(Value::String(thread)) => Some(thread.clone()),
        Some(_) => return Err(ApiError::invalid_param("thread_id must be a string")),
    };
    let event = Some(call.param("eventId").to_owned());
    let marks = match call.param("receiptType") {
        "m.read" => ReadMarks {
            read: event,
            thread,
            ..ReadMarks::default()
        },
        "m.read.private" => ReadMarks {
            private: event,
            thread,
            ..ReadMarks::default()
        },
        "m.fully_read" if thread.is_none() => ReadMarks {
            fully_read: event,
            ..ReadMarks::default()
        },
        "m.fully_read" => {
            return Err(ApiError::invalid_param("m.fully_read takes no thread_id"));
        }
        _ => return Err(ApiError::invalid_param("Unknown receipt type")),
    };
    mark(&ctx, &call, marks).await
}

/// `POST /rooms/{roomId}/read_markers`
async fn read_markers(ctx: Context, call: Call) -> Result<Answer, ApiError> {
    let body: Map<String, Value> = call.json()?;
    let event = |name: &str| match body.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(event)) => Ok(Some(event.clone())),
        Some(_) => Err(ApiError::invalid_param(format!(
            "{name} must be an event id"
        ))),
    };
    let marks = ReadMarks {
        read: event("m.read")?,
        private: event("m.read.private")?,
        fully_read: event("m.fully_read")?,
        thread: None,
    };
    mark(&ctx, &call, marks).await
}

async fn mark(ctx: &Ctx, call: &Call, marks: ReadMarks) -> Result<Answer, ApiError> {
    let moved = ctx
        .rooms
        .mark_read(viewer(call)?, call.param("roomId"), marks);
    moved.await.map_err(in_room::refusal)?;
    Ok(Answer::empty())
}
