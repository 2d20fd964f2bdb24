use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use skerry_core::{EventNid, Pos, RoomNid, UserNid};
use skerry_store::schema::room::Timeline;
use skerry_store::{Applied, Change, Disk, Durability, Point, Scan, Snapshot, Store, StoreOptions};

pub fn durable() -> StoreOptions {
    StoreOptions {
        durability: Durability::Fsync,
        ..StoreOptions::for_tests()
    }
}

pub fn open(dir: &Path) -> Arc<Store> {
    Store::open(dir, durable()).unwrap()
}

/// An event row as a room would write it: log entry and timeline row at the same position.
pub fn send(store: &Store, room: RoomNid, name: &str) -> (Pos, Applied) {
    let mut w = store.write();
    let event = w.new_event(name);
    let pos = w.log(Change::Timeline {
        room,
        event,
        sender: UserNid(1),
    });
    w.put::<Timeline>(&(room, skerry_core::Order::live(pos)), &event);
    let applied = store.commit(w).unwrap();
    (applied.pos(pos), applied)
}

pub fn timeline(snap: &Snapshot, room: RoomNid) -> Vec<(Pos, EventNid)> {
    snap.scan::<Timeline>(Scan::prefix(&room))
        .map(|row| {
            row.map(|((_, order), event)| (order.anchor, event))
                .unwrap()
        })
        .collect()
}

/// A disk that does as the test says.
#[derive(Debug)]
pub struct Faults {
    pub free: AtomicU64,
    /// Points still to pass before one fails or ends the process; 0: never.
    pub fuse: AtomicU32,
    pub at: Option<Point>,
    pub with: fn() -> io::Error,
}

impl Faults {
    pub fn new(at: Option<Point>, with: fn() -> io::Error) -> Arc<Self> {
        Arc::new(Self {
            free: AtomicU64::new(u64::MAX),
            fuse: AtomicU32::new(0),
            at,
            with,
        })
    }
}

impl Disk for Faults {
    fn free_bytes(&self, _dir: &Path) -> io::Result<u64> {
        Ok(self.free.load(Ordering::SeqCst))
    }

    fn at(&self, point: Point) -> io::Result<()> {
        if self.at == Some(point) && self.fuse.load(Ordering::SeqCst) > 0 {
            let left = self.fuse.fetch_sub(1, Ordering::SeqCst) - 1;
            if left == 0 {
                return Err((self.with)());
            }
        }
        Ok(())
    }
}
