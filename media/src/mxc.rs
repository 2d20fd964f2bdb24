//! Media ids: what may stand behind the server's name in an `mxc://` URI.

use skerry_core::Dice;

/// The longest media id that is looked at, in bytes.
const MEDIA_ID_MAX: usize = 255;
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// A media id made of letters, digits, `-` and `_` only (content repository, security
/// considerations), so that it can never be taken for a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaId(String);

impl MediaId {
    /// A new id that cannot be guessed: 24 characters, 144 bits.
    pub fn random(dice: &mut dyn Dice) -> Self {
        let mut bytes = [0_u8; 24];
        dice.fill(&mut bytes);
        let pick = |byte: &u8| char::from(ALPHABET[usize::from(byte & 63)]);
        Self(bytes.iter().map(pick).collect())
    }

    /// Reads an id from outside; `None` for anything that is not one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let good = !text.is_empty()
            && text.len() <= MEDIA_ID_MAX
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        good.then(|| Self(text.to_owned()))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Reads the hash of a blob, 64 hexadecimal digits.
#[must_use]
pub fn parse_hash(text: &str) -> Option<[u8; 32]> {
    blake3::Hash::from_hex(text)
        .ok()
        .map(|hash| *hash.as_bytes())
}
