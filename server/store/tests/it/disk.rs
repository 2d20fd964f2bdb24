//! Full and failing disks.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use skerry_core::{Order, RoomNid};
use skerry_store::schema::room::{Event, EventRow, Timeline};
use skerry_store::{Health, Point, Store, StoreError, StoreOptions};

use crate::support::{Faults, durable, open, timeline};

fn full() -> io::Error {
    io::Error::from_raw_os_error(28)
}

fn broken() -> io::Error {
    io::Error::from_raw_os_error(5)
}

fn try_send(store: &Store, name: &str) -> Result<(), StoreError> {
    let mut w = store.write();
    let event = w.new_event(name);
    let pos = w.stamp();
    w.put::<Timeline>(&(RoomNid(1), Order::live(pos)), &event);
    let applied = store.commit(w)?;
    store.wait_durable(&applied)
}

#[test]
fn below_the_floor_writes_are_refused_and_above_it_they_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Faults::new(None, full);
    let opts = StoreOptions {
        disk: faults.clone(),
        free_disk_floor_bytes: 1 << 30,
        ..durable()
    };
    let store = Store::open(dir.path(), opts).unwrap();
    try_send(&store, "$1").unwrap();
    faults.free.store((1 << 30) - 1, Ordering::SeqCst);
    let refused = (0..10_000).find(|n| try_send(&store, &format!("$a{n}")).is_err());
    // Seen at the latest after the bytes between two looks.
    assert!(refused.is_some_and(|n| n < 5_000), "{refused:?}");
    assert!(matches!(try_send(&store, "$2"), Err(StoreError::Full)));
    assert_eq!(*store.health().borrow(), Health::Good);
    assert!(!timeline(&store.snapshot(), RoomNid(1)).is_empty());
    faults.free.store(1 << 31, Ordering::SeqCst);
    try_send(&store, "$3").unwrap();
}

fn runs_full_at(point: Point) {
    let dir = tempfile::tempdir().unwrap();
    let faults = Faults::new(Some(point), full);
    let opts = StoreOptions {
        disk: faults.clone(),
        ..durable()
    };
    let store = Store::open(dir.path(), opts).unwrap();
    try_send(&store, "$1").unwrap();
    let before = store.snapshot().head();
    faults.free.store(0, Ordering::SeqCst);
    faults.fuse.store(1, Ordering::SeqCst);
    assert!(
        matches!(try_send(&store, "$2"), Err(StoreError::Full)),
        "{point:?}"
    );
    assert_eq!(*store.health().borrow(), Health::Full);
    assert!(matches!(try_send(&store, "$3"), Err(StoreError::Full)));
    // Reading goes on, and shows nothing of what failed.
    assert_eq!(store.snapshot().head(), before);
    assert_eq!(timeline(&store.snapshot(), RoomNid(1)).len(), 1);
    let generation = store.generation();
    faults.free.store(u64::MAX, Ordering::SeqCst);
    let good = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(50));
        *store.health().borrow() == Health::Good
    });
    assert!(good, "{point:?}: it never recovered");
    assert_ne!(store.generation(), generation);
    try_send(&store, "$4").unwrap();
    let now = timeline(&store.snapshot(), RoomNid(1)).len();
    // "$2" may or may not have made it; its sender was told that nobody knows.
    assert!((2..=3).contains(&now), "{now}");
    drop(store);
    assert_eq!(
        timeline(&open(dir.path()).snapshot(), RoomNid(1)).len(),
        now
    );
}

#[test]
fn a_full_disk_passes_wherever_it_strikes() {
    for point in [
        Point::BeforeWrite,
        Point::AfterWrite,
        Point::BeforeSync,
        Point::AfterSync,
    ] {
        runs_full_at(point);
    }
}

