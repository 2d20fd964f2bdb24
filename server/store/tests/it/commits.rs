use std::sync::Arc;

use skerry_core::{Order, Pos, RoomNid, ServerNid};
use skerry_store::schema::room::{Alias, AliasRow, RoomServer, Timeline};
use skerry_store::schema::store::Log;
use skerry_store::{Change, Expect, Scan, Store, StoreError, StoreOptions};

use crate::support::{open, send, timeline};

#[test]
fn positions_follow_and_are_patched_into_keys_and_values() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let room = RoomNid(1);
    let (first, _) = send(&store, room, "$a");
    let (second, applied) = send(&store, room, "$b");
    assert_eq!((first, second), (Pos(1), Pos(2)));
    store.wait_durable(&applied).unwrap();
    let snap = store.snapshot();
    assert_eq!(snap.head(), Pos(2));
    let rows = timeline(&snap, room);
    assert_eq!(
        rows.iter().map(|(pos, _)| pos.0).collect::<Vec<_>>(),
        [1, 2]
    );
    let nid = store.event_nid(&snap, "$b").unwrap().unwrap();
    assert_eq!(rows[1].1, nid);
    assert_eq!(&*store.event_id(nid).unwrap(), "$b");
    assert_eq!(store.event_nid(&snap, "$c").unwrap(), None);
    let changes: Vec<_> = snap
        .changes(Pos(1), snap.head())
        .unwrap()
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0].0, Pos(2));
}

#[test]
fn a_published_view_is_never_ahead_and_a_newest_view_is_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let (pos, applied) = send(&store, RoomNid(1), "$a");
    assert_eq!(store.newest().head(), pos);
    assert!(!timeline(&store.newest(), RoomNid(1)).is_empty());
    store.wait_durable(&applied).unwrap();
    assert_eq!(*store.published().borrow(), pos);
    // A view stays what it was.
    let old = store.snapshot();
    let (_, applied) = send(&store, RoomNid(1), "$b");
    store.wait_durable(&applied).unwrap();
    assert_eq!(timeline(&old, RoomNid(1)).len(), 1);
    assert_eq!(store.event_nid(&old, "$b").unwrap(), None);
    assert!(store.event_nid(&store.snapshot(), "$b").unwrap().is_some());
    assert_eq!(
        store.event_nid(&old, "$b").unwrap(),
        None,
        "not even when it is cached"
    );
}

#[test]
fn expectations() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), StoreOptions::for_tests()).unwrap();
    let key = "#a:b".to_owned();
    let row = |at_ms| AliasRow {
        room: RoomNid(1),
        creator: skerry_core::UserNid(1),
        at_ms,
    };
    let attempt = |expect: Expect<&AliasRow>, at_ms| {
        let mut w = store.write();
        w.expect::<Alias>(&key, expect);
        w.put::<Alias>(&key, &row(at_ms));
        store.commit(w).map(drop)
    };
    assert!(matches!(
        attempt(Expect::Present, 1),
        Err(StoreError::Conflict { table: "alias" })
    ));
    attempt(Expect::Absent, 1).unwrap();
    assert!(attempt(Expect::Absent, 2).is_err());
    assert!(attempt(Expect::Is(&row(2)), 3).is_err());
    attempt(Expect::Is(&row(1)), 2).unwrap();
    assert_eq!(store.newest().get::<Alias>(&key).unwrap(), Some(row(2)));
    // The same event id twice.
    let _ = send(&store, RoomNid(1), "$a");
    let mut w = store.write();
    w.new_event("$a");
    assert!(matches!(store.commit(w), Err(StoreError::Conflict { .. })));
}

#[test]
fn a_commit_may_depend_on_everything_that_came_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let (seen, _) = send(&store, RoomNid(1), "$a");
    let quiet = |seen: Pos| move |newest: &skerry_store::Snapshot| Ok(newest.head() == seen);
    let room = |n| {
        let mut w = store.write();
        w.put::<RoomServer>(&(RoomNid(n), ServerNid(1)), &1);
        w
    };
    let _ = store.commit_if(room(1), &mut quiet(seen)).unwrap();
    let (_, _) = send(&store, RoomNid(1), "$b");
    let refused = store.commit_if(room(2), &mut quiet(seen));
    assert!(matches!(
        refused,
        Err(StoreError::Conflict { table: "log" })
    ));
    let newest = store.newest();
    let has = |n| {
        newest
            .has::<RoomServer>(&(RoomNid(n), ServerNid(1)))
            .unwrap()
    };
    assert!(has(1) && !has(2));
}

