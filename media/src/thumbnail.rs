//! Smaller pictures. Nothing that was uploaded is trusted: the format is read from the bytes, and
//! what is decoded is bounded before a pixel is.
//!
//! A JPEG is decoded at a half, a quarter or an eighth of its size where that is enough, which
//! costs a fraction of the time and memory; one decoding makes every size that is asked for.

use std::io::Cursor;

use bytes::Bytes;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};
use image::{
    DynamicImage, GrayImage, ImageDecoder as _, ImageFormat, ImageReader, Limits, RgbImage,
    codecs::jpeg::JpegEncoder, metadata::Orientation,
};

/// The largest file a thumbnail is made from, in bytes.
pub const SOURCE_MAX: u64 = 50 * 1024 * 1024;
/// The longest side of a picture that is looked at, in pixels.
const SIDE_MAX: u32 = 65_500;
/// The most pixels that are decoded.
const PIXELS_MAX: u64 = 50_000_000;
/// The most memory for decoded pixels, in bytes.
const DECODED_MAX: u64 = 256 * 1024 * 1024;
const JPEG_QUALITY: u8 = 80;

/// The sizes that are made; a request gets the smallest that is large enough.
const SCALES: &[(u32, u32)] = &[(320, 240), (640, 480), (800, 600)];
const CROPS: &[(u32, u32)] = &[(32, 32), (96, 96)];

/// How a picture is fitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Method {
    /// Keep the aspect ratio; the picture covers what was asked for in one direction at least.
    Scale,
    /// Have the aspect ratio asked for, cutting what stands over.
    Crop,
}

/// A thumbnail's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thumbnail {
    /// Their type.
    pub content_type: String,
    /// The encoded picture.
    pub bytes: Bytes,
}

/// The size that is made for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wanted {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// How to fit.
    pub method: Method,
}

impl Wanted {
    /// The picture in its own size.
    pub(crate) const WHOLE: Wanted = Wanted {
        width: u32::MAX,
        height: u32::MAX,
        method: Method::Scale,
    };

    /// The standard size that serves a request for `width` x `height`, so that few are kept; the
    /// whole picture where none is large enough.
    #[must_use]
    pub fn standard(width: u32, height: u32, method: Method) -> Self {
        let large_enough = |&&(w, h): &&(u32, u32)| w >= width && h >= height;
        let crop = CROPS
            .iter()
            .find(large_enough)
            .filter(|_| method == Method::Crop);
        let Some(&(width, height)) = crop.or_else(|| SCALES.iter().find(large_enough)) else {
            return Self::WHOLE;
        };
        let method = match crop {
            Some(_) => Method::Crop,
            None => Method::Scale,
        };
        Self {
            width,
            height,
            method,
        }
    }

    /// Whether the picture is cut.
    #[must_use]
    pub fn crop(self) -> bool {
        self.method == Method::Crop
    }

    /// The size that a picture of `width` x `height` is made into before anything is cut; never
    /// larger than it is.
    fn size_of(self, width: u32, height: u32) -> (u32, u32) {
        let (width, height) = (width.max(1), height.max(1));
        let ratios = (
            f64::from(self.width) / f64::from(width),
            f64::from(self.height) / f64::from(height),
        );
        let ratio = match self.method {
            Method::Scale => ratios.0.min(ratios.1),
            Method::Crop => ratios.0.max(ratios.1),
        };
        if ratio >= 1.0 {
            return (width, height);
        }
        // Between 0 and a u32: the ratio is below 1.
        let side = |pixels: u32| ((f64::from(pixels) * ratio).round() as u32).max(1);
        (side(width), side(height))
    }
}

/// What became of one size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Made {
    /// A thumbnail.
    Thumbnail(Thumbnail),
    /// The picture is small enough as it is; this is its type.
    AsItIs(String),
}

/// Makes thumbnails of an encoded picture, one for each size.
///
/// # Errors
/// Why it cannot be decoded, in words.
pub fn make(source: &[u8], sizes: &[Wanted]) -> Result<Vec<Made>, String> {
    let format = image::guess_format(source).map_err(|_| "not a known picture format")?;
    let looked = Looked::at(source, format)?;
    let small = |wanted: &Wanted| {
        looked.turned == Orientation::NoTransforms
            && looked.width <= wanted.width
            && looked.height <= wanted.height
    };
    let as_it_is = || Made::AsItIs(format.to_mime_type().to_owned());
    if sizes.iter().all(small) {
        return Ok(sizes.iter().map(|_| as_it_is()).collect());
    }
    let picture = looked.decode(source, sizes)?;
    let mut resizer = Resizer::new();
    let made = sizes.iter().map(|wanted| {
        if small(wanted) {
            return Ok(as_it_is());
        }
        let smaller = shrink(&mut resizer, &picture, &looked, *wanted)?;
        encode(&smaller).map(Made::Thumbnail)
    });
    made.collect()
}

