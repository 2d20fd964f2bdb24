//! What a server says about its keys, read and checked.

use skerry_core::canonical::{Mode, Object, Value};
use skerry_core::hash::decode_base64;
use skerry_core::keys::verify_object;
use skerry_store::schema::remote::ServerKey;

use super::revoked::Revoked;

/// How many keys an answer may name.
const KEYS_MAX: usize = 128;
/// How long a key is believed at most, from when it was asked for, in ms: seven days.
const BELIEVED_MS: u64 = 7 * 24 * 3_600_000;

/// An answer that its server signed.
#[derive(Debug)]
pub(super) struct Answer {
    /// As it was signed.
    pub(super) object: Object,
    /// The keys it names, by id; none that was revoked.
    pub(super) keys: Vec<(String, ServerKey)>,
    /// Until when it is good, in ms since the epoch; at most seven days from now.
    pub(super) valid_until_ms: u64,
}

/// Reads an answer about `server`. It has to carry a good signature under one of the keys that
/// it names as being in use, and none that is bad.
///
/// # Errors
/// What is wrong with it, in words.
pub(super) fn read(
    object: Object,
    server: &str,
    revoked: &Revoked,
    now_ms: u64,
) -> Result<Answer, &'static str> {
    if object.str("server_name") != Some(server) {
        return Err("it is about another server");
    }
    let valid_until_ms = object
        .int("valid_until_ts")
        .and_then(|ts| ts.try_into().ok());
    let valid_until_ms: u64 = valid_until_ms.ok_or("it does not say until when it is good")?;
    let valid_until_ms = valid_until_ms.min(now_ms.saturating_add(BELIEVED_MS));
    let empty = Object::new();
    let current = object.object("verify_keys").ok_or("it names no keys")?;
    let old = object.object("old_verify_keys").unwrap_or(&empty);
    if current.len() + old.len() > KEYS_MAX {
        return Err("it names too many keys");
    }
    let mut keys = Vec::new();
    let mut signed = false;
    for (id, public) in ed25519(current) {
        if revoked.holds(&public) {
            continue;
        }
        let signatures = object
            .object("signatures")
            .and_then(|all| all.object(server));
        if signatures.is_some_and(|all| all.get(id).is_some()) {
            if !verify_object(&object, server, id, &public) {
                return Err("a signature is not good");
            }
            signed = true;
        }
        keys.push((
            id.to_owned(),
            ServerKey {
                public,
                valid_until_ms,
                retired: false,
            },
        ));
    }
    if !signed {
        return Err("it is not signed with a key that it names and that may be used");
    }
    for (id, public) in ed25519(old) {
        let expired = old.object(id).and_then(|key| key.int("expired_ts"));
        let expired = expired.and_then(|ts| u64::try_from(ts).ok());
        let in_use = keys.iter().any(|(other, _)| other == id);
        if let Some(expired_ms) = expired.filter(|_| !in_use && !revoked.holds(&public)) {
            keys.push((
                id.to_owned(),
                ServerKey {
                    public,
                    valid_until_ms: expired_ms,
                    retired: true,
                },
            ));
        }
    }
    Ok(Answer {
        object,
        keys,
        valid_until_ms,
    })
}

/// The keys of the one kind that there is; what is malformed is passed over.
fn ed25519(keys: &Object) -> impl Iterator<Item = (&str, [u8; 32])> {
    keys.iter().filter_map(|(id, key)| {
        let version = id.strip_prefix("ed25519:")?;
        let key = key.as_object()?.str("key")?;
        let public = decode_base64(key)?.try_into().ok()?;
        (!version.is_empty() && id.len() <= 255).then_some((id, public))
    })
}

/// The answers of a notary: those about each server that is asked for, unchecked.
pub(in crate::federation) fn from_notary(body: &[u8]) -> Option<Vec<Object>> {
    // The body was bounded when it was read.
    let mut object = Object::parse_within(body, Mode::Lenient, usize::MAX).ok()?;
    let Some(Value::Array(answers)) = object.remove("server_keys") else {
        return None;
    };
    let objects = answers.into_iter().filter_map(|answer| match answer {
        Value::Object(object) => Some(object),
        _ => None,
    });
    Some(objects.collect())
}

/// The ids of the keys that an answer about a server names, where it is believed.
#[cfg(feature = "fixtures")]
pub(in crate::federation) fn answered_by(
    object: Object,
    server: &str,
    revoked: &Revoked,
    now_ms: u64,
) -> Option<Vec<String>> {
    let answer = read(object, server, revoked, now_ms).ok()?;
    Some(answer.keys.into_iter().map(|(id, _)| id).collect())
}

#[cfg(test)]
mod tests;
