//! A delta as `GET /sync` answers it: written straight to bytes. Events are copied as they are.

use skerry_sync::{Delta, DeviceLists, RoomDelta, StateSection, StrippedRoom, Unread};

use crate::json_object::{Object, account_events, list, string};

/// The answer's body.
///
/// `after` is the name of the section with the state at a timeline's end: clients that ask by the
/// parameter's name from before v1.16 know the section only by its own old name.
pub(crate) fn render(delta: &Delta, after: &str) -> Vec<u8> {
    let mut body = Vec::with_capacity(size_guess(delta));
    let mut out = Object::begin(&mut body);
    if !delta.account_data.is_empty() {
        out.object("account_data", |section| {
            account_events(section, &delta.account_data)
        });
    }
    if !(delta.device_lists.changed.is_empty() && delta.device_lists.left.is_empty()) {
        out.object("device_lists", |lists| {
            let DeviceLists { changed, left } = &delta.device_lists;
            for (name, users) in [("changed", changed), ("left", left)] {
                if !users.is_empty() {
                    lists.strings(name, users);
                }
            }
        });
    }
    out.object("device_one_time_keys_count", |counts| {
        delta
            .key_counts
            .one_time
            .iter()
            .for_each(|(name, count)| counts.plain(name, count));
    });
    out.strings(
        "device_unused_fallback_key_types",
        &delta.key_counts.unused_fallback,
    );
    string(&delta.next.to_string(), out.key("next_batch"));
    if !delta.presence.is_empty() {
        out.object("presence", |section| {
            list(&delta.presence, section.key("events"), |presence, out| {
                let mut event = Object::begin(out);
                event.raw("content", presence.content.as_bytes());
                string(&presence.user_id, event.key("sender"));
                event.raw("type", b"\"m.presence\"");
                event.end();
            });
        });
    }
    if has_rooms(delta) {
        out.object("rooms", |sections| rooms(sections, delta, after));
    }
    if !delta.to_device.is_empty() {
        out.object("to_device", |section| {
            list(&delta.to_device, section.key("events"), |event, out| {
                out.extend_from_slice(event.as_bytes());
            });
        });
    }
    out.end();
    body
}

fn has_rooms(delta: &Delta) -> bool {
    !(delta.joined.is_empty()
        && delta.invited.is_empty()
        && delta.knocked.is_empty()
        && delta.left.is_empty())
}

fn rooms(sections: &mut Object<'_>, delta: &Delta, after: &str) {
    if !delta.invited.is_empty() {
        sections.object("invite", |out| {
            stripped(out, &delta.invited, "invite_state")
        });
    }
    if !delta.joined.is_empty() {
        sections.object("join", |out| {
            delta
                .joined
                .iter()
                .for_each(|room| out.object(&room.room_id, |out| joined(out, room, after)));
        });
    }
    if !delta.knocked.is_empty() {
        sections.object("knock", |out| stripped(out, &delta.knocked, "knock_state"));
    }
    if !delta.left.is_empty() {
        sections.object("leave", |out| {
            delta
                .left
                .iter()
                .for_each(|room| out.object(&room.room_id, |out| common(out, room, after)));
        });
    }
}

fn stripped(out: &mut Object<'_>, rooms: &[StrippedRoom], name: &str) {
    for room in rooms {
        out.object(&room.room_id, |out| {
            out.object(name, |state| state.raw("events", &room.state));
        });
    }
}

/// What joined and left rooms have in common.
fn common(out: &mut Object<'_>, room: &RoomDelta, after: &str) {
    out.object("account_data", |section| {
        account_events(section, &room.account_data)
    });
    let (name, state) = match &room.state {
        StateSection::Start(events) => ("state", events),
        StateSection::End(events) => (after, events),
    };
    out.object(name, |section| section.raw("events", &state.json));
    out.object("timeline", |timeline| {
        timeline.raw("events", &room.timeline.events.json);
        timeline.plain("limited", room.timeline.limited);
        string(&room.timeline.prev_batch, timeline.key("prev_batch"));
    });
}

fn joined(out: &mut Object<'_>, room: &RoomDelta, after: &str) {
    common(out, room, after);
    out.object("ephemeral", |section| {
        list(&room.ephemeral, section.key("events"), |event, out| {
            out.extend_from_slice(event)
        });
    });
    if room.sticky.count > 0 {
        out.object("msc4354_sticky", |section| {
            section.raw("events", &room.sticky.json)
        });
    }
    out.object("summary", |summary| {
        if let Some(heroes) = &room.summary.heroes {
            summary.strings("m.heroes", heroes);
        }
        if let Some(invited) = room.summary.invited {
            summary.plain("m.invited_member_count", invited);
        }
        if let Some(joined) = room.summary.joined {
            summary.plain("m.joined_member_count", joined);
        }
    });
    if let Some(unread) = &room.unread {
        unread_counts(out, unread);
    }
}

fn unread_counts(out: &mut Object<'_>, unread: &Unread) {
    out.object("unread_notifications", |counts| {
        counts.plain("highlight_count", unread.main.highlight);
        counts.plain("notification_count", unread.main.notify);
    });
    if !unread.threads.is_empty() {
        out.object("unread_thread_notifications", |threads| {
            for (root, count) in &unread.threads {
                threads.object(root, |counts| {
                    counts.plain("highlight_count", count.highlight);
                    counts.plain("notification_count", count.notify);
                });
            }
        });
    }
}

/// About how many bytes the answer will have.
fn size_guess(delta: &Delta) -> usize {
    let room = |room: &RoomDelta| {
        let ephemeral: usize = room.ephemeral.iter().map(Vec::len).sum();
        512 + room.sticky.json.len()
            + room.timeline.events.json.len()
            + room.state.events().json.len()
            + ephemeral
    };
    let rooms: usize = delta.joined.iter().chain(&delta.left).map(room).sum();
    let to_device: usize = delta.to_device.iter().map(|event| event.len() + 1).sum();
    512 + rooms + to_device + 128 * delta.presence.len()
}

#[cfg(test)]
mod tests;
