//! Pictures that lie, and damaged ones.

use image::ImageFormat;
use proptest::prelude::*;

use super::*;

#[test]
fn bombs_are_refused_before_they_are_decoded() {
    let refused = |source: &[u8], wanted| draw(source, &[wanted]).unwrap_err();
    let mut png = encoded(quarters(10, 10), ImageFormat::Png);
    let sides = |png: &mut Vec<u8>, width: u32, height: u32| {
        png[16..20].copy_from_slice(&width.to_be_bytes());
        png[20..24].copy_from_slice(&height.to_be_bytes());
        let sum = png[12..29].iter().fold(u32::MAX, |mut sum, byte| {
            sum ^= u32::from(*byte);
            for _ in 0..8 {
                sum = (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg());
            }
            sum
        });
        png[29..33].copy_from_slice(&(!sum).to_be_bytes());
    };
    sides(&mut png, 10_000, 5_001);
    assert!(refused(&png, SMALL).contains("too large to decode"));
    sides(&mut png, 70_000, 1);
    refused(&png, SMALL);
    sides(&mut png, 0, 10);
    refused(&png, SMALL);
    // Within the pixels, but not within the memory.
    sides(&mut png, 7_000, 7_000);
    assert!(refused(&png, SMALL).contains("memory"));
    // Even an eighth of it is too large.
    let order = Order {
        sizes: vec![SMALL],
        blurhash: false,
        bounds: Bounds {
            pixels: 100_000,
            ..BOUNDS
        },
    };
    let why = make(&plain_jpeg(8_000, 8_000), &order).unwrap_err();
    assert!(why.contains("too large to decode"), "{why}");
    // In passes, whose coefficients are kept; as large as they are in the header.
    let mut passes = plain_jpeg(16_000, 16_000);
    let at = passes.windows(2).position(|at| at == b"\xff\xc0").unwrap();
    passes[at + 1] = 0xc2;
    assert!(refused(&passes, SMALL).contains("memory"));
    let mut gif = moving_gif(20, 2);
    gif[6..10].copy_from_slice(&[0xff; 4]);
    refused(&gif, SMALL);
    refused(&gif, SMALL.in_form(true, true));
}

#[test]
fn cve_2024_53863_what_only_says_that_it_is_a_picture_is_refused_in_words() {
    use ImageFormat::{Gif, Jpeg, Png, WebP};
    let mut bad = vec![
        b"not a picture".to_vec(),
        Vec::new(),
        b"<svg xmlns=\"http://www.w3.org/2000/svg\"/>".to_vec(),
        b"BM\x1a\0\0\0 a bitmap that nobody decodes here".to_vec(),
        b"GIF89a<script>alert(1)</script>".to_vec(),
        b"RIFF\x20\0\0\0WEBPVP8 and nothing good".to_vec(),
        b"\x89PNG\r\n\x1a\nPK\x03\x04".to_vec(),
    ];
    for format in [Jpeg, Png, Gif, WebP] {
        let whole = encoded(photo(400, 300), format);
        for end in [4, 20, 100, 500] {
            bad.push(whole[..end].to_vec());
        }
        // The beginning of one and the rest of another.
        for other in [Jpeg, Png, Gif, WebP] {
            if other != format {
                let rest = encoded(photo(40, 30), other);
                bad.push([&whole[..16], &rest[..]].concat());
            }
        }
    }
    for source in bad {
        let head = String::from_utf8_lossy(&source[..source.len().min(24)]).into_owned();
        let made = draw(&source, &[SMALL]);
        let why = made.expect_err(&head);
        assert!(!why.is_empty());
        // Also where its own size would do, for all that is no larger than a thumbnail.
        let large = Wanted::standard(800, 600, Method::Scale);
        assert!(draw(&source, &[large]).is_err(), "{head}");
    }
}

#[test]
fn nothing_of_what_stands_behind_a_picture_is_in_its_thumbnail() {
    for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::Gif] {
        let mut source = encoded(quarters(400, 300), format);
        source.extend(b"<script>alert(1)</script>PK\x03\x04");
        let made = one(&source, SMALL);
        let bytes = made.bytes.unwrap();
        assert!(!bytes.windows(7).any(|at| at == b"<script"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is changed in a file, there is an answer, and no thumbnail larger than asked for.
    #[test]
    fn damaged_files_have_an_answer(
        which in 0_usize..5,
        places in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        animated: bool,
    ) {
        let pixels = quarters(60, 40);
        let mut source = match which {
            0 => encoded(pixels, ImageFormat::Jpeg),
            1 => encoded(pixels, ImageFormat::Png),
            2 => moving_gif(60, 3),
            3 => encoded(pixels, ImageFormat::WebP),
            _ => one(&moving_gif(120, 3), Wanted::standard(96, 96, Method::Crop)
                .in_form(true, true)).bytes.unwrap().to_vec(),
        };
        for (place, byte) in places {
            let at = place.index(source.len());
            source[at] = byte;
        }
        let wanted = Wanted::standard(32, 32, Method::Crop).in_form(animated, true);
        if let Ok(made) = draw(&source, &[wanted])
            && made[0].bytes.is_some()
        {
            let (width, height) = decoded(&made[0]).dimensions();
            prop_assert!(width <= 32 && height <= 32);
        }
    }
}