#[test]
fn a_failed_sync_poisons_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Faults::new(Some(Point::BeforeSync), broken);
    let opts = StoreOptions {
        disk: faults.clone(),
        ..durable()
    };
    let store = Store::open(dir.path(), opts).unwrap();
    try_send(&store, "$1").unwrap();
    faults.fuse.store(1, Ordering::SeqCst);
    assert!(matches!(
        try_send(&store, "$2"),
        Err(StoreError::Poisoned(_))
    ));
    assert!(matches!(
        try_send(&store, "$3"),
        Err(StoreError::Poisoned(_))
    ));
    assert!(matches!(*store.health().borrow(), Health::Poisoned(_)));
    assert_eq!(timeline(&store.snapshot(), RoomNid(1)).len(), 1);
    assert!(store.intern_user("@new:user").is_err());
    drop(store);
    assert!(!timeline(&open(dir.path()).snapshot(), RoomNid(1)).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn all_who_wait_get_the_error() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Faults::new(Some(Point::BeforeSync), full);
    let opts = StoreOptions {
        disk: faults.clone(),
        ..durable()
    };
    let store = Store::open(dir.path(), opts).unwrap();
    faults.free.store(0, Ordering::SeqCst);
    faults.fuse.store(1, Ordering::SeqCst);
    let mut waiting = Vec::new();
    for n in 0..20 {
        let store: Arc<Store> = store.clone();
        waiting.push(tokio::spawn(async move {
            let mut w = store.write();
            w.new_event(&format!("${n}"));
            match store.commit(w) {
                Ok(applied) => store.durable(&applied).await,
                Err(error) => Err(error),
            }
        }));
    }
    for task in waiting {
        let outcome = tokio::time::timeout(Duration::from_secs(5), task).await;
        assert!(matches!(outcome.unwrap().unwrap(), Err(StoreError::Full)));
    }
}

/// With 20 kB that no compressor can make smaller.
fn try_send_large(store: &Store, name: &str, n: u64) -> Result<(), StoreError> {
    let mut seed = n + 1;
    let noise = std::iter::repeat_with(|| {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 56) as u8
    });
    let event = noise.take(20_000).collect();
    let mut w = store.write();
    let nid = w.new_event(name);
    let pos = w.stamp();
    let row = EventRow {
        redacted_by: None,
        sent: None,
        event,
    };
    w.put::<Event>(&nid, &row);
    w.put::<Timeline>(&(RoomNid(1), Order::live(pos)), &nid);
    let applied = store.commit(w)?;
    store.wait_durable(&applied)
}

/// On a file system that is really full. To run: mount a small one and name it, for example
/// `mount -t tmpfs -o size=64m none /mnt/small; SKERRY_TEST_SMALL_FS=/mnt/small cargo test
/// -p skerry-store really_full -- --ignored`.
#[test]
#[ignore = "needs a small file system of its own"]
fn a_really_full_disk_passes() {
    let Some(small) = std::env::var_os("SKERRY_TEST_SMALL_FS") else {
        return;
    };
    let dir = tempfile::tempdir_in(small).unwrap();
    let ballast = dir.path().join("ballast");
    std::fs::write(&ballast, vec![1; 40 << 20]).unwrap();
    let opts = StoreOptions {
        flush_on_close: true,
        ..durable()
    };
    let path = dir.path().join("db");
    let store = Store::open(&path, opts.clone()).unwrap();
    let mut acknowledged = Vec::new();
    let mut send_until_full = |store: &Store, from: usize| {
        for n in from.. {
            let name = format!("${n}");
            match try_send_large(store, &name, n as u64) {
                Ok(()) => acknowledged.push(name),
                Err(StoreError::Full) => return acknowledged.len(),
                Err(error) => panic!("{error}"),
            }
        }
        0
    };
    let first = send_until_full(&store, 0);
    assert!(first > 100, "{first}");
    let rows = timeline(&store.snapshot(), RoomNid(1)).len();
    assert_eq!(rows, first);
    assert!(matches!(try_send(&store, "$no"), Err(StoreError::Full)));
    std::fs::remove_file(&ballast).unwrap();
    let good = (0..200).any(|_| {
        std::thread::sleep(Duration::from_millis(50));
        *store.health().borrow() == Health::Good
    });
    assert!(good, "it never recovered: {:?}", *store.health().borrow());
    let second = send_until_full(&store, 1_000_000);
    assert!(second > first + 100, "{second}");
    println!("{first} events until full, {second} in the end");
    std::fs::write(&ballast, b"").unwrap();
    drop(store);
    let store = Store::open(&path, opts).unwrap();
    for name in &acknowledged {
        assert!(store.event_nid(&store.snapshot(), name).unwrap().is_some());
    }
}
