use skerry_core::{Pos, RoomNid, ServerNid, UserNid};
use skerry_store::outbox::{self, Dest};
use skerry_store::{Change, follow};

use crate::support::{open, send};

const HOUR: u64 = 3_600_000;

#[test]
fn the_log_is_cut_by_age_but_not_above_a_cursor() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let step = |n: u64| {
        let mut applied = None;
        for i in 0..10 {
            applied = Some(send(&store, RoomNid(1), &format!("${n}-{i}")).1);
        }
        store.wait_durable(&applied.unwrap()).unwrap();
    };
    step(1);
    assert_eq!(store.trim_log(HOUR, 2 * HOUR).unwrap(), Pos(0));
    step(2);
    assert_eq!(store.trim_log(2 * HOUR, 2 * HOUR).unwrap(), Pos(0));
    let mut w = store.write();
    follow::set_cursor(&mut w, "push", Pos(5));
    let _ = store.commit(w).unwrap();
    store.wait_durable(&store.barrier()).unwrap();
    // The mark of hour 1 (position 10) is old enough, but the follower is at 5.
    assert_eq!(store.trim_log(3 * HOUR, 2 * HOUR).unwrap(), Pos(5));
    let snap = store.newest();
    assert_eq!(snap.log_floor().unwrap(), Pos(5));
    assert!(snap.changes(Pos(4), snap.head()).unwrap().is_none());
    assert_eq!(
        snap.changes(Pos(5), snap.head()).unwrap().unwrap().count(),
        15
    );
    let next = follow::next(&snap, "push", 3).unwrap();
    assert_eq!(
        next.iter().map(|(pos, _)| pos.0).collect::<Vec<_>>(),
        [6, 7, 8]
    );
    let mut w = store.write();
    follow::forget(&mut w, "push");
    let _ = store.commit(w).unwrap();
    store.wait_durable(&store.barrier()).unwrap();
    assert_eq!(store.trim_log(3 * HOUR, 2 * HOUR).unwrap(), Pos(10));
    assert_eq!(store.trim_log(9 * HOUR, 2 * HOUR).unwrap(), Pos(20));
}

#[test]
fn the_outbox_keeps_order_per_destination() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let here = Dest::Server(ServerNid(1));
    let there = Dest::Push("https://push".to_owned());
    let mut w = store.write();
    outbox::queue(&mut w, &here, b"1");
    outbox::queue(&mut w, &there, b"2");
    outbox::queue(&mut w, &here, b"3");
    w.log(Change::DeviceList { user: UserNid(1) });
    let _ = store.commit(w).unwrap();
    let snap = store.newest();
    let items = outbox::pending(&snap, &here, 10).unwrap();
    assert_eq!(items, [(Pos(1), b"1".to_vec()), (Pos(3), b"3".to_vec())]);
    let mut w = store.write();
    outbox::sent(&mut w, &here, items[0].0);
    let _ = store.commit(w).unwrap();
    assert_eq!(
        outbox::pending(&store.newest(), &here, 10).unwrap().len(),
        1
    );
    assert_eq!(
        outbox::pending(&store.newest(), &there, 10).unwrap().len(),
        1
    );
}