/// What is known of a picture before it is decoded.
struct Looked {
    format: ImageFormat,
    /// Pixels, upright.
    width: u32,
    /// See above.
    height: u32,
    turned: Orientation,
}

impl Looked {
    fn at(source: &[u8], format: ImageFormat) -> Result<Self, String> {
        let mut decoder = reader(source, format)?;
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
        })
    }

    /// The picture upright, as large as the largest of these sizes needs it, or larger.
    fn decode(&self, source: &[u8], sizes: &[Wanted]) -> Result<DynamicImage, String> {
        let needed = sizes
            .iter()
            .map(|wanted| wanted.size_of(self.width, self.height));
        let needed = needed.fold((1, 1), |most, size| {
            (most.0.max(size.0), most.1.max(size.1))
        });
        let mut picture = match self.format {
            ImageFormat::Jpeg => self.decode_jpeg(source, needed)?,
            format => self.decode_whole(source, format)?,
        };
        picture.apply_orientation(self.turned);
        Ok(picture)
    }

    fn decode_jpeg(&self, source: &[u8], needed: (u32, u32)) -> Result<DynamicImage, String> {
        let (width, height) = match is_sideways(self.turned) {
            true => (needed.1, needed.0),
            false => needed,
        };
        let words = |error: jpeg_decoder::Error| error.to_string();
        let mut decoder = jpeg_decoder::Decoder::new(source);
        decoder.set_max_decoding_buffer_size(usize::try_from(DECODED_MAX).unwrap_or(usize::MAX));
        decoder.read_info().map_err(words)?;
        let side = |pixels: u32| u16::try_from(pixels).unwrap_or(u16::MAX);
        let scaled = decoder.scale(side(width), side(height)).map_err(words)?;
        bounded(u32::from(scaled.0), u32::from(scaled.1))?;
        let info = decoder.info().ok_or("a JPEG without a size")?;
        let (width, height) = (u32::from(scaled.0), u32::from(scaled.1));
        let picture = match info.pixel_format {
            jpeg_decoder::PixelFormat::RGB24 => {
                let pixels = decoder.decode().map_err(words)?;
                RgbImage::from_raw(width, height, pixels).map(DynamicImage::from)
            }
            jpeg_decoder::PixelFormat::L8 => {
                let pixels = decoder.decode().map_err(words)?;
                GrayImage::from_raw(width, height, pixels).map(DynamicImage::from)
            }
            // Inks, or more than eight bits: rare, and the other decoder knows them.
            _ => return self.decode_whole(source, ImageFormat::Jpeg),
        };
        picture.ok_or_else(|| "a JPEG with too few pixels".to_owned())
    }

    fn decode_whole(&self, source: &[u8], format: ImageFormat) -> Result<DynamicImage, String> {
        bounded(self.width, self.height)?;
        let decoder = reader(source, format)?;
        if decoder.total_bytes() > DECODED_MAX {
            return Err("the picture takes too much memory".to_owned());
        }
        DynamicImage::from_decoder(decoder).map_err(|error| error.to_string())
    }
}

fn reader(source: &[u8], format: ImageFormat) -> Result<impl image::ImageDecoder + '_, String> {
    let mut reader = ImageReader::with_format(Cursor::new(source), format);
    let mut limits = Limits::default();
    limits.max_image_width = Some(SIDE_MAX);
    limits.max_image_height = Some(SIDE_MAX);
    limits.max_alloc = Some(DECODED_MAX);
    reader.limits(limits);
    reader.into_decoder().map_err(|error| error.to_string())
}

/// A decompression bomb is refused, not decoded.
fn bounded(width: u32, height: u32) -> Result<(), String> {
    if u64::from(width) * u64::from(height) > PIXELS_MAX {
        return Err(format!(
            "a picture of {width} x {height} is too large to decode"
        ));
    }
    Ok(())
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
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::CatmullRom));
    let options = match wanted.method {
        Method::Scale => options,
        Method::Crop => options.fit_into_destination(None),
    };
    let mut smaller = DynamicImage::new(width, height, picture.color());
    resizer
        .resize(picture, &mut smaller, &options)
        .map_err(|error| error.to_string())?;
    Ok(smaller)
}

/// Without anything transparent it becomes a JPEG, else a PNG. Metadata stays behind.
fn encode(picture: &DynamicImage) -> Result<Thumbnail, String> {
    let mut out = Vec::new();
    let content_type = if is_opaque(picture) {
        let encoder = JpegEncoder::new_with_quality(&mut out, JPEG_QUALITY);
        let written = match picture {
            DynamicImage::ImageLuma8(gray) => gray.write_with_encoder(encoder),
            picture => picture.to_rgb8().write_with_encoder(encoder),
        };
        written.map_err(|error| error.to_string())?;
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

fn is_opaque(picture: &DynamicImage) -> bool {
    if !picture.color().has_alpha() {
        return true;
    }
    picture.to_rgba8().pixels().all(|pixel| {
        let image::Rgba([.., alpha]) = *pixel;
        alpha == u8::MAX
    })
}
