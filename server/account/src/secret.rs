//! Random strings, and how tokens are kept: only as keyed hashes.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use skerry_core::Dice;

/// A token's keyed hash: what the store and the caches know of it.
pub type TokenHash = [u8; 32];

/// Prefix of access tokens, so that a leaked one is recognised for what it is.
pub(crate) const ACCESS: &str = "ska_";
/// Prefix of refresh tokens.
pub(crate) const REFRESH: &str = "skr_";

/// Longest token looked up at all, in bytes; ours are shorter.
pub(crate) const MAX_TOKEN_BYTES: usize = 128;

/// A new token: `prefix` and 256 random bits.
pub(crate) fn token(dice: &mut dyn Dice, prefix: &str) -> String {
    let mut bits = [0u8; 32];
    dice.fill(&mut bits);
    format!("{prefix}{}", URL_SAFE_NO_PAD.encode(bits))
}

/// The hash of a token under the server's key.
pub(crate) fn hash(pepper: &[u8; 32], token: &str) -> TokenHash {
    *blake3::keyed_hash(pepper, token.as_bytes()).as_bytes()
}

/// A random string of `len` letters and digits out of `alphabet`, whose length divides 256.
fn letters(dice: &mut dyn Dice, len: usize, alphabet: &[u8; 32]) -> String {
    let mut bytes = vec![0u8; len];
    dice.fill(&mut bytes);
    bytes
        .iter()
        .map(|b| char::from(alphabet[usize::from(b % 32)]))
        .collect()
}

/// A new device id: ten capital letters and digits.
pub(crate) fn device_id(dice: &mut dyn Dice) -> String {
    letters(dice, 10, b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")
}

/// A random localpart for a registration that names none.
pub(crate) fn localpart(dice: &mut dyn Dice) -> String {
    letters(dice, 12, b"abcdefghijklmnopqrstuvwxyz234567")
}

/// An id that cannot be guessed: 24 letters and digits (120 bits).
pub(crate) fn opaque(dice: &mut dyn Dice) -> String {
    letters(dice, 24, b"abcdefghijklmnopqrstuvwxyz234567")
}
