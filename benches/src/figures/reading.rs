//! Reading: paging, syncs, joins, lists of members.

use std::time::Instant;

use crate::Outcome;
use crate::figures::sending::escape_query;
use crate::http::Conn;
use crate::report::{Report, Target};
use crate::world::{User, World, escape, join, send_all};

/// An event in an answer.
const EVENT: &str = "\"event_id\":";

/// Back through a busy room, and through sixteen whose events came in turns: there every event
/// lies in another block of the store.
pub(crate) fn paging(world: &mut World, report: &mut Report) -> Outcome<()> {
    let per_room = world.times(6000);
    let pairs = world.filled(per_room)?;
    let (user, _) = pairs.first().ok_or("no room")?;
    let room = world.room(user)?;
    let one = [(user.clone(), room)];
    let length = world.times(20_000);
    send_all(&world.server.addr, &one, length, "long")?;
    let (events, seconds) = page(world, &one)?;
    if events < length {
        return Err(format!("only {events} events came back").into());
    }
    let rate = events as f64 / seconds;
    report.add(
        "paging back in one room",
        rate,
        "events/s",
        Target::AtLeast(250_000.0),
    );
    let (events, seconds) = page(world, &pairs)?;
    if events < pairs.len() * per_room {
        return Err(format!("only {events} events came back").into());
    }
    let rate = events as f64 / seconds;
    report.add(
        "paging back in 16 interleaved rooms",
        rate,
        "events/s",
        Target::None,
    );
    Ok(())
}

/// Pages back to the beginning of each room, a thousand events at a time: how many, and the
/// seconds spent waiting.
fn page(world: &World, pairs: &[(User, String)]) -> Outcome<(usize, f64)> {
    let mut events = 0;
    let mut seconds = 0.0;
    for (user, room) in pairs {
        let mut conn = world.conn(user);
        let base = format!(
            "/_matrix/client/v3/rooms/{}/messages?dir=b&limit=1000",
            escape(room)
        );
        let mut path = base.clone();
        loop {
            let start = Instant::now();
            let reply = conn.good("GET", &path, "")?;
            seconds += start.elapsed().as_secs_f64();
            let found = reply.count(EVENT);
            events += found;
            match reply.after("\"end\":\"") {
                Some(end) if found > 0 => path = format!("{base}&from={}", escape(end)),
                _ => break,
            }
        }
    }
    Ok((events, seconds))
}

/// Initial syncs of a user in all sixteen rooms, a hundred events of each.
pub(crate) fn initial(world: &mut World, report: &mut Report) -> Outcome<()> {
    let pairs = world.filled(200)?;
    let observer = world.users(52)?.pop().ok_or("no user")?;
    for (_, room) in &pairs {
        world.join(&observer, room)?;
    }
    let filter = escape_query("{\"room\":{\"timeline\":{\"limit\":100}}}");
    let path = format!("/_matrix/client/v3/sync?filter={filter}");
    let mut conn = world.conn(&observer);
    conn.good("GET", &path, "")?;
    let before = world.server.usage()?;
    let rounds = world.times(100).max(20);
    let mut events = 0;
    let mut seconds = 0.0;
    for _ in 0..rounds {
        let start = Instant::now();
        let reply = conn.good("GET", &path, "")?;
        seconds += start.elapsed().as_secs_f64();
        events += reply.count(EVENT);
    }
    let cpu = world.server.usage()?.cpu - before.cpu;
    if events < rounds * 1600 {
        return Err(format!("only {} events in a sync", events / rounds).into());
    }
    let each = seconds * 1e6 / events as f64;
    report.add("initial sync, per event", each, "us", Target::AtMost(10.0));
    let each = cpu * 1e6 / events as f64;
    report.add(
        "initial sync, processor time per event",
        each,
        "us",
        Target::None,
    );
    Ok(())
}

/// Incremental syncs that bring nothing.
pub(crate) fn empty(world: &mut World, report: &mut Report) -> Outcome<()> {
    let pairs = world.filled(200)?;
    let (user, _) = pairs.first().ok_or("no room")?;
    let mut conn = world.conn(user);
    let first = conn.good("GET", "/_matrix/client/v3/sync", "")?;
    let since = first
        .after("\"next_batch\":\"")
        .ok_or("a sync without next_batch")?;
    let path = format!("/_matrix/client/v3/sync?since={}&timeout=0", escape(since));
    conn.good("GET", &path, "")?;
    let rounds = world.times(20_000);
    let before = world.server.usage()?;
    for _ in 0..rounds {
        conn.good("GET", &path, "")?;
    }
    let cpu = world.server.usage()?.cpu - before.cpu;
    let each = cpu * 1e3 / rounds as f64;
    report.add(
        "empty incremental sync, processor time",
        each,
        "ms",
        Target::AtMost(0.1),
    );
    Ok(())
}

/// A room that nearly everybody joins; made once.
fn hall(world: &mut World, n: usize) -> Outcome<(Vec<User>, String)> {
    let users = world.users(n + 60)?;
    let room = world.room(users.first().ok_or("no users")?)?;
    Ok((users.into_iter().skip(60).collect(), room))
}

/// Joins of 1,000 users into one public room, eight at a time, then one after another.
pub(crate) fn joins(world: &mut World, report: &mut Report) -> Outcome<()> {
    let n = world.times(1000);
    let (users, room) = hall(world, n)?;
    let addr = world.server.addr.clone();
    let start = Instant::now();
    join_all(&addr, &users, &room, 8)?;
    let rate = n as f64 / start.elapsed().as_secs_f64();
    report.add(
        "joins into one public room",
        rate,
        "/s",
        Target::AtLeast(1000.0),
    );
    let (_, room) = hall(world, n)?;
    let start = Instant::now();
    join_all(&addr, &users, &room, 1)?;
    let rate = n as f64 / start.elapsed().as_secs_f64();
    report.add("joins one after another", rate, "/s", Target::None);
    Ok(())
}

fn join_all(addr: &str, users: &[User], room: &str, lines: usize) -> Outcome<()> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..lines)
            .map(|line| {
                scope.spawn(move || -> Outcome<()> {
                    for user in users.iter().skip(line).step_by(lines) {
                        join(&mut Conn::new(addr, &user.token), room)?;
                    }
                    Ok(())
                })
            })
            .collect();
        for thread in threads {
            thread.join().map_err(|_| "a joiner panicked")??;
        }
        Ok(())
    })
}

/// `/members` and `/state` of a room of a thousand, warm.
pub(crate) fn members(world: &mut World, report: &mut Report) -> Outcome<()> {
    let n = world.times(1000);
    let (users, room) = hall(world, n)?;
    join_all(&world.server.addr, &users, &room, 8)?;
    let user = users.first().ok_or("no users")?;
    let mut conn = world.conn(user);
    for what in ["members", "state"] {
        let path = format!("/_matrix/client/v3/rooms/{}/{what}", escape(&room));
        let mut times = Vec::new();
        for _ in 0..50 {
            let start = Instant::now();
            let reply = conn.good("GET", &path, "")?;
            times.push(start.elapsed().as_secs_f64());
            if reply.count(EVENT) < n {
                return Err(format!("only {} events in /{what}", reply.count(EVENT)).into());
            }
        }
        times.sort_by(f64::total_cmp);
        let median = times.get(times.len() / 2).copied().unwrap_or_default();
        let name = format!("/{what} of {n} members");
        report.add(&name, median * 1e3, "ms", Target::AtMost(2.0));
    }
    Ok(())
}
