//! Pictures that move, made smaller frame by frame: one decoding for all sizes, one frame of it in
//! memory at a time.

use std::{
    cell::RefCell,
    io::{Cursor, Write},
    rc::Rc,
    time::Duration,
};

use fast_image_resize::Resizer;
use image::{
    AnimationDecoder, DynamicImage, Frame, Frames, ImageFormat, RgbaImage,
    codecs::{
        gif::{GifDecoder, GifEncoder, Repeat},
        png::PngDecoder,
        webp::WebPDecoder,
    },
    metadata::LoopCount,
};

use super::{
    Looked, bounded,
    look::{room, too_much_memory},
    made_of, shrink, webp,
};
use crate::thumbnail::{Made, Order, Wanted};

/// The most frames that are taken; what has more stands still.
const FRAMES_MAX: u32 = 1000;
/// The largest animation that is made, in bytes; what would be larger stands still.
const ANIMATED_MAX: usize = 2 * 1024 * 1024;
/// What a frame shows for less than this is meant to be shown for `USUAL_MS`: so do browsers.
const SHORTEST_MS: u32 = 20;
const USUAL_MS: u32 = 100;
/// How GIFs get their colours: 1 is the best, 30 the quickest.
const GIF_SPEED: i32 = 20;

/// The sizes that move.
#[derive(Debug, Default)]
pub struct Moving(Vec<(Wanted, Made)>);

impl Moving {
    pub fn contains(&self, wanted: &Wanted) -> bool {
        self.0.iter().any(|(made, _)| made == wanted)
    }

    pub fn take(&mut self, wanted: &Wanted) -> Option<Made> {
        let at = self.0.iter().position(|(made, _)| made == wanted)?;
        Some(self.0.swap_remove(at).1)
    }
}

impl Looked {
    /// Those sizes of an order that are to move, as far as the picture does and is within bounds.
    ///
    /// # Errors
    /// A frame that cannot be decoded.
    pub fn animate(&self, source: &[u8], order: &Order) -> Result<Moving, String> {
        let sizes = order.sizes.iter();
        let sizes = sizes.filter(|wanted| wanted.animated && !self.serves(**wanted));
        let sizes: Vec<Wanted> = sizes.copied().collect();
        let within = self.frames <= FRAMES_MAX
            && bounded(self.width, self.height, self.frames, order.bounds).is_ok();
        if self.frames <= 1 || sizes.is_empty() || !within {
            return Ok(Moving::default());
        }
        // The canvas, the frame before, and what is drawn on them.
        let frame = u64::from(self.width) * u64::from(self.height) * 4;
        if frame * 3 > room(source, order.bounds) {
            return Err(too_much_memory());
        }
        let (frames, times) = decoder(source, self.format)?;
        self.drawn(frames, times, &sizes)
    }

    fn drawn(
        &self,
        frames: Frames<'_>,
        times: LoopCount,
        sizes: &[Wanted],
    ) -> Result<Moving, String> {
        let mut outs = Vec::new();
        for wanted in sizes {
            outs.push((*wanted, Out::new(*wanted, self, times)?));
        }
        let mut resizer = Resizer::new();
        for frame in frames {
            let frame = frame.map_err(|error| error.to_string())?;
            let shown = shown_ms(&frame);
            let picture = DynamicImage::from(frame.into_buffer());
            for (wanted, out) in &mut outs {
                let smaller = shrink(&mut resizer, &picture, self, *wanted)?;
                out.add(smaller.into_rgba8(), shown)?;
            }
        }
        let mut moving = Moving::default();
        for (wanted, out) in outs {
            let (content_type, bytes) = out.finish()?;
            if bytes.len() <= ANIMATED_MAX {
                moving.0.push((wanted, made_of(content_type, true, bytes)));
            }
        }
        Ok(moving)
    }
}

/// The frames, and how often they are shown.
fn decoder(source: &[u8], format: ImageFormat) -> Result<(Frames<'_>, LoopCount), String> {
    fn both<'a>(decoder: impl AnimationDecoder<'a>) -> (Frames<'a>, LoopCount) {
        let times = decoder.loop_count();
        (decoder.into_frames(), times)
    }
    let words = |error: image::ImageError| error.to_string();
    let source = Cursor::new(source);
    Ok(match format {
        ImageFormat::Gif => both(GifDecoder::new(source).map_err(words)?),
        ImageFormat::WebP => both(WebPDecoder::new(source).map_err(words)?),
        ImageFormat::Png => {
            let decoder = PngDecoder::new(source).and_then(PngDecoder::apng);
            both(decoder.map_err(words)?)
        }
        _ => return Err("not a format that moves".to_owned()),
    })
}

fn shown_ms(frame: &Frame) -> u32 {
    let (above, below) = frame.delay().numer_denom_ms();
    match above / below.max(1) {
        ..SHORTEST_MS => USUAL_MS,
        // A minute is long for a frame, and many of them stay within a number.
        ms => ms.min(60_000),
    }
}

/// One size on its way.
enum Out {
    WebP(webp::Animation),
    Gif(Box<GifEncoder<Kept>>, Kept),
}

impl Out {
    fn new(wanted: Wanted, looked: &Looked, times: LoopCount) -> Result<Self, String> {
        let times = match times {
            LoopCount::Infinite => 0,
            LoopCount::Finite(times) => u16::try_from(times.get()).unwrap_or(0),
        };
        if wanted.webp {
            return webp::Animation::new(wanted, looked, times).map(Out::WebP);
        }
        let kept = Kept::default();
        let mut encoder = GifEncoder::new_with_speed(kept.clone(), GIF_SPEED);
        let repeat = match times {
            0 => Repeat::Infinite,
            times => Repeat::Finite(times),
        };
        encoder
            .set_repeat(repeat)
            .map_err(|error| error.to_string())?;
        Ok(Out::Gif(Box::new(encoder), kept))
    }

    fn add(&mut self, picture: RgbaImage, shown_ms: u32) -> Result<(), String> {
        match self {
            Out::WebP(animation) => animation.add(&picture, shown_ms),
            Out::Gif(encoder, _) => {
                let shown = Duration::from_millis(u64::from(shown_ms));
                let delay = image::Delay::from_saturating_duration(shown);
                let frame = Frame::from_parts(picture, 0, 0, delay);
                encoder
                    .encode_frame(frame)
                    .map_err(|error| error.to_string())
            }
        }
    }

    fn finish(self) -> Result<(&'static str, Vec<u8>), String> {
        match self {
            Out::WebP(animation) => Ok(("image/webp", animation.finish()?)),
            Out::Gif(encoder, kept) => {
                // Its end is written when it is dropped.
                drop(encoder);
                Ok(("image/gif", kept.0.take()))
            }
        }
    }
}

/// Bytes that are still there when their writer is gone.
#[derive(Debug, Clone, Default)]
struct Kept(Rc<RefCell<Vec<u8>>>);

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.borrow_mut().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
