//! What is asked of a CA.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use rustls_pki_types::CertificateDer;

use super::challenges::Challenges;
use super::plan::Kind;

/// What takes its time at the CA.
pub(super) type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Somebody who issues certificates.
pub(super) trait Issuer: Send + Sync {
    /// Orders a certificate: PEM, the chain with its beginning first, then its key.
    fn issue<'a>(&'a self, order: Order<'a>) -> Answer<'a, Result<Vec<u8>, Failure>>;

    /// When a certificate should be renewed, by the CA's own advice (RFC 9773); none where it
    /// gives no advice.
    fn advice<'a>(&'a self, certificate: &'a CertificateDer<'a>) -> Answer<'a, Option<Advice>>;
}

/// What is ordered.
#[derive(Clone, Copy)]
pub(super) struct Order<'a> {
    pub(super) name: &'a str,
    /// How it is shown that the name is ours.
    pub(super) kind: Kind,
    /// Where what the CA shall find is put.
    pub(super) challenges: &'a Challenges,
    /// The certificate that is replaced, where the CA takes advice seriously.
    pub(super) replaces: Option<&'a CertificateDer<'a>>,
}

/// When a certificate should be renewed. Times are in ms since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Advice {
    pub(super) from_ms: u64,
    pub(super) to_ms: u64,
    /// When to ask again, from now.
    pub(super) again: Duration,
}

/// Why there is no certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// In the CA's own words where it said any.
    pub(super) words: String,
    pub(super) stage: Stage,
    /// The CA does not want to be asked sooner.
    pub(super) retry_after: Option<Duration>,
}

/// How far it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Not so far that the CA counts it against the name: it was not reached, or refused.
    Before,
    /// The CA does not look at names in this way.
    NotOffered,
    /// The CA looked, and found that the name is not ours.
    Validation,
}
