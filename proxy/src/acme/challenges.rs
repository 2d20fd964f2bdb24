//! What a CA finds when it looks whether a name is ours.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::sign::CertifiedKey;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::tls::provider;

/// Where it is asked for by HTTP (RFC 8555, 8.3).
const PLACE: &str = "/.well-known/acme-challenge/";

/// What is to be found at the moment.
#[derive(Default)]
pub(crate) struct Challenges {
    tokens: Shelf<String>,
    certificates: Shelf<Arc<CertifiedKey>>,
}

type Shelf<V> = Arc<Mutex<HashMap<String, V>>>;

/// Takes something away again when dropped.
pub(super) struct Shown<V> {
    shelf: Shelf<V>,
    key: String,
}

impl<V> Drop for Shown<V> {
    fn drop(&mut self) {
        let mut shelf = self.shelf.lock().unwrap_or_else(PoisonError::into_inner);
        shelf.remove(&self.key);
    }
}

fn show<V>(shelf: &Shelf<V>, key: String, value: V) -> Shown<V>
where
    String: Eq + Hash,
{
    let mut shown = shelf.lock().unwrap_or_else(PoisonError::into_inner);
    shown.insert(key.clone(), value);
    Shown {
        shelf: Arc::clone(shelf),
        key,
    }
}

impl Challenges {
    /// Whether a path is one at which CAs ask.
    pub(crate) fn is_place(path: &str) -> bool {
        path.starts_with(PLACE)
    }

    /// What is found at such a path.
    pub(crate) fn answer(&self, path: &str) -> Option<String> {
        let token = path.strip_prefix(PLACE)?;
        let tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.get(token).cloned()
    }

    /// The certificate that is shown to a CA (RFC 8737).
    pub(crate) fn certificate(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        let shelf = &self.certificates;
        let shown = shelf.lock().unwrap_or_else(PoisonError::into_inner);
        shown.get(name).cloned()
    }

    /// Answers by HTTP, as long as what is given back lives.
    pub(super) fn show_token(&self, token: &str, answer: &str) -> Shown<String> {
        show(&self.tokens, token.to_owned(), answer.to_owned())
    }

    /// Answers by TLS, as long as what is given back lives; `digest` is the SHA-256 of the key
    /// authorization.
    pub(super) fn show_certificate(
        &self,
        name: &str,
        digest: &[u8],
    ) -> Result<Shown<Arc<CertifiedKey>>, String> {
        let failed = |e: &dyn std::fmt::Display| format!("the answer to the CA: {e}");
        let mut params = CertificateParams::new(vec![name.to_owned()]).map_err(|e| failed(&e))?;
        params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
        let key = KeyPair::generate().map_err(|e| failed(&e))?;
        let made = params.self_signed(&key).map_err(|e| failed(&e))?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let key = provider().key_provider.load_private_key(key);
        // Its critical extension is for the CA alone; what reads certificates here refuses it.
        let key = CertifiedKey::new(vec![made.der().clone()], key.map_err(|e| failed(&e))?);
        Ok(show(&self.certificates, name.to_owned(), Arc::new(key)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn shown_as_long_as_it_is_held() {
        let challenges = Challenges::default();
        let place = "/.well-known/acme-challenge/abc";
        let shown = challenges.show_token("abc", "abc.thumb");
        assert!(Challenges::is_place(place) && !Challenges::is_place("/.well-known/x"));
        assert_eq!(challenges.answer(place).as_deref(), Some("abc.thumb"));
        assert_eq!(challenges.answer("/.well-known/acme-challenge/"), None);
        drop(shown);
        assert_eq!(challenges.answer(place), None);
        let shown = challenges.show_certificate("a.example", &[7; 32]).unwrap();
        assert!(challenges.certificate("a.example").is_some());
        assert!(challenges.certificate("b.example").is_none());
        drop(shown);
        assert!(challenges.certificate("a.example").is_none());
    }
}
