//! Thumbnails of photos that nobody asked for before.

use std::io::Cursor;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use image::codecs::jpeg::JpegEncoder;
use image::imageops::FilterType;
use image::{ImageFormat, Rgb, RgbImage};

use crate::Outcome;
use crate::report::{Report, Target};
use crate::world::World;

/// Connections that ask at once, each for the next thumbnail that is missing.
const ASKERS: usize = 8;
/// Photos that the plain way is measured with.
const PLAIN: usize = 8;
/// Both sizes of each photo, in requests of their own.
const SIZES: [&str; 2] = [
    "width=320&height=240&method=scale",
    "width=96&height=96&method=crop",
];

/// A noisy photo of 2000 x 1500 pixels, some 1 MB as a JPEG.
fn photo(seed: u32) -> Outcome<Vec<u8>> {
    let mut state = seed | 1;
    let mut noise = move || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        f64::from(state % 41) - 20.0
    };
    let pixels = RgbImage::from_fn(2000, 1500, |x, y| {
        let (across, down) = (f64::from(x) / 2000.0, f64::from(y) / 1500.0);
        let light = ((across * 9.0).sin() + (down * 7.0).cos()) * 60.0;
        let grain = noise();
        let channel = |share: f64| (128.0 + light * share + grain) as u8;
        Rgb([channel(1.0), channel(0.7), channel(0.4)])
    });
    let mut out = Vec::new();
    JpegEncoder::new_with_quality(&mut out, 85).encode_image(&pixels)?;
    Ok(out)
}

/// Cold thumbnails by HTTP, beside what a plain decoding and resizing does in one thread.
pub(crate) fn thumbnails(world: &mut World, report: &mut Report) -> Outcome<()> {
    let mut world = world.fresh()?;
    let owner = world.users(1)?.first().ok_or("no users")?.clone();
    let photos = [photo(7)?, photo(11)?, photo(13)?];
    let size = photos.iter().map(Vec::len).sum::<usize>() / photos.len();
    report.add("a photo", size as f64 / 1e6, "MB", Target::None);
    let mut paths = Vec::new();
    let mut conn = world.conn(&owner);
    for n in 0..world.times(150) {
        let mut file = photos.get(n % photos.len()).ok_or("no photo")?.clone();
        // Behind its end, so that each is another file.
        file.extend(n.to_be_bytes());
        let path = "/_matrix/media/v3/upload";
        let answer = conn.upload(path, "image/jpeg", &file)?.json()?;
        let mxc = answer.get("content_uri").and_then(|uri| uri.as_str());
        let mxc = mxc.and_then(|uri| uri.strip_prefix("mxc://"));
        let mxc = mxc.ok_or("an upload without a URI")?;
        for size in SIZES {
            let path = format!("/_matrix/client/v1/media/thumbnail/{mxc}?{size}");
            paths.push(path);
        }
    }
    let (next, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (elapsed, most) = std::thread::scope(|scope| {
        let watch = scope.spawn(|| -> Outcome<f64> {
            let mut most: f64 = 0.0;
            while !over.load(Ordering::Relaxed) {
                most = most.max(world.server.family_memory()?);
                std::thread::sleep(Duration::from_millis(20));
            }
            Ok(most)
        });
        let began = Instant::now();
        let askers: Vec<_> = (0..ASKERS)
            .map(|_| {
                let mut conn = world.conn(&owner);
                let (paths, next) = (&paths, &next);
                scope.spawn(move || -> Outcome<()> {
                    while let Some(path) = paths.get(next.fetch_add(1, Ordering::Relaxed)) {
                        conn.good("GET", path, "")?;
                    }
                    Ok(())
                })
            })
            .collect();
        let mut outcome = Ok(());
        for asker in askers {
            outcome = outcome.and(asker.join().map_err(|_| "an asker panicked")?);
        }
        let elapsed = began.elapsed().as_secs_f64();
        over.store(true, Ordering::Relaxed);
        let most = watch.join().map_err(|_| "the watch panicked")??;
        outcome.map(|()| (elapsed, most))
    })?;
    let rate = paths.len() as f64 / elapsed;
    report.add("cold thumbnails", rate, "/s", Target::AtLeast(150.0));
    report.add(
        "the same: memory with the workers",
        most,
        "MiB",
        Target::AtMost(150.0),
    );
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let plain = plain(&photos)?;
    report.add("decoded plainly, one core", plain, "/s", Target::None);
    report.add(
        "cold thumbnails for each core, by that",
        rate / cores as f64 / plain,
        "",
        Target::AtLeast(2.0),
    );
    Ok(())
}

/// Thumbnails a second in one thread by the `image` crate alone.
fn plain(photos: &[Vec<u8>]) -> Outcome<f64> {
    let began = Instant::now();
    let mut made = 0;
    for photo in photos.iter().cycle().take(PLAIN) {
        for size in [(320, 240), (96, 96)] {
            let picture = image::load_from_memory_with_format(photo, ImageFormat::Jpeg)?;
            let small = match size.0 == size.1 {
                true => picture.resize_to_fill(size.0, size.1, FilterType::Lanczos3),
                false => picture.resize(size.0, size.1, FilterType::Lanczos3),
            };
            let mut out = Cursor::new(Vec::new());
            small.write_to(&mut out, ImageFormat::Jpeg)?;
            made += 1;
        }
    }
    Ok(f64::from(made) / began.elapsed().as_secs_f64())
}
