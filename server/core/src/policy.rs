//! Policy servers: one server of a room that recommends events by signing them.
//! Spec: server-server API, "Policy Servers".

mod rules;
#[cfg(test)]
mod tests;

pub use rules::{Grounds, MAX_MEDIA, RuleLists, Rules};

use crate::StoredEvent;
use crate::canonical::Object;
use crate::event::FormatError;
use crate::hash::{decode_base64, signable_text};
use crate::keys::{SigningKey, add_signature, verify};

/// The type of the state event by which a room names its policy server.
pub const POLICY: &str = "m.room.policy";
/// The id that the key of a policy server always has.
pub const KEY_ID: &str = "ed25519:policy_server";

/// The policy server that a room names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PolicyServer {
    /// Its server name, as the room writes it.
    pub via: String,
    /// Its public key; none where what the room says is no key, so that nothing is ever good.
    pub key: Option<[u8; 32]>,
}

impl PolicyServer {
    /// From the content of `m.room.policy`; none where it names no policy server. Whether the
    /// server has a joined user in the room, without whom it is none either, is not asked here.
    #[must_use]
    pub fn of(content: &Object) -> Option<PolicyServer> {
        let key = content.object("public_keys")?.str("ed25519")?;
        Some(PolicyServer {
            via: content.str("via")?.to_owned(),
            key: public_key(key),
        })
    }

    /// Whether an event bears a good signature of this policy server.
    #[must_use]
    pub fn has_signed(&self, event: &StoredEvent) -> bool {
        let Ok(object) = event.object() else {
            return false;
        };
        let signatures = object.object("signatures");
        let signature = signatures
            .and_then(|all| all.object(&self.via))
            .and_then(|of_server| of_server.str(KEY_ID));
        signature.is_some_and(|signature| {
            let text = signable_text(&object, event.version());
            self.is_good(signature, &text)
        })
    }

    /// The event with a signature that the policy server gave for it, beside those that it has;
    /// none where the signature is not good.
    ///
    /// # Errors
    /// The signature makes it too large; or the stored event is damaged.
    pub fn signed(
        &self,
        event: &StoredEvent,
        signature: &str,
    ) -> Result<Option<StoredEvent>, FormatError> {
        let mut object = event.object().map_err(FormatError::Json)?;
        let text = signable_text(&object, event.version());
        if !self.is_good(signature, &text) {
            return Ok(None);
        }
        add_signature(&mut object, &self.via, KEY_ID, signature.to_owned());
        let (id, version) = (event.event_id().to_owned(), event.version());
        StoredEvent::assemble(&object, id, version).map(Some)
    }

    fn is_good(&self, signature: &str, text: &str) -> bool {
        self.key
            .is_some_and(|key| verify(&key, signature, text.as_bytes()))
    }
}

/// The signature by which a policy server with this key recommends an event.
///
/// # Errors
/// The stored event is damaged.
pub fn recommend(event: &StoredEvent, key: &SigningKey) -> Result<String, FormatError> {
    let object = event.object().map_err(FormatError::Json)?;
    Ok(key.sign(signable_text(&object, event.version()).as_bytes()))
}

/// Whether an event needs no recommendation: the one that names the policy server, so that a room
/// can do without one that is gone.
#[must_use]
pub fn is_exempt(event: &StoredEvent) -> bool {
    event.is(POLICY, "")
}

/// A public key in base64; the specification's examples use the alphabet for URLs.
fn public_key(text: &str) -> Option<[u8; 32]> {
    let plain: String = text
        .chars()
        .map(|c| match c {
            '-' => '+',
            '_' => '/',
            c => c,
        })
        .collect();
    decode_base64(&plain)?.try_into().ok()
}
