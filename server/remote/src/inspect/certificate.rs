//! Certificates: whether who connects would believe them.

use std::path::Path;
use std::time::Duration;

use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::aws_lc_rs;
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, Error, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

/// What ends sooner should have been renewed by now, in ms.
const SOON_MS: u64 = 14 * 24 * 3_600_000;
/// Later than any certificate can end (RFC 5280, 4.1.2.5), in s since the epoch.
const NEVER: Duration = Duration::from_secs(253_402_300_800);

/// Who is believed to sign certificates.
#[derive(Clone, Debug)]
pub struct Roots(RootCertStore);

impl Roots {
    pub(crate) fn new(store: RootCertStore) -> Roots {
        Roots(store)
    }

    /// These and nobody else.
    ///
    /// # Errors
    /// Why one cannot be used, in words.
    pub fn only(certificates: &[CertificateDer<'static>]) -> Result<Roots, String> {
        let mut store = RootCertStore::empty();
        for certificate in certificates {
            let added = store.add(certificate.clone());
            added.map_err(|error| error.to_string())?;
        }
        Ok(Roots(store))
    }
}

/// What a certificate is like. Times are in ms since the epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Everybody believes it, until then.
    Good(u64),
    /// Everybody believes it, but not for long.
    Soon(u64),
    /// It, or one of its chain, ended then.
    Expired(u64),
    /// It begins only then.
    NotYet(u64),
    /// Nobody but itself signed it.
    SelfSigned(u64),
    /// Whoever signed it is not known here, or the chain has a gap.
    UnknownIssuer(u64),
    /// It is for these names and not for ours.
    WrongName(Vec<String>),
    /// It cannot be used, for this reason.
    Broken(String),
}

/// Judges a chain (the server's certificate first) by the names of which it has to prove one.
pub fn judge(
    chain: &[CertificateDer<'_>],
    names: &[&str],
    roots: &Roots,
    now_ms: u64,
) -> Condition {
    let Some((leaf, rest)) = chain.split_first() else {
        return Condition::Broken("there is none".to_owned());
    };
    let parsed = match ParsedCertificate::try_from(leaf) {
        Ok(parsed) => parsed,
        Err(error) => return Condition::Broken(error.to_string()),
    };
    let now = UnixTime::since_unix_epoch(Duration::from_millis(now_ms));
    let until = match verify(&parsed, rest, &roots.0, UnixTime::since_unix_epoch(NEVER)) {
        Err(CertificateError::ExpiredContext { not_after, .. }) => millis(not_after),
        _ => u64::MAX,
    };
    match verify(&parsed, rest, &roots.0, now) {
        Ok(()) => {}
        Err(CertificateError::ExpiredContext { not_after, .. }) => {
            return Condition::Expired(millis(not_after));
        }
        Err(CertificateError::NotValidYetContext { not_before, .. }) => {
            return Condition::NotYet(millis(not_before));
        }
        Err(_) if signs_itself(leaf, rest, now) => return Condition::SelfSigned(until),
        // A CA that was made anew under its old name is another one.
        Err(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            return Condition::UnknownIssuer(until);
        }
        Err(other) => return Condition::Broken(Error::InvalidCertificate(other).to_string()),
    }
    if let Err(presented) = proves(&parsed, names) {
        return Condition::WrongName(presented);
    }
    if until.saturating_sub(now_ms) < SOON_MS {
        Condition::Soon(until)
    } else {
        Condition::Good(until)
    }
}

fn verify(
    leaf: &ParsedCertificate<'_>,
    rest: &[CertificateDer<'_>],
    roots: &RootCertStore,
    at: UnixTime,
) -> Result<(), CertificateError> {
    let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
    match verify_server_cert_signed_by_trust_anchor(leaf, roots, rest, at, algorithms.all) {
        Ok(()) => Ok(()),
        Err(Error::InvalidCertificate(cause)) => Err(cause),
        Err(_) => Err(CertificateError::BadEncoding),
    }
}

/// Whether it is its own issuer. What says of itself that it is a CA, as many home-made ones do,
/// is refused before its issuer is looked for; alone in its chain it is taken for its own.
fn signs_itself(leaf: &CertificateDer<'_>, rest: &[CertificateDer<'_>], at: UnixTime) -> bool {
    let mut alone = RootCertStore::empty();
    if alone.add(leaf.clone().into_owned()).is_err() {
        return false;
    }
    let Ok(parsed) = ParsedCertificate::try_from(leaf) else {
        return false;
    };
    match verify(&parsed, &[], &alone, at) {
        Ok(()) => true,
        Err(CertificateError::UnknownIssuer | CertificateError::BadSignature) => false,
        Err(_) => rest.is_empty(),
    }
}

/// Whether it is for one of the names; an error is the names that it is for.
fn proves(leaf: &ParsedCertificate<'_>, names: &[&str]) -> Result<(), Vec<String>> {
    let mut shown = Vec::new();
    for name in names {
        let Ok(name) = ServerName::try_from(*name) else {
            continue;
        };
        match verify_server_name(leaf, &name) {
            Ok(()) => return Ok(()),
            Err(Error::InvalidCertificate(CertificateError::NotValidForNameContext {
                presented,
                ..
            })) => shown = presented,
            Err(_) => {}
        }
    }
    Err(shown)
}

fn millis(time: UnixTime) -> u64 {
    time.as_secs().saturating_mul(1000)
}

/// The certificates of a PEM file.
///
/// # Errors
/// Why it cannot be read, in words.
pub fn read(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect)
        .map_err(|e| e.to_string())
}
