//! How many pictures a file holds, counted along its parts without decoding any.

use image::ImageFormat;

/// How many frames follow each other; 0 or 1: it does not move.
pub fn count(source: &[u8], format: ImageFormat) -> u32 {
    let counted = match format {
        ImageFormat::Gif => gif(source),
        ImageFormat::WebP => webp(source),
        ImageFormat::Png => png(source),
        _ => None,
    };
    counted.unwrap_or(0)
}

fn byte(source: &[u8], at: usize) -> Option<u8> {
    source.get(at).copied()
}

/// How long a table of colours is, by the flags before it.
fn colours(flags: u8) -> usize {
    match flags & 0x80 {
        0 => 0,
        _ => 3 << ((flags & 7) + 1),
    }
}

/// A GIF is a header and blocks, each a list of pieces that an empty one ends. One that is cut off
/// has as many frames as began.
fn gif(source: &[u8]) -> Option<u32> {
    let mut at = 13 + colours(byte(source, 10)?);
    let mut frames = 0;
    loop {
        at = match byte(source, at) {
            Some(0x21) => at + 2,
            Some(0x2c) => {
                frames += 1;
                let Some(flags) = byte(source, at + 9) else {
                    return Some(frames);
                };
                at + 11 + colours(flags)
            }
            _ => return Some(frames),
        };
        while let Some(length) = byte(source, at) {
            at += 1 + usize::from(length);
            if length == 0 {
                break;
            }
        }
    }
}

/// A WebP is a list of chunks, each with its length; a frame is one of them.
fn webp(source: &[u8]) -> Option<u32> {
    let mut rest = source.get(12..)?;
    let mut frames = 0;
    while let Some((head, after)) = rest.split_first_chunk::<8>() {
        let [a, b, c, d, length @ ..] = *head;
        frames += u32::from([a, b, c, d] == *b"ANMF");
        let length = u32::from_le_bytes(length) as usize;
        match after.get(length + length % 2..) {
            Some(next) => rest = next,
            None => break,
        }
    }
    Some(frames)
}

/// A PNG says how many it has before its first pixels.
fn png(source: &[u8]) -> Option<u32> {
    let mut rest = source.get(8..)?;
    loop {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let (kind, data) = after.split_first_chunk::<4>()?;
        match kind {
            b"acTL" => return data.first_chunk::<4>().map(|n| u32::from_be_bytes(*n)),
            b"IDAT" | b"IEND" => return None,
            _ => rest = data.get(u32::from_be_bytes(*length) as usize + 4..)?,
        }
    }
}
