//! Each format in each form.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::Cursor;

use super::*;
use image::{
    AnimationDecoder as _, Delay, DynamicImage, Frame, GenericImageView as _, ImageBuffer,
    ImageFormat, Luma, Rgb, RgbImage, Rgba, RgbaImage,
    codecs::{
        gif::{GifDecoder, GifEncoder, Repeat},
        jpeg::JpegEncoder,
        webp::WebPDecoder,
    },
    metadata::LoopCount,
};

mod bad;

const BOUNDS: Bounds = Bounds {
    pixels: 50_000_000,
    memory: 128 << 20,
};
const SMALL: Wanted = Wanted {
    width: 320,
    height: 240,
    ..Wanted::WHOLE
};

fn draw(source: &[u8], sizes: &[Wanted]) -> Result<Vec<Made>, String> {
    let order = Order {
        sizes: sizes.to_vec(),
        blurhash: false,
        bounds: BOUNDS,
    };
    make(source, &order).map(|drawn| drawn.made)
}

fn one(source: &[u8], wanted: Wanted) -> Made {
    draw(source, &[wanted]).unwrap().remove(0)
}

fn decoded(made: &Made) -> DynamicImage {
    image::load_from_memory(made.bytes.as_ref().expect("made anew")).unwrap()
}

fn encoded(picture: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut out = Cursor::new(Vec::new());
    picture.into().write_to(&mut out, format).unwrap();
    out.into_inner()
}

/// Numbers that look like chance, the same each time.
fn noise() -> impl FnMut() -> u32 {
    let mut state = 0x9e37_79b9_u32;
    move || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state
    }
}

/// A photo, with noise as cameras make it.
fn photo(width: u32, height: u32) -> RgbImage {
    let mut noise = noise();
    RgbImage::from_fn(width, height, |x, y| {
        let grain = noise() % 40;
        let light = |n: u32| (60 + (x * n / 7 + y) % 120 + grain) as u8;
        Rgb([light(1), light(2), light(3)])
    })
}

/// The same as a JPEG.
pub(crate) fn speckled(width: u32, height: u32) -> Vec<u8> {
    encoded(photo(width, height), ImageFormat::Jpeg)
}

/// A GIF in which a bar goes from left to right.
pub(crate) fn moving_gif(side: u32, frames: u32) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = GifEncoder::new_with_speed(&mut out, 30);
    encoder.set_repeat(Repeat::Finite(3)).unwrap();
    for n in 0..frames {
        let bar = |x: u32, _| match x / 20 == n {
            true => Rgba([250, 20, 20, 255]),
            false => Rgba([20, 20, 250, 255]),
        };
        let picture = RgbaImage::from_fn(side, side, bar);
        let delay = Delay::from_numer_denom_ms(70, 1);
        let frame = Frame::from_parts(picture, 0, 0, delay);
        encoder.encode_frame(frame).unwrap();
    }
    drop(encoder);
    out
}

/// A quarter of a picture each in red, green, blue and white.
fn quarters(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        match (x < width / 2, y < height / 2) {
            (true, true) => Rgb([255, 0, 0]),
            (false, true) => Rgb([0, 255, 0]),
            (true, false) => Rgb([0, 0, 255]),
            (false, false) => Rgb([255; 3]),
        }
    })
}

/// The same JPEG with an orientation in its Exif.
fn turned(jpeg: &[u8], orientation: u8) -> Vec<u8> {
    let mut exif =
        *b"\xff\xe1\x00\x22Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x00\0\0\0\0\0\0\0";
    exif[28] = orientation;
    [&jpeg[..2], &exif[..], &jpeg[2..]].concat()
}

/// Which of the four colours a pixel has.
fn colour(picture: &DynamicImage, x: u32, y: u32) -> char {
    let Rgba([r, g, b, _]) = picture.get_pixel(x, y);
    match (r > 128, g > 128, b > 128) {
        (true, false, false) => 'r',
        (false, true, false) => 'g',
        (false, false, true) => 'b',
        (true, true, true) => 'w',
        other => panic!("{other:?}"),
    }
}

