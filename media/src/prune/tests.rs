#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod crash;
mod model;
mod speed;
mod steps;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};

use skerry_core::{EventNid, RoomNid, UserNid};
use skerry_store::{
    Change, Scan, Snapshot, Store, StoreError,
    schema::media::{Blob, BlobRef, MediaTable, ThumbUse, ThumbUses, Trash, Usage},
};

use super::*;
use crate::{
    Blobs, MediaId, UploadInfo,
    tests::{House, blob_files, house_with},
};

pub(super) const DAY: u64 = 24 * 60 * 60 * 1000;

/// Who needs media, as tests say. Every change is in the log.
#[derive(Default)]
pub(crate) struct Named {
    names: Mutex<BTreeSet<(String, String)>>,
}

impl Named {
    pub(super) fn add(&self, store: &Store, id: &str) {
        self.add_of(store, "localhost", id);
    }

    pub(super) fn add_of(&self, store: &Store, server: &str, id: &str) {
        let key = (server.to_owned(), id.to_owned());
        self.names.lock().unwrap().insert(key);
        let mut w = store.write();
        w.log(Change::Profile { user: UserNid(1) });
        let _ = store.commit(w).unwrap();
    }
}

impl References for Named {
    fn all(&self, _: &Snapshot, tell: &mut Tell<'_>) -> Result<(), StoreError> {
        for (server, id) in &*self.names.lock().unwrap() {
            tell(server, id, Spot::Profile { user: UserNid(1) });
        }
        Ok(())
    }

    fn since(&self, _: &Snapshot, new: &Snapshot, tell: &mut Tell<'_>) -> Result<bool, StoreError> {
        self.all(new, tell)?;
        Ok(true)
    }

    fn in_room(
        &self,
        _: &Snapshot,
        room: &str,
        tell: &mut Tell<'_>,
    ) -> Result<Option<Readable>, StoreError> {
        let Some(id) = room.strip_prefix("!room-of-") else {
            return Ok(None);
        };
        let event = EventNid(1);
        let room = RoomNid(1);
        tell("localhost", id, Spot::Message { room, event });
        Ok(Some(Readable {
            events: 1,
            unreadable: 2,
        }))
    }

    fn people(&self, _: &Snapshot, room: &str) -> Result<Option<RoomPeople>, StoreError> {
        Ok((room == "!kept").then(|| RoomPeople {
            users: [UserNid(2)].into(),
            servers: ["kept.example".to_owned()].into(),
        }))
    }

    fn user(&self, user: &str) -> Result<Option<UserNid>, StoreError> {
        Ok(user
            .strip_prefix('@')
            .and_then(|n| n.parse().ok())
            .map(UserNid))
    }

    fn silent_since(&self, _: &Snapshot, server: &str) -> Result<Option<u64>, StoreError> {
        Ok((server == "silent.example").then_some(1))
    }

    fn describe(&self, spot: Spot) -> String {
        format!("{spot:?}")
    }
}

pub(crate) struct World {
    pub(crate) home: House,
    pub(crate) named: Arc<Named>,
    pub(crate) pruner: Pruner,
}

pub(super) fn world() -> World {
    world_of(house_with(|_| {}))
}

pub(crate) fn world_of(home: House) -> World {
    let named = Arc::new(Named::default());
    let refs: Arc<dyn References> = named.clone();
    let pruner = Pruner::new(Arc::clone(&home.blobs), refs);
    World {
        home,
        named,
        pruner,
    }
}

impl World {
    pub(super) fn blobs(&self) -> &Arc<Blobs> {
        &self.home.blobs
    }

    pub(crate) async fn put(&self, bytes: &[u8], uploader: u64) -> String {
        put(self.blobs(), bytes, uploader).await
    }

