//! Ed25519 keys: our own for signing, other servers' for checking.

use std::fmt;

use ruma_common::SigningKeyAlgorithm;
use ruma_signatures::{Ed25519KeyPair, KeyPair as _, verify_canonical_json_bytes};

use crate::Dice;
use crate::canonical::{Object, Value};
use crate::hash::{base64, decode_base64};

/// The fixed beginning of a PKCS#8 document that holds a bare Ed25519 seed (RFC 8410).
const PKCS8_SEED_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// A seed that makes no key, or a key version that is not `[a-zA-Z0-9_]+`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not a usable signing key")]
pub struct KeyError;

/// The server's signing key.
pub struct SigningKey {
    id: String,
    seed: [u8; 32],
    pair: Ed25519KeyPair,
}

impl SigningKey {
    /// From its 32-byte seed; `version` is the part of the key id after `ed25519:`.
    ///
    /// # Errors
    /// `version` is empty or holds other characters than letters, digits and `_`.
    pub fn from_seed(seed: &[u8; 32], version: &str) -> Result<Self, KeyError> {
        let named = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        if version.is_empty() || !version.bytes().all(named) {
            return Err(KeyError);
        }
        let document = [PKCS8_SEED_PREFIX.as_slice(), seed].concat();
        let pair = Ed25519KeyPair::from_der(&document, version.to_owned()).map_err(|_| KeyError)?;
        Ok(SigningKey {
            id: format!("ed25519:{version}"),
            seed: *seed,
            pair,
        })
    }

    /// A new key with a random version of six characters.
    ///
    /// # Errors
    /// Never for random bytes; kept for the one path that makes a key.
    pub fn generate(dice: &mut dyn Dice) -> Result<Self, KeyError> {
        let mut seed = [0; 32];
        dice.fill(&mut seed);
        Self::from_seed(&seed, &random_name(dice, 6))
    }

    /// The key id, `ed25519:version`.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The seed, to keep in the key file.
    #[must_use]
    pub const fn seed(&self) -> &[u8; 32] {
        &self.seed
    }

    /// The public key.
    #[must_use]
    pub fn public_key(&self) -> [u8; 32] {
        self.pair.public_key()
    }

    /// The signature of some bytes, in unpadded base64.
    #[must_use]
    pub fn sign(&self, bytes: &[u8]) -> String {
        base64(self.pair.sign(bytes).as_bytes())
    }

    /// Signs a JSON object (appendices, "Signing JSON"): without `signatures` and `unsigned`, the
    /// signature added under `server`.
    pub fn sign_object(&self, server: &str, object: &mut Object) {
        let mut text = String::new();
        object.write_without(&["signatures", "unsigned"], &mut text);
        add_signature(object, server, &self.id, self.sign(text.as_bytes()));
    }
}

/// Says the key's id and nothing of its secret.
impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.id)
    }
}

/// Puts a signature in its place among `signatures`.
pub fn add_signature(object: &mut Object, server: &str, key_id: &str, signature: String) {
    let mut signatures = match object.remove("signatures") {
        Some(Value::Object(signatures)) => signatures,
        _ => Object::new(),
    };
    let mut of_server = match signatures.remove(server) {
        Some(Value::Object(of_server)) => of_server,
        _ => Object::new(),
    };
    of_server.insert(key_id, signature);
    signatures.insert(server, of_server);
    object.insert("signatures", signatures);
}

/// Whether `signature` (base64) is that of `text` under an Ed25519 public key.
#[must_use]
pub fn verify(public_key: &[u8; 32], signature: &str, text: &[u8]) -> bool {
    decode_base64(signature).is_some_and(|signature| {
        let algorithm = SigningKeyAlgorithm::Ed25519;
        verify_canonical_json_bytes(&algorithm, public_key, &signature, text).is_ok()
    })
}

/// Whether a JSON object carries a good signature of `server` under this key.
#[must_use]
pub fn verify_object(object: &Object, server: &str, key_id: &str, public_key: &[u8; 32]) -> bool {
    let signatures = object.object("signatures").and_then(|s| s.object(server));
    let Some(signature) = signatures.and_then(|s| s.str(key_id)) else {
        return false;
    };
    let mut text = String::new();
    object.write_without(&["signatures", "unsigned"], &mut text);
    verify(public_key, signature, text.as_bytes())
}

/// `len` random letters and digits (ASCII), each equally likely.
#[must_use]
pub fn random_name(dice: &mut dyn Dice, len: usize) -> String {
    const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut name = String::with_capacity(len);
    let mut bytes = [0_u8; 32];
    while name.len() < len {
        dice.fill(&mut bytes);
        // 248 = 4 * 62: larger bytes are thrown away so that no character is likelier.
        let usable = bytes.iter().filter(|&&b| b < 248);
        let chars = usable.filter_map(|&b| ALPHABET.get(usize::from(b) % 62));
        name.extend(chars.take(len - name.len()).map(|&b| char::from(b)));
    }
    name
}
