//! The process: memory, idling, starting.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::Outcome;
use crate::http::Conn;
use crate::report::{Report, Target};
use crate::world::{TEXT, World, send, send_all};

/// A hundred accounts, after a restart, and nothing to do.
pub(crate) fn idle(world: &mut World, report: &mut Report) -> Outcome<()> {
    let mut world = world.fresh()?;
    world.users(100)?;
    world.server.stop()?;
    world.server.start()?;
    for user in world.users(100)?.iter().take(16) {
        world
            .conn(user)
            .good("GET", "/_matrix/client/v3/sync", "")?;
    }
    std::thread::sleep(Duration::from_secs(2));
    let before = world.server.usage()?;
    std::thread::sleep(Duration::from_secs(10));
    let after = world.server.usage()?;
    report.add("idle: memory", after.memory, "MiB", Target::AtMost(80.0));
    // One tick of the clock in ten seconds is below what can be told apart from nothing.
    let share = (after.cpu - before.cpu) * 100.0 / 10.0;
    report.add("idle: share of a core", share, "%", Target::AtMost(0.1));
    Ok(())
}

/// Memory after whatever was measured before.
pub(crate) fn memory(world: &mut World, report: &mut Report) -> Outcome<()> {
    world.filled(200)?;
    // The server gives memory back some seconds after it was used.
    std::thread::sleep(Duration::from_secs(25));
    let memory = world.server.usage()?.memory;
    report.add(
        "memory after the load",
        memory,
        "MiB",
        Target::AtMost(150.0),
    );
    Ok(())
}

/// From the start to the first answer, on the store that the other figures filled.
pub(crate) fn start(world: &mut World, report: &mut Report) -> Outcome<()> {
    world.filled(200)?;
    let mut times = Vec::new();
    for _ in 0..5 {
        world.server.stop()?;
        times.push(world.server.start()?);
    }
    times.sort_by(f64::total_cmp);
    let median = times.get(2).copied().unwrap_or_default();
    report.add(
        "start to first answer",
        median * 1e3,
        "ms",
        Target::AtMost(100.0),
    );
    Ok(())
}

/// From the start to the first answer after a kill in the middle of a storm, with a log that is
/// as full as it gets.
pub(crate) fn crash(world: &mut World, report: &mut Report) -> Outcome<()> {
    let pairs = world.sixteen()?;
    let storm = Duration::from_millis(if world.times(10) == 10 { 8000 } else { 2000 });
    let mut worst = 0f64;
    for round in 0..3 {
        let addr = world.server.addr.clone();
        let over = AtomicBool::new(false);
        let killed = std::thread::scope(|scope| {
            for (user, room) in &pairs {
                let (addr, over) = (&addr, &over);
                scope.spawn(move || {
                    let mut conn = Conn::new(addr, &user.token);
                    let mut n = 0;
                    while !over.load(Ordering::Relaxed) {
                        // The last one fails: the server is gone.
                        if send(&mut conn, room, &format!("crash{round}-{n}"), TEXT).is_err() {
                            break;
                        }
                        n += 1;
                    }
                });
            }
            std::thread::sleep(storm);
            let killed = world.server.kill();
            over.store(true, Ordering::Relaxed);
            killed
        });
        killed?;
        worst = worst.max(world.server.start()?);
    }
    report.add(
        "start after kill -9, worst of 3",
        worst * 1e3,
        "ms",
        Target::AtMost(1000.0),
    );
    Ok(())
}

/// Memory stays under the budget of 256 MiB and 150 MB more, whatever comes.
pub(crate) fn budget(world: &mut World, report: &mut Report) -> Outcome<()> {
    let pairs = world.sixteen()?;
    let addr = world.server.addr.clone();
    let each = world.times(5000);
    let over = AtomicBool::new(false);
    let mut peak = 0f64;
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| {
            let sent = send_all(&addr, &pairs, each, "budget");
            over.store(true, Ordering::Relaxed);
            sent
        });
        // Large initial syncs beside it.
        for (user, _) in pairs.iter().take(8) {
            let (addr, over) = (&addr, &over);
            scope.spawn(move || {
                let mut conn = Conn::new(addr, &user.token);
                while !over.load(Ordering::Relaxed) {
                    if conn
                        .good("GET", "/_matrix/client/v3/sync?full_state=true", "")
                        .is_err()
                    {
                        break;
                    }
                }
            });
        }
        while !over.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(50));
            peak = peak.max(world.server.usage()?.memory);
        }
        sending.join().map_err(|_| "the senders panicked")?
    })?;
    let bound = 256.0 + 150.0 * 1e6 / f64::from(1 << 20);
    report.add(
        "memory, highest under a load",
        peak,
        "MiB",
        Target::AtMost(bound),
    );
    Ok(())
}
