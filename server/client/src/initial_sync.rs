//! Rooms at one glance: deprecated for all of them, and the way to begin with one that is looked
//! into without being in it (client-server API, "Room Previews").

use skerry_core::canonical::write_string_bytes;
use skerry_http::{Answer, ApiError, Call, Route, route};
use skerry_sync::{Inside, Overview, RoomOverview, TIMELINE_LIMIT_MAX};

use crate::Ctx;
use crate::event_stream::request;
use crate::json_list::{data_event, in_room, list, presence_event};
use crate::reading::{Context, limit, param};
use crate::sync::refusal;

/// The endpoints of this file.
pub(crate) const ROUTES: &[Route<Ctx>] = &[
    route!(GET "/_matrix/client/v3/initialSync", Token, Heavy, all),
    route!(GET "/_matrix/client/v3/rooms/{roomId}/initialSync", Token, Heavy, one),
];

/// Events of a room unless the client says otherwise.
const EVENTS: usize = 10;

/// `GET /initialSync`: with `archived`, also rooms that the user has left.
async fn all(ctx: Context, call: Call) -> Result<Answer, ApiError> {
    let archived = call.query_as::<bool>("archived")?.unwrap_or(false);
    let limit = events(&call)?;
    let overview = ctx
        .sync
        .overview(request(&call, None)?, limit, archived)
        .await;
    Ok(Answer::json_bytes(render(&overview.map_err(refusal)?)))
}

/// `GET /rooms/{roomId}/initialSync`: as the room is now, or as it was when the user left; also
/// for who is not in it, where it is open to everybody.
async fn one(ctx: Context, call: Call) -> Result<Answer, ApiError> {
    let (room, limit) = (param(&call, "roomId"), events(&call)?);
    let found = ctx
        .sync
        .room_overview(request(&call, None)?, room, limit)
        .await;
    let mut out = Vec::new();
    write_room(&found.map_err(refusal)?, true, &mut out);
    Ok(Answer::json_bytes(out))
}

fn events(call: &Call) -> Result<usize, ApiError> {
    let most = usize::try_from(TIMELINE_LIMIT_MAX).unwrap_or(EVENTS);
    Ok(limit(call, 0, EVENTS)?.min(most))
}

/// A JSON object being written, with what follows its first member.
struct Fields<'a>(&'a mut Vec<u8>);

impl Fields<'_> {
    fn name(&mut self, name: &str) -> &mut Vec<u8> {
        let first = self.0.last() == Some(&b'{');
        self.0.extend_from_slice(if first { b"" } else { b"," });
        write_string_bytes(name, self.0);
        self.0.push(b':');
        self.0
    }

    fn text(&mut self, name: &str, text: &str) {
        write_string_bytes(text, self.name(name));
    }
}

fn render(overview: &Overview) -> Vec<u8> {
    let mut out = b"{".to_vec();
    let mut fields = Fields(&mut out);
    list(
        &overview.account_data,
        fields.name("account_data"),
        data_event,
    );
    fields.text("end", &overview.end.to_string());
    list(&overview.presence, fields.name("presence"), presence_event);
    let receipts: Vec<(&str, &Vec<u8>)> = overview.rooms.iter().flat_map(receipts).collect();
    list(&receipts, fields.name("receipts"), |(room, json), out| {
        in_room(json, room, out);
    });
    list(&overview.rooms, fields.name("rooms"), |room, out| {
        write_room(room, false, out);
    });
    out.push(b'}');
    out
}

fn receipts(room: &RoomOverview) -> impl Iterator<Item = (&str, &Vec<u8>)> {
    let receipts = room.inside.iter().flat_map(|inside| &inside.receipts);
    receipts.map(|json| (&*room.room_id, json))
}

/// One room; by itself it has its receipts and presence.
fn write_room(room: &RoomOverview, alone: bool, out: &mut Vec<u8>) {
    out.push(b'{');
    let mut fields = Fields(out);
    list(&room.account_data, fields.name("account_data"), data_event);
    if let Some((json, inviter)) = &room.invite {
        fields.name("invite").extend_from_slice(json);
        fields.text("inviter", inviter);
    }
    if let Some(membership) = room.membership {
        fields.text("membership", membership.as_str());
    }
    if let Some(inside) = &room.inside {
        write_inside(inside, &mut fields);
    }
    if alone {
        let presence = room.inside.iter().flat_map(|inside| &inside.presence);
        let presence: Vec<_> = presence.collect();
        list(&presence, fields.name("presence"), |presence, out| {
            presence_event(presence, out);
        });
        let receipts: Vec<_> = receipts(room).collect();
        list(&receipts, fields.name("receipts"), |(room, json), out| {
            in_room(json, room, out);
        });
    }
    fields.text("room_id", &room.room_id);
    let visibility = if room.public { "public" } else { "private" };
    fields.text("visibility", visibility);
    out.push(b'}');
}

fn write_inside(inside: &Inside, fields: &mut Fields<'_>) {
    let messages = fields.name("messages");
    messages.extend_from_slice(b"{\"chunk\":");
    messages.extend_from_slice(&inside.events.json);
    let mut more = Fields(messages);
    more.text("end", &inside.end);
    more.text("start", &inside.start);
    messages.push(b'}');
    fields.name("state").extend_from_slice(&inside.state.json);
}
