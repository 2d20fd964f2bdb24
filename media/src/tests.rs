#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{io::Read as _, sync::Arc};

use skerry_core::{
    Clock, UserNid,
    fixtures::{FakeClock, SeededSource},
};
use skerry_store::{
    Store, StoreOptions,
    schema::media::{Thumb, Usage},
};

use crate::{
    Blobs, MediaError, MediaId, Method, Settings, Unauthenticated, UploadInfo,
    mime::disposition,
    routes::{Asked, range},
    thumbnail::{Made, Wanted, make},
    thumbs::THUMB_KEPT_MAX,
};

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
        unauthenticated: Unauthenticated::Frozen,
        trash_ms: 7 * 24 * 60 * 60 * 1000,
    };
    change(&mut settings);
    let clock = Arc::new(FakeClock::default());
    let dice = Arc::new(SeededSource::new(7));
    let time: Arc<dyn Clock> = clock.clone();
    let blobs = Blobs::open(&dir.path().join("media"), store, settings, time, dice).unwrap();
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
    let mut bytes = Vec::new();
    blobs
        .find("localhost", id)
        .unwrap()
        .file
        .read_to_end(&mut bytes)
        .unwrap();
    bytes
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

fn picture(width: u32, height: u32, format: image::ImageFormat) -> Vec<u8> {
    let pixels = image::RgbImage::from_fn(width, height, |x, y| image::Rgb([x as u8, y as u8, 9]));
    let mut out = std::io::Cursor::new(Vec::new());
    image::DynamicImage::from(pixels)
        .write_to(&mut out, format)
        .unwrap();
    out.into_inner()
}

#[test]
fn thumbnails_fit_and_never_enlarge() {
    use image::ImageFormat::{Gif, Jpeg, Png, WebP};
    for format in [Jpeg, Png, Gif, WebP] {
        let source = picture(400, 200, format);
        let size = |width, height, method| {
            let made = make(&source, &[Wanted::standard(width, height, method)]).unwrap();
            match &made[..] {
                [Made::Thumbnail(made)] => {
                    let decoded = image::load_from_memory(&made.bytes).unwrap();
                    (decoded.width(), decoded.height())
                }
                _ => (400, 200),
            }
        };
        assert_eq!(size(90, 90, Method::Crop), (96, 96));
        assert_eq!(size(300, 200, Method::Scale), (320, 160));
        assert_eq!(size(800, 600, Method::Scale), (400, 200));
        assert_eq!(size(4000, 1, Method::Scale), (400, 200));
    }
}

/// A photo that was taken sideways: the same JPEG with orientation 6 in its Exif.
fn sideways(jpeg: &[u8]) -> Vec<u8> {
    let exif =
        b"\xff\xe1\x00\x22Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
    [&jpeg[..2], exif, &jpeg[2..]].concat()
}

#[test]
fn one_decoding_makes_all_sizes_upright_and_without_metadata() {
    let photo = sideways(&picture(2_000, 1_500, image::ImageFormat::Jpeg));
    let sizes = [
        Wanted::standard(320, 240, Method::Scale),
        Wanted::standard(96, 96, Method::Crop),
        Wanted::standard(5_000, 5_000, Method::Scale),
    ];
    let made = make(&photo, &sizes).unwrap();
    let mut found = Vec::new();
    for made in &made {
        let Made::Thumbnail(made) = made else {
            panic!("{made:?}");
        };
        assert_eq!(made.content_type, "image/jpeg");
        assert!(!made.bytes.windows(4).any(|at| at == b"Exif"));
        let decoded = image::load_from_memory(&made.bytes).unwrap();
        found.push((decoded.width(), decoded.height()));
    }
    assert_eq!(found, [(180, 240), (96, 96), (1_500, 2_000)]);
}

