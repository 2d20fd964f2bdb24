#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{path::PathBuf, sync::Arc};

use skerry_core::{
    Clock, UserNid,
    fixtures::{FakeClock, SeededSource},
};
use skerry_store::{Store, StoreOptions, schema::media::Usage};

use crate::{
    Blobs, Bounds, MediaError, MediaId, S3, Settings, Unauthenticated, UploadInfo,
    mime::{accepts, disposition},
    routes::{Asked, range},
};

mod thumbs;

pub(crate) struct House {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) clock: Arc<FakeClock>,
    pub(crate) blobs: Arc<Blobs>,
}

fn open(dir: tempfile::TempDir) -> House {
    open_with(dir, 1_000_000)
}

fn open_with(dir: tempfile::TempDir, max_upload: u64) -> House {
    open_as(dir, max_upload, Unauthenticated::Frozen)
}

fn open_as(dir: tempfile::TempDir, max_upload: u64, unauthenticated: Unauthenticated) -> House {
    open_but(dir, |settings| {
        settings.max_upload = max_upload;
        settings.unauthenticated = unauthenticated;
    })
}

pub(crate) fn house_with(change: impl FnOnce(&mut Settings)) -> House {
    open_but(tempfile::tempdir().unwrap(), change)
}

pub(crate) fn open_but(dir: tempfile::TempDir, change: impl FnOnce(&mut Settings)) -> House {
    open_there(dir, None, change)
}

pub(crate) fn open_there(
    dir: tempfile::TempDir,
    far: Option<S3>,
    change: impl FnOnce(&mut Settings),
) -> House {
    let store = Store::open(&dir.path().join("db"), StoreOptions::for_tests()).unwrap();
    let mut settings = Settings {
        server_name: "localhost".to_owned(),
        max_upload: 1_000_000,
        user_quota: 0,
        free_disk_floor: 0,
        info_uri: "https://localhost/".to_owned(),
        admin_contact: None,
        decoders: 2,
        worker: None,
        pictures: Bounds {
            pixels: 50_000_000,
            memory: 128 << 20,
        },
        thumbnails_in_advance: false,
        unauthenticated: Unauthenticated::Frozen,
        trash_ms: 7 * 24 * 60 * 60 * 1000,
    };
    change(&mut settings);
    let clock = Arc::new(FakeClock::default());
    let dice = Arc::new(SeededSource::new(7));
    let time: Arc<dyn Clock> = clock.clone();
    let blobs = Blobs::open(&dir.path().join("media"), store, settings, time, dice).unwrap();
    let blobs = match far {
        Some(s3) => blobs.far(s3),
        None => blobs,
    };
    House {
        dir,
        clock,
        blobs: Arc::new(blobs),
    }
}

fn house() -> House {
    open(tempfile::tempdir().unwrap())
}

async fn put(blobs: &Arc<Blobs>, bytes: &[u8], kind: &str) -> MediaId {
    let mut upload = blobs.begin(UserNid(1), None).unwrap();
    for piece in bytes.chunks(1000) {
        upload.write(piece).unwrap();
    }
    let info = UploadInfo {
        content_type: kind.to_owned(),
        name: Some("a name".to_owned()),
    };
    blobs.finish(upload, info, UserNid(1)).await.unwrap()
}

fn read(blobs: &Blobs, id: &MediaId) -> Vec<u8> {
    let found = blobs.find("localhost", id).unwrap();
    found.content.all().unwrap()
}

impl House {
    /// Where these bytes lie.
    pub(crate) fn place(&self, bytes: &[u8]) -> PathBuf {
        let parts = crate::files::parts(&blake3::hash(bytes));
        let media = self.dir.path().join("media");
        parts.iter().fold(media, |path, part| path.join(part))
    }
}

pub(crate) fn blob_files(house: &House) -> usize {
    fn count(dir: &std::path::Path) -> usize {
        std::fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| if path.is_dir() { count(&path) } else { 1 })
            .sum()
    }
    count(&house.dir.path().join("media"))
}

#[tokio::test]
async fn what_was_uploaded_comes_back_and_equal_files_are_stored_once() {
    let house = house();
    let bytes: Vec<u8> = (0..100_000_u32).map(|n| (n * 7 % 251) as u8).collect();
    let first = put(&house.blobs, &bytes, "image/png").await;
    let second = put(&house.blobs, &bytes, "text/plain").await;
    assert_ne!(first, second);
    assert_eq!(read(&house.blobs, &first), bytes);
    assert_eq!(read(&house.blobs, &second), bytes);
    assert_eq!(blob_files(&house), 1);
    let found = house.blobs.find("localhost", &second).unwrap().media;
    assert_eq!(
        (found.content_type.as_str(), found.size),
        ("text/plain", 100_000)
    );
}

#[tokio::test]
async fn an_upload_that_is_dropped_or_too_large_leaves_nothing() {
    let house = house();
    let mut upload = house.blobs.begin(UserNid(1), None).unwrap();
    upload.write(&[1; 1000]).unwrap();
    drop(upload);
    let mut upload = house.blobs.begin(UserNid(1), None).unwrap();
    assert!(matches!(
        upload.write(&vec![1; 1_000_001]),
        Err(MediaError::TooLarge(1_000_000))
    ));
    drop(upload);
    assert_eq!(blob_files(&house), 0);
}

