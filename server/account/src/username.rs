//! The rules for user ids of this server.

use crate::AccountError;

/// Longest user id, in bytes (spec, appendices, user identifiers).
const MAX_USER_ID_BYTES: usize = 255;

/// Checks a localpart that someone wants to register and gives it back in lower case.
///
/// # Errors
/// [`AccountError::InvalidUsername`]. Names of digits only are left to guests, and names that
/// begin with `_` to bridges.
pub(crate) fn registrable(wanted: &str, server_name: &str) -> Result<String, AccountError> {
    let name = wanted.to_ascii_lowercase();
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._=-/+".contains(c);
    let refuse = |why| Err(AccountError::InvalidUsername(why));
    if name.is_empty() {
        return refuse("The username must not be empty");
    }
    if !name.chars().all(legal) {
        return refuse("The username may only hold the characters a-z, 0-9 and ._=-/+");
    }
    if name.starts_with('_') {
        return refuse("The username must not begin with an underscore");
    }
    if name.chars().all(|c| c.is_ascii_digit()) {
        return refuse("The username must not be a number");
    }
    if name.len() + server_name.len() + 2 > MAX_USER_ID_BYTES {
        return refuse("The username is too long");
    }
    Ok(name)
}

/// The user id meant by what a client gave as `user`: a localpart or a full id.
/// None if it belongs to another server or cannot be an id.
pub(crate) fn meant(given: &str, server_name: &str) -> Option<String> {
    let localpart = match given.strip_prefix('@') {
        Some(rest) => match rest.split_once(':') {
            Some((localpart, server)) if server == server_name => localpart,
            Some(_) => return None,
            None => rest,
        },
        None => given,
    };
    let id = format!("@{localpart}:{server_name}");
    (!localpart.is_empty() && id.len() <= MAX_USER_ID_BYTES).then_some(id)
}

/// Whether this is the id of a user of this server.
pub(crate) fn is_local_id(user_id: &str, server_name: &str) -> bool {
    let parts = user_id.strip_prefix('@').and_then(|id| id.split_once(':'));
    parts.is_some_and(|(localpart, server)| !localpart.is_empty() && server == server_name)
}

/// The localpart of a user id.
#[must_use]
pub fn localpart(user_id: &str) -> &str {
    let rest = user_id.strip_prefix('@').unwrap_or(user_id);
    rest.split_once(':')
        .map_or(rest, |(localpart, _)| localpart)
}
