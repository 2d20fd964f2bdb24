//! WebPs by libwebp's encoder, which is C: each call into it says why it is sound. It only ever
//! sees pixels that were decoded by others, of sizes that are checked here.

use std::{ffi::c_int, mem::MaybeUninit, ptr};

use image::{DynamicImage, RgbaImage};
use libwebp_sys as sys;

use super::Looked;
use crate::thumbnail::{Method, Wanted};

/// How much an animation is worth, of 100.
const MOVING_QUALITY: f32 = 65.0;
/// How long an encoder thinks, of 6.
const STILL_EFFORT: c_int = 4;
const MOVING_EFFORT: c_int = 2;

/// Whether a WebP can be so large.
pub fn fits(picture: &DynamicImage) -> bool {
    picture.width() <= sys::WEBP_MAX_DIMENSION && picture.height() <= sys::WEBP_MAX_DIMENSION
}

fn failed() -> String {
    "a WebP cannot be made".to_owned()
}

fn lossy(quality: f32, effort: c_int) -> Result<sys::WebPConfig, String> {
    let mut config = sys::WebPConfig::new().map_err(|()| failed())?;
    config.quality = quality;
    config.method = effort;
    Ok(config)
}

/// A picture in libwebp's memory, which goes with it.
struct Picture(Box<sys::WebPPicture>);

impl Picture {
    fn new(pixels: &RgbaImage) -> Result<Self, String> {
        let mut picture = Box::new(sys::WebPPicture::new().map_err(|()| failed())?);
        let side = |pixels: u32| c_int::try_from(pixels).map_err(|_| failed());
        picture.use_argb = 1;
        picture.width = side(pixels.width())?;
        picture.height = side(pixels.height())?;
        let stride = picture.width.checked_mul(4).ok_or_else(failed)?;
        let mut picture = Self(picture);
        // SAFETY: the picture was initialised, and an `RgbaImage` has four bytes for each pixel of
        // width x height, row by row.
        let read = unsafe {
            sys::WebPPictureImportRGBA(&raw mut *picture.0, pixels.as_raw().as_ptr(), stride)
        };
        if read == 0 {
            return Err(failed());
        }
        Ok(picture)
    }
}

impl Drop for Picture {
    fn drop(&mut self) {
        // SAFETY: it was initialised, and is freed once.
        unsafe { sys::WebPPictureFree(&raw mut *self.0) }
    }
}

/// Bytes that libwebp wrote; freed by it.
struct Written(sys::WebPMemoryWriter);

impl Written {
    fn bytes(&self) -> Vec<u8> {
        if self.0.mem.is_null() {
            return Vec::new();
        }
        // SAFETY: the writer's memory holds so many bytes that were written.
        unsafe { std::slice::from_raw_parts(self.0.mem, self.0.size) }.to_vec()
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        // SAFETY: it was initialised, and is cleared once.
        unsafe { sys::WebPMemoryWriterClear(&raw mut self.0) }
    }
}

/// A lossy WebP, transparent where the picture is.
pub fn encode(pixels: &RgbaImage, quality: f32) -> Result<Vec<u8>, String> {
    let config = lossy(quality, STILL_EFFORT)?;
    let mut picture = Picture::new(pixels)?;
    let mut writer = MaybeUninit::uninit();
    // SAFETY: this initialises the whole of it.
    let mut written = unsafe {
        sys::WebPMemoryWriterInit(writer.as_mut_ptr());
        Written(writer.assume_init())
    };
    picture.0.writer = Some(sys::WebPMemoryWrite);
    picture.0.custom_ptr = (&raw mut written.0).cast();
    // SAFETY: both were initialised; the writer is told to the picture and outlives the call.
    let done = unsafe { sys::WebPEncode(&raw const config, &raw mut *picture.0) };
    match done {
        0 => Err(failed()),
        _ => Ok(written.bytes()),
    }
}

/// An animation on its way.
pub struct Animation {
    /// Never null.
    encoder: *mut sys::WebPAnimEncoder,
    config: sys::WebPConfig,
    width: u32,
    height: u32,
    at_ms: c_int,
}

impl Animation {
    /// One that is shown so many times; 0: for ever.
    pub fn new(wanted: Wanted, looked: &Looked, times: u16) -> Result<Self, String> {
        let (width, height) = match wanted.method {
            Method::Scale => wanted.size_of(looked.width, looked.height),
            Method::Crop => (
                wanted.width.min(looked.width),
                wanted.height.min(looked.height),
            ),
        };
        if width > sys::WEBP_MAX_DIMENSION || height > sys::WEBP_MAX_DIMENSION {
            return Err(failed());
        }
        let config = lossy(MOVING_QUALITY, MOVING_EFFORT)?;
        let version = sys::WebPGetMuxABIVersion();
        let mut options = MaybeUninit::uninit();
        // SAFETY: this initialises the whole of it, or says that it did not.
        let mut options: sys::WebPAnimEncoderOptions = unsafe {
            if sys::WebPAnimEncoderOptionsInitInternal(options.as_mut_ptr(), version) == 0 {
                return Err(failed());
            }
            options.assume_init()
        };
        options.anim_params.loop_count = c_int::from(times);
        let side = |pixels: u32| c_int::try_from(pixels).map_err(|_| failed());
        let (w, h) = (side(width)?, side(height)?);
        // SAFETY: the options were initialised; they are copied.
        let encoder = unsafe { sys::WebPAnimEncoderNewInternal(w, h, &raw const options, version) };
        if encoder.is_null() {
            return Err(failed());
        }
        Ok(Self {
            encoder,
            config,
            width,
            height,
            at_ms: 0,
        })
    }

    /// The next frame, shown for so long.
    pub fn add(&mut self, pixels: &RgbaImage, shown_ms: u32) -> Result<(), String> {
        if pixels.dimensions() != (self.width, self.height) {
            return Err(failed());
        }
        let mut picture = Picture::new(pixels)?;
        // SAFETY: the encoder lives; picture and configuration were initialised and are copied.
        let added = unsafe {
            let config = &raw const self.config;
            sys::WebPAnimEncoderAdd(self.encoder, &raw mut *picture.0, self.at_ms, config)
        };
        let shown = c_int::try_from(shown_ms).unwrap_or(c_int::MAX);
        self.at_ms = self.at_ms.saturating_add(shown);
        match added {
            0 => Err(failed()),
            _ => Ok(()),
        }
    }

    /// The whole of it.
    pub fn finish(self) -> Result<Vec<u8>, String> {
        let mut data = sys::WebPData::default();
        // SAFETY: the encoder lives; no frame and no configuration say where the last frame ends.
        let done = unsafe {
            let (none, plain) = (ptr::null_mut(), ptr::null());
            sys::WebPAnimEncoderAdd(self.encoder, none, self.at_ms, plain) != 0
                && sys::WebPAnimEncoderAssemble(self.encoder, &raw mut data) != 0
        };
        if !done || data.bytes.is_null() {
            return Err(failed());
        }
        // SAFETY: so many bytes were put there, they are ours, and are freed once.
        unsafe {
            let bytes = std::slice::from_raw_parts(data.bytes, data.size).to_vec();
            sys::WebPDataClear(&mut data);
            Ok(bytes)
        }
    }
}

impl Drop for Animation {
    fn drop(&mut self) {
        // SAFETY: it is ours, and is deleted once.
        unsafe { sys::WebPAnimEncoderDelete(self.encoder) }
    }
}
