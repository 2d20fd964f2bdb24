//! What is asked of a picture, and what comes of it: sizes, bounds, thumbnails.

use bytes::Bytes;

/// The largest file a thumbnail is made from, in bytes.
pub const SOURCE_MAX: u64 = 50 * 1024 * 1024;

/// The largest size that is made.
pub const LARGEST: (u32, u32) = (800, 600);
/// The sizes that are made; a request gets the smallest that is large enough.
const SCALES: &[(u32, u32)] = &[(320, 240), (640, 480), LARGEST];
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

/// The size that is made for a request, and in which forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wanted {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// How to fit.
    pub method: Method,
    /// Whether a picture that moves is to go on moving.
    pub animated: bool,
    /// Whether it may be a WebP.
    pub webp: bool,
}

impl Wanted {
    /// The picture in its own size, standing still.
    pub(crate) const WHOLE: Wanted = Wanted {
        width: u32::MAX,
        height: u32::MAX,
        method: Method::Scale,
        animated: false,
        webp: true,
    };

    /// The standard size that serves a request for `width` x `height`, so that few are kept; the
    /// whole picture where none is large enough. Standing still, and a WebP where that is good.
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
            ..Self::WHOLE
        }
    }

    /// All standard sizes, the largest first.
    pub(crate) fn all_standard() -> Vec<Wanted> {
        let of = |sizes: &'static [(u32, u32)], method| {
            let standard = move |&(width, height)| Self::standard(width, height, method);
            sizes.iter().rev().map(standard)
        };
        of(SCALES, Method::Scale)
            .chain(of(CROPS, Method::Crop))
            .collect()
    }

    /// The same in these forms.
    #[must_use]
    pub fn in_form(self, animated: bool, webp: bool) -> Self {
        Self {
            animated,
            webp,
            ..self
        }
    }

    /// Whether the picture is cut.
    #[must_use]
    pub fn crop(self) -> bool {
        self.method == Method::Crop
    }

    /// Whether the picture is wanted in its own size.
    pub(crate) fn is_whole(self) -> bool {
        self.width == u32::MAX
    }

    /// The size that a picture of `width` x `height` is made into before anything is cut; never
    /// larger than it is.
    pub(crate) fn size_of(self, width: u32, height: u32) -> (u32, u32) {
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

/// What decoding one picture may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The most pixels that are decoded, of an animation all frames together.
    pub pixels: u64,
    /// The most memory for it, in bytes; the picture's file counts as well.
    pub memory: u64,
}

/// What is asked of a picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The sizes.
    pub sizes: Vec<Wanted>,
    /// Whether its blurhash is asked for.
    pub blurhash: bool,
    /// See there.
    pub bounds: Bounds,
}

/// What became of one size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// Its type.
    pub content_type: String,
    /// Whether it moves.
    pub animated: bool,
    /// Its bytes; none: the picture's own file serves as it is.
    pub bytes: Option<Bytes>,
}

/// What became of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drawn {
    /// One for each size.
    pub made: Vec<Made>,
    /// The blurhash, if it was asked for and there is one.
    pub blurhash: Option<String>,
}