#[test]
fn thumbnails_fit_and_never_enlarge() {
    use ImageFormat::{Gif, Jpeg, Png, WebP};
    for format in [Jpeg, Png, Gif, WebP] {
        let source = encoded(quarters(400, 200), format);
        let size = |width, height, method| {
            let made = one(&source, Wanted::standard(width, height, method));
            match made.bytes {
                Some(_) => decoded(&made).dimensions(),
                None => (400, 200),
            }
        };
        assert_eq!(size(90, 90, Method::Crop), (96, 96));
        assert_eq!(size(300, 200, Method::Scale), (320, 160));
        assert_eq!(size(800, 600, Method::Scale), (400, 200));
        assert_eq!(size(4000, 1, Method::Scale), (400, 200));
    }
}

#[test]
fn photos_come_upright_and_without_metadata_however_they_were_taken() {
    let jpeg = encoded(quarters(400, 320), ImageFormat::Jpeg);
    // Left to right, top to bottom, as Exif says what the stored rows and columns are.
    for (orientation, corners) in [
        (1, "rgbw"),
        (2, "grwb"),
        (3, "wbgr"),
        (4, "bwrg"),
        (5, "rbgw"),
        (6, "brwg"),
        (7, "wgbr"),
        (8, "gwrb"),
    ] {
        let photo = turned(&jpeg, orientation);
        let crop = Wanted::standard(96, 96, Method::Crop);
        for (wanted, upright) in [(SMALL, (300, 240)), (crop, (96, 96))] {
            let made = one(&photo, wanted);
            let bytes = made.bytes.as_ref().unwrap();
            assert!(!bytes.windows(4).any(|at| at == b"Exif"));
            let picture = decoded(&made);
            let (width, height) = picture.dimensions();
            match (wanted.crop(), orientation) {
                (true, _) | (false, ..5) => assert_eq!((width, height), upright),
                _ => assert_eq!((width, height), (192, 240)),
            }
            let at = |x: u32, y: u32| colour(&picture, width * x / 4, height * y / 4);
            let found: String = [at(1, 1), at(3, 1), at(1, 3), at(3, 3)].iter().collect();
            assert_eq!(found, corners, "orientation {orientation}");
        }
        // What is small enough and stored askew is turned; in its own size it is the original.
        let large = Wanted::standard(800, 600, Method::Scale);
        assert_eq!(one(&photo, large).bytes.is_none(), orientation == 1);
        assert!(one(&photo, Wanted::WHOLE).bytes.is_none());
    }
}

#[test]
fn one_decoding_makes_all_sizes() {
    let photo = encoded(quarters(2_000, 1_500), ImageFormat::Jpeg);
    let mut sizes = Wanted::all_standard();
    sizes.push(Wanted::WHOLE);
    let made = draw(&photo, &sizes).unwrap();
    let sides = made.iter().take(5).map(|made| decoded(made).dimensions());
    let sides: Vec<_> = sides.collect();
    assert_eq!(
        sides,
        [(800, 600), (640, 480), (320, 240), (96, 96), (32, 32)]
    );
    assert_eq!(made[5].bytes, None);
}

#[test]
fn pngs_of_all_depths_become_what_they_show() {
    let deep = ImageBuffer::from_fn(500, 500, |x, y| {
        Rgb([(x * 100) as u16, (y * 100) as u16, 7])
    });
    let deep_glass = ImageBuffer::from_pixel(500, 500, Rgba([50_000_u16, 9, 9, 30_000]));
    let gray = ImageBuffer::from_fn(500, 500, |x, _| Luma([x as u8]));
    let deep_gray = ImageBuffer::from_fn(500, 500, |x, _| Luma([(x * 100) as u16]));
    let glass = RgbaImage::from_fn(500, 500, |x, y| Rgba([x as u8, y as u8, 0, x as u8]));
    let full = RgbaImage::from_pixel(500, 500, Rgba([9, 99, 199, 255]));
    let all: [(DynamicImage, &str); 6] = [
        (deep.into(), "image/jpeg"),
        (deep_glass.into(), "image/webp"),
        (gray.into(), "image/jpeg"),
        (deep_gray.into(), "image/jpeg"),
        (glass.into(), "image/webp"),
        (full.into(), "image/jpeg"),
    ];
    for (picture, kind) in all {
        let source = encoded(picture, ImageFormat::Png);
        let made = one(&source, SMALL);
        assert_eq!(made.content_type, kind);
        let shown = decoded(&made);
        assert_eq!(shown.dimensions(), (240, 240));
        assert_eq!(shown.color().has_alpha(), kind == "image/webp");
        let plain = one(&source, SMALL.in_form(false, false));
        let instead = kind.replace("webp", "png");
        assert_eq!(plain.content_type, instead, "for those who take no WebP");
        let expected = image::load_from_memory(&source).unwrap().to_rgba8();
        let expected = expected.get_pixel(300, 200).0;
        let shown = shown.to_rgba8().get_pixel(144, 96).0;
        for (shown, expected) in shown.iter().zip(expected) {
            assert!(shown.abs_diff(expected) < 16, "{shown} for {expected}");
        }
    }
}

