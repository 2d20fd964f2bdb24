//! Hashes of events: the content hash inside them, and the reference hash that names them.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use sha2::{Digest as _, Sha256};

use crate::canonical::Object;
use crate::redact::redact;
use crate::room_version::{EventIdFormat, RoomVersion};

const CONFIG: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_encode_padding(false)
    .with_decode_allow_trailing_bits(true)
    .with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, CONFIG);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, CONFIG);

/// Unpadded base64, the standard alphabet.
#[must_use]
pub fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Unpadded base64, the URL-safe alphabet.
#[must_use]
pub fn base64_url_safe(bytes: &[u8]) -> String {
    URL_SAFE.encode(bytes)
}

/// Reads standard base64, with or without padding.
#[must_use]
pub fn decode_base64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// Why an event has no id.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HashError {
    /// An event of version 1 or 2 without `event_id`.
    #[error("event has no `event_id`")]
    NoEventId,
}

/// The hash over everything but `unsigned`, `signatures` and `hashes`
/// (server-server API, "Calculating the content hash for an event").
#[must_use]
pub fn content_hash(event: &Object) -> [u8; 32] {
    let mut text = String::with_capacity(512);
    event.write_without(&["unsigned", "signatures", "hashes"], &mut text);
    Sha256::digest(text.as_bytes()).into()
}

/// The text that is signed, and hashed for the event's id: the redacted event without `signatures`
/// and `unsigned`.
#[must_use]
pub fn signable_text(event: &Object, version: RoomVersion) -> String {
    let mut text = String::with_capacity(512);
    redact(event, version).write_without(&["signatures", "unsigned"], &mut text);
    text
}

/// The reference hash (server-server API, "Calculating the reference hash for an event").
#[must_use]
pub fn reference_hash(event: &Object, version: RoomVersion) -> [u8; 32] {
    Sha256::digest(signable_text(event, version).as_bytes()).into()
}

/// The event's id: the one it holds (versions 1 and 2), else made from its reference hash.
///
/// # Errors
/// Version 1 or 2 and no `event_id` string in the event.
pub fn event_id_of(event: &Object, version: RoomVersion) -> Result<String, HashError> {
    match version.event_id_format() {
        EventIdFormat::Chosen => event
            .str("event_id")
            .map(str::to_owned)
            .ok_or(HashError::NoEventId),
        EventIdFormat::Hash => Ok(format!("${}", base64(&reference_hash(event, version)))),
        EventIdFormat::UrlSafeHash => Ok(format!(
            "${}",
            base64_url_safe(&reference_hash(event, version))
        )),
    }
}

/// As [`event_id_of`], from the [`signable_text`] at hand, for versions 3 and up.
pub(crate) fn event_id_of_text(signable: &str, version: RoomVersion) -> Option<String> {
    let hash = Sha256::digest(signable.as_bytes());
    match version.event_id_format() {
        EventIdFormat::Chosen => None,
        EventIdFormat::Hash => Some(format!("${}", base64(&hash))),
        EventIdFormat::UrlSafeHash => Some(format!("${}", base64_url_safe(&hash))),
    }
}
