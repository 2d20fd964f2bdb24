//! The front door: what TLS costs, beside nginx and caddy.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::Outcome;
use crate::door::{Door, FILES, Street, connect, file_name};
use crate::http::Conn;
use crate::report::{Report, Target};
use crate::world::World;

const VERSIONS: &str = "/_matrix/client/versions";
/// How many clients ask at once.
const CLIENTS: usize = 8;

/// All of them, one door after the other in each figure.
pub(crate) fn door(world: &mut World, report: &mut Report) -> Outcome<()> {
    let street = Street::new(&world.program, &world.dir)?;
    let mut skerry = street.skerry()?;
    let others: Vec<Door> = [street.nginx()?, street.caddy()?]
        .into_iter()
        .flatten()
        .collect();
    let fresh = street.client(false)?;
    handshakes(world, &fresh, (&skerry, &others), report)?;
    requests(world, &fresh, (&skerry, &others), report)?;
    files(world, &fresh, (&skerry, &others), report)?;
    memory(&skerry, &others, report)?;
    first_byte(world, &street, &skerry, report)?;
    polls(world, &fresh, &mut skerry, report)
}

/// One of the others by its name.
fn named<'a>(others: &'a [Door], name: &str) -> Option<&'a Door> {
    others.iter().find(|door| door.name == name)
}

/// Processor time of a full handshake.
fn handshakes(
    world: &World,
    tls: &Arc<ClientConfig>,
    (skerry, others): (&Door, &[Door]),
    report: &mut Report,
) -> Outcome<()> {
    let count = world.times(8000);
    let cost = |door: &Door| -> Outcome<f64> {
        let before = door.cpu()?;
        let each = count / CLIENTS;
        let done: Outcome<()> = std::thread::scope(|scope| {
            let running: Vec<_> = (0..CLIENTS)
                .map(|_| scope.spawn(|| (0..each).try_for_each(|_| handshake(door, tls))))
                .collect();
            let mut ended = running
                .into_iter()
                .map(|one| one.join().map_err(|_| "a client fell")?);
            ended.try_for_each(|one: Outcome<()>| one)
        });
        done?;
        // The last ones are taken note of.
        std::thread::sleep(Duration::from_millis(200));
        Ok((door.cpu()? - before) * 1e6 / (each * CLIENTS) as f64)
    };
    // Whoever starts does so before it is measured.
    cost(skerry)?;
    let mut bound = Target::None;
    for door in others {
        cost(door)?;
        let micros = cost(door)?;
        if door.name == "nginx" {
            bound = Target::AtMost(micros);
        }
        report.add(
            &format!("full handshake, {}", door.name),
            micros,
            "us",
            Target::None,
        );
    }
    report.add("full handshake, skerry", cost(skerry)?, "us", bound);
    Ok(())
}

fn handshake(door: &Door, tls: &Arc<ClientConfig>) -> Outcome<()> {
    let mut stream = connect(&door.addr)?;
    let mut session = ClientConnection::new(Arc::clone(tls), "localhost".try_into()?)?;
    while session.is_handshaking() {
        session.complete_io(&mut stream)?;
    }
    session.send_close_notify();
    while session.wants_write() {
        session.write_tls(&mut stream)?;
    }
    stream.flush()?;
    Ok(())
}

/// How many answers a second clients on kept connections get.
fn speed(seconds: f64, path: &str, connection: impl Fn() -> Conn + Sync) -> Outcome<f64> {
    let (over, count) = (AtomicBool::new(false), AtomicU64::new(0));
    let ask = || -> Outcome<()> {
        let mut conn = connection();
        conn.good("GET", path, "")?;
        while !over.load(Ordering::Relaxed) {
            conn.good("GET", path, "")?;
            count.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(ask)).collect();
        std::thread::sleep(Duration::from_millis(500));
        let (begun, before) = (Instant::now(), count.load(Ordering::Relaxed));
        std::thread::sleep(Duration::from_secs_f64(seconds));
        let answered = count.load(Ordering::Relaxed) - before;
        let took = begun.elapsed().as_secs_f64();
        over.store(true, Ordering::Relaxed);
        for one in running {
            one.join().map_err(|_| "a client fell")??;
        }
        Ok(answered as f64 / took)
    })
}

fn seconds(world: &World) -> f64 {
    if world.times(10) == 10 { 5.0 } else { 1.0 }
}

fn requests(
    world: &World,
    tls: &Arc<ClientConfig>,
    (skerry, others): (&Door, &[Door]),
    report: &mut Report,
) -> Outcome<()> {
    let over = |door: &Door| {
        speed(seconds(world), VERSIONS, || {
            Conn::secure(&door.addr, "", tls)
        })
    };
    let mut best = 0.0_f64;
    for door in others {
        let rate = over(door)?;
        best = best.max(rate);
        report.add(
            &format!("requests over TLS, {}", door.name),
            rate,
            "/s",
            Target::None,
        );
    }
    let plain = speed(seconds(world), VERSIONS, || Conn::new(skerry.plain(), ""))?;
    report.add(
        "requests, skerry's plain listener",
        plain,
        "/s",
        Target::None,
    );
    let bound = Target::AtLeast((best * 1.5).max(plain * 0.7));
    report.add("requests over TLS, skerry", over(skerry)?, "/s", bound);
    Ok(())
}