#[test]
fn webps_are_read_in_all_their_forms() {
    let still = encoded(quarters(500, 400), ImageFormat::WebP);
    assert_eq!(one(&still, SMALL).content_type, "image/jpeg");
    let glass = RgbaImage::from_fn(500, 400, |x, y| Rgba([x as u8, y as u8, 0, y as u8]));
    // Without loss, and with.
    let lossless = encoded(glass.clone(), ImageFormat::WebP);
    let lossy = webp::encode(&glass, 80.0).unwrap();
    for source in [lossless, lossy] {
        let made = one(&source, SMALL);
        assert_eq!(made.content_type, "image/webp");
        let shown = decoded(&made).to_rgba8();
        assert!(shown.get_pixel(10, 2).0[3] < 20);
        assert!(shown.get_pixel(10, 140).0[3] > 200);
        // Small enough, but not for those who take no WebP.
        let large = Wanted::standard(800, 600, Method::Scale);
        assert_eq!(one(&source, large).bytes, None);
        let plain = one(&source, large.in_form(false, false));
        assert_eq!(plain.content_type, "image/png");
        assert_eq!(decoded(&plain).dimensions(), (500, 400));
    }
}

#[test]
fn what_moves_goes_on_moving_where_that_is_wanted() {
    let gif = moving_gif(400, 4);
    assert_eq!(frames::count(&gif, ImageFormat::Gif), 4);
    let made = one(&gif, SMALL.in_form(true, true));
    assert_eq!(
        (&made.content_type[..], made.animated),
        ("image/webp", true)
    );
    let webp = made.bytes.unwrap();
    let decoder = WebPDecoder::new(Cursor::new(&webp)).unwrap();
    let times = decoder.loop_count();
    assert!(matches!(times, LoopCount::Finite(times) if times.get() == 3));
    let shown = decoder.into_frames().collect_frames().unwrap();
    let delays: Vec<_> = shown.iter().map(|f| f.delay().numer_denom_ms().0).collect();
    assert_eq!(delays, [70; 4]);
    for (n, frame) in shown.iter().enumerate() {
        let picture = frame.buffer();
        assert_eq!(picture.dimensions(), (240, 240));
        let Rgba([red, _, blue, _]) = *picture.get_pixel(12 * n as u32 + 6, 100);
        assert!(red > 180 && blue < 90, "frame {n}: {red} {blue}");
    }

    let made = one(&gif, SMALL.in_form(true, false));
    assert_eq!((&made.content_type[..], made.animated), ("image/gif", true));
    let decoder = GifDecoder::new(Cursor::new(made.bytes.as_ref().unwrap())).unwrap();
    assert_eq!(decoder.into_frames().collect_frames().unwrap().len(), 4);

    // The animated WebP is read as well.
    assert_eq!(frames::count(&webp, ImageFormat::WebP), 4);
    let crop = Wanted::standard(96, 96, Method::Crop);
    let made = draw(&webp, &[crop.in_form(true, true), crop]).unwrap();
    assert_eq!(made[0].content_type, "image/webp");
    let bytes = made[0].bytes.as_ref().unwrap();
    assert_eq!(frames::count(bytes, ImageFormat::WebP), 4);
    assert_eq!(
        (&made[1].content_type[..], made[1].animated),
        ("image/jpeg", false)
    );

    // Nobody asked for it to move.
    let still = one(&gif, SMALL);
    assert_eq!(
        (&still.content_type[..], still.animated),
        ("image/jpeg", false)
    );
    assert_eq!(colour(&decoded(&still), 6, 100), 'r', "the first frame");
    // A GIF of one picture does not move.
    let one_frame = one(&moving_gif(400, 1), SMALL.in_form(true, true));
    assert_eq!(
        (&one_frame.content_type[..], one_frame.animated),
        ("image/jpeg", false)
    );
}

#[test]
fn what_moves_for_too_long_stands_still() {
    let order = Order {
        sizes: vec![SMALL.in_form(true, true)],
        blurhash: false,
        bounds: Bounds {
            pixels: 400 * 400 * 3,
            ..BOUNDS
        },
    };
    let made = make(&moving_gif(400, 3), &order).unwrap().made;
    assert!(made[0].animated);
    let made = make(&moving_gif(400, 4), &order).unwrap().made;
    assert_eq!(
        (&made[0].content_type[..], made[0].animated),
        ("image/jpeg", false)
    );
}

