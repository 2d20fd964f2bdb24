//! Keys that nobody may use, because everybody can know their secret half.

use std::collections::HashSet;
use std::path::Path;

use skerry_core::hash::decode_base64;

/// The list that comes with this version.
const SHIPPED: &str = include_str!("revoked_keys.txt");

/// Keys that nobody may use.
#[derive(Clone, Debug)]
pub struct Revoked(HashSet<[u8; 32]>);

/// What is wrong with a list of such keys.
#[derive(Debug, thiserror::Error)]
pub enum RevokedError {
    /// The file cannot be read.
    #[error("it cannot be read: {0}")]
    Read(std::io::Error),
    /// A line is neither empty, nor a comment, nor a key.
    #[error("line {0} is not a public key in base64")]
    Line(usize),
}

impl Revoked {
    /// Those of the list that comes with this version, and of the operator's file: a public key
    /// in base64 on each line; what follows a `#` is a comment.
    ///
    /// # Errors
    /// [`RevokedError`].
    pub fn load(file: Option<&Path>) -> Result<Revoked, RevokedError> {
        let mut all = lines(SHIPPED)?;
        if let Some(file) = file {
            let text = std::fs::read_to_string(file).map_err(RevokedError::Read)?;
            all.extend(lines(&text)?);
        }
        Ok(Revoked(all))
    }

    /// Whether this key is one of them.
    pub(super) fn holds(&self, public: &[u8; 32]) -> bool {
        self.0.contains(public)
    }
}

fn lines(text: &str) -> Result<HashSet<[u8; 32]>, RevokedError> {
    let mut keys = HashSet::new();
    for (n, line) in text.lines().enumerate() {
        let key = line.split('#').next().unwrap_or_default().trim();
        if key.is_empty() {
            continue;
        }
        let public = decode_base64(key).and_then(|key| key.try_into().ok());
        keys.insert(public.ok_or(RevokedError::Line(n + 1))?);
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use skerry_core::hash::base64;

    use super::*;

    #[test]
    fn the_operators_list_adds_to_the_shipped_one() {
        let shipped = Revoked::load(None).unwrap();
        assert!(!shipped.0.is_empty());
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("revoked");
        let text = format!("# mine\n\n{} # leaked\n", base64(&[7; 32]));
        std::fs::write(&file, text).unwrap();
        let both = Revoked::load(Some(&file)).unwrap();
        assert!(both.holds(&[7; 32]) && both.0.is_superset(&shipped.0));
        std::fs::write(&file, "\nnonsense\n").unwrap();
        let wrong = Revoked::load(Some(&file));
        assert!(matches!(wrong, Err(RevokedError::Line(2))), "{wrong:?}");
    }
}
