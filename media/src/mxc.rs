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

/// Where a media id's characters end in a text.
fn id_end(text: &str) -> usize {
    let inside = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    text.bytes().position(|b| !inside(b)).unwrap_or(text.len())
}

/// Splits an `mxc://` URI; `None` for anything else.
#[must_use]
pub fn parse_mxc(uri: &str) -> Option<(&str, MediaId)> {
    let (server, id) = uri.strip_prefix(SCHEME)?.split_once('/')?;
    let good = !server.is_empty() && server.bytes().all(in_server_name);
    good.then_some(())?;
    Some((server, MediaId::parse(id)?))
}

const SCHEME: &str = "mxc://";

const fn in_server_name(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']')
}

/// Finds every `mxc://` URI in a JSON text, wherever it stands: in names, in values, in the middle
/// of other text. May tell of one that is none; never passes one over.
pub fn find_mxc(json: &str, tell: &mut dyn FnMut(&str, &str)) {
    in_text(json, tell);
    // A URI's own characters may be written as escapes; then the strings are looked at as they
    // are meant.
    if (json.contains("\\/") || json.contains("\\u"))
        && let Ok(value) = serde_json::from_str::<serde_json::Value>(json)
    {
        in_value(&value, tell);
    }
}

fn in_value(value: &serde_json::Value, tell: &mut dyn FnMut(&str, &str)) {
    use serde_json::Value;
    match value {
        Value::String(text) => in_text(text, tell),
        Value::Array(list) => list.iter().for_each(|value| in_value(value, tell)),
        Value::Object(map) => {
            for (name, value) in map {
                in_text(name, tell);
                in_value(value, tell);
            }
        }
        _ => {}
    }
}

fn in_text(text: &str, tell: &mut dyn FnMut(&str, &str)) {
    let mut rest = text;
    while let Some((_, after)) = rest.split_once(SCHEME) {
        rest = after;
        let end = after.bytes().position(|b| !in_server_name(b));
        let Some((server, id)) = end.and_then(|end| after.split_at_checked(end)) else {
            continue;
        };
        if let Some(id) = id.strip_prefix('/')
            && let Some(id) = id.get(..id_end(id))
            && !server.is_empty()
            && !id.is_empty()
        {
            tell(server, id);
        }
    }
}

/// Stands for an `mxc://` where very many are held in memory.
pub(crate) fn fingerprint(server: &str, id: &str) -> u128 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(server.as_bytes());
    hasher.update(b"/");
    hasher.update(id.as_bytes());
    let hash = hasher.finalize();
    let (half, _) = hash.as_bytes().split_at(16);
    u128::from_le_bytes(half.try_into().unwrap_or_default())
}

/// Reads the hash of a blob, 64 hexadecimal digits.
#[must_use]
pub fn parse_hash(text: &str) -> Option<[u8; 32]> {
    blake3::Hash::from_hex(text)
        .ok()
        .map(|hash| *hash.as_bytes())
}