#[test]
fn a_photo_is_never_larger_than_its_jpeg_would_be() {
    let photo = photo(800, 600);
    let jpeg = |picture: &RgbImage| {
        let mut out = Vec::new();
        let encoder = JpegEncoder::new_with_quality(&mut out, 80);
        picture.write_with_encoder(encoder).unwrap();
        out.len()
    };
    // Only rounded at a corner, as screens are taken.
    let cut = RgbaImage::from_fn(800, 600, |x, y| {
        let Rgb([r, g, b]) = *photo.get_pixel(x, y);
        let inside = (f64::from(x).powi(2) + f64::from(y).powi(2)).sqrt() > 40.0;
        Rgba([r, g, b, if inside { 255 } else { 0 }])
    });
    let source = encoded(cut, ImageFormat::Png);
    let made = one(&source, SMALL);
    assert_eq!(made.content_type, "image/webp");
    let most = jpeg(&decoded(&made).to_rgb8());
    let size = made.bytes.unwrap().len();
    assert!(size <= most, "{size} bytes, a JPEG has {most}");
    let made = one(&encoded(photo, ImageFormat::Png), SMALL);
    assert_eq!(made.content_type, "image/jpeg");
}

#[test]
fn an_avif_goes_out_as_it_is() {
    let avif = b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miafwhatever follows";
    let made = draw(avif, &[SMALL, Wanted::WHOLE]).unwrap();
    assert_eq!(made, vec![as_it_is(ImageFormat::Avif, false); 2]);
}

/// A gray JPEG of nothing but the same block, whose two tables have one word of one bit each.
fn plain_jpeg(width: u16, height: u16) -> Vec<u8> {
    let mut jpeg = b"\xff\xd8\xff\xdb\x00\x43\x00".to_vec();
    jpeg.extend([1; 64]);
    jpeg.extend(b"\xff\xc0\x00\x0b\x08");
    jpeg.extend(height.to_be_bytes());
    jpeg.extend(width.to_be_bytes());
    jpeg.extend(b"\x01\x01\x11\x00");
    for table in [0x00, 0x10] {
        jpeg.extend([0xff, 0xc4, 0x00, 0x14, table, 1]);
        jpeg.extend([0; 16]);
    }
    jpeg.extend(b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00");
    let blocks = usize::from(width).div_ceil(8) * usize::from(height).div_ceil(8);
    jpeg.resize(jpeg.len() + (blocks * 2).div_ceil(8), 0);
    jpeg.extend(b"\xff\xd9");
    jpeg
}

#[test]
fn a_photo_of_200_megapixels_gets_its_thumbnails() {
    let photo = turned(&plain_jpeg(16_320, 12_240), 6);
    let made = draw(&photo, &Wanted::all_standard()).unwrap();
    assert_eq!(decoded(&made[0]).dimensions(), (450, 600));
    assert_eq!(decoded(&made[4]).dimensions(), (32, 32));
    // In its own size it is not decoded at all.
    assert_eq!(one(&photo, Wanted::WHOLE).bytes, None);
}

#[test]
fn blurhashes_say_what_a_picture_looks_like() {
    let order = Order {
        sizes: Vec::new(),
        blurhash: true,
        bounds: BOUNDS,
    };
    let of = |picture: RgbImage| {
        let source = encoded(picture, ImageFormat::Png);
        make(&source, &order).unwrap().blurhash.unwrap()
    };
    // Nothing but darkness: each term is in the middle of its range.
    let black = of(RgbImage::new(64, 48));
    assert_eq!(black, format!("L00000{}", "fQ".repeat(11)));
    // One colour: four digits say it.
    let red = of(RgbImage::from_pixel(64, 48, Rgb([255, 0, 0])));
    assert_eq!(&red[2..6], "TI:j");
    assert_eq!(red.len(), 28);
    let tall = of(RgbImage::from_pixel(48, 64, Rgb([255, 0, 0])));
    assert_ne!(tall[..1], red[..1], "three terms across, four down");
    let white = of(RgbImage::from_pixel(64, 48, Rgb([255; 3])));
    assert_ne!(white, red);
    assert_ne!(of(quarters(64, 48)), red);
}
