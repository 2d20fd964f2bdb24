//! What is known of a picture before it is decoded, and its decoding.

use std::io::Cursor;

use image::{
    DynamicImage, ImageDecoder as _, ImageFormat, ImageReader, Limits, metadata::Orientation,
};

use super::{bounded, frames, jpeg};
use crate::thumbnail::{Bounds, Wanted};

/// The longest side of a picture that is looked at, in pixels.
const SIDE_MAX: u32 = 65_500;
/// What a worker needs beside the picture's file and its pixels, in bytes.
const ASIDE: u64 = 16 << 20;

/// What is known of a picture before it is decoded.
#[derive(Debug)]
pub struct Looked {
    pub format: ImageFormat,
    /// Pixels, upright.
    pub width: u32,
    /// See above.
    pub height: u32,
    /// How it has to be turned to be upright.
    pub turned: Orientation,
    /// How many pictures follow each other; 1 for one that does not move.
    pub frames: u32,
}

impl Looked {
    pub fn at(source: &[u8], format: ImageFormat) -> Result<Self, String> {
        let mut decoder = reader(source, format, u64::MAX)?;
        let (mut width, mut height) = decoder.dimensions();
        let turned = decoder.orientation().unwrap_or(Orientation::NoTransforms);
        if is_sideways(turned) {
            (width, height) = (height, width);
        }
        if width == 0 || height == 0 || width > SIDE_MAX || height > SIDE_MAX {
            return Err(format!(
                "a picture of {width} x {height} is not made smaller"
            ));
        }
        Ok(Self {
            format,
            width,
            height,
            turned,
            frames: frames::count(source, format).max(1),
        })
    }

    /// Whether the file serves as it is: it is no larger than what is wanted, or wanted in its own
    /// size, upright, and of a form that is taken.
    pub fn serves(&self, wanted: Wanted) -> bool {
        let fits = wanted.is_whole()
            || self.turned == Orientation::NoTransforms
                && self.width <= wanted.width
                && self.height <= wanted.height;
        let still = self.frames <= 1 || wanted.animated;
        fits && still && (wanted.webp || self.format != ImageFormat::WebP)
    }

    /// These sides of the upright picture as they lie in the file.
    pub fn as_stored(&self, width: u32, height: u32) -> (u32, u32) {
        match is_sideways(self.turned) {
            true => (height, width),
            false => (width, height),
        }
    }

    /// The picture as it lies in the file, as large as the largest of these sizes needs it, or
    /// larger.
    pub fn decode(
        &self,
        source: &[u8],
        sizes: &[Wanted],
        bounds: Bounds,
    ) -> Result<DynamicImage, String> {
        let needed = sizes
            .iter()
            .map(|wanted| wanted.size_of(self.width, self.height));
        let needed = needed.fold((1, 1), |most, size| {
            (most.0.max(size.0), most.1.max(size.1))
        });
        let needed = self.as_stored(needed.0, needed.1);
        if self.format == ImageFormat::Jpeg
            && let Some(picture) = jpeg::decode(source, needed, bounds)?
        {
            return Ok(picture);
        }
        bounded(self.width, self.height, 1, bounds)?;
        let room = room(source, bounds);
        let decoder = reader(source, self.format, room)?;
        if decoder.total_bytes() > room {
            return Err(too_much_memory());
        }
        DynamicImage::from_decoder(decoder).map_err(|error| error.to_string())
    }
}

/// How much memory decoded pixels may take, in bytes.
pub fn room(source: &[u8], bounds: Bounds) -> u64 {
    bounds
        .memory
        .saturating_sub(source.len() as u64)
        .saturating_sub(ASIDE)
}

pub fn too_much_memory() -> String {
    "the picture takes too much memory".to_owned()
}

fn reader(
    source: &[u8],
    format: ImageFormat,
    room: u64,
) -> Result<impl image::ImageDecoder + '_, String> {
    let mut reader = ImageReader::with_format(Cursor::new(source), format);
    let mut limits = Limits::default();
    limits.max_image_width = Some(SIDE_MAX);
    limits.max_image_height = Some(SIDE_MAX);
    limits.max_alloc = Some(room);
    reader.limits(limits);
    reader.into_decoder().map_err(|error| error.to_string())
}

fn is_sideways(turned: Orientation) -> bool {
    matches!(
        turned,
        Orientation::Rotate90
            | Orientation::Rotate270
            | Orientation::Rotate90FlipH
            | Orientation::Rotate270FlipH
    )
}
