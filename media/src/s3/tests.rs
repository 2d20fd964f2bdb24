#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
//! The object store is one in memory here; how it is spoken to is tested against a real one
//! (`tests/s3`).

use std::{
    fmt,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard},
};

use futures_util::stream::BoxStream;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt as _, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    memory::InMemory, path::Path,
};
use skerry_core::UserNid;
use skerry_store::{
    Scan,
    schema::media::{CorruptBlob, MediaTable},
};

use super::{PART, S3};
use crate::{
    MediaError, UploadInfo,
    prune::{
        Order, Outcome,
        tests::{World, consistent, in_place, is_here, put, world_of},
    },
    tests::open_there,
};

/// What was asked of the store, and whether it answers.
#[derive(Debug, Default)]
struct Log {
    puts: Vec<String>,
    away: bool,
}

/// A store in memory that can be out of reach.
#[derive(Debug, Clone, Default)]
struct Far {
    kept: Arc<InMemory>,
    log: Arc<Mutex<Log>>,
}

impl fmt::Display for Far {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("far")
    }
}

impl Far {
    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap()
    }

    fn asked(&self) -> Result<(), Error> {
        match self.log().away {
            false => Ok(()),
            true => Err(Error::Generic {
                store: "far",
                source: "it does not answer".into(),
            }),
        }
    }

    fn s3(&self) -> S3 {
        let prefix = Path::parse("some/where").unwrap();
        S3::over(Box::new(self.clone()), prefix, "localhost")
    }
}

/// The traits' macro written out, as in `wire.rs`.
type Asked<'a, T> = std::pin::Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

impl ObjectStore for Far {
    fn put_opts<'a, 'b, 'c>(
        &'a self,
        name: &'b Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Asked<'c, PutResult>
    where
        'a: 'c,
        'b: 'c,
        Self: 'c,
    {
        Box::pin(async move {
            self.asked()?;
            self.log().puts.push(name.to_string());
            self.kept.put_opts(name, payload, options).await
        })
    }

    fn put_multipart_opts<'a, 'b, 'c>(
        &'a self,
        name: &'b Path,
        options: PutMultipartOptions,
    ) -> Asked<'c, Box<dyn MultipartUpload>>
    where
        'a: 'c,
        'b: 'c,
        Self: 'c,
    {
        Box::pin(async move {
            self.asked()?;
            self.log().puts.push(format!("{name} in parts"));
            self.kept.put_multipart_opts(name, options).await
        })
    }

    fn get_opts<'a, 'b, 'c>(&'a self, name: &'b Path, options: GetOptions) -> Asked<'c, GetResult>
    where
        'a: 'c,
        'b: 'c,
        Self: 'c,
    {
        Box::pin(async move {
            self.asked()?;
            self.kept.get_opts(name, options).await
        })
    }

    fn delete_stream(
        &self,
        names: BoxStream<'static, Result<Path, Error>>,
    ) -> BoxStream<'static, Result<Path, Error>> {
        self.kept.delete_stream(names)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta, Error>> {
        self.kept.list(prefix)
    }

    fn list_with_delimiter<'a, 'b, 'c>(&'a self, prefix: Option<&'b Path>) -> Asked<'c, ListResult>
    where
        'a: 'c,
        'b: 'c,
        Self: 'c,
    {
        Box::pin(async move { self.kept.list_with_delimiter(prefix).await })
    }

    fn copy_opts<'a, 'b, 'd, 'c>(
        &'a self,
        from: &'b Path,
        to: &'d Path,
        options: CopyOptions,
    ) -> Asked<'c, ()>
    where
        'a: 'c,
        'b: 'c,
        'd: 'c,
        Self: 'c,
    {
        Box::pin(async move { self.kept.copy_opts(from, to, options).await })
    }
}

fn world(far: &Far) -> World {
    let dir = tempfile::tempdir().unwrap();
    world_of(open_there(dir, Some(far.s3()), |settings| {
        settings.max_upload = 100_000_000;
    }))
}

fn all() -> Order {
    Order {
        local: true,
        remote: true,
        ..Order::default()
    }
}

fn name(bytes: &[u8]) -> Path {
    let parts = crate::files::parts(&blake3::hash(bytes));
    Path::parse(format!("some/where/{}", parts.join("/"))).unwrap()
}

