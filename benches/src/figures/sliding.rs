//! Sliding sync: the first page of many rooms, and one change.

use std::time::Instant;

use serde_json::json;

use crate::Outcome;
use crate::http::Conn;
use crate::report::{Report, Target};
use crate::world::{TEXT, User, World, escape, send, text};

const PATH: &str = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync";
/// Messages in each room.
const MESSAGES: usize = 20;
/// Members of each room.
const MEMBERS: usize = 8;

/// What Element X asks of a room in its list.
fn body(last: usize) -> String {
    let state = json!([
        ["m.room.name", ""],
        ["m.room.encryption", ""],
        ["m.room.member", "$LAZY"],
        ["m.room.member", "$ME"],
        ["m.room.topic", ""],
        ["m.room.avatar", ""],
        ["m.room.canonical_alias", ""],
        ["m.room.power_levels", ""],
        ["org.matrix.msc3401.call.member", "*"],
        ["m.room.join_rules", ""],
        ["m.room.tombstone", ""],
        ["m.room.create", ""],
        ["m.room.history_visibility", ""],
        ["io.element.functional_members", ""],
        ["m.space.parent", "*"],
        ["m.space.child", "*"],
    ]);
    let body = json!({
        "conn_id": "room-list",
        "lists": {"all_rooms": {
            "ranges": [[0, last]], "timeline_limit": MESSAGES, "required_state": state,
            "filters": {"not_room_types": ["m.space"]},
        }},
        "extensions": {
            "to_device": {"enabled": true}, "e2ee": {"enabled": true},
            "account_data": {"enabled": true}, "receipts": {"enabled": true},
            "typing": {"enabled": true},
        },
    });
    body.to_string()
}

/// A user in many rooms of a few members each.
fn many(world: &mut World, n: usize) -> Outcome<(Vec<User>, Vec<String>)> {
    let users = world.users(MEMBERS)?;
    let mut rooms = Vec::with_capacity(n);
    for at in 0..n {
        let creator = users.get(at % MEMBERS).ok_or("no users")?;
        let body = json!({"preset": "public_chat", "name": format!("Room {at}")}).to_string();
        let answer = world
            .conn(creator)
            .json("POST", "/_matrix/client/v3/createRoom", &body)?;
        let room = text(&answer, "room_id")?;
        for user in &users {
            world.join(user, &room)?;
        }
        rooms.push(room);
    }
    for (at, room) in rooms.iter().enumerate() {
        for message in 0..MESSAGES {
            let user = users.get((at + message) % MEMBERS).ok_or("no users")?;
            send(&mut world.conn(user), room, &format!("fill{message}"), TEXT)?;
        }
    }
    Ok((users, rooms))
}

/// The first page of twenty rooms out of five hundred, warm, and then answers with one change
/// while all five hundred are followed.
pub(crate) fn sliding(world: &mut World, report: &mut Report) -> Outcome<()> {
    let n = world.times(500).max(20);
    let mut world = world.fresh()?;
    let (users, rooms) = many(&mut world, n)?;
    let reader = users.first().ok_or("no users")?;
    let mut conn = world.conn(reader);
    let page = body(19);
    conn.good("POST", PATH, &page)?;
    let mut times = Vec::new();
    for _ in 0..100 {
        let start = Instant::now();
        let reply = conn.good("POST", PATH, &page)?;
        times.push(start.elapsed().as_secs_f64());
        if reply.count("\"initial\":true") != 20 {
            return Err("a first page without its twenty rooms".into());
        }
    }
    let name = format!("sliding sync, 20 of {n} rooms");
    add(report, &name, &mut times, 30.0);
    let whole = body(n);
    let start = Instant::now();
    let mut pos = pos_of(&mut conn, &whole, None)?;
    let all = start.elapsed().as_secs_f64() * 1e3;
    report.add(&format!("the same, all {n}"), all, "ms", Target::None);
    let mut writer = world.conn(users.get(1).ok_or("no users")?);
    times.clear();
    for at in 0..world.times(500) {
        let room = rooms.get(at * 7 % rooms.len()).ok_or("no rooms")?;
        send(&mut writer, room, &format!("one{at}"), TEXT)?;
        let start = Instant::now();
        pos = pos_of(&mut conn, &whole, Some(&pos))?;
        times.push(start.elapsed().as_secs_f64());
    }
    let name = format!("sliding sync of {n} rooms, one change");
    add(report, &name, &mut times, 3.0);
    Ok(())
}

/// One request: where the client stands then.
fn pos_of(conn: &mut Conn, body: &str, pos: Option<&str>) -> Outcome<String> {
    let path = match pos {
        Some(pos) => format!("{PATH}?timeout=0&pos={}", escape(pos)),
        None => PATH.to_owned(),
    };
    let reply = conn.good("POST", &path, body)?;
    if pos.is_some() && reply.count("\"num_live\":1") != 1 {
        return Err("an answer without its one change".into());
    }
    Ok(reply.after("\"pos\":\"").ok_or("no pos")?.to_owned())
}

/// Median, with a target in ms, and the slowest of a hundred.
fn add(report: &mut Report, name: &str, times: &mut [f64], most: f64) {
    times.sort_by(f64::total_cmp);
    let at = |share: usize| times.get(times.len() * share / 100).copied();
    let median = at(50).unwrap_or_default() * 1e3;
    report.add(name, median, "ms", Target::AtMost(most));
    let slow = at(99).unwrap_or_default() * 1e3;
    report.add(&format!("{name}, p99"), slow, "ms", Target::None);
}
