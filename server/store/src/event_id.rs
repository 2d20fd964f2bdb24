//! Event ids in few bytes: a hash in base64 is kept as the hash.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

use crate::codec::Malformed;

/// An id of room version 4 or later: `$` and 32 bytes in URL-safe base64.
const URL_SAFE: u8 = 1;
/// An id of room version 3: `$` and 32 bytes in base64.
const STANDARD: u8 = 2;
/// Any other id, as it is.
const PLAIN: u8 = 0;

/// The packed form. Every string has exactly one.
pub(crate) fn pack(event_id: &str) -> Vec<u8> {
    if let Some(hash) = event_id.strip_prefix('$').filter(|hash| hash.len() == 43) {
        for (tag, engine) in [(URL_SAFE, URL_SAFE_NO_PAD), (STANDARD, STANDARD_NO_PAD)] {
            let mut packed = vec![tag];
            // Non-canonical base64 (stray bits at the end) is refused by both engines, so that
            // unpacking always gives the same string again.
            if engine.decode_vec(hash, &mut packed).is_ok() && packed.len() == 33 {
                return packed;
            }
        }
    }
    let mut packed = vec![PLAIN];
    packed.extend_from_slice(event_id.as_bytes());
    packed
}

/// The event id again.
pub(crate) fn unpack(packed: &[u8]) -> Result<String, Malformed> {
    let (tag, body) = packed.split_first().ok_or(Malformed)?;
    let encoded = match *tag {
        URL_SAFE => URL_SAFE_NO_PAD.encode(body),
        STANDARD => STANDARD_NO_PAD.encode(body),
        PLAIN => return String::from_utf8(body.to_vec()).map_err(|_| Malformed),
        _ => return Err(Malformed),
    };
    Ok(format!("${encoded}"))
}