#[test]
fn one_of_many_wins_a_contended_row() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), StoreOptions::for_tests()).unwrap();
    let winners: usize = std::thread::scope(|scope| {
        let tries: Vec<_> = (0..8)
            .map(|n| {
                let store = &store;
                scope.spawn(move || {
                    let mut won = 0;
                    for alias in 0..200 {
                        let key = format!("#{alias}");
                        let mut w = store.write();
                        w.expect::<Alias>(&key, Expect::Absent);
                        let row = AliasRow {
                            room: RoomNid(n),
                            creator: skerry_core::UserNid(1),
                            at_ms: 0,
                        };
                        w.put::<Alias>(&key, &row);
                        won += usize::from(store.commit(w).is_ok());
                    }
                    won
                })
            })
            .collect();
        tries.into_iter().map(|t| t.join().unwrap()).sum()
    });
    assert_eq!(winners, 200);
}

#[test]
fn the_head_belongs_to_the_data() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let store = &store;
            scope.spawn(move || {
                for n in 0..200 {
                    let (_, applied) = send(store, RoomNid(thread + 1), &format!("${thread}-{n}"));
                    if n % 16 == 0 {
                        store.wait_durable(&applied).unwrap();
                    }
                }
            });
        }
        let store = &store;
        scope.spawn(move || {
            for n in 0..2000 {
                let snap = if n % 2 == 0 {
                    store.snapshot()
                } else {
                    store.newest()
                };
                let last = snap.scan::<Log>(Scan::all().rev().limit(1)).next();
                let last = last.map_or(Pos::ZERO, |row| row.unwrap().0);
                assert_eq!(last, snap.head());
            }
        });
    });
    let snap = store.newest();
    assert_eq!(snap.head(), Pos(800));
    assert_eq!(snap.scan::<Log>(Scan::all()).count(), 800);
}

#[test]
fn scans() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), StoreOptions::for_tests()).unwrap();
    let mut w = store.write();
    for room in 1..4 {
        for server in 1..6 {
            w.put::<RoomServer>(&(RoomNid(room), ServerNid(server)), &(server as u32));
        }
    }
    let _ = store.commit(w).unwrap();
    let snap = store.newest();
    let keys = |scan: Scan<(RoomNid, ServerNid)>| {
        snap.scan::<RoomServer>(scan)
            .map(|row| row.unwrap().0)
            .map(|(r, s)| (r.0, s.0))
            .collect::<Vec<_>>()
    };
    let two = RoomNid(2);
    assert_eq!(keys(Scan::all()).len(), 15);
    assert_eq!(
        keys(Scan::prefix(&two)),
        [(2, 1), (2, 2), (2, 3), (2, 4), (2, 5)]
    );
    assert_eq!(keys(Scan::prefix(&two).rev().limit(2)), [(2, 5), (2, 4)]);
    assert_eq!(
        keys(Scan::prefix(&two).after(&(two, ServerNid(3)))),
        [(2, 4), (2, 5)]
    );
    assert_eq!(
        keys(Scan::prefix(&two).from(&(two, ServerNid(4)))),
        [(2, 4), (2, 5)]
    );
    assert_eq!(
        keys(Scan::prefix(&two).to(&(two, ServerNid(3))).rev()),
        [(2, 2), (2, 1)]
    );
    assert_eq!(
        keys(Scan::all().from(&(two, ServerNid(5))).limit(2)),
        [(2, 5), (3, 1)]
    );
    assert_eq!(keys(Scan::prefix(&RoomNid(9))), []);
    assert_eq!(
        keys(Scan::prefix(&two).after(&(RoomNid(3), ServerNid(1)))),
        []
    );
    let many = [
        (two, ServerNid(9)),
        (two, ServerNid(2)),
        (RoomNid(1), ServerNid(1)),
    ];
    assert_eq!(
        snap.get_many::<RoomServer>(&many).unwrap(),
        [None, Some(2), Some(1)]
    );
    assert!(snap.has::<RoomServer>(&(two, ServerNid(1))).unwrap());
}

#[test]
fn ranges_are_deleted_one_by_one_and_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), StoreOptions::for_tests()).unwrap();
    for rows in [3u64, 1000] {
        let mut w = store.write();
        for n in 0..rows {
            w.put::<RoomServer>(&(RoomNid(1), ServerNid(n)), &1);
        }
        w.put::<RoomServer>(&(RoomNid(2), ServerNid(1)), &1);
        let _ = store.commit(w).unwrap();
        let mut w = store.write();
        w.put::<RoomServer>(&(RoomNid(1), ServerNid(rows)), &1);
        w.delete_range::<RoomServer>(RoomNid(1));
        w.put::<RoomServer>(&(RoomNid(1), ServerNid(7)), &7);
        let _ = store.commit(w).unwrap();
        let snap = store.newest();
        let left = snap.scan::<RoomServer>(Scan::all()).map(|row| row.unwrap());
        let left: Vec<_> = left.map(|((room, server), _)| (room.0, server.0)).collect();
        assert_eq!(left, [(1, 7), (2, 1)]);
    }
}

