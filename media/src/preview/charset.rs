//! Which characters the bytes of a page are.

use encoding_rs::{Encoding, UTF_8, WINDOWS_1252};

/// How far into a page its own word about its characters is looked for, in bytes (HTML, 13.2.3.2).
const PRESCAN: usize = 1024;

/// A page as text. Believed are, in this order: a byte order mark, the `Content-Type`, what the
/// page says of itself, and that valid UTF-8 is UTF-8; everything else is taken for Windows-1252,
/// as browsers do.
pub fn text(content_type: &str, body: &[u8]) -> String {
    let encoding = Encoding::for_bom(body)
        .map(|(encoding, _)| encoding)
        .or_else(|| named(content_type.as_bytes()))
        .or_else(|| named(body.get(..PRESCAN).unwrap_or(body)))
        .unwrap_or_else(|| guessed(body));
    encoding.decode(body).0.into_owned()
}

/// The encoding behind the first `charset=`.
fn named(bytes: &[u8]) -> Option<&'static Encoding> {
    let lower = bytes.to_ascii_lowercase();
    let mark = b"charset";
    let at = lower.windows(mark.len()).position(|part| part == mark)?;
    let rest = lower.get(at + mark.len()..)?.trim_ascii_start();
    let rest = rest.strip_prefix(b"=")?.trim_ascii_start();
    let rest = match rest {
        [b'"' | b'\'', inner @ ..] => inner,
        bare => bare,
    };
    let ends = |b: &u8| b.is_ascii_whitespace() || matches!(b, b'"' | b'\'' | b';' | b'>' | b'/');
    let end = rest.iter().position(ends).unwrap_or(rest.len());
    Encoding::for_label(rest.get(..end)?)
}

/// UTF-8 where it is valid; the last character may have been cut in two.
fn guessed(body: &[u8]) -> &'static Encoding {
    match std::str::from_utf8(body) {
        Ok(_) => UTF_8,
        Err(error) if error.error_len().is_none() => UTF_8,
        Err(_) => WINDOWS_1252,
    }
}
