//! What goes between the server and a worker: sizes and a picture one way, thumbnails the other.

use std::io::{self, Read, Write};

use crate::thumbnail::{Made, Method, SOURCE_MAX, Thumbnail, Wanted};

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
    let mut length = [0; 8];
    from.read_exact(&mut length)?;
    let length = u64::from_be_bytes(length);
    if length > max {
        return Err(wrong());
    }
    let mut bytes = Vec::new();
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

pub(super) fn write_order(to: &mut impl Write, source: &[u8], sizes: &[Wanted]) -> io::Result<()> {
    let count = u32::try_from(sizes.len()).map_err(|_| wrong())?;
    to.write_all(&count.to_be_bytes())?;
    for wanted in sizes {
        to.write_all(&wanted.width.to_be_bytes())?;
        to.write_all(&wanted.height.to_be_bytes())?;
        to.write_all(&[u8::from(wanted.crop())])?;
    }
    write_bytes(to, source)
}

/// The next order; none at the end.
pub(super) fn read_order(from: &mut impl Read) -> io::Result<Option<(Vec<u8>, Vec<Wanted>)>> {
    let count = match number(from) {
        Ok(count) if count <= SIZES_MAX => count,
        Ok(_) => return Err(wrong()),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut sizes = Vec::new();
    for _ in 0..count {
        let (width, height) = (number(from)?, number(from)?);
        let mut crop = [0];
        from.read_exact(&mut crop)?;
        let method = match crop {
            [0] => Method::Scale,
            _ => Method::Crop,
        };
        sizes.push(Wanted {
            width,
            height,
            method,
        });
    }
    Ok(Some((read_bytes(from, SOURCE_MAX)?, sizes)))
}

pub(super) fn write_answer(
    to: &mut impl Write,
    answer: &Result<Vec<Made>, String>,
) -> io::Result<()> {
    match answer {
        Err(why) => {
            to.write_all(&[0])?;
            write_text(to, why)?;
        }
        Ok(made) => {
            to.write_all(&[1])?;
            for made in made {
                match made {
                    Made::AsItIs(kind) => {
                        to.write_all(&[0])?;
                        write_text(to, kind)?;
                    }
                    Made::Thumbnail(made) => {
                        to.write_all(&[1])?;
                        write_text(to, &made.content_type)?;
                        write_bytes(to, &made.bytes)?;
                    }
                }
            }
        }
    }
    to.flush()
}

pub(super) fn read_answer(
    from: &mut impl Read,
    count: usize,
) -> io::Result<Result<Vec<Made>, String>> {
    let mut mark = [0];
    from.read_exact(&mut mark)?;
    if mark == [0] {
        return Ok(Err(read_text(from)?));
    }
    let mut made = Vec::new();
    for _ in 0..count {
        from.read_exact(&mut mark)?;
        let content_type = read_text(from)?;
        made.push(match mark {
            [0] => Made::AsItIs(content_type),
            _ => Made::Thumbnail(Thumbnail {
                content_type,
                bytes: read_bytes(from, MADE_MAX)?.into(),
            }),
        });
    }
    Ok(Ok(made))
}
