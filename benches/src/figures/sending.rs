//! Sending: how many, at what cost, and how soon it is seen.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::http::Conn;
use crate::report::{Report, Target};
use crate::world::{User, World, escape, send, send_all};

/// Messages whose written bytes are reported.
const MANY: usize = 100_000;

/// Sends `total` messages from the pairs, and reports rate, processor time and bytes written.
fn load(
    world: &mut World,
    report: &mut Report,
    pairs: &[(User, String)],
    (total, run, name): (usize, &str, &str),
    (rate, cpu, bytes): (Target, Target, Target),
) -> Outcome<()> {
    let each = total / pairs.len().max(1);
    let before = world.server.usage()?;
    send_all(&world.server.addr, pairs, each, run)?;
    let after = world.server.usage()?;
    // What was sent is still on its way into table files: that belongs to its cost.
    std::thread::sleep(Duration::from_secs(3));
    let settled = world.server.usage()?;
    let sent = (each * pairs.len()) as f64;
    let seconds = (after.at - before.at).as_secs_f64();
    report.add(&format!("{name}: messages"), sent / seconds, "/s", rate);
    report.add(
        &format!("{name}: processor time each"),
        (settled.cpu - before.cpu) * 1e3 / sent,
        "ms",
        cpu,
    );
    report.add(
        &format!("{name}: written each"),
        (settled.written - before.written) / 1024.0 / sent,
        "KiB",
        bytes,
    );
    report.add(
        &format!("{name}: memory"),
        settled.memory,
        "MiB",
        Target::None,
    );
    Ok(())
}

/// Sixteen senders, each in a room of their own.
pub(crate) fn rooms(world: &mut World, report: &mut Report) -> Outcome<()> {
    let pairs = world.sixteen()?;
    let total = world.times(MANY);
    let targets = (
        Target::AtLeast(5000.0),
        Target::AtMost(0.2),
        Target::AtMost(3.0),
    );
    load(
        world,
        report,
        &pairs,
        (total, "rooms", "16 senders in 16 rooms"),
        targets,
    )?;
    world.in_each += total / 16;
    Ok(())
}

/// Sixteen senders in one room of fifty.
pub(crate) fn crowd(world: &mut World, report: &mut Report) -> Outcome<()> {
    let (users, room) = world.crowd()?;
    let pairs: Vec<_> = users
        .into_iter()
        .take(16)
        .map(|user| (user, room.clone()))
        .collect();
    let total = world.times(MANY / 4);
    let targets = (Target::AtLeast(2500.0), Target::None, Target::None);
    load(
        world,
        report,
        &pairs,
        (total, "crowd", "16 senders in a room of 50"),
        targets,
    )
}

/// One sender who waits for each answer.
pub(crate) fn lone(world: &mut World, report: &mut Report) -> Outcome<()> {
    let mut world = world.fresh()?;
    let user = world.users(1)?.pop().ok_or("no user")?;
    let room = world.room(&user)?;
    let total = world.times(MANY);
    let targets = (Target::None, Target::None, Target::AtMost(10.0));
    load(
        &mut world,
        report,
        &[(user, room)],
        (total, "lone", "a lone sender"),
        targets,
    )
}

/// From the call of a send to each of fifty long polls that bring the message.
pub(crate) fn latency(world: &mut World, report: &mut Report) -> Outcome<()> {
    let (users, room) = world.crowd()?;
    let rounds = world.times(500);
    let sender = world.users(51)?.pop().ok_or("no user")?;
    world.join(&sender, &room)?;
    let addr = world.server.addr.clone();
    // Everybody has had an initial sync before the first message is sent.
    let ready = Barrier::new(users.len() + 1);
    let start = Instant::now();
    let mut waits = std::thread::scope(|scope| {
        let receivers: Vec<_> = users
            .iter()
            .map(|user| {
                let (addr, ready) = (&addr, &ready);
                scope.spawn(move || receive(Conn::new(addr, &user.token), start, ready))
            })
            .collect();
        ready.wait();
        storm(Conn::new(&addr, &sender.token), &room, rounds, start)?;
        let mut all = Vec::new();
        for receiver in receivers {
            all.extend(receiver.join().map_err(|_| "a receiver panicked")??);
        }
        Outcome::Ok(all)
    })?;
    let expected = rounds * users.len();
    if waits.len() != expected {
        return Err(format!("{} messages arrived, not {expected}", waits.len()).into());
    }
    waits.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let index = (waits.len() as f64 * share) as usize;
        waits
            .get(index)
            .or(waits.last())
            .copied()
            .unwrap_or_default()
    };
    report.add(
        "send to 50 long polls: median",
        at(0.5) * 1e3,
        "ms",
        Target::AtMost(4.0),
    );
    report.add(
        "send to 50 long polls: p99",
        at(0.99) * 1e3,
        "ms",
        Target::AtMost(12.0),
    );
    Ok(())
}

/// Sends messages that say when they were sent, with a pause between them.
fn storm(mut conn: Conn, room: &str, rounds: usize, start: Instant) -> Outcome<()> {
    // Everybody is in a long poll by then.
    std::thread::sleep(Duration::from_millis(500));
    for round in 0..rounds {
        let sent = start.elapsed().as_nanos();
        send(
            &mut conn,
            room,
            &format!("wave{round}"),
            &format!("sent at {sent}."),
        )?;
        std::thread::sleep(Duration::from_millis(30));
    }
    // One more, so that everybody wakes up and sees that it is over.
    std::thread::sleep(Duration::from_millis(200));
    send(&mut conn, room, "over", "over and out")
}

/// Long polls until a message says that it is over; returns how long each took to come.
fn receive(mut conn: Conn, start: Instant, ready: &Barrier) -> Outcome<Vec<f64>> {
    let filter = escape_query("{\"room\":{\"timeline\":{\"limit\":1}}}");
    let first = conn.good(
        "GET",
        &format!("/_matrix/client/v3/sync?filter={filter}"),
        "",
    );
    ready.wait();
    let mut since = first?;
    let mut waits = Vec::new();
    loop {
        let token = since
            .after("\"next_batch\":\"")
            .ok_or("a sync without next_batch")?;
        let path = format!(
            "/_matrix/client/v3/sync?since={}&timeout=30000",
            escape(token)
        );
        since = conn.good("GET", &path, "")?;
        let now = start.elapsed();
        let body = String::from_utf8_lossy(&since.body);
        for part in body.split("\"sent at ").skip(1) {
            let sent = part.split('.').next().and_then(|n| n.parse::<u64>().ok());
            let sent = Duration::from_nanos(sent.ok_or("a message without a time")?);
            waits.push(now.saturating_sub(sent).as_secs_f64());
        }
        if body.contains("\"limited\":true") {
            return Err("a receiver fell so far behind that its timeline has a gap".into());
        }
        if body.contains("over and out") {
            return Ok(waits);
        }
    }
}

/// JSON as a part of a query.
pub(crate) fn escape_query(json: &str) -> String {
    json.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
