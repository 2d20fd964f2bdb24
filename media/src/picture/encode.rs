//! One picture into bytes. Metadata stays behind.

use std::io::Cursor;

use image::{DynamicImage, ImageError, ImageFormat, codecs::jpeg::JpegEncoder};

use super::webp;

const JPEG_QUALITY: u8 = 80;
/// Qualities of WebPs, tried until one is no larger than the JPEG would be.
const WEBP_QUALITIES: &[f32] = &[80.0, 60.0, 40.0, 20.0];

/// Type and bytes: a JPEG of what is opaque, else a WebP, or a PNG where that is not taken.
pub fn still(picture: &DynamicImage, webp: bool) -> Result<(&'static str, Vec<u8>), String> {
    let words = |error: ImageError| error.to_string();
    if is_opaque(picture) {
        return Ok(("image/jpeg", jpeg(picture).map_err(words)?));
    }
    let picture = DynamicImage::from(picture.to_rgba8());
    if webp && let Some(bytes) = transparent(&picture)? {
        return Ok(("image/webp", bytes));
    }
    let mut out = Cursor::new(Vec::new());
    picture
        .write_to(&mut out, ImageFormat::Png)
        .map_err(words)?;
    Ok(("image/png", out.into_inner()))
}

fn jpeg(picture: &DynamicImage) -> Result<Vec<u8>, ImageError> {
    let mut out = Vec::new();
    let encoder = JpegEncoder::new_with_quality(&mut out, JPEG_QUALITY);
    match picture {
        DynamicImage::ImageLuma8(gray) => gray.write_with_encoder(encoder)?,
        DynamicImage::ImageRgb8(picture) => picture.write_with_encoder(encoder)?,
        picture => picture.to_rgb8().write_with_encoder(encoder)?,
    }
    Ok(out)
}

/// A WebP; none of what is too large for one.
fn transparent(picture: &DynamicImage) -> Result<Option<Vec<u8>>, String> {
    let (DynamicImage::ImageRgba8(pixels), true) = (picture, webp::fits(picture)) else {
        return Ok(None);
    };
    let jpeg = jpeg(picture).map_err(|error| error.to_string())?.len();
    let mut least: Option<Vec<u8>> = None;
    for quality in WEBP_QUALITIES {
        let bytes = webp::encode(pixels, *quality)?;
        if least.as_ref().is_none_or(|least| bytes.len() < least.len()) {
            least = Some(bytes);
        }
        if least.as_ref().is_some_and(|least| least.len() <= jpeg) {
            break;
        }
    }
    Ok(least)
}

fn is_opaque(picture: &DynamicImage) -> bool {
    if !picture.color().has_alpha() {
        return true;
    }
    let opaque = |alpha: u8| alpha == u8::MAX;
    match picture {
        DynamicImage::ImageRgba8(picture) => picture.pixels().all(|p| opaque(p.0[3])),
        picture => picture.to_rgba8().pixels().all(|p| opaque(p.0[3])),
    }
}
