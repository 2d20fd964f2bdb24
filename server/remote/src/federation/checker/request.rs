//! Who sent a request (server-server API, "Request Authentication").

use std::collections::BTreeSet;
use std::sync::Arc;

use skerry_store::StoreError;

use super::Checker;
use crate::federation::keyring::{Moment, Wanted};
use crate::federation::xmatrix::{Proof, Signed};

/// How far the other side's clock may go wrong: so long a key is believed beyond its time, in ms.
const TOLERANCE_MS: u64 = 5 * 60_000;
/// How many proofs a request may carry: servers with several keys sign with each.
const PROOFS_MAX: usize = 8;

/// Why it is not known who sent a request.
#[derive(Debug, thiserror::Error)]
pub enum RequestFault {
    /// It carries no proof.
    #[error("the request is not signed")]
    Missing,
    /// What should prove it is malformed, or contradicts itself.
    #[error("the Authorization header is malformed")]
    Malformed,
    /// It was signed for another server.
    #[error("the request is meant for another server")]
    Destination,
    /// None of the keys with which it is signed could be found, or may be used.
    #[error("no usable key of {0} was found")]
    NoKey(String),
    /// A signature is not good.
    #[error("the signature is not good")]
    Signature,
    /// The operator does not want to talk with the server that it says it is from.
    #[error("this server does not talk with that one")]
    Denied,
    /// The store failed.
    #[error("{0}")]
    Store(#[from] StoreError),
}

impl Checker {
    /// Who sent a request. `headers` are the values of all its `Authorization` headers, `uri` is
    /// path and query as they came, `body` what it carries as canonical JSON, if anything.
    ///
    /// Every signature under a key that is known has to be good, and there has to be one.
    ///
    /// # Errors
    /// [`RequestFault`].
    pub async fn check_request(
        &self,
        headers: &[&str],
        method: &str,
        uri: &str,
        body: Option<&str>,
    ) -> Result<Arc<str>, RequestFault> {
        let inner = &self.inner;
        let proofs = proofs(headers)?;
        let first = proofs.first().ok_or(RequestFault::Missing)?;
        let origin: Arc<str> = first.origin.as_str().into();
        if proofs.iter().any(|proof| proof.origin != *origin) {
            return Err(RequestFault::Malformed);
        }
        let elsewhere = |name: &String| **name != *inner.own_name;
        if proofs
            .iter()
            .any(|p| p.destination.as_ref().is_some_and(elsewhere))
        {
            return Err(RequestFault::Destination);
        }
        // Nobody else is this server.
        if origin == inner.own_name || !inner.policy.permits(&origin) {
            return Err(RequestFault::Denied);
        }
        let moment = Moment::Request(inner.clock.now_ms().saturating_sub(TOLERANCE_MS));
        let key_ids: BTreeSet<String> = proofs.iter().map(|proof| proof.key.clone()).collect();
        let wanted = Wanted {
            server: Arc::clone(&origin),
            key_ids,
            moment,
        };
        let keys = inner.keys.find(vec![wanted]).await?;
        let signed = Signed {
            method,
            uri,
            origin: &origin,
            destination: &inner.own_name,
            content: body,
        };
        let mut good = false;
        for proof in &proofs {
            let Some(key) = keys.get(&origin, &proof.key, moment) else {
                continue;
            };
            if !signed.is_signed(proof, &key) {
                return Err(RequestFault::Signature);
            }
            good = true;
        }
        if good {
            Ok(origin)
        } else {
            Err(RequestFault::NoKey(origin.to_string()))
        }
    }
}

/// All proofs of a request. One that is malformed spoils the others.
fn proofs(headers: &[&str]) -> Result<Vec<Proof>, RequestFault> {
    if headers.len() > PROOFS_MAX {
        return Err(RequestFault::Malformed);
    }
    let parsed = headers.iter().map(|header| Proof::parse(header));
    let parsed: Option<Vec<Proof>> = parsed.collect();
    parsed.ok_or(RequestFault::Malformed)
}