fn files(
    world: &World,
    tls: &Arc<ClientConfig>,
    (skerry, others): (&Door, &[Door]),
    report: &mut Report,
) -> Outcome<()> {
    for (size, _) in FILES {
        let path = format!("/{}", file_name(size));
        let over = |door: &Door| speed(seconds(world), &path, || Conn::secure(&door.addr, "", tls));
        let mut bound = 0.0_f64;
        for (name, share) in [("nginx", 0.8), ("caddy", 1.0)] {
            if let Some(door) = named(others, name) {
                let rate = over(door)?;
                bound = bound.max(rate * share);
                report.add(&format!("file of {size}, {name}"), rate, "/s", Target::None);
            }
        }
        let what = format!("file of {size}, skerry");
        report.add(&what, over(skerry)?, "/s", Target::AtLeast(bound));
    }
    Ok(())
}

/// After all that.
fn memory(skerry: &Door, others: &[Door], report: &mut Report) -> Outcome<()> {
    let mut bound = f64::INFINITY;
    for door in others {
        let memory = door.memory()?;
        bound = bound.min(memory);
        let what = format!("memory, {} and the skerry behind it", door.name);
        report.add(&what, memory, "MiB", Target::None);
    }
    report.add(
        "memory, skerry alone",
        skerry.memory()?,
        "MiB",
        Target::AtMost(bound),
    );
    Ok(())
}

/// From nothing to the first byte of an answer, on a resumed connection and on a plain one.
fn first_byte(world: &World, street: &Street, skerry: &Door, report: &mut Report) -> Outcome<()> {
    let tls = street.client(true)?;
    let count = world.times(1000).max(20);
    let median = |connection: &dyn Fn() -> Conn| -> Outcome<f64> {
        let mut times = Vec::new();
        for _ in 0..count {
            let begun = Instant::now();
            connection().good("GET", VERSIONS, "")?;
            times.push(begun.elapsed().as_secs_f64() * 1e3);
        }
        times.sort_by(f64::total_cmp);
        Ok(times.get(count / 2).copied().unwrap_or_default())
    };
    let plain = median(&|| Conn::new(skerry.plain(), ""))?;
    let secure = median(&|| Conn::secure(&skerry.addr, "", &tls))?;
    let what = "first byte on a resumed connection, over plain";
    report.add(what, secure - plain, "ms", Target::AtMost(1.0));
    Ok(())
}

/// Memory of long polls under TLS above that of plain ones.
fn polls(
    world: &World,
    tls: &Arc<ClientConfig>,
    skerry: &mut Door,
    report: &mut Report,
) -> Outcome<()> {
    let count = world.times(2000);
    let body = "{\"username\":\"waiter\",\"password\":\"x\",\"auth\":{\"type\":\"m.login.dummy\"}}";
    let mut conn = Conn::new(skerry.plain(), "");
    let made = conn.json("POST", "/_matrix/client/v3/register", body)?;
    let token = made["access_token"].as_str().unwrap_or_default().to_owned();
    let synced = Conn::new(skerry.plain(), &token).json("GET", "/_matrix/client/v3/sync", "")?;
    let since = synced["next_batch"].as_str().unwrap_or_default();
    let request = format!(
        "GET /_matrix/client/v3/sync?timeout=600000&since={since} HTTP/1.1\r\nhost: localhost\r\n\
         authorization: Bearer {token}\r\n\r\n"
    );
    let mut each = Vec::new();
    for secure in [false, true] {
        skerry.restart()?;
        let before = skerry.memory()?;
        let (mut plain, mut hidden) = (Vec::new(), Vec::new());
        for _ in 0..count {
            if secure {
                let session = ClientConnection::new(Arc::clone(tls), "localhost".try_into()?)?;
                let mut stream = StreamOwned::new(session, connect(&skerry.addr)?);
                stream.write_all(request.as_bytes())?;
                stream.flush()?;
                hidden.push(stream);
            } else {
                let mut stream = connect(skerry.plain())?;
                stream.write_all(request.as_bytes())?;
                plain.push(stream);
            }
        }
        std::thread::sleep(Duration::from_secs(3));
        each.push((skerry.memory()? - before) * 1024.0 / count as f64);
        drop((plain, hidden));
    }
    let (plain, secure) = (each.first().copied(), each.last().copied());
    let (plain, secure) = (plain.unwrap_or_default(), secure.unwrap_or_default());
    report.add("a long poll, plain", plain, "KiB", Target::None);
    report.add(
        "a long poll under TLS, more than that",
        secure - plain,
        "KiB",
        Target::AtMost(48.0),
    );
    Ok(())
}
