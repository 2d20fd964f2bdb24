//! Searching among many messages, and what it costs to keep them searchable.

use std::time::Instant;

use serde_json::{Value, json};

use crate::Outcome;
use crate::http::Conn;
use crate::report::{Report, Target};
use crate::world::{World, send};

/// Messages that are searched.
const MESSAGES: usize = 100_000;
/// Rooms they are in.
const ROOMS: usize = 16;
/// Different words in them; the first are in every second message, the last in one of thousands.
const WORDS: f64 = 30_000.0;

/// A word by how common it is.
fn word(rank: u64) -> String {
    let (mut n, mut out) = (rank + 7, String::new());
    while n > 0 {
        out.push(char::from(b'a' + (n % 26) as u8));
        n /= 26;
    }
    out
}

/// A message of 4 to 19 words.
fn text(seed: &mut u64) -> String {
    let mut next = || {
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        *seed
    };
    let words: Vec<String> = (0..4 + next() % 16)
        .map(|_| {
            let even = (next() >> 11) as f64 / (1_u64 << 53) as f64;
            word(((WORDS + 1.0).powf(even) - 1.0) as u64)
        })
        .collect();
    words.join(" ")
}

/// Searches of one user in all of their rooms.
pub(crate) fn search(world: &mut World, report: &mut Report) -> Outcome<()> {
    let mut world = world.fresh()?;
    let user = world.users(1)?.pop().ok_or("no user")?;
    let rooms = (0..ROOMS).map(|_| world.room(&user));
    let rooms = rooms.collect::<Outcome<Vec<String>>>()?;
    let each = world.times(MESSAGES) / ROOMS;
    let before = world.server.usage()?;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (1..)
            .zip(&rooms)
            .map(|(n, room)| {
                let mut conn = world.conn(&user);
                scope.spawn(move || -> Outcome<()> {
                    let mut seed = n * 88_172_645_463_325_252_u64;
                    for i in 0..each {
                        send(&mut conn, room, &format!("{n}x{i}"), &text(&mut seed))?;
                    }
                    Ok(())
                })
            })
            .collect();
        for thread in threads {
            thread.join().map_err(|_| "a sender panicked")??;
        }
        Outcome::Ok(())
    })?;
    let mut conn = world.conn(&user);
    let start = Instant::now();
    ask(&mut conn, &word(1), "recent")?;
    let first = start.elapsed().as_secs_f64() * 1e3;
    report.add(
        "search: right after 100,000 messages",
        first,
        "ms",
        Target::None,
    );
    let after = world.server.usage()?;
    let sent = (each * ROOMS) as f64;
    let cpu = (after.cpu - before.cpu) * 1e3 / sent;
    report.add(
        "search: sent and indexed, processor time each",
        cpu,
        "ms",
        Target::AtMost(0.25),
    );
    let common = word(1);
    let two = format!("{} {}", word(5), word(200));
    let near = format!("\"{} {}\"", word(1), word(2));
    for (name, term, order) in [
        ("a common word, the newest", &common, "recent"),
        ("a common word, the best", &common, "rank"),
        ("a rare word", &word(20_000), "rank"),
        ("two words", &two, "rank"),
        ("two words side by side", &near, "rank"),
    ] {
        let rounds = world.times(50);
        let start = Instant::now();
        for _ in 0..rounds {
            ask(&mut conn, term, order)?;
        }
        let took = start.elapsed().as_secs_f64() * 1e3 / rounds as f64;
        report.add(
            &format!("search: {name}"),
            took,
            "ms",
            Target::AtMost(100.0),
        );
    }
    Ok(())
}

/// One search; an answer without a count is an error.
fn ask(conn: &mut Conn, term: &str, order: &str) -> Outcome<u64> {
    let criteria = json!({ "search_term": term, "order_by": order });
    let body = json!({ "search_categories": { "room_events": criteria } });
    let answer = conn.json("POST", "/_matrix/client/v3/search", &body.to_string())?;
    let count = answer
        .pointer("/search_categories/room_events/count")
        .and_then(Value::as_u64);
    Ok(count.ok_or("a search without a count")?)
}
