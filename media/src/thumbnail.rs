//! Smaller pictures. Nothing that was uploaded is trusted: the format is read from the bytes, and
//! the dimensions are bounded before a pixel is decoded.

use std::io::Cursor;

use bytes::Bytes;
use image::{
    DynamicImage, ImageDecoder as _, ImageFormat, ImageReader, Limits, codecs::jpeg::JpegEncoder,
    imageops::FilterType, metadata::Orientation,
};

/// The largest file a thumbnail is made from, in bytes.
pub const SOURCE_MAX: u64 = 50 * 1024 * 1024;
/// The largest picture that is decoded: pixels on a side, and bytes of memory.
const SIDE_MAX: u32 = 16_384;
const DECODED_MAX: u64 = 256 * 1024 * 1024;
const JPEG_QUALITY: u8 = 80;

/// The sizes that are made; a request gets the smallest that is large enough.
const SCALES: &[(u32, u32)] = &[(320, 240), (640, 480), (800, 600)];
const CROPS: &[(u32, u32)] = &[(32, 32), (96, 96)];

/// How a picture is fitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Keep the aspect ratio; the picture covers what was asked for in one direction at least.
    Scale,
    /// Have the aspect ratio asked for, cutting what stands over.
    Crop,
}

/// A thumbnail's bytes.
#[derive(Debug, Clone)]
pub struct Thumbnail {
    /// Their type.
    pub content_type: String,
    /// The encoded picture.
    pub bytes: Bytes,
}

/// The size that is made for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// How to fit.
    pub method: Method,
}

impl Wanted {
    /// The standard size that serves a request for `width` x `height`, so that few are kept.
    #[must_use]
    pub fn standard(width: u32, height: u32, method: Method) -> Self {
        let large_enough = |&&(w, h): &&(u32, u32)| w >= width && h >= height;
        let crop = CROPS
            .iter()
            .find(large_enough)
            .filter(|_| method == Method::Crop);
        let (w, h) = crop
            .or_else(|| SCALES.iter().find(large_enough))
            .copied()
            .unwrap_or((800, 600));
        let method = if crop.is_some() {
            Method::Crop
        } else {
            Method::Scale
        };
        Self {
            width: w,
            height: h,
            method,
        }
    }

    /// Whether the picture is cut.
    #[must_use]
    pub fn crop(self) -> bool {
        self.method == Method::Crop
    }
}

/// Makes a thumbnail of an encoded picture; one that is small enough comes back as it is.
///
/// # Errors
/// Why it cannot be decoded, in words.
pub fn make(source: Vec<u8>, wanted: Wanted) -> Result<Thumbnail, String> {
    let format = image::guess_format(&source).map_err(|_| "not a known picture format")?;
    match decode(&source, format, wanted)? {
        Some(picture) => encode(&shrink(&picture, wanted), format),
        None => {
            let content_type = format.to_mime_type().to_owned();
            Ok(Thumbnail {
                content_type,
                bytes: source.into(),
            })
        }
    }
}

/// The picture upright; `None` where it is small enough as it is.
fn decode(
    source: &[u8],
    format: ImageFormat,
    wanted: Wanted,
) -> Result<Option<DynamicImage>, String> {
    let mut reader = ImageReader::with_format(Cursor::new(source), format);
    let mut limits = Limits::default();
    limits.max_image_width = Some(SIDE_MAX);
    limits.max_image_height = Some(SIDE_MAX);
    limits.max_alloc = Some(DECODED_MAX);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(|error| error.to_string())?;
    let (width, height) = decoder.dimensions();
    if decoder.total_bytes() > DECODED_MAX {
        return Err(format!(
            "a picture of {width} x {height} is too large to decode"
        ));
    }
    let turned = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    if turned == Orientation::NoTransforms && width <= wanted.width && height <= wanted.height {
        return Ok(None);
    }
    let mut picture = DynamicImage::from_decoder(decoder).map_err(|error| error.to_string())?;
    picture.apply_orientation(turned);
    Ok(Some(picture))
}

fn shrink(picture: &DynamicImage, wanted: Wanted) -> DynamicImage {
    let (w, h) = (
        wanted.width.min(picture.width()),
        wanted.height.min(picture.height()),
    );
    match wanted.method {
        Method::Crop => picture.resize_to_fill(w, h, FilterType::Triangle),
        // at least as large as asked for in one direction, never enlarged
        Method::Scale => picture.resize(w, h, FilterType::Triangle),
    }
}

/// Photos stay JPEG; everything else may have transparent parts and becomes PNG.
fn encode(picture: &DynamicImage, source: ImageFormat) -> Result<Thumbnail, String> {
    let mut out = Vec::new();
    let content_type = if source == ImageFormat::Jpeg {
        let encoder = JpegEncoder::new_with_quality(&mut out, JPEG_QUALITY);
        picture
            .to_rgb8()
            .write_with_encoder(encoder)
            .map_err(|error| error.to_string())?;
        "image/jpeg"
    } else {
        picture
            .write_to(&mut Cursor::new(&mut out), ImageFormat::Png)
            .map_err(|error| error.to_string())?;
        "image/png"
    };
    Ok(Thumbnail {
        content_type: content_type.to_owned(),
        bytes: out.into(),
    })
}
