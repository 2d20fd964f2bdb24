//! What other servers answer, read without asking them: for tests that go through everything a
//! hostile one may say.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use skerry_core::canonical::{Mode, Object};

use super::keyring::{Revoked, answered_by, from_notary};
use super::pieces::Pieces;
use super::{discover, stage};
use crate::http::Response;

/// The server that a `.well-known` names.
#[must_use]
pub fn well_known(body: &[u8], now_ms: u64) -> Option<String> {
    let answer = Response {
        status: StatusCode::OK,
        headers: HeaderMap::new(),
        body: Bytes::copy_from_slice(body),
    };
    discover::delegated_to(&answer, now_ms)
}

/// The events of an answer of `/send_join` that comes in pieces of so many bytes; why it cannot be
/// read, in words.
///
/// # Errors
/// It is no such answer.
pub fn join_answer(body: &[u8], size: usize) -> Result<Vec<Vec<u8>>, String> {
    let (mut pieces, mut reader) = (Vec::new(), Pieces::new(stage::OF_JOIN));
    for part in body.chunks(size.max(1)) {
        let read = reader.feed(part, &mut pieces);
        read.map_err(|error| error.to_string())?;
    }
    reader.end().map_err(|error| error.to_string())?;
    Ok(pieces.into_iter().map(|piece| piece.json).collect())
}

/// The ids of keys that answers about a server name, as far as they are believed: of an answer of
/// its own, and of those of a notary.
#[must_use]
pub fn key_answers(body: &[u8], server: &str, now_ms: u64) -> Vec<Vec<String>> {
    let own = Object::parse_within(body, Mode::Lenient, usize::MAX).ok();
    let others = from_notary(body).unwrap_or_default();
    let Ok(revoked) = Revoked::load(None) else {
        return Vec::new();
    };
    let believed = own.into_iter().chain(others);
    believed
        .filter_map(|answer| answered_by(answer, server, &revoked, now_ms))
        .collect()
}
