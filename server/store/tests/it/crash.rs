//! A child process is ended at every point of the commit, and at random times. What it said was
//! durable is there afterwards, once and in order.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;

use skerry_core::{Pos, RoomNid};
use skerry_store::schema::store::Log;
use skerry_store::{Point, Scan, Store, StoreOptions};

use crate::support::{Faults, durable, open, send, timeline};

const DIR: &str = "SKERRY_TEST_CRASH_DIR";
const POINT: &str = "SKERRY_TEST_CRASH_POINT";
const POINTS: [Point; 5] = [
    Point::BeforeWrite,
    Point::AfterWrite,
    Point::BeforeSync,
    Point::AfterSync,
    Point::AfterPublish,
];

/// The child: commits in four threads and prints every event that is durable.
#[test]
#[ignore = "run by the tests below, in a process of its own"]
fn child() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let (point, fuse) = match std::env::var(POINT) {
        Ok(text) => {
            let (point, fuse) = text.split_once(' ').unwrap();
            (
                Some(POINTS[point.parse::<usize>().unwrap()]),
                fuse.parse().unwrap(),
            )
        }
        Err(_) => (None, 0),
    };
    let faults = Faults::new(point, || std::process::abort());
    faults.fuse.store(fuse, Ordering::SeqCst);
    let opts = StoreOptions {
        disk: faults,
        ..durable()
    };
    let store = Store::open(Path::new(&dir), opts).unwrap();
    let start = store.snapshot().head().0;
    std::thread::scope(|scope| {
        for room in 1..=4 {
            let store = &store;
            scope.spawn(move || {
                for n in 0..5000 {
                    let name = format!("${start}-{room}-{n}");
                    let (pos, applied) = send(store, RoomNid(room), &name);
                    if store.wait_durable(&applied).is_err() {
                        return;
                    }
                    println!("durable {room} {} {name}", pos.0);
                }
            });
        }
    });
}

/// Runs a child until it dies, or is killed after so many acknowledgements.
fn run(dir: &Path, point: Option<String>, kill_after: usize) -> Vec<(u64, u64, String)> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([
            "--exact",
            "crash::child",
            "--ignored",
            "--nocapture",
            "--quiet",
        ])
        .env(DIR, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    if let Some(point) = point {
        command.env(POINT, point);
    }
    let mut child = command.spawn().unwrap();
    let mut durable = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        let mut words = line.split(' ');
        if words.next() != Some("durable") {
            continue;
        }
        let room = words.next().unwrap().parse().unwrap();
        let pos = words.next().unwrap().parse().unwrap();
        durable.push((room, pos, words.next().unwrap().to_owned()));
        if durable.len() == kill_after {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    durable
}

fn check(dir: &Path, acknowledged: &[(u64, u64, String)]) {
    let store = open(dir);
    let snap = store.snapshot();
    for (room, pos, name) in acknowledged {
        let nid = store.event_nid(&snap, name).unwrap().expect(name);
        assert!(
            timeline(&snap, RoomNid(*room)).contains(&(Pos(*pos), nid)),
            "{name}"
        );
    }
    // No holes, and nothing twice.
    let log: Vec<u64> = snap
        .scan::<Log>(Scan::all())
        .map(|row| row.unwrap().0.0)
        .collect();
    assert_eq!(log, (1..=snap.head().0).collect::<Vec<_>>());
    let rows: usize = (1..=4)
        .map(|room| timeline(&snap, RoomNid(room)).len())
        .sum();
    assert_eq!(rows, log.len());
}

#[test]
fn nothing_acknowledged_is_lost_at_any_point() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = Vec::new();
    for round in 0..3 {
        for point in 0..POINTS.len() {
            let fuse = 1 + round * 37 + point * 5;
            acknowledged.extend(run(dir.path(), Some(format!("{point} {fuse}")), 0));
            check(dir.path(), &acknowledged);
        }
    }
    assert!(!acknowledged.is_empty());
}

#[test]
fn nothing_acknowledged_is_lost_by_kill_nine() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = Vec::new();
    for round in 0..8usize {
        let kill_after = 1 + round * round * 11;
        acknowledged.extend(run(dir.path(), None, kill_after));
        check(dir.path(), &acknowledged);
    }
    assert!(acknowledged.len() > 500);
}
