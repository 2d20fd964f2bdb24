//! Matrix identifiers: what is accepted from others, and what we make ourselves.
//!
//! Accepted are also historical forms (any user localpart without `:` and NUL); new names made
//! here follow the strict grammar. Spec: appendices, "Identifier Grammar".

#[cfg(test)]
mod tests;

use ruma_common::{EventId, RoomAliasId, RoomId, ServerName, UserId};

/// Longest identifier of any kind, in bytes, with its sigil and server name.
pub const MAX_ID_BYTES: usize = 255;

/// Why a name cannot be given to something new.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NameError {
    /// Nothing before the colon.
    #[error("the name is empty")]
    Empty,
    /// Longer than 255 bytes with sigil and server name.
    #[error("the name is longer than 255 bytes")]
    TooLong,
    /// A character that the grammar does not allow.
    #[error("the name holds a character that is not allowed")]
    Characters,
}

/// Whether this is a user id, in its strict or historical form.
#[must_use]
pub fn is_user_id(id: &str) -> bool {
    <&UserId>::try_from(id).is_ok()
}

/// Whether this is a room id of any room version.
#[must_use]
pub fn is_room_id(id: &str) -> bool {
    <&RoomId>::try_from(id).is_ok() && id.len() > 1
}

/// Whether this is an event id of any room version, at most 255 bytes long.
#[must_use]
pub fn is_event_id(id: &str) -> bool {
    <&EventId>::try_from(id).is_ok() && id.len() > 1 && id.len() <= MAX_ID_BYTES
}

/// Whether this is a room alias.
#[must_use]
pub fn is_room_alias(id: &str) -> bool {
    <&RoomAliasId>::try_from(id).is_ok()
}

/// Whether this is a server name: host or address, with or without a port.
#[must_use]
pub fn is_server_name(name: &str) -> bool {
    <&ServerName>::try_from(name).is_ok()
}

/// The server name of a user id, alias, or older room or event id: what follows the first colon.
#[must_use]
pub fn server_of(id: &str) -> Option<&str> {
    id.split_once(':').map(|(_, server)| server)
}

/// The localpart: what stands between the sigil and the first colon (or the end).
#[must_use]
pub fn localpart_of(id: &str) -> &str {
    let rest = id.get(1..).unwrap_or_default();
    rest.split_once(':')
        .map_or(rest, |(localpart, _)| localpart)
}

fn new_id(sigil: char, localpart: &str, server: &str) -> Result<String, NameError> {
    let id = format!("{sigil}{localpart}:{server}");
    if id.len() > MAX_ID_BYTES {
        Err(NameError::TooLong)
    } else {
        Ok(id)
    }
}

/// The id of a new user: the strict grammar (`a-z 0-9 . _ = - / +`). Upper case is refused, not
/// mapped: the caller decides whether to lower it first.
///
/// # Errors
/// Empty, too long, or not in the grammar.
pub fn new_user_id(localpart: &str, server: &str) -> Result<String, NameError> {
    if localpart.is_empty() {
        return Err(NameError::Empty);
    }
    let allowed =
        |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'=' | b'-' | b'/' | b'+');
    if !localpart.bytes().all(allowed) {
        return Err(NameError::Characters);
    }
    new_id('@', localpart, server)
}

/// A new room alias. The localpart may hold anything but `:`, NUL, and (because nobody could type
/// or link it) white space and control characters.
///
/// # Errors
/// Empty, too long, or not allowed characters.
pub fn new_room_alias(localpart: &str, server: &str) -> Result<String, NameError> {
    if localpart.is_empty() {
        return Err(NameError::Empty);
    }
    if localpart
        .chars()
        .any(|c| c == ':' || c.is_control() || c.is_whitespace())
    {
        return Err(NameError::Characters);
    }
    new_id('#', localpart, server)
}
