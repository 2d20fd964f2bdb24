//! This server's own keys.

use std::sync::Arc;

use skerry_core::canonical::{Object, Value};
use skerry_core::hash::{base64, decode_base64};
use skerry_core::keys::SigningKey;
use skerry_store::schema::remote::ServerKey;

use super::known::Known;

/// How long others may believe our keys before they ask again, in ms: a day.
const GOOD_FOR_MS: u64 = 24 * 3_600_000;

/// A key that this server used before, and uses no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OldKey {
    /// Its id, such as `ed25519:abc`.
    pub id: String,
    /// The public key.
    pub public: [u8; 32],
    /// When it was given up, in ms since the epoch.
    pub expired_ms: u64,
}

impl OldKey {
    /// Reads `ed25519:VERSION PUBLIC_KEY EXPIRED_TS`: the key in base64, the time in ms since the
    /// epoch.
    #[must_use]
    pub fn parse(text: &str) -> Option<OldKey> {
        let mut words = text.split_ascii_whitespace();
        let (id, public, expired) = (words.next()?, words.next()?, words.next()?);
        let version = id.strip_prefix("ed25519:")?;
        let named = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let good = !version.is_empty() && version.bytes().all(named) && words.next().is_none();
        good.then_some(OldKey {
            id: id.to_owned(),
            public: decode_base64(public)?.try_into().ok()?,
            expired_ms: expired.parse().ok()?,
        })
    }
}

/// This server's own keys.
pub(super) struct Own {
    pub(super) name: Arc<str>,
    pub(super) key: Arc<SigningKey>,
    old: Vec<OldKey>,
}

impl Own {
    pub(super) fn new(name: Arc<str>, key: Arc<SigningKey>, old: Vec<OldKey>) -> Own {
        Own { name, key, old }
    }

    /// As this server knows itself.
    pub(super) fn known(&self) -> Known {
        let current = ServerKey {
            public: self.key.public_key(),
            valid_until_ms: u64::MAX,
            retired: false,
        };
        let old = self.old.iter().map(|old| {
            let key = ServerKey {
                public: old.public,
                valid_until_ms: old.expired_ms,
                retired: true,
            };
            (old.id.clone(), key)
        });
        Known {
            keys: old.chain([(self.key.id().to_owned(), current)]).collect(),
        }
    }

    /// As others are told, signed.
    pub(super) fn object(&self, now_ms: u64) -> Object {
        let time = |ms: u64| Value::Int(i64::try_from(ms).unwrap_or(i64::MAX));
        let mut current = Object::new();
        current.insert("key", base64(&self.key.public_key()));
        let mut verify_keys = Object::new();
        verify_keys.insert(self.key.id(), current);
        let mut old_verify_keys = Object::new();
        for old in &self.old {
            let mut key = Object::new();
            key.insert("key", base64(&old.public));
            key.insert("expired_ts", time(old.expired_ms));
            old_verify_keys.insert(&old.id, key);
        }
        let mut object = Object::new();
        object.insert("server_name", &*self.name);
        object.insert("verify_keys", verify_keys);
        object.insert("old_verify_keys", old_verify_keys);
        object.insert("valid_until_ts", time(now_ms.saturating_add(GOOD_FOR_MS)));
        self.key.sign_object(&self.name, &mut object);
        object
    }

    /// The same as text.
    pub(super) fn published(&self, now_ms: u64) -> String {
        self.object(now_ms).to_string()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn old_keys_are_read_as_the_operator_writes_them() {
        let text = format!("ed25519:a_1 {} 1500", base64(&[3; 32]));
        let expected = OldKey {
            id: "ed25519:a_1".to_owned(),
            public: [3; 32],
            expired_ms: 1_500,
        };
        assert_eq!(OldKey::parse(&text), Some(expected));
        for wrong in [
            "",
            "ed25519:a",
            "ed25519:a AAAA 1",
            &format!("a {} 1", base64(&[3; 32])),
            &format!("ed25519:a-b {} 1", base64(&[3; 32])),
            &format!("ed25519:a {} soon", base64(&[3; 32])),
            &format!("{text} more"),
        ] {
            assert_eq!(OldKey::parse(wrong), None, "{wrong}");
        }
    }
}