    /// A copy of another server's media.
    pub(super) async fn put_remote(&self, bytes: &[u8], server: &str) -> String {
        let blobs = self.blobs();
        let id = self.put(bytes, 0).await;
        let own = ("localhost".to_owned(), id.clone());
        let media = blobs
            .store
            .newest()
            .get::<MediaTable>(&own)
            .unwrap()
            .unwrap();
        let mut w = blobs.store.write();
        w.delete::<MediaTable>(&own);
        w.delete::<BlobRef>(&(media.hash, own.0, id.clone()));
        w.put::<MediaTable>(&(server.to_owned(), id.clone()), &media);
        w.put::<BlobRef>(&(media.hash, server.to_owned(), id.clone()), &());
        let applied = blobs.store.commit(w).unwrap();
        blobs.store.durable(&applied).await.unwrap();
        id
    }

    pub(super) fn is_here(&self, id: &str) -> bool {
        is_here(self.blobs(), "localhost", id)
    }

    pub(super) fn in_trash(&self) -> Vec<String> {
        let snap = self.blobs().store.newest();
        let rows = snap.scan::<Trash>(Scan::all());
        rows.map(|row| row.unwrap().0.1).collect()
    }

    pub(super) async fn prune(&self, order: Order) -> Progress {
        let (number, _) = self.pruner.plan(order).await.unwrap();
        let (progress, outcome) = self.pruner.start(number).unwrap().ended().await;
        assert_eq!(outcome, Outcome::Done);
        progress
    }

    pub(crate) fn pass(&self, ms: u64) {
        self.home.clock.advance(ms);
    }

    /// Files, rows and sums fit together.
    pub(crate) fn check(&self) {
        consistent(self.blobs());
    }
}

pub(crate) async fn put(blobs: &Arc<Blobs>, bytes: &[u8], uploader: u64) -> String {
    let mut upload = blobs.begin(UserNid(uploader), None).unwrap();
    upload.write(bytes).unwrap();
    let info = UploadInfo::default();
    let id = blobs.finish(upload, info, UserNid(uploader)).await.unwrap();
    id.as_str().to_owned()
}

/// On this thread, which may block then.
pub(crate) fn in_place<T>(work: impl FnOnce() -> T) -> T {
    use tokio::runtime::{Handle, RuntimeFlavor};
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::MultiThread => tokio::task::block_in_place(work),
        _ => work(),
    }
}

/// Whether it can be downloaded whole.
pub(crate) fn is_here(blobs: &Blobs, server: &str, id: &str) -> bool {
    let read = || {
        let found = blobs.find(server, &MediaId::parse(id).unwrap()).ok()?;
        Some((found.media, found.content.all().unwrap()))
    };
    let Some((media, bytes)) = in_place(read) else {
        return false;
    };
    assert_eq!(blake3::hash(&bytes).as_bytes(), &media.hash);
    true
}

/// Files, rows and sums fit together.
pub(crate) fn consistent(blobs: &Blobs) {
    let snap = blobs.store.newest();
    let mut refs = BTreeSet::new();
    let mut sums = std::collections::BTreeMap::<UserNid, u64>::new();
    let live = snap.scan::<MediaTable>(Scan::all()).map(|row| row.unwrap());
    let trash = snap.scan::<Trash>(Scan::all()).map(|row| row.unwrap());
    for (key, media) in live.chain(trash.map(|(key, row)| (key, row.media))) {
        *sums.entry(media.uploader).or_default() += media.size;
        refs.insert((media.hash, key.0, key.1));
    }
    let rows = snap.scan::<BlobRef>(Scan::all()).map(|row| row.unwrap().0);
    assert_eq!(rows.collect::<BTreeSet<_>>(), refs);
    let named: BTreeSet<[u8; 32]> = refs.iter().map(|(hash, ..)| *hash).collect();
    let rows = snap.scan::<Blob>(Scan::all()).map(|row| row.unwrap().0);
    assert_eq!(rows.collect::<BTreeSet<_>>(), named);
    let mut files = BTreeSet::new();
    let mut see = |hash: blake3::Hash, _| {
        files.insert(*hash.as_bytes());
        Ok(())
    };
    in_place(|| blobs.storage.walk(&mut see)).unwrap();
    assert_eq!(files, named);
    for row in snap.scan::<Usage>(Scan::all()) {
        let (user, sum) = row.unwrap();
        assert_eq!(sums.get(&user).copied().unwrap_or(0), sum, "{user:?}");
    }
}

