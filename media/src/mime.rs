//! Content types and dispositions that are safe to hand to a browser.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// The longest content type that is kept, in bytes.
pub const CONTENT_TYPE_MAX: usize = 128;
/// The longest file name that is kept, in bytes.
pub const FILE_NAME_MAX: usize = 255;

/// The types that may be shown inline (content repository, serving inline content).
const INLINE: &[&str] = &[
    "text/css",
    "text/plain",
    "text/csv",
    "application/json",
    "application/ld+json",
    "image/jpeg",
    "image/gif",
    "image/png",
    "image/apng",
    "image/webp",
    "image/avif",
    "video/mp4",
    "video/webm",
    "video/ogg",
    "video/quicktime",
    "audio/mp4",
    "audio/webm",
    "audio/aac",
    "audio/mpeg",
    "audio/ogg",
    "audio/wave",
    "audio/wav",
    "audio/x-wav",
    "audio/x-pn-wav",
    "audio/flac",
    "audio/x-flac",
];

const NAME_KEEPS: &AsciiSet = &NON_ALPHANUMERIC.remove(b'.').remove(b'-').remove(b'_');

/// A content type as it may stand in a header; empty or unfit ones become octet-stream.
pub fn served_type(given: &str) -> &str {
    let fits = !given.is_empty()
        && given.len() <= CONTENT_TYPE_MAX
        && given.bytes().all(|b| (0x20..0x7f).contains(&b));
    if fits {
        given
    } else {
        "application/octet-stream"
    }
}

/// The `Content-Disposition` for a file of this type and name (RFC 6266).
pub fn disposition(content_type: &str, name: Option<&str>) -> String {
    let essence = content_type
        .split(';')
        .next()
        .unwrap_or("")
        .trim()
        .to_ascii_lowercase();
    let kind = if INLINE.contains(&essence.as_str()) {
        "inline"
    } else {
        "attachment"
    };
    match name {
        None | Some("") => kind.to_owned(),
        Some(name) if name.bytes().all(plain) => format!("{kind}; filename={name}"),
        Some(name)
            if name
                .bytes()
                .all(|b| (0x20..0x7f).contains(&b) && b != b'"' && b != b'\\') =>
        {
            format!("{kind}; filename=\"{name}\"")
        }
        Some(name) => {
            format!(
                "{kind}; filename*=utf-8''{}",
                utf8_percent_encode(name, NAME_KEEPS)
            )
        }
    }
}

/// Whether an `Accept` header lets through a picture of this kind (RFC 9110, 12.5.1): the range that
/// names it most closely decides. Without a header everything is taken.
pub fn accepts(header: Option<&str>, kind: &str) -> bool {
    let Some(header) = header.filter(|header| !header.trim().is_empty()) else {
        return true;
    };
    let family = kind.split('/').next().unwrap_or_default();
    let mut closest = (0, false);
    for range in header.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let close = match name.strip_suffix("/*") {
            _ if name.eq_ignore_ascii_case(kind) => 3,
            Some(name) if name.eq_ignore_ascii_case(family) => 2,
            Some("*") => 1,
            _ => continue,
        };
        let refused = parts.any(|part| {
            let weight = part.strip_prefix("q=").or(part.strip_prefix("Q="));
            weight.and_then(|q| q.trim().parse::<f32>().ok()) == Some(0.0)
        });
        if close > closest.0 {
            closest = (close, !refused);
        }
    }
    closest.1
}

/// Bytes that need no quotes in a header's parameter.
const fn plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_')
}
