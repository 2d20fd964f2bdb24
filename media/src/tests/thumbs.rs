//! Thumbnails as they are kept and given out.

use std::{
    io::Cursor,
    sync::{Arc, atomic::Ordering},
};

use image::{DynamicImage, ImageFormat, Rgb, RgbImage, Rgba, RgbaImage};
use skerry_store::{
    Scan,
    schema::media::{Thumb, ThumbUses},
};

use super::{House, house, house_with, open_with, put};
use crate::{
    MediaError, MediaId, Method,
    picture::tests::{moving_gif, speckled},
    thumbnail::Wanted,
    thumbs::{Served, THUMB_KEPT_MAX},
};

const SMALL: Wanted = Wanted {
    width: 320,
    height: 240,
    ..Wanted::WHOLE
};

fn encoded(picture: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut out = Cursor::new(Vec::new());
    picture.into().write_to(&mut out, format).unwrap();
    out.into_inner()
}

fn picture(side: u32) -> Vec<u8> {
    let pixels = RgbImage::from_fn(side, side, |x, y| Rgb([x as u8, y as u8, 9]));
    encoded(pixels, ImageFormat::Png)
}

impl House {
    async fn thumbnail(&self, id: &MediaId, wanted: Wanted) -> Result<Served, MediaError> {
        let name = ("localhost".to_owned(), id.clone());
        self.blobs.thumbnail(name.0, name.1, wanted).await
    }

    /// Type and length of what a request gets, and whether it is the file itself.
    async fn kind(&self, id: &MediaId, wanted: Wanted) -> (String, bool) {
        match self.thumbnail(id, wanted).await.unwrap() {
            Served::Made(made) => (made.content_type, false),
            Served::Original { content_type, .. } => (content_type, true),
        }
    }

    fn drawn(&self) -> usize {
        self.blobs.made.load(Ordering::Relaxed)
    }

    /// Bytes of all thumbnails, and how many rows there are of them.
    fn kept(&self) -> (usize, usize) {
        let snap = self.blobs.store().newest();
        let rows = snap.scan::<Thumb>(Scan::all()).map(|row| row.unwrap().1);
        let sizes: Vec<usize> = rows.map(|(_, bytes)| bytes.len()).collect();
        let uses = snap.scan::<ThumbUses>(Scan::all()).count();
        assert_eq!(uses, sizes.len());
        (sizes.iter().sum(), sizes.len())
    }
}

#[tokio::test]
async fn a_file_that_serves_as_it_is_is_not_kept_twice() {
    let home = open_with(tempfile::tempdir().unwrap(), 8 << 20);
    for filler in [10, THUMB_KEPT_MAX] {
        let mut file = picture(2);
        file.resize(file.len() + filler, 0);
        let id = put(&home.blobs, &file, "text/plain").await;
        for wanted in [SMALL, Wanted::WHOLE] {
            let Served::Original {
                content_type,
                found,
            } = home.thumbnail(&id, wanted).await.unwrap()
            else {
                panic!("a small picture was made anew");
            };
            assert_eq!(content_type, "image/png", "the type is what the bytes say");
            assert_eq!(found.media.size, file.len() as u64);
        }
    }
    assert_eq!(home.kept(), (0, 4));
    let drawn = home.drawn();
    let id = put(&home.blobs, &picture(2), "image/png").await;
    home.kind(&id, SMALL).await;
    home.kind(&id, SMALL).await;
    assert_eq!(home.drawn(), drawn + 1, "and looked at once");
}

#[tokio::test]
async fn forms_that_are_the_same_are_made_and_kept_once() {
    let home = house();
    let photo = put(&home.blobs, &picture(500), "image/png").await;
    for (animated, webp) in [(true, false), (false, false), (true, true), (false, true)] {
        let got = home.kind(&photo, SMALL.in_form(animated, webp)).await;
        assert_eq!(got, ("image/jpeg".to_owned(), false));
    }
    // What refers to it came when it was asked for.
    let drawn = home.drawn();
    for (animated, webp) in [(true, false), (false, false), (true, true), (false, true)] {
        home.kind(&photo, SMALL.in_form(animated, webp)).await;
    }
    assert_eq!(home.drawn(), drawn);
    let plain = SMALL.size_of(500, 500);
    assert_eq!(plain, (240, 240));

    let glass = encoded(
        RgbaImage::from_pixel(500, 500, Rgba([1, 2, 3, 9])),
        ImageFormat::Png,
    );
    let glass = put(&home.blobs, &glass, "image/png").await;
    assert_eq!(home.kind(&glass, SMALL).await.0, "image/webp");
    let got = home.kind(&glass, SMALL.in_form(true, false)).await;
    assert_eq!(got.0, "image/png");

    let moves = put(&home.blobs, &moving_gif(500, 3), "image/gif").await;
    for ((animated, webp), kind) in [
        ((true, true), "image/webp"),
        ((true, false), "image/gif"),
        ((false, true), "image/jpeg"),
        ((false, false), "image/jpeg"),
    ] {
        let got = home.kind(&moves, SMALL.in_form(animated, webp)).await;
        assert_eq!(got, (kind.to_owned(), false));
        let got = home
            .kind(&moves, Wanted::WHOLE.in_form(animated, webp))
            .await;
        let kind = if animated { "image/gif" } else { "image/jpeg" };
        assert_eq!(got, (kind.to_owned(), animated), "in its own size");
    }
}

