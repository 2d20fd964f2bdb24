//! Reporting rooms, events and users to the operator.
//!
//! What there is to report is not told from outside of it: a room or user that is not known here
//! is answered as one that is, and as late.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use skerry_http::{Answer, ApiError, Call, Route, route};
use skerry_room::Complaint;

use crate::Ctx;
use crate::in_room::{refusal, room_id, who};

/// The endpoints of this file.
pub(crate) const ROUTES: &[Route<Ctx>] = &[
    route!(POST "/_matrix/client/v3/rooms/{roomId}/report", Token, Heavy, room).max_body(MAX_BODY),
    route!(POST "/_matrix/client/v3/rooms/{roomId}/report/{eventId}", Token, Heavy, event)
        .max_body(MAX_BODY),
    route!(POST "/_matrix/client/v3/users/{userId}/report", Token, Heavy, user).max_body(MAX_BODY),
];

/// Largest body, in bytes.
const MAX_BODY: usize = 64 * 1024;
/// An answer takes at most so much longer than the work, in ms, by chance.
const DELAY_MS: u16 = 64;

#[derive(Deserialize)]
struct Body {
    reason: Option<String>,
    score: Option<i64>,
}

fn complaint(call: &Call) -> Result<Complaint, ApiError> {
    let Body { reason, score } = call.json()?;
    let score = score.map(|score| score.clamp(-100, 0));
    Ok(Complaint { reason, score })
}

/// Waits for a while that nobody can foretell, so that the time of the answer says nothing.
async fn linger(ctx: &Ctx) {
    let mut bytes = [0; 2];
    ctx.dice.dice().fill(&mut bytes);
    let ms = u16::from_le_bytes(bytes) % DELAY_MS;
    tokio::time::sleep(Duration::from_millis(ms.into())).await;
}

/// `POST /rooms/{roomId}/report`: also from outside of the room.
async fn room(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let why = complaint(&call)?;
    let why = Complaint { score: None, ..why };
    let done = ctx
        .rooms
        .report_room(who(&call)?, room_id(&call)?, why)
        .await;
    linger(&ctx).await;
    done.map_err(refusal)?;
    Ok(Answer::empty())
}

/// `POST /rooms/{roomId}/report/{eventId}`: only for who is in the room and sees the event.
async fn event(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let why = complaint(&call)?;
    let (who, room_id) = (who(&call)?, room_id(&call)?);
    let done = ctx
        .rooms
        .report_event(who, room_id, call.param("eventId"), why)
        .await;
    done.map_err(refusal)?;
    Ok(Answer::empty())
}

/// `POST /users/{userId}/report`
async fn user(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let why = complaint(&call)?;
    let why = Complaint { score: None, ..why };
    let done = ctx
        .rooms
        .report_user(who(&call)?, call.param("userId"), why)
        .await;
    linger(&ctx).await;
    done.map_err(refusal)?;
    Ok(Answer::empty())
}
