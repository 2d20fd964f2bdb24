//! What goes between the server and a worker: an order and a picture one way, thumbnails the other.

use std::io::{self, Read, Write};

use crate::thumbnail::{Bounds, Drawn, Made, Method, Order, SOURCE_MAX, Wanted};

/// How many sizes are asked for at once.
const SIZES_MAX: u32 = 16;
/// The longest thumbnail that is taken from a worker, in bytes, and the longest text.
const MADE_MAX: u64 = 64 * 1024 * 1024;
const TEXT_MAX: u32 = 1024;

fn wrong() -> io::Error {
    io::Error::from(io::ErrorKind::InvalidData)
}

fn number(from: &mut impl Read) -> io::Result<u32> {
    let mut bytes = [0; 4];
    from.read_exact(&mut bytes)?;
    Ok(u32::from_be_bytes(bytes))
}

/// Bytes with their length before them.
fn write_bytes(to: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    to.write_all(&(bytes.len() as u64).to_be_bytes())?;
    to.write_all(bytes)
}

fn read_bytes(from: &mut impl Read, max: u64) -> io::Result<Vec<u8>> {
    let length = long(from)?;
    if length > max {
        return Err(wrong());
    }
    // At once and no more: growing would take twice as much for a moment.
    let mut bytes = Vec::new();
    let room = usize::try_from(length).map_err(|_| wrong())?;
    bytes.try_reserve_exact(room).map_err(|_| wrong())?;
    from.take(length).read_to_end(&mut bytes)?;
    match bytes.len() as u64 == length {
        true => Ok(bytes),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn read_text(from: &mut impl Read) -> io::Result<String> {
    let bytes = read_bytes(from, u64::from(TEXT_MAX))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn write_text(to: &mut impl Write, text: &str) -> io::Result<()> {
    let end = text.floor_char_boundary(TEXT_MAX as usize);
    write_bytes(to, text.get(..end).unwrap_or_default().as_bytes())
}

fn long(from: &mut impl Read) -> io::Result<u64> {
    let mut bytes = [0; 8];
    from.read_exact(&mut bytes)?;
    Ok(u64::from_be_bytes(bytes))
}

fn yes(from: &mut impl Read) -> io::Result<bool> {
    let mut byte = [0];
    from.read_exact(&mut byte)?;
    match byte {
        [0] => Ok(false),
        [1] => Ok(true),
        _ => Err(wrong()),
    }
}

pub(super) fn write_order(to: &mut impl Write, source: &[u8], order: &Order) -> io::Result<()> {
    let count = u32::try_from(order.sizes.len()).map_err(|_| wrong())?;
    to.write_all(&count.to_be_bytes())?;
    to.write_all(&[u8::from(order.blurhash)])?;
    to.write_all(&order.bounds.pixels.to_be_bytes())?;
    to.write_all(&order.bounds.memory.to_be_bytes())?;
    for wanted in &order.sizes {
        to.write_all(&wanted.width.to_be_bytes())?;
        to.write_all(&wanted.height.to_be_bytes())?;
        let forms = [wanted.crop(), wanted.animated, wanted.webp];
        to.write_all(&forms.map(u8::from))?;
    }
    write_bytes(to, source)
}

/// The next order and its picture; none at the end.
pub(super) fn read_order(from: &mut impl Read) -> io::Result<Option<(Vec<u8>, Order)>> {
    let count = match number(from) {
        Ok(count) if count <= SIZES_MAX => count,
        Ok(_) => return Err(wrong()),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    let blurhash = yes(from)?;
    let bounds = Bounds {
        pixels: long(from)?,
        memory: long(from)?,
    };
    let mut sizes = Vec::new();
    for _ in 0..count {
        let (width, height) = (number(from)?, number(from)?);
        let method = match yes(from)? {
            false => Method::Scale,
            true => Method::Crop,
        };
        sizes.push(Wanted {
            width,
            height,
            method,
            animated: yes(from)?,
            webp: yes(from)?,
        });
    }
    let order = Order {
        sizes,
        blurhash,
        bounds,
    };
    Ok(Some((read_bytes(from, SOURCE_MAX)?, order)))
}

pub(super) fn write_answer(to: &mut impl Write, answer: &Result<Drawn, String>) -> io::Result<()> {
    match answer {
        Err(why) => {
            to.write_all(&[0])?;
            write_text(to, why)?;
        }
        Ok(drawn) => {
            to.write_all(&[1])?;
            for made in &drawn.made {
                write_text(to, &made.content_type)?;
                to.write_all(&[made.animated, made.bytes.is_some()].map(u8::from))?;
                if let Some(bytes) = &made.bytes {
                    write_bytes(to, bytes)?;
                }
            }
            write_text(to, drawn.blurhash.as_deref().unwrap_or_default())?;
        }
    }
    to.flush()
}

/// The answer to an order of so many sizes.
pub(super) fn read_answer(from: &mut impl Read, count: usize) -> io::Result<Result<Drawn, String>> {
    if !yes(from)? {
        return Ok(Err(read_text(from)?));
    }
    let mut made = Vec::new();
    for _ in 0..count {
        made.push(Made {
            content_type: read_text(from)?,
            animated: yes(from)?,
            bytes: match yes(from)? {
                true => Some(read_bytes(from, MADE_MAX)?.into()),
                false => None,
            },
        });
    }
    let blurhash = Some(read_text(from)?).filter(|text| !text.is_empty());
    Ok(Ok(Drawn { made, blurhash }))
}