#[tokio::test]
async fn what_a_form_refers_to_may_be_gone() {
    let home = house();
    let id = put(&home.blobs, &picture(500), "image/png").await;
    let wanted = SMALL.in_form(true, false);
    home.kind(&id, wanted).await;
    let store = home.blobs.store();
    let mut write = store.write();
    let rows = store.newest();
    for row in rows.scan::<Thumb>(Scan::all()) {
        let (key, (kind, _)) = row.unwrap();
        if !kind.is_empty() {
            write.delete::<Thumb>(&key);
            write.delete::<ThumbUses>(&key);
        }
    }
    let _ = store.commit(write).unwrap();
    let drawn = home.drawn();
    assert_eq!(home.kind(&id, wanted).await.0, "image/jpeg");
    assert_eq!(home.drawn(), drawn + 1);
}

#[tokio::test]
async fn no_picture_no_thumbnail() {
    let home = house();
    for bad in [&b"no picture"[..], b"", b"\xff\xd8\xff\xe0 almost one"] {
        let id = put(&home.blobs, bad, "image/jpeg").await;
        for wanted in [SMALL, Wanted::WHOLE] {
            let refused = home.thumbnail(&id, wanted).await;
            assert!(matches!(refused, Err(MediaError::NoThumbnail(_))));
        }
    }
}

#[tokio::test]
async fn who_hangs_up_keeps_the_turn_until_the_picture_is_done() {
    let home = open_with(tempfile::tempdir().unwrap(), 50 << 20);
    let id = put(&home.blobs, &picture(3_000), "image/png").await;
    let blobs = Arc::clone(&home.blobs);
    let asked =
        tokio::spawn(async move { blobs.thumbnail("localhost".to_owned(), id, SMALL).await });
    while home.blobs.free_turns() == 2 {
        tokio::time::sleep(std::time::Duration::from_micros(100)).await;
    }
    asked.abort();
    assert!(asked.await.is_err(), "hung up before there was an answer");
    let free = home.blobs.free_turns();
    assert_eq!(free, 1, "the work still goes on, and so holds its turn");
    while home.blobs.free_turns() < 2 {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_who_ask_at_once_have_one_thumbnail_made() {
    let home = open_with(tempfile::tempdir().unwrap(), 50 << 20);
    let id = put(&home.blobs, &picture(1_500), "image/png").await;
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
    // One decoding may have made both.
    assert!((1..=2).contains(&home.drawn()), "{}", home.drawn());
}

#[tokio::test]
async fn thumbnails_in_advance_are_there_when_they_are_asked_for() {
    let home = house_with(|settings| {
        settings.thumbnails_in_advance = true;
        settings.max_upload = 50 << 20;
    });
    let id = put(&home.blobs, &speckled(1_000, 800), "image/jpeg").await;
    assert_eq!(home.blobs.was_uploaded(&id, false).await, None);
    while home.kept().1 < Wanted::all_standard().len() {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    for wanted in Wanted::all_standard() {
        assert_eq!(home.kind(&id, wanted).await.0, "image/jpeg");
    }
    assert_eq!(home.drawn(), 1, "one decoding made them all");
    // No picture, nothing to do.
    let id = put(&home.blobs, b"plain text", "image/png").await;
    assert_eq!(home.blobs.was_uploaded(&id, true).await, None);
    assert_eq!(home.drawn(), 1);
}

#[tokio::test]
async fn a_blurhash_comes_when_it_is_asked_for() {
    let home = house();
    let id = put(&home.blobs, &picture(90), "image/png").await;
    assert_eq!(home.blobs.was_uploaded(&id, false).await, None);
    assert_eq!(home.drawn(), 0);
    let blurhash = home.blobs.was_uploaded(&id, true).await.unwrap();
    assert_eq!(blurhash.len(), 28, "{blurhash}");
    assert_eq!(home.kept(), (0, 0));
}