fn all() -> Order {
    Order {
        remote: true,
        local: true,
        thumbnails: true,
        ..Order::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn local_media_goes_to_the_trash_and_can_be_brought_back() {
    let w = world();
    let (old, avatar) = (w.put(b"old", 1).await, w.put(b"avatar", 1).await);
    w.named.add(&w.blobs().store, &avatar);
    let progress = w.prune(all()).await;
    assert_eq!((progress.removed, progress.freed_bytes), (1, 0));
    assert!(!w.is_here(&old) && w.is_here(&avatar));
    w.check();
    let back = vec![format!("mxc://localhost/{old}")];
    assert_eq!(w.pruner.restore(Some(back)).await.unwrap(), 1);
    assert!(w.is_here(&old));
    w.check();
    // Not before its time; then for good.
    w.prune(all()).await;
    let due = Order {
        trash: Emptying::Due,
        ..Order::default()
    };
    w.pass(7 * DAY - 1);
    assert_eq!(w.prune(due.clone()).await.removed, 0);
    w.pass(1);
    let progress = w.prune(due).await;
    assert_eq!((progress.removed, progress.freed_bytes), (1, 3));
    assert_eq!(blob_files(&w.home), 1);
    w.check();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blob_goes_with_its_last_name_and_its_thumbnails_with_it() {
    let w = world();
    let first = w.put_remote(b"the same", "a.example").await;
    let second = w.put_remote(b"the same", "b.example").await;
    let store = &w.blobs().store;
    let hash = *blake3::hash(b"the same").as_bytes();
    let mut write = store.write();
    let row = ThumbUse {
        bytes: 5,
        made_ms: 0,
        used_ms: 0,
    };
    write.put::<ThumbUses>(&(hash, 32, 32, 1), &row);
    let _ = store.commit(write).unwrap();
    w.named.add_of(store, "b.example", &second);
    let remote = Order {
        remote: true,
        ..Order::default()
    };
    let (_, plan) = w.pruner.plan(remote.clone()).await.unwrap();
    let report = plan.report();
    assert_eq!((report.used_bytes, report.left_now_bytes), (13, 13));
    assert_eq!(w.prune(remote.clone()).await.freed_bytes, 0);
    assert!(!is_here(w.blobs(), "a.example", &first));
    assert!(is_here(w.blobs(), "b.example", &second));
    w.named.names.lock().unwrap().clear();
    assert_eq!(w.prune(remote).await.freed_bytes, 8);
    assert_eq!(store.newest().scan::<ThumbUses>(Scan::all()).count(), 0);
    assert_eq!(blob_files(&w.home), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_of_a_server_that_does_not_answer_count_as_originals() {
    let w = world();
    w.pass(8 * DAY);
    let gone = w.put_remote(b"gone", "silent.example").await;
    w.put_remote(b"other", "a.example").await;
    let order = Order {
        remote: true,
        ..Order::default()
    };
    let progress = w.prune(order).await;
    assert_eq!((progress.removed, progress.freed_bytes), (2, 5));
    assert_eq!(w.in_trash(), [gone]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_takes_the_least_recently_used_and_no_more() {
    let w = world();
    let mut ids = Vec::new();
    for n in 0..5_u8 {
        ids.push(w.put_remote(&[n; 100], "a.example").await);
        w.pass(DAY);
    }
    // The oldest was looked at last.
    assert!(is_here(w.blobs(), "a.example", &ids[0]));
    w.named.add_of(&w.blobs().store, "a.example", &ids[1]);
    let order = |bytes| Order {
        remote: true,
        target: Some(Target::Store(bytes)),
        ..Order::default()
    };
    w.prune(order(320)).await;
    let here = |id: &String| is_here(w.blobs(), "a.example", id);
    let left: Vec<bool> = ids.iter().map(here).collect();
    assert_eq!(left, [true, true, false, false, true]);
    let (_, plan) = w.pruner.plan(order(50)).await.unwrap();
    let report = plan.report();
    assert!(!report.target_reached);
    assert_eq!(report.left_later_bytes, 100);
    assert!(report.text().contains("not reached"), "{}", report.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn selectors_narrow_what_goes() {
    let w = world();
    let mine = w.put(b"mine", 1).await;
    let other = w.put(b"the other's, larger", 2).await;
    let remote = w.put_remote(b"remote", "kept.example").await;
    w.pass(10 * DAY);
    let young = w.put(b"young", 1).await;
    let goes = async |order: Order| {
        let (_, plan) = w.pruner.plan(order).await.unwrap();
        let page = plan.page(0, 100).unwrap();
        let ids = page.items.into_iter().filter_map(|item| item.mxc);
        let mut ids: Vec<String> = ids
            .map(|mxc| mxc.rsplit('/').next().unwrap().into())
            .collect();
        ids.sort();
        ids
    };
    let sorted = |ids: &[&String]| {
        let mut ids: Vec<String> = ids.iter().map(|id| (*id).clone()).collect();
        ids.sort();
        ids
    };
    let local = Order {
        local: true,
        ..Order::default()
    };
    assert_eq!(goes(local.clone()).await, sorted(&[&mine, &other, &young]));
    let old = Order {
        older_than_ms: DAY,
        ..all()
    };
    assert_eq!(goes(old.clone()).await, sorted(&[&mine, &other, &remote]));
    let large = Order {
        larger_than: 6,
        ..all()
    };
    assert_eq!(goes(large).await, sorted(&[&other]));
    let of_one = Order {
        uploader: Some("@1".to_owned()),
        ..local.clone()
    };
    assert_eq!(goes(of_one).await, sorted(&[&mine, &young]));
    let of_room = Order {
        room: Some(format!("!room-of-{mine}")),
        ..local.clone()
    };
    assert_eq!(goes(of_room.clone()).await, sorted(&[&mine]));
    let (_, plan) = w.pruner.plan(of_room).await.unwrap();
    assert_eq!(plan.report().room_events, Some((1, 2)));
    let keep = Order {
        keep_rooms: vec!["!kept".to_owned()],
        thumbnails: false,
        ..all()
    };
    assert_eq!(goes(keep).await, sorted(&[&mine, &young]));
    // A look counts by access, and not by creation.
    assert!(w.is_here(&mine));
    assert_eq!(goes(old.clone()).await, sorted(&[&other, &remote]));
    let by = By::Created;
    assert_eq!(
        goes(Order { by, ..old }).await,
        sorted(&[&mine, &other, &remote])
    );
    for wrong in [
        Order::default(),
        Order {
            uploader: Some("@1".to_owned()),
            ..all()
        },
        Order {
            room: Some("!unknown".to_owned()),
            ..local
        },
    ] {
        let refused = w.pruner.plan(wrong).await;
        assert!(matches!(refused, Err(PruneError::Ask(_))));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_named_while_it_is_in_the_trash_comes_back_by_itself() {
    let w = world();
    let (id, other) = (w.put(b"bytes", 1).await, w.put(b"other", 1).await);
    w.prune(all()).await;
    assert_eq!(w.in_trash().len(), 2);
    let store = &w.blobs().store;
    let seen = w.pruner.revive(None).await.unwrap();
    w.named.add(store, &id);
    let barrier = store.barrier();
    store.durable(&barrier).await.unwrap();
    w.pruner.revive(seen).await.unwrap();
    assert!(w.is_here(&id));
    assert_eq!(w.in_trash(), std::slice::from_ref(&other));
    // Also when nobody looked meanwhile: emptying looks itself.
    w.named.add(store, &other);
    let empty = Order {
        trash: Emptying::All,
        ..Order::default()
    };
    assert_eq!(w.prune(empty).await.revived, 1);
    assert!(w.is_here(&other));
    w.check();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_and_rows_that_do_not_fit_are_found() {
    let w = world();
    let local = w.put(b"local", 1).await;
    let remote = w.put_remote(b"remote", "a.example").await;
    let media = w.home.dir.path().join("media");
    let place = |bytes: &[u8]| w.home.place(bytes);
    let orphan = place(b"orphan");
    std::fs::create_dir_all(orphan.parent().unwrap()).unwrap();
    std::fs::write(&orphan, b"orphan").unwrap();
    std::fs::remove_file(place(b"local")).unwrap();
    std::fs::remove_file(place(b"remote")).unwrap();
    assert!(media.exists());
    let check = Order {
        check: true,
        ..Order::default()
    };
    let (_, plan) = w.pruner.plan(check.clone()).await.unwrap();
    let found = plan.report().orphans.unwrap();
    assert_eq!((found.files, found.remote_rows, found.lost_rows), (1, 1, 1));
    assert_eq!(found.lost, [format!("mxc://localhost/{local}")]);
    assert_eq!(w.prune(check).await.removed, 2);
    assert!(!orphan.exists());
    let snap = w.blobs().store.newest();
    let key = |server: &str, id: &String| (server.to_owned(), id.clone());
    assert!(snap.has::<MediaTable>(&key("localhost", &local)).unwrap());
    assert!(!snap.has::<MediaTable>(&key("a.example", &remote)).unwrap());
    // The same bytes come again.
    w.put(b"local", 2).await;
    assert!(w.is_here(&local));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_corrupt_file_is_set_aside_and_said() {
    let w = world();
    let (bad, good) = (w.put(b"bad", 1).await, w.put(b"good", 1).await);
    let remote = w.put_remote(b"remote", "a.example").await;
    for bytes in [&b"bad"[..], b"remote"] {
        std::fs::write(w.home.place(bytes), b"flip").unwrap();
    }
    let job = w.pruner.verify().unwrap();
    assert_eq!(job.ended().await.1, Outcome::Done);
    let verified = job.verified().unwrap();
    assert_eq!((verified.read, verified.corrupt.len()), (3, 2));
    assert!(!w.is_here(&bad) && w.is_here(&good));
    let aside = w.home.dir.path().join("media/corrupt");
    assert_eq!(std::fs::read_dir(aside).unwrap().count(), 2);
    // Another server's is to be fetched again.
    let key = ("a.example".to_owned(), remote);
    assert!(!w.blobs().store.newest().has::<MediaTable>(&key).unwrap());
    // The same bytes come again, and are whole.
    w.put(b"bad", 1).await;
    assert!(w.is_here(&bad));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_one_prune_at_a_time_and_only_of_a_plan_that_is_there() {
    let w = world();
    assert!(matches!(w.pruner.start(7), Err(PruneError::NoPlan)));
    let (number, _) = w.pruner.plan(all()).await.unwrap();
    w.pass(PLAN_GOOD_MS + 1);
    assert!(matches!(w.pruner.start(number), Err(PruneError::NoPlan)));
    let (number, _) = w.pruner.plan(all()).await.unwrap();
    let id = w.put(b"later", 1).await;
    let (progress, outcome) = w.pruner.start(number).unwrap().ended().await;
    assert_eq!((progress.total, outcome), (0, Outcome::Done));
    assert!(w.is_here(&id));
}

/// A copy of a whole data directory, as a crash would leave it to the next start.
pub(super) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else if entry.file_name() != "LOCK" {
            // A file may be deleted while the folder is read.
            let _ = std::fs::copy(entry.path(), target);
        }
    }
}