#[tokio::test]
async fn a_start_after_a_crash_removes_what_nobody_names() {
    let house = house();
    let id = put(&house.blobs, b"kept", "").await;
    let media = house.dir.path().join("media");
    std::fs::write(media.join("spool/1-2"), b"half").unwrap();
    let orphan = blake3::hash(b"an orphan").to_hex();
    let folder = media.join(&orphan[..2]).join(&orphan[2..4]);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(&orphan[4..]), b"an orphan").unwrap();
    let swept = house.blobs.sweep().unwrap();
    assert_eq!((swept.unfinished, swept.orphans), (1, 1));
    assert_eq!(read(&house.blobs, &id), b"kept");
    assert_eq!(blob_files(&house), 1);
}

#[test]
fn ids_that_could_be_paths_are_not_ids() {
    for bad in ["", "..", "a/b", "a%2fb", "ä", &"x".repeat(256)] {
        assert_eq!(MediaId::parse(bad), None, "{bad}");
    }
    assert!(MediaId::parse("Az09-_").is_some());
}

#[test]
fn every_uri_in_a_text_is_found() {
    for (json, want) in [
        (r#"{"url":"mxc://a.b:1/x-_9"}"#, &["a.b:1/x-_9"][..]),
        (
            r#"{"mxc://a/key":1,"b":["<img src='mxc://c/d'>"]}"#,
            &["a/key", "c/d"],
        ),
        (r#"{"url":"mxc:\/\/a\/b"}"#, &["a/b"]),
        (r#"{"url":"\u006dxc://a/b"}"#, &["a/b"]),
        (r#"{"in":"{\"url\":\"mxc://a/b\"}"}"#, &["a/b"]),
        (
            r#""mxc://[::1]:80/i mxc://a/b#auto mxc://mxc://e/f""#,
            &["[::1]:80/i", "a/b", "e/f"],
        ),
        (r#"{"url":"mxc://a","b":"mxc:///c","d":"mxc://e/"}"#, &[]),
    ] {
        let mut found = Vec::new();
        crate::find_mxc(json, &mut |server, id| found.push(format!("{server}/{id}")));
        found.sort_unstable();
        found.dedup();
        let mut want = want.to_vec();
        want.sort_unstable();
        assert_eq!(found, want, "{json}");
    }
}

#[test]
fn only_harmless_types_are_shown_inline() {
    assert_eq!(
        disposition("image/png", Some("a.png")),
        "inline; filename=a.png"
    );
    assert_eq!(disposition("IMAGE/PNG; x=y", None), "inline");
    assert_eq!(
        disposition("image/svg+xml", Some("a b.svg")),
        "attachment; filename=\"a b.svg\""
    );
    assert_eq!(disposition("text/html", Some("")), "attachment");
    assert_eq!(
        disposition("text/plain", Some("ß\"\n")),
        "inline; filename*=utf-8''%C3%9F%22%0A"
    );
}

#[test]
fn the_closest_range_says_what_is_accepted() {
    for (header, want) in [
        (None, true),
        (Some(""), true),
        (Some("*/*"), true),
        (Some("image/*;q=0.8"), true),
        (Some("IMAGE/WEBP"), true),
        (Some("image/png, image/webp;q=0.1"), true),
        (Some("image/png,image/*;q=0"), false),
        (Some("*/*, image/webp; q=0.0"), false),
        (Some("image/webp;q=0, */*"), false),
        (Some("image/webp, image/*;q=0"), true),
        (Some("text/html, image/jpeg"), false),
        (Some("image"), false),
    ] {
        assert_eq!(accepts(header, "image/webp"), want, "{header:?}");
    }
}

#[test]
fn ranges() {
    for (header, want) in [
        ("bytes=0-9", Asked::Part(0..10)),
        ("bytes=90-", Asked::Part(90..100)),
        ("bytes=-5", Asked::Part(95..100)),
        ("bytes=-500", Asked::Part(0..100)),
        ("bytes=50-1000", Asked::Part(50..100)),
        ("bytes=100-", Asked::Nothing),
        ("bytes=-0", Asked::Nothing),
        ("bytes=9-3", Asked::Everything),
        ("bytes=0-1,3-4", Asked::Everything),
        ("lines=1-2", Asked::Everything),
        ("bytes=0-18446744073709551615", Asked::Part(0..100)),
    ] {
        assert_eq!(range(header, 100), want, "{header}");
    }
}

fn spooled(blobs: &Blobs, bytes: &[u8]) -> crate::Upload {
    let mut upload = blobs.begin(UserNid(1), None).unwrap();
    upload.write(bytes).unwrap();
    upload
}

#[tokio::test]
async fn an_id_comes_first_and_its_content_later() {
    let home = house();
    let blobs = Arc::clone(&home.blobs);
    let (ada, grace) = (UserNid(1), UserNid(2));
    let (id, _) = blobs.reserve(ada).await.unwrap();
    let early = blobs.wait_for(&id, std::time::Duration::ZERO).await;
    assert!(matches!(early, Err(MediaError::NotYet)), "{early:?}");
    assert!(matches!(
        blobs.may_fill(&id, grace),
        Err(MediaError::NotYours)
    ));

    let waiting = tokio::spawn({
        let (blobs, id) = (Arc::clone(&blobs), id.clone());
        async move {
            let patience = std::time::Duration::from_secs(60);
            blobs.wait_for(&id, patience).await.unwrap();
            read(&blobs, &id)
        }
    });
    let fill = |bytes: &'static [u8]| {
        let (blobs, id) = (Arc::clone(&blobs), id.clone());
        async move {
            let upload = spooled(&blobs, bytes);
            blobs.fill(upload, UploadInfo::default(), ada, id).await
        }
    };
    fill(b"late but here").await.unwrap();
    assert_eq!(waiting.await.unwrap(), b"late but here");
    assert!(matches!(fill(b"again").await, Err(MediaError::Taken)));
    assert_eq!(read(&blobs, &id), b"late but here");
}

#[tokio::test]
async fn reserved_ids_are_few_and_lapse() {
    let home = house();
    let (blobs, clock) = (&home.blobs, &home.clock);
    let ada = UserNid(1);
    let (first, expires_ms) = blobs.reserve(ada).await.unwrap();
    for _ in 1..crate::pending::PENDING_MAX {
        blobs.reserve(ada).await.unwrap();
    }
    let full = blobs.reserve(ada).await;
    let lapse = expires_ms - clock.now_ms();
    assert!(matches!(full, Err(MediaError::TooManyPending(ms)) if ms == lapse));
    blobs.reserve(UserNid(2)).await.unwrap();

    clock.advance(lapse);
    let late = spooled(blobs, b"too late");
    let late = blobs
        .fill(late, UploadInfo::default(), ada, first.clone())
        .await;
    assert!(matches!(late, Err(MediaError::NotFound)), "{late:?}");
    let patience = std::time::Duration::from_secs(60);
    blobs.wait_for(&first, patience).await.unwrap();
    blobs.reserve(ada).await.unwrap();
}

#[tokio::test]
async fn what_was_uploaded_while_the_old_endpoints_were_open_says_so() {
    let House { dir, blobs, .. } = open_as(
        tempfile::tempdir().unwrap(),
        1_000_000,
        Unauthenticated::Open,
    );
    let before = put(&blobs, b"from the open days", "text/plain").await;
    drop(blobs);
    let home = open(dir);
    // The tests' dice begin anew with each house, and would give the same id again.
    home.blobs.reserve(UserNid(1)).await.unwrap();
    let after = put(&home.blobs, b"from later", "text/plain").await;
    let open = |id| {
        home.blobs
            .find("localhost", id)
            .unwrap()
            .media
            .unauthenticated
    };
    assert!(open(&before));
    assert!(!open(&after));
}

#[tokio::test]
async fn a_quota_counts_every_upload_and_lets_no_two_share_the_last_room() {
    let home = house_with(|settings| settings.user_quota = 1000);
    let blobs = &home.blobs;
    put(blobs, &[1; 400], "").await;
    let over = blobs.begin(UserNid(1), Some(601));
    assert!(matches!(over, Err(MediaError::Quota { quota: 1000, .. })));
    let (mut first, mut second) = (
        blobs.begin(UserNid(1), None).unwrap(),
        blobs.begin(UserNid(1), None).unwrap(),
    );
    first.write(&[2; 600]).unwrap();
    second.write(&[2; 600]).unwrap();
    assert!(matches!(first.write(&[3]), Err(MediaError::Quota { .. })));
    let info = UploadInfo::default;
    let (first, second) = tokio::join!(
        blobs.finish(first, info(), UserNid(1)),
        blobs.finish(second, info(), UserNid(1)),
    );
    assert!(first.is_ok() != second.is_ok(), "{first:?} {second:?}");
    assert_eq!(blobs.left(UserNid(1)).unwrap().unwrap().0, 0);
    assert_eq!(blobs.left(UserNid(2)).unwrap().unwrap().0, 1000);
    // What was stored before anything was counted is counted at the next start.
    let mut w = blobs.store().write();
    w.delete::<Usage>(&UserNid(1));
    let _ = blobs.store().commit(w).unwrap();
    assert_eq!(blobs.left(UserNid(1)).unwrap().unwrap().0, 1000);
    blobs.sweep().unwrap();
    assert_eq!(blobs.left(UserNid(1)).unwrap().unwrap().0, 0);
}

#[tokio::test]
async fn below_the_floor_no_upload_begins() {
    let home = house_with(|settings| {
        settings.free_disk_floor = u64::MAX / 2;
        settings.admin_contact = Some("mailto:a@localhost".to_owned());
    });
    let refused = home.blobs.begin(UserNid(1), Some(1));
    let Err(MediaError::BelowFloor { admin_contact }) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(admin_contact.as_deref(), Some("mailto:a@localhost"));
    assert_eq!(blob_files(&home), 0);
}
