//! An answer of sliding sync as JSON, written straight to bytes. Events are copied as they are.

use skerry_sync::sliding::{
    AccountData, E2ee, Extensions, SlidingAnswer, SlidingList, SlidingRoom, SlidingTimeline, Sticky,
};

use crate::json_object::{Object, account_event, list, string};
use crate::thread_subscriptions;

/// The answer's body.
pub(crate) fn render(answer: &SlidingAnswer, txn_id: Option<&str>) -> Vec<u8> {
    let mut body = Vec::with_capacity(size_guess(answer));
    let mut out = Object::begin(&mut body);
    string(&answer.pos, out.key("pos"));
    if let Some(txn_id) = txn_id {
        string(txn_id, out.key("txn_id"));
    }
    if !answer.lists.is_empty() {
        out.object("lists", |out| {
            for list in &answer.lists {
                out.object(&list.name, |out| window(out, list));
            }
        });
    }
    out.object("rooms", |out| {
        for each in &answer.rooms {
            out.object(&each.room_id, |out| room(out, each));
        }
    });
    out.object("extensions", |out| extensions(out, &answer.extensions));
    out.end();
    body
}

fn window(out: &mut Object<'_>, window: &SlidingList) {
    out.plain("count", window.count);
    list(&window.ranges, out.key("ops"), |places, out| {
        let mut op = Object::begin(out);
        op.raw("op", b"\"SYNC\"");
        op.raw(
            "range",
            format!("[{},{}]", places.from, places.to).as_bytes(),
        );
        op.strings("room_ids", &places.rooms);
        op.end();
    });
}

fn room(out: &mut Object<'_>, room: &SlidingRoom) {
    string(room.membership.as_str(), out.key("membership"));
    if !room.lists.is_empty() {
        out.strings("lists", &room.lists);
    }
    if room.initial {
        out.plain("initial", true);
    }
    if room.is_dm {
        out.plain("is_dm", true);
    }
    if let Some(name) = &room.name {
        string(name, out.key("name"));
    }
    match &room.avatar {
        Some(Some(avatar)) => string(avatar, out.key("avatar")),
        Some(None) => out.raw("avatar", b"null"),
        None => {}
    }
    if let Some(heroes) = room.heroes.as_ref().filter(|heroes| !heroes.is_empty()) {
        list(heroes, out.key("heroes"), |hero, out| {
            let mut object = Object::begin(out);
            string(&hero.user_id, object.key("user_id"));
            for (field, text) in [("displayname", &hero.name), ("avatar_url", &hero.avatar)] {
                if let Some(text) = text {
                    string(text, object.key(field));
                }
            }
            object.end();
        });
    }
    if room.required_state.count > 0 {
        out.raw("required_state", &room.required_state.json);
    }
    if let Some(timeline) = &room.timeline {
        self::timeline(out, timeline);
    }
    if let Some(state) = &room.stripped {
        out.raw("invite_state", state);
    }
    for (name, count) in [
        ("joined_count", room.joined),
        ("invited_count", room.invited),
    ] {
        if let Some(count) = count {
            out.plain(name, count);
        }
    }
    out.plain("notification_count", room.unread.notify);
    out.plain("highlight_count", room.unread.highlight);
    out.plain("bump_stamp", room.bump_stamp);
}

fn timeline(out: &mut Object<'_>, timeline: &SlidingTimeline) {
    if timeline.events.count > 0 {
        out.raw("timeline", &timeline.events.json);
    }
    out.plain("limited", timeline.limited);
    string(&timeline.prev_batch, out.key("prev_batch"));
    out.plain("num_live", timeline.live);
    if timeline.expanded {
        out.plain("unstable_expanded_timeline", true);
    }
}

fn extensions(out: &mut Object<'_>, extensions: &Extensions) {
    if let Some(part) = &extensions.to_device {
        out.object("to_device", |out| {
            string(&part.next_batch, out.key("next_batch"));
            list(&part.events, out.key("events"), |event, out| {
                out.extend_from_slice(event.as_bytes());
            });
        });
    }
    if let Some(part) = &extensions.e2ee {
        out.object("e2ee", |out| e2ee(out, part));
    }
    if let Some(part) = &extensions.account_data {
        out.object("account_data", |out| account_data(out, part));
    }
    for (name, part) in [
        ("receipts", &extensions.receipts),
        ("typing", &extensions.typing),
    ] {
        let Some(rooms) = part else { continue };
        out.object(name, |out| {
            out.object("rooms", |out| {
                rooms.iter().for_each(|(room, event)| out.raw(room, event));
            });
        });
    }
    if let Some(found) = extensions
        .threads
        .as_ref()
        .filter(|t| !t.changes.is_empty())
    {
        out.object("io.element.msc4308.thread_subscriptions", |out| {
            for (name, rooms) in thread_subscriptions::listed(found) {
                out.raw(&name, rooms.to_string().as_bytes());
            }
            if let Some(rest) = found.rest {
                string(&thread_subscriptions::token(rest), out.key("prev_batch"));
            }
        });
    }
    if let Some(part) = &extensions.sticky {
        out.object("org.matrix.msc4354.sticky_events", |out| sticky(out, part));
    }
}

fn e2ee(out: &mut Object<'_>, part: &E2ee) {
    if let Some(lists) = &part.lists {
        out.object("device_lists", |out| {
            out.strings("changed", &lists.changed);
            out.strings("left", &lists.left);
        });
    }
    out.object("device_one_time_keys_count", |out| {
        let counts = part.counts.one_time.iter();
        counts.for_each(|(name, count)| out.plain(name, count));
    });
    let unused = &part.counts.unused_fallback;
    out.strings("device_unused_fallback_key_types", unused);
}

fn account_data(out: &mut Object<'_>, part: &AccountData) {
    list(&part.global, out.key("global"), account_event);
    out.object("rooms", |out| {
        for (room, events) in &part.rooms {
            list(events, out.key(room), account_event);
        }
    });
}

fn sticky(out: &mut Object<'_>, part: &Sticky) {
    out.object("rooms", |out| {
        for (room, events) in &part.rooms {
            out.object(room, |out| out.raw("events", &events.json));
        }
    });
    string(&part.next_batch, out.key("next_batch"));
}

/// About how many bytes the answer will have.
fn size_guess(answer: &SlidingAnswer) -> usize {
    let room = |room: &SlidingRoom| {
        let timeline = room.timeline.as_ref();
        let timeline = timeline.map_or(0, |timeline| timeline.events.json.len());
        let stripped = room.stripped.as_ref().map_or(0, Vec::len);
        768 + timeline + stripped + room.required_state.json.len()
    };
    let ranges = answer.lists.iter().flat_map(|list| &list.ranges);
    let listed: usize = ranges.map(|places| 48 * places.rooms.len()).sum();
    let to_device = answer.extensions.to_device.as_ref();
    let to_device: usize = to_device.map_or(0, |part| part.events.iter().map(String::len).sum());
    1_024 + listed + to_device + answer.rooms.iter().map(room).sum::<usize>()
}
