//! Checking hashes and signatures of events that other servers made.
//! Spec: server-server API, "Validating hashes and signatures on received events".

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use crate::canonical::Object;
use crate::hash::{content_hash, decode_base64, signable_text};
use crate::keys::verify;
use crate::names::{is_server_name, server_of};
use crate::room_version::RoomVersion;

/// What is genuine about an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verified {
    /// Signatures and content.
    All,
    /// The signatures only: the content was changed on the way, and the event must be redacted
    /// before it is used.
    SignaturesOnly,
}

/// An event is not from whom it says.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum VerifyError {
    /// A field that says who must have signed is missing or malformed.
    #[error("event has no usable `{0}`")]
    Malformed(&'static str),
    /// No signature of this server under a key that is known and good for the event.
    #[error("event has no valid signature of {0}")]
    Unsigned(String),
}

/// The servers that must have signed: the sender's (unless it is an invite made from a third-party
/// one), the event id's in versions 1 and 2, and that of the user who let a restricted join pass.
///
/// # Errors
/// A field is missing or malformed.
pub fn required_servers(
    event: &Object,
    version: RoomVersion,
) -> Result<BTreeSet<String>, VerifyError> {
    let server = |id: Option<&str>, field| {
        let server = id
            .and_then(server_of)
            .filter(|server| is_server_name(server));
        server
            .map(str::to_owned)
            .ok_or(VerifyError::Malformed(field))
    };
    let content = event.object("content");
    let membership = content.and_then(|content| content.str("membership"));
    let is_member = event.str("type") == Some("m.room.member");
    let third_party = is_member
        && membership == Some("invite")
        && content.is_some_and(|content| content.object("third_party_invite").is_some());
    let mut servers = BTreeSet::new();
    if !third_party {
        servers.insert(server(event.str("sender"), "sender")?);
    }
    if version.references_have_hashes() {
        servers.insert(server(event.str("event_id"), "event_id")?);
    }
    if version.has_restricted()
        && is_member
        && membership == Some("join")
        && let Some(user) = content.and_then(|c| c.get("join_authorised_via_users_server"))
    {
        servers.insert(server(user.as_str(), "join_authorised_via_users_server")?);
    }
    Ok(servers)
}

/// Checks signatures and content hash. `key` answers (server, key id) with a public key that is
/// good for this event; whether it was good at the event's time is the caller's to know.
///
/// Of each server that must have signed, every signature under a key that is known has to be good,
/// and there has to be one; those under other keys (a policy server's, one that has expired) say
/// nothing.
///
/// # Errors
/// A server that must have signed has not.
pub fn verify_event(
    event: &Object,
    version: RoomVersion,
    key: &dyn Fn(&str, &str) -> Option<[u8; 32]>,
) -> Result<Verified, VerifyError> {
    let text = signable_text(event, version);
    let signatures = event.object("signatures");
    for server in required_servers(event, version)? {
        let of_server = signatures.and_then(|all| all.object(&server));
        if !of_server.is_some_and(|all| is_signed(all, &server, &text, key)) {
            return Err(VerifyError::Unsigned(server));
        }
    }
    Ok(if is_whole(event) {
        Verified::All
    } else {
        Verified::SignaturesOnly
    })
}

/// Whether an event holds the content that it had when it was signed: its hash says so.
#[must_use]
pub fn is_whole(event: &Object) -> bool {
    let hashes = event.object("hashes");
    let claimed = hashes.and_then(|hashes| hashes.str("sha256"));
    claimed
        .and_then(decode_base64)
        .is_some_and(|claimed| claimed.as_slice() == content_hash(event))
}

/// Whether there is a signature under a known key, and all such are good.
fn is_signed(
    signatures: &Object,
    server: &str,
    text: &str,
    key: &dyn Fn(&str, &str) -> Option<[u8; 32]>,
) -> bool {
    let mut known = signatures
        .iter()
        .filter(|(key_id, _)| key_id.starts_with("ed25519:"))
        .filter_map(|(key_id, signature)| Some((key(server, key_id)?, signature)))
        .peekable();
    known.peek().is_some()
        && known.all(|(public_key, signature)| {
            let signature = signature.as_str();
            signature.is_some_and(|signature| verify(&public_key, signature, text.as_bytes()))
        })
}
