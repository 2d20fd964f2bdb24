//! The stream of events: deprecated for following all rooms, and the way to listen to one room
//! without being in it (client-server API, "Room Previews").

use std::time::Duration;

use skerry_core::canonical::write_string_bytes;
use skerry_http::{Answer, ApiError, Call, Route, route};
use skerry_sync::{Happening, Request, Stream, Token};

use crate::Ctx;
use crate::json_list::{data_event, in_room, list, presence_event};
use crate::reading::{Context, ask, limit, param};
use crate::sync::refusal;

/// The endpoints of this file.
pub(crate) const ROUTES: &[Route<Ctx>] = &[
    route!(GET "/_matrix/client/v3/events", Token, Free, events),
    route!(GET "/_matrix/client/v3/events/{eventId}", Token, Free, event),
];

/// How long it is waited unless the client says, in ms.
const TIMEOUT_MS: u64 = 30_000;
/// The most events of rooms in one answer.
const EVENTS_MAX: usize = 100;

/// `GET /events`: what happens in all rooms of the user, or with `room_id` in one that they are
/// in or that is open to everybody. Guests have to name one.
async fn events(ctx: Context, call: Call) -> Result<Answer, ApiError> {
    let room = call.query("room_id");
    let requester = call.requester()?;
    if requester.is_guest && room.is_none() {
        let text = "Guests have to say which room, with room_id";
        return Err(ApiError::guest_access_forbidden(text));
    }
    let timeout = call.query_as::<u64>("timeout")?.unwrap_or(TIMEOUT_MS);
    let limit = limit(&call, 1, EVENTS_MAX)?.min(EVENTS_MAX);
    let request = request(&call, since(&call)?)?;
    // The call is not to be held while waiting.
    drop(call);
    let timeout = Duration::from_millis(timeout);
    let stream = ctx
        .sync
        .stream(request, room.as_deref(), limit, timeout)
        .await;
    Ok(Answer::json_bytes(render(&stream.map_err(refusal)?)))
}

/// `GET /events/{eventId}`: an event of whatever room, if the user may see it.
async fn event(ctx: Context, call: Call) -> Result<Answer, ApiError> {
    let event = param(&call, "eventId");
    let json = ask(&ctx, &call, move |rooms, snap, viewer| {
        rooms.event_anywhere_json(snap, viewer, &event)
    });
    Ok(Answer::json_bytes(json.await?))
}

/// Who asks, and from where.
pub(crate) fn request(call: &Call, since: Option<Token>) -> Result<Request, ApiError> {
    let requester = call.requester()?;
    Ok(Request {
        user: requester.user,
        user_id: requester.user_id.clone(),
        device: requester.device.clone(),
        since,
        filter: std::sync::Arc::default(),
        full_state: false,
        state_after: false,
    })
}

fn since(call: &Call) -> Result<Option<Token>, ApiError> {
    let Some(text) = call.query("from").filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let wrong = |_| ApiError::invalid_param("from is not a token of this server");
    Token::parse(&text).map(Some).map_err(wrong)
}

fn render(stream: &Stream) -> Vec<u8> {
    let mut out = b"{\"chunk\":".to_vec();
    list(
        &stream.happenings,
        &mut out,
        |happening, out| match happening {
            Happening::Event(json) => out.extend_from_slice(json),
            Happening::Ephemeral(room, json) => in_room(json, room, out),
            Happening::Data(None, data) => data_event(data, out),
            Happening::Data(Some(room), data) => {
                let mut json = Vec::new();
                data_event(data, &mut json);
                in_room(&json, room, out);
            }
            Happening::Presence(presence) => presence_event(presence, out),
        },
    );
    for (name, token) in [("end", stream.end), ("start", stream.start)] {
        out.push(b',');
        write_string_bytes(name, &mut out);
        out.push(b':');
        write_string_bytes(&token.to_string(), &mut out);
    }
    out.push(b'}');
    out
}