async fn prune(w: &World, order: Order) -> Outcome {
    let (number, _) = w.pruner.plan(order).await.unwrap();
    w.pruner.start(number).unwrap().ended().await.1
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blobs_are_put_once_under_their_hash_and_read_in_parts() {
    let far = Far::default();
    let w = world(&far);
    let blobs = &w.home.blobs;
    let one = put(blobs, b"some bytes", 1).await;
    let two = put(blobs, b"some bytes", 2).await;
    let names = [
        "some/where/skerry-owner".to_owned(),
        name(b"some bytes").to_string(),
    ];
    assert_eq!(far.log().puts, names);
    assert!(is_here(blobs, "localhost", &one) && is_here(blobs, "localhost", &two));
    let spool = w.home.dir.path().join("media/spool");
    assert_eq!(std::fs::read_dir(spool).unwrap().count(), 0);
    let read = |part: Range<u64>| {
        in_place(|| {
            let opened = blobs.storage.open(&blake3::hash(b"some bytes"), part);
            opened.unwrap().unwrap().all().unwrap()
        })
    };
    assert_eq!(read(5..10), b"bytes");
    assert_eq!(read(0..4), b"some");
    assert_eq!(read(3..3), b"");
    let empty = put(blobs, b"", 1).await;
    assert!(is_here(blobs, "localhost", &empty));
    in_place(|| consistent(blobs));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_blobs_go_in_parts() {
    let far = Far::default();
    let w = world(&far);
    let size = usize::try_from(PART).unwrap() * 2 + 17;
    let bytes: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
    let id = put(&w.home.blobs, &bytes, 1).await;
    let puts = far.log().puts.clone();
    assert_eq!(puts.last(), Some(&format!("{} in parts", name(&bytes))));
    assert!(is_here(&w.home.blobs, "localhost", &id));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_out_of_reach_refuses_and_loses_nothing() {
    let far = Far::default();
    let w = world(&far);
    let blobs = &w.home.blobs;
    let before = put(blobs, b"before", 1).await;
    far.log().away = true;
    let mut upload = blobs.begin(UserNid(1), None).unwrap();
    upload.write(b"during").unwrap();
    let refused = blobs
        .finish(upload, UploadInfo::default(), UserNid(1))
        .await;
    assert!(matches!(refused, Err(MediaError::Away(_))));
    let id = crate::MediaId::parse(&before).unwrap();
    let unread = in_place(|| blobs.find("localhost", &id).map(|_| ()));
    assert!(matches!(unread, Err(MediaError::Away(_))));
    // Nothing of it is taken for lost, and what could not be deleted is found later.
    let order = Order {
        trash: crate::prune::Emptying::All,
        ..all()
    };
    far.log().away = false;
    assert!(is_here(blobs, "localhost", &before));
    assert_eq!(
        blobs.store.newest().scan::<MediaTable>(Scan::all()).count(),
        1
    );
    assert_eq!(
        blobs
            .store
            .newest()
            .scan::<CorruptBlob>(Scan::all())
            .count(),
        0
    );
    assert_eq!(prune(&w, all()).await, Outcome::Done);
    far.log().away = true;
    assert!(matches!(prune(&w, order).await, Outcome::Failed(_)));
    far.log().away = false;
    assert!(far.kept.head(&name(b"before")).await.is_ok());
    let swept = in_place(|| blobs.sweep_storage()).unwrap();
    assert_eq!((swept.orphans, swept.lost), (1, 0));
    in_place(|| consistent(blobs));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_named_goes_and_what_is_lost_is_said() {
    let far = Far::default();
    let w = world(&far);
    let blobs = &w.home.blobs;
    let lost = put(blobs, b"lost", 1).await;
    let bad = put(blobs, b"bad", 1).await;
    far.kept.delete(&name(b"lost")).await.unwrap();
    far.kept
        .put(&name(b"orphan"), "orphan".into())
        .await
        .unwrap();
    let strange = Path::parse("some/where/of/another/kind").unwrap();
    far.kept.put(&strange, "strange".into()).await.unwrap();
    let swept = in_place(|| blobs.sweep_storage()).unwrap();
    assert_eq!((swept.orphans, swept.lost), (1, 1));
    assert!(far.kept.head(&strange).await.is_ok());
    assert!(!is_here(blobs, "localhost", &lost));
    assert_eq!(
        blobs
            .store
            .newest()
            .scan::<CorruptBlob>(Scan::all())
            .count(),
        1
    );
    put(blobs, b"lost", 2).await;
    assert!(is_here(blobs, "localhost", &lost));
    assert_eq!(
        blobs
            .store
            .newest()
            .scan::<CorruptBlob>(Scan::all())
            .count(),
        0
    );
    far.kept.put(&name(b"bad"), "flip".into()).await.unwrap();
    let job = w.pruner.verify().unwrap();
    assert_eq!(job.ended().await.1, Outcome::Done);
    assert_eq!(job.verified().unwrap().corrupt.len(), 1);
    assert!(!is_here(blobs, "localhost", &bad));
    let aside = format!("some/where/corrupt/{}", blake3::hash(b"bad").to_hex());
    assert!(far.kept.head(&Path::parse(aside).unwrap()).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_bucket_holds_of_another_server_is_left_alone() {
    let far = Far::default();
    let owner = Path::parse("some/where/skerry-owner").unwrap();
    far.kept.put(&owner, "other.example".into()).await.unwrap();
    far.kept
        .put(&name(b"theirs"), "theirs".into())
        .await
        .unwrap();
    let w = world(&far);
    let refused = in_place(|| w.home.blobs.sweep_storage());
    assert!(matches!(refused, Err(MediaError::Away(why)) if why.contains("other.example")));
    assert!(far.kept.head(&name(b"theirs")).await.is_ok());
}
