//! Torn tails open; flipped bytes are reported, with file and offset.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use skerry_core::RoomNid;
use skerry_store::schema::store::Log;
use skerry_store::{Scan, Store, StoreError, StoreOptions};

use crate::support::{durable, open, send, timeline};

fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == extension))
        .filter(|path| path.metadata().unwrap().len() > 0)
        .collect();
    files.sort();
    files
}

/// As after kill -9: a copy of the files while the store is open.
fn copy(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.path().join(entry.file_name())).unwrap();
    }
    to
}

fn fill(store: &Store, from: u64, n: u64) {
    for i in from..from + n {
        let (_, applied) = send(store, RoomNid(1), &format!("$some-event-{i}"));
        store.wait_durable(&applied).unwrap();
    }
}

fn flip(path: &Path, offset: u64) {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 0x40], offset).unwrap();
}

#[test]
fn a_torn_tail_opens_with_all_that_was_synced() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    fill(&store, 0, 20);
    let tails: [&[u8]; 5] = [&[0; 100], &[0xff; 100], b"x", &[0; 40000], &[0x17; 70000]];
    for tail in tails {
        let copy = copy(dir.path());
        let log = files(copy.path(), "log").pop().unwrap();
        OpenOptions::new()
            .append(true)
            .open(log)
            .unwrap()
            .write_all(tail)
            .unwrap();
        for _ in 0..2 {
            let store = open(copy.path());
            assert_eq!(store.snapshot().head().0, 20);
            assert_eq!(timeline(&store.snapshot(), RoomNid(1)).len(), 20);
        }
        let store = open(copy.path());
        fill(&store, 20, 5);
        drop(store);
        assert_eq!(open(copy.path()).snapshot().head().0, 25);
    }
}

#[test]
fn unsynced_commits_may_be_torn() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    fill(&store, 0, 10);
    let synced = std::fs::read(dir.path().join("SYNCED")).unwrap();
    fill(&store, 10, 10);
    // As if a power cut had kept the sidecar of then, and torn what came later.
    let log = files(dir.path(), "log").pop().unwrap();
    let len = log.metadata().unwrap().len();
    let mut heads = Vec::new();
    for cut in 1..40 {
        let copy = copy(dir.path());
        std::fs::write(copy.path().join("SYNCED"), &synced).unwrap();
        let log = copy.path().join(log.file_name().unwrap());
        OpenOptions::new()
            .write(true)
            .open(&log)
            .unwrap()
            .set_len(len - cut * 20)
            .unwrap();
        let store = open(copy.path());
        let head = store.snapshot().head().0;
        assert_eq!(
            store.snapshot().scan::<Log>(Scan::all()).count() as u64,
            head
        );
        heads.push(head);
    }
    assert!(
        heads.is_sorted_by(|a, b| a >= b) && heads[0] == 19 && heads[38] >= 10,
        "{heads:?}"
    );
}

#[test]
fn a_flipped_byte_in_the_synced_log_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    fill(&store, 0, 20);
    let log = files(dir.path(), "log").pop().unwrap();
    let len = log.metadata().unwrap().len();
    for n in 0..50 {
        let offset = n * (len - 1) / 49;
        let copy = copy(dir.path());
        let log = copy.path().join(log.file_name().unwrap());
        flip(&log, offset);
        let error = Store::open(copy.path(), durable()).unwrap_err();
        let StoreError::Damaged(text) = &error else {
            panic!("{error}")
        };
        assert!(
            text.contains(log.to_str().unwrap()) && text.contains("offset"),
            "{text}"
        );
        // Nothing was cut off by the attempt.
        flip(&log, offset);
        assert_eq!(open(copy.path()).snapshot().head().0, 20);
    }
}

#[test]
fn a_log_that_lost_its_end_or_is_gone_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    fill(&store, 0, 20);
    let name = files(dir.path(), "log").pop().unwrap();
    for len in [Some(100), Some(0), None] {
        let copy = copy(dir.path());
        let log = copy.path().join(name.file_name().unwrap());
        match len {
            Some(len) => OpenOptions::new()
                .write(true)
                .open(&log)
                .unwrap()
                .set_len(len)
                .unwrap(),
            None => std::fs::remove_file(&log).unwrap(),
        }
        let error = Store::open(copy.path(), durable()).unwrap_err();
        assert!(matches!(error, StoreError::Damaged(_)), "{len:?}: {error}");
    }
}

#[test]
fn a_flipped_byte_in_a_table_file_is_reported_where_it_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let opts = || StoreOptions {
        flush_on_close: true,
        ..durable()
    };
    let store = Store::open(dir.path(), opts()).unwrap();
    fill(&store, 0, 200);
    drop(store);
    let tables = files(dir.path(), "sst");
    assert!(!tables.is_empty());
    let mut reported = 0;
    for table in tables {
        let copy = copy(dir.path());
        let table = copy.path().join(table.file_name().unwrap());
        // Inside the first data block.
        flip(&table, 20);
        let read = || -> Result<usize, StoreError> {
            let store = Store::open(copy.path(), opts())?;
            let snap = store.snapshot();
            let mut rows = 0;
            for row in snap.scan::<Log>(Scan::all()) {
                row?;
                rows += 1;
            }
            for n in 0..200 {
                let nid = store.event_nid(&snap, &format!("$some-event-{n}"))?;
                assert!(nid.is_some());
            }
            Ok(rows)
        };
        match read() {
            Err(StoreError::Damaged(text)) => {
                let name = table.file_name().unwrap().to_str().unwrap();
                assert!(text.contains(name) && text.contains("offset"), "{text}");
                reported += 1;
            }
            Ok(rows) => assert_eq!(rows, 200),
            Err(error) => panic!("{error}"),
        }
    }
    assert!(reported > 0);
}

#[test]
fn data_of_a_newer_version_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut w = store.write();
    w.put::<skerry_store::schema::store::Facts>(&"schema_version".to_owned(), &99);
    let applied = store.commit(w).unwrap();
    store.wait_durable(&applied).unwrap();
    drop(store);
    let error = Store::open(dir.path(), durable()).unwrap_err();
    assert!(
        matches!(error, StoreError::Schema { found: 99, .. }),
        "{error}"
    );
}
