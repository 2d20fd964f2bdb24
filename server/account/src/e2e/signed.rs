//! Signed JSON: keys and signatures are canonical JSON objects with ed25519 signatures.

use ruma_common::CanonicalJsonValue;
use ruma_common::canonical_json::CanonicalJsonObject;
use ruma_common::serde::base64::{Base64, Standard};
use serde_json::value::RawValue;
use skerry_store::StoreError;

use super::KeysError;

/// A JSON object that came from a client, read strictly: what can be signed has no fractions and
/// no integers beyond 2^53.
pub(super) fn object(raw: &RawValue, what: &str) -> Result<CanonicalJsonObject, KeysError> {
    serde_json::from_str(raw.get())
        .map_err(|_| KeysError::Shape(format!("{what} is not an object of canonical JSON")))
}

/// A JSON object from a row of `table`.
pub(super) fn stored(table: &'static str, json: &str) -> Result<CanonicalJsonObject, StoreError> {
    serde_json::from_str(json).map_err(|_| corrupt(table))
}

/// JSON from a row of `table`, to be passed on as it is.
pub(super) fn raw(table: &'static str, json: String) -> Result<Box<RawValue>, StoreError> {
    RawValue::from_string(json).map_err(|_| corrupt(table))
}

fn corrupt(table: &'static str) -> StoreError {
    StoreError::Corrupt {
        table,
        key: "(its JSON)".into(),
    }
}

/// The object as canonical JSON text.
pub(super) fn text(object: &CanonicalJsonObject) -> String {
    CanonicalJsonValue::Object(object.clone()).to_string()
}

/// What a signature of the object covers: everything but `signatures` and `unsigned`.
pub(super) fn signed_text(object: &CanonicalJsonObject) -> String {
    let mut object = object.clone();
    object.remove("signatures");
    object.remove("unsigned");
    CanonicalJsonValue::Object(object).to_string()
}

/// A field that has to be a string.
pub(super) fn string<'a>(object: &'a CanonicalJsonObject, name: &str) -> Option<&'a str> {
    object.get(name).and_then(CanonicalJsonValue::as_str)
}

/// The signatures of `user_id` in a signed object, by key id; those of the wrong type left out.
pub(super) fn signatures_of<'a>(
    object: &'a CanonicalJsonObject,
    user_id: &str,
) -> impl Iterator<Item = (&'a str, &'a str)> {
    object
        .get("signatures")
        .and_then(CanonicalJsonValue::as_object)
        .and_then(|signatures| signatures.get(user_id))
        .and_then(CanonicalJsonValue::as_object)
        .into_iter()
        .flatten()
        .filter_map(|(key_id, value)| Some((key_id.as_str(), value.as_str()?)))
}

/// Whether a text is a public key of ed25519: 32 bytes in base64.
pub(super) fn is_key(public: &str) -> bool {
    Base64::<Standard, [u8; 32]>::parse(public).is_ok()
}

/// Whether `signature` is one of the ed25519 key `public` over `text`; both in base64.
pub(super) fn verifies(text: &str, public: &str, signature: &str) -> bool {
    Base64::<Standard, [u8; 32]>::parse(public).is_ok_and(|public| {
        skerry_core::keys::verify(&public.into_inner(), signature, text.as_bytes())
    })
}