#[test]
fn only_what_is_transparent_stays_a_png() {
    let made_of = |alpha| {
        let pixels = image::RgbaImage::from_pixel(400, 400, image::Rgba([1, 2, 3, alpha]));
        let mut out = std::io::Cursor::new(Vec::new());
        image::DynamicImage::from(pixels)
            .write_to(&mut out, image::ImageFormat::Png)
            .unwrap();
        let sizes = [Wanted::standard(320, 240, Method::Scale)];
        match &make(&out.into_inner(), &sizes).unwrap()[..] {
            [Made::Thumbnail(made)] => made.content_type.clone(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(made_of(255), "image/jpeg");
    assert_eq!(made_of(254), "image/png");
}

#[test]
fn cve_2024_53863_pictures_that_lie_are_refused_in_words() {
    let mut bomb = picture(10, 10, image::ImageFormat::Png);
    bomb[16..24].copy_from_slice(&[0, 1, 0, 0, 0, 1, 0, 0]);
    let cut = picture(400, 400, image::ImageFormat::Jpeg)[..500].to_vec();
    for bad in [b"not a picture".to_vec(), Vec::new(), bomb, cut] {
        assert!(make(&bad, &[Wanted::standard(32, 32, Method::Crop)]).is_err());
    }
}

#[tokio::test]
async fn a_large_file_of_few_pixels_is_not_kept_again_as_its_thumbnail() {
    let house = open_with(tempfile::tempdir().unwrap(), 8 << 20);
    let wanted = Wanted::standard(32, 32, Method::Scale);
    for (filler, kept) in [(10, true), (THUMB_KEPT_MAX, false)] {
        let mut file = picture(2, 2, image::ImageFormat::Png);
        file.resize(file.len() + filler, 0);
        let id = put(&house.blobs, &file, "image/png").await;
        let named = "localhost".to_owned();
        let made = house.blobs.thumbnail(named, id, wanted).await.unwrap();
        assert_eq!(made.bytes.len(), file.len());
        let key = (*blake3::hash(&file).as_bytes(), 320, 240, false);
        let row = house.blobs.store().newest().get::<Thumb>(&key).unwrap();
        assert_eq!(row.is_some(), kept);
    }
}

#[tokio::test]
async fn who_hangs_up_keeps_the_turn_until_the_picture_is_done() {
    let house = house();
    let id = put(
        &house.blobs,
        &picture(3_000, 3_000, image::ImageFormat::Png),
        "image/png",
    )
    .await;
    let wanted = Wanted::standard(32, 32, Method::Scale);
    let blobs = Arc::clone(&house.blobs);
    let asked =
        tokio::spawn(async move { blobs.thumbnail("localhost".to_owned(), id, wanted).await });
    while house.blobs.free_turns() == 2 {
        tokio::time::sleep(std::time::Duration::from_micros(100)).await;
    }
    asked.abort();
    assert!(asked.await.is_err(), "hung up before there was an answer");
    let free = house.blobs.free_turns();
    assert_eq!(free, 1, "the work still goes on, and so holds its turn");
    while house.blobs.free_turns() < 2 {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_who_ask_at_once_have_one_thumbnail_made() {
    let home = house();
    let file = picture(1_500, 1_500, image::ImageFormat::Png);
    let id = put(&home.blobs, &file, "image/png").await;
    let asked = (0..100).map(|n| {
        let (blobs, id) = (Arc::clone(&home.blobs), id.clone());
        // Two sizes that one standard size serves, and one that another does.
        let side = [200, 240, 96][n % 3];
        let method = if side == 96 {
            Method::Crop
        } else {
            Method::Scale
        };
        let wanted = Wanted::standard(side, side, method);
        tokio::spawn(async move { blobs.thumbnail("localhost".to_owned(), id, wanted).await })
    });
    for asked in asked.collect::<Vec<_>>() {
        asked.await.unwrap().unwrap();
    }
    let made = home.blobs.made.load(std::sync::atomic::Ordering::Relaxed);
    // One decoding may have made both.
    assert!((1..=2).contains(&made), "{made}");
}
