//! Figures, printed: `cargo test --release -p skerry-store speed -- --ignored --nocapture`.

use std::time::Instant;

use skerry_core::{Order, RoomNid, StateKeyNid, UserNid};
use skerry_store::schema::room::{Event, EventRow, RoomServer, StateNow, Timeline};
use skerry_store::{Change, Store, StoreOptions};

use crate::support::durable;

/// About what a room writes for a message: ten rows, a little over a kilobyte.
fn message(store: &Store, room: u64, n: u64) -> skerry_store::Applied {
    let mut w = store.write();
    let hash = blake3_like(room, n);
    let event = w.new_event(&hash);
    let (room, user) = (RoomNid(room), UserNid(room));
    let pos = w.log(Change::Timeline {
        room,
        event,
        sender: user,
    });
    w.put::<Timeline>(&(room, Order::live(pos)), &event);
    // As in an event: the text is always the same, hashes and signature never are.
    let noise = |n: u64| blake3_like(room.0 + 77, n);
    let (one, two, three) = (noise(n * 3), noise(n * 3 + 1), noise(n * 3 + 2));
    let json = format!(
        r#"{{"auth_events":["{0}","{0}"],"content":{{"body":"{TEXT}","msgtype":"m.text"}},"depth":{n},"hashes":{{"sha256":"{one}"}},"origin_server_ts":{n},"prev_events":["{hash}"],"room_id":"!{0}","sender":"@user:localhost","signatures":{{"localhost":{{"ed25519:abcdef":"{two}{three}"}}}},"type":"m.room.message"}}"#,
        blake3_like(room.0, 0),
    )
    .into_bytes();
    w.put::<Event>(
        &event,
        &EventRow {
            redacted_by: None,
            sent: None,
            event: json,
        },
    );
    for i in 0..4 {
        w.put::<StateNow>(&(room, StateKeyNid(i)), &event);
        w.put::<RoomServer>(&(room, skerry_core::ServerNid(i)), &(n as u32));
    }
    store.commit(w).unwrap()
}

const TEXT: &str = "The quick brown fox jumps over the lazy dog, and the lazy dog looks after it \
    for a while, thinking of the days when foxes knew their place and dogs were allowed to sleep \
    in the sun.";

fn blake3_like(room: u64, n: u64) -> String {
    let mut seed = room.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ n;
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut hash = String::from("$");
    for _ in 0..42 {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        hash.push(alphabet[(seed >> 58) as usize] as char);
    }
    hash.push('A');
    hash
}

fn proc_number(file: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/self/{file}")).unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn cpu_ticks() -> u64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<_> = text
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
#[ignore = "prints figures; for a release build on a quiet machine"]
fn commits() {
    for (writers, total) in [(1u64, 3_000u64), (16, 100_000), (64, 100_000)] {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let opts = StoreOptions {
            memory_budget_bytes: 256 << 20,
            ..durable()
        };
        let store = Store::open(dir.path(), opts).unwrap();
        let (bytes, cpu, start) = (
            proc_number("io", "write_bytes"),
            cpu_ticks(),
            Instant::now(),
        );
        std::thread::scope(|scope| {
            for room in 1..=writers {
                let store = &store;
                scope.spawn(move || {
                    for n in 0..total / writers {
                        let applied = message(store, room, n);
                        store.wait_durable(&applied).unwrap();
                    }
                });
            }
        });
        let seconds = start.elapsed().as_secs_f64();
        let cpu = (cpu_ticks() - cpu) as f64 * 10_000.0;
        drop(store);
        let bytes = proc_number("io", "write_bytes") - bytes;
        println!(
            "{writers:3} writers: {:.0}/s, {:.1} us CPU, {} bytes written a commit, VmRSS {} MiB",
            total as f64 / seconds,
            cpu / total as f64,
            bytes / total,
            proc_number("status", "VmRSS:") / 1024,
        );
    }
}

#[test]
fn opening_is_quick() {
    let dir = tempfile::tempdir().unwrap();
    let start = Instant::now();
    let store = Store::open(dir.path(), StoreOptions::for_tests()).unwrap();
    let first = start.elapsed();
    for n in 0..100 {
        let _ = message(&store, 1, n);
    }
    drop(store);
    let start = Instant::now();
    drop(Store::open(dir.path(), StoreOptions::for_tests()).unwrap());
    let again = start.elapsed();
    println!("first {first:?}, again with closing {again:?}");
    // Measured: some 15 ms; a busy machine gets its share of patience.
    assert!(
        first.as_millis() < 1000 && again.as_millis() < 1000,
        "{first:?} {again:?}"
    );
}
