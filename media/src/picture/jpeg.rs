//! JPEGs, decoded no larger than they are needed.

use image::{DynamicImage, GrayImage, RgbImage};
use jpeg_decoder::{CodingProcess, Decoder, Error, PixelFormat};

use super::{
    bounded,
    look::{room, too_much_memory},
};
use crate::thumbnail::Bounds;

/// The picture, at least as large as `needed`; none where its colours are rare ones (inks, or more
/// than eight bits), which the other decoder knows.
pub fn decode(
    source: &[u8],
    needed: (u32, u32),
    bounds: Bounds,
) -> Result<Option<DynamicImage>, String> {
    let words = |error: Error| error.to_string();
    let room = room(source, bounds);
    let mut decoder = Decoder::new(source);
    decoder.set_max_decoding_buffer_size(usize::try_from(room).unwrap_or(usize::MAX));
    decoder.read_info().map_err(words)?;
    let whole = decoder.info().ok_or("a JPEG without a size")?;
    // One that comes in passes holds all coefficients of the whole picture until the last.
    if whole.coding_process == CodingProcess::DctProgressive {
        let pixels = u64::from(whole.width) * u64::from(whole.height);
        let depth = whole.pixel_format.pixel_bytes() as u64;
        if pixels.saturating_mul(2 * depth) > room {
            return Err(too_much_memory());
        }
    }
    let side = |pixels: u32| u16::try_from(pixels).unwrap_or(u16::MAX);
    let scaled = decoder.scale(side(needed.0), side(needed.1));
    let (width, height) = scaled.map_err(words)?;
    let (width, height) = (u32::from(width), u32::from(height));
    bounded(width, height, 1, bounds)?;
    let picture = match whole.pixel_format {
        PixelFormat::RGB24 => {
            let pixels = decoder.decode().map_err(words)?;
            RgbImage::from_raw(width, height, pixels).map(DynamicImage::from)
        }
        PixelFormat::L8 => {
            let pixels = decoder.decode().map_err(words)?;
            GrayImage::from_raw(width, height, pixels).map(DynamicImage::from)
        }
        _ => return Ok(None),
    };
    match picture {
        Some(picture) => Ok(Some(picture)),
        None => Err("a JPEG with too few pixels".to_owned()),
    }
}
