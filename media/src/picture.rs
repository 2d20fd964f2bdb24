//! Smaller pictures. Nothing that was uploaded is trusted: the format is read from the bytes, and
//! what is decoded is bounded before a pixel is.
//!
//! A JPEG is decoded at a half, a quarter or an eighth of its size where that is enough, which
//! costs a fraction of the time and memory; one decoding makes every size that is asked for. What
//! is opaque becomes a JPEG, what is transparent or moves a WebP, or a PNG or GIF for those who do
//! not take that. An AVIF goes out as it is: nothing here decodes it.

mod animation;
mod blurhash;
mod encode;
mod frames;
mod jpeg;
mod look;
#[cfg(test)]
pub(crate) mod tests;
mod webp;

use bytes::Bytes;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};
use image::{DynamicImage, ImageFormat};

use crate::thumbnail::{Bounds, Drawn, Made, Method, Order, Wanted};
use look::Looked;

/// The size that a blurhash is computed from.
const BLURRED: Wanted = Wanted {
    width: 64,
    height: 64,
    ..Wanted::WHOLE
};

/// Carries an order out.
///
/// # Errors
/// Why the picture cannot be decoded, in words.
pub fn make(source: &[u8], order: &Order) -> Result<Drawn, String> {
    let format = image::guess_format(source).map_err(|_| "not a known picture format")?;
    if format == ImageFormat::Avif {
        return Ok(Drawn {
            made: order
                .sizes
                .iter()
                .map(|_| as_it_is(format, false))
                .collect(),
            blurhash: None,
        });
    }
    let looked = Looked::at(source, format)?;
    let mut moving = looked.animate(source, order)?;
    let still: Vec<&Wanted> = order.sizes.iter().filter(|w| !moving.contains(w)).collect();
    let mut needed: Vec<Wanted> = still.iter().map(|wanted| **wanted).collect();
    // A file that serves in its own size for all sizes is only looked at.
    needed.retain(|wanted| !(wanted.is_whole() && looked.serves(*wanted)));
    if order.blurhash {
        needed.push(BLURRED);
    }
    let picture = match needed.is_empty() {
        true => None,
        false => Some(looked.decode(source, &needed, order.bounds)?),
    };
    let mut resizer = Resizer::new();
    let mut made = Vec::new();
    for wanted in &order.sizes {
        let done = match (moving.take(wanted), &picture) {
            (Some(moves), _) => moves,
            (None, Some(picture)) if !looked.serves(*wanted) => {
                let smaller = shrink(&mut resizer, picture, &looked, *wanted)?;
                let (content_type, bytes) = encode::still(&smaller, wanted.webp)?;
                made_of(content_type, false, bytes)
            }
            (None, _) => as_it_is(format, looked.frames > 1),
        };
        made.push(done);
    }
    let blurhash = match (&picture, order.blurhash) {
        (Some(picture), true) => {
            let small = shrink(&mut resizer, picture, &looked, BLURRED)?;
            blurhash::of(&small.to_rgb8())
        }
        _ => None,
    };
    Ok(Drawn { made, blurhash })
}

fn as_it_is(format: ImageFormat, animated: bool) -> Made {
    Made {
        content_type: format.to_mime_type().to_owned(),
        animated,
        bytes: None,
    }
}

fn made_of(content_type: &str, animated: bool, bytes: Vec<u8>) -> Made {
    Made {
        content_type: content_type.to_owned(),
        animated,
        bytes: Some(Bytes::from(bytes)),
    }
}

/// A decompression bomb is refused, not decoded.
fn bounded(width: u32, height: u32, frames: u32, bounds: Bounds) -> Result<(), String> {
    let pixels = u64::from(width) * u64::from(height);
    if pixels.saturating_mul(u64::from(frames)) > bounds.pixels {
        return Err(format!(
            "a picture of {width} x {height} is too large to decode"
        ));
    }
    Ok(())
}

/// The picture in the size that is wanted, upright.
fn shrink(
    resizer: &mut Resizer,
    picture: &DynamicImage,
    looked: &Looked,
    wanted: Wanted,
) -> Result<DynamicImage, String> {
    let (width, height) = match wanted.method {
        Method::Scale => wanted.size_of(looked.width, looked.height),
        Method::Crop => (
            wanted.width.min(looked.width),
            wanted.height.min(looked.height),
        ),
    };
    let (width, height) = looked.as_stored(width, height);
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::CatmullRom));
    let options = match wanted.method {
        Method::Scale => options,
        Method::Crop => options.fit_into_destination(None),
    };
    let mut smaller = DynamicImage::new(width, height, picture.color());
    resizer
        .resize(picture, &mut smaller, &options)
        .map_err(|error| error.to_string())?;
    smaller.apply_orientation(looked.turned);
    Ok(smaller)
}
