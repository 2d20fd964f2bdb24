//! One-time keys: never the same to two.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use crate::Outcome;
use crate::http::Conn;
use crate::report::{Report, Target};
use crate::world::World;

/// Keys that are uploaded and claimed.
const KEYS: usize = 2000;

/// Four claimers at the same time take all keys of one device.
pub(crate) fn claims(world: &mut World, report: &mut Report) -> Outcome<()> {
    let users = world.users(5)?;
    let (owner, claimers) = users.split_first().ok_or("no users")?;
    let mut conn = world.conn(owner);
    for part in 0..KEYS / 100 {
        let mut keys = Map::new();
        for n in 0..100 {
            let id = part * 100 + n;
            keys.insert(
                format!("signed_curve25519:K{id:05}"),
                json!({ "key": format!("key number {id}"), "signatures": {} }),
            );
        }
        let body = json!({ "one_time_keys": keys }).to_string();
        conn.good("POST", "/_matrix/client/v3/keys/upload", &body)?;
    }
    let mut wanted = Map::new();
    let device = owner.device.as_str();
    wanted.insert(owner.id.clone(), json!({ device: "signed_curve25519" }));
    let body = json!({ "one_time_keys": wanted }).to_string();
    let addr = &world.server.addr;
    let claimed = std::thread::scope(|scope| {
        let threads: Vec<_> = claimers
            .iter()
            .map(|user| {
                let body = &body;
                scope.spawn(move || claim(Conn::new(addr, &user.token), body))
            })
            .collect();
        let mut all = Vec::new();
        for thread in threads {
            all.extend(thread.join().map_err(|_| "a claimer panicked")??);
        }
        Outcome::Ok(all)
    })?;
    let distinct: HashSet<_> = claimed.iter().collect();
    let twice = claimed.len() - distinct.len();
    report.add(
        "one-time keys given twice",
        twice as f64,
        "",
        Target::AtMost(0.0),
    );
    let lost = KEYS - distinct.len();
    report.add(
        "one-time keys never given",
        lost as f64,
        "",
        Target::AtMost(0.0),
    );
    Ok(())
}

/// Claims until there is none left, and returns the ids.
fn claim(mut conn: Conn, body: &str) -> Outcome<Vec<String>> {
    let mut ids = Vec::new();
    loop {
        let answer = conn.json("POST", "/_matrix/client/v3/keys/claim", body)?;
        let users = answer.get("one_time_keys").and_then(Value::as_object);
        let devices = users
            .and_then(|users| users.values().next())
            .and_then(Value::as_object);
        let keys = devices
            .and_then(|devices| devices.values().next())
            .and_then(Value::as_object);
        match keys.and_then(|keys| keys.keys().next()) {
            Some(id) => ids.push(id.clone()),
            None => return Ok(ids),
        }
    }
}