#[test]
fn names_come_back_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let alice = store.intern_user("@alice:a").unwrap();
    let bob = store.intern_user("@bob:a").unwrap();
    let key = store.intern_state_key("m.room.member", "@alice:a").unwrap();
    assert_eq!(store.intern_user("@alice:a").unwrap(), alice);
    assert_ne!(alice, bob);
    assert_eq!((alice.0, store.intern_room("!r").unwrap().0), (1, 1));
    let barrier = send(&store, RoomNid(1), "$a").1;
    store.wait_durable(&barrier).unwrap();
    drop(store);
    let store = open(dir.path());
    assert_eq!(store.user_nid("@alice:a").unwrap(), Some(alice));
    assert_eq!(store.user_nid("@carol:a").unwrap(), None);
    assert_eq!(store.intern_user("@carol:a").unwrap().0, bob.0 + 1);
    assert_eq!(&*store.user_id(bob).unwrap(), "@bob:a");
    let (event_type, state_key) = store.state_key(key).unwrap();
    assert_eq!((&*event_type, &*state_key), ("m.room.member", "@alice:a"));
    assert_eq!(
        store.state_key_nid("m.room.member", "@alice:a").unwrap(),
        Some(key)
    );
    assert!(matches!(
        store.user_id(skerry_core::UserNid(99)),
        Err(StoreError::Corrupt { .. })
    ));
    // Numbers of events and states go on, too.
    let mut w = store.write();
    assert!(w.new_event("$b").0 > 1);
}

#[test]
fn many_threads_give_a_name_one_number() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), StoreOptions::for_tests()).unwrap();
    let all: Vec<Vec<u64>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    (0..200)
                        .map(|n| store.intern_user(&format!("@{n}:a")).unwrap().0)
                        .collect()
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert!(all.iter().all(|one| *one == all[0]));
    let mut sorted = all[0].clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(sorted.len(), 200);
}

#[tokio::test]
async fn an_empty_write_and_a_barrier_wait_for_what_they_saw() {
    let dir = tempfile::tempdir().unwrap();
    let store: Arc<Store> = open(dir.path());
    let (pos, _) = send(&store, RoomNid(1), "$a");
    let applied = store.commit(store.write()).unwrap();
    store.durable(&applied).await.unwrap();
    assert_eq!(store.snapshot().head(), pos);
    store.durable(&store.barrier()).await.unwrap();
}

#[test]
fn a_damaged_row_is_an_error_with_table_and_key() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    // A row that the log's table cannot mean: written as another table's key would never be.
    let mut w = store.write();
    let pos = w.stamp();
    w.put::<Timeline>(
        &(RoomNid(1), Order { anchor: pos, n: 0 }),
        &skerry_core::EventNid(u64::MAX),
    );
    let applied = store.commit(w).unwrap();
    store.wait_durable(&applied).unwrap();
    assert_eq!(timeline(&store.snapshot(), RoomNid(1)).len(), 1);
    let error = store.event_id(skerry_core::EventNid(u64::MAX)).unwrap_err();
    assert!(error.to_string().contains("event_name_rev"), "{error}");
    let _ = Change::DeviceList {
        user: skerry_core::UserNid(1),
    };
}

#[test]
fn a_second_opening_is_refused_and_a_third_after_closing_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let error = Store::open(dir.path(), crate::support::durable()).unwrap_err();
    assert!(error.to_string().contains("another process"), "{error}");
    store.close();
    assert!(matches!(
        store.commit({
            let mut w = store.write();
            w.stamp();
            w
        }),
        Err(StoreError::Closed)
    ));
    drop(store);
    drop(open(dir.path()));
}

/// A task of the runtime has a budget, which is filled again only when the task gives way.
#[tokio::test]
async fn a_task_may_block_on_as_many_commits_as_it_likes() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for n in 0..400 {
        let (_, applied) = send(&store, RoomNid(1), &format!("${n}"));
        store.wait_durable(&applied).unwrap();
    }
    assert_eq!(timeline(&store.snapshot(), RoomNid(1)).len(), 400);
}
