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

/// Bytes that need no quotes in a header's parameter.
const fn plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_')
}
