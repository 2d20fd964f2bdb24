//! Certificates: whether who connects would believe them.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::aws_lc_rs;
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, Error, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use skerry_proxy::{Addr, ListenerSpec, Tls};

use super::{Finding, Origin, Tools, host_of, probe, process};
use crate::cli::show;
use crate::config::Config;

const CHECK: &str = "certificate";
/// What ends sooner should have been renewed by now, in ms.
const SOON_MS: u64 = 14 * 24 * 3_600_000;
/// Later than any certificate can end (RFC 5280, 4.1.2.5), in s since the epoch.
const NEVER: Duration = Duration::from_secs(253_402_300_800);

/// What a certificate is like. Times are in ms since the epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
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
pub(crate) fn judge(
    chain: &[CertificateDer<'_>],
    names: &[&str],
    roots: &RootCertStore,
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
    let until = match verify(&parsed, rest, roots, UnixTime::since_unix_epoch(NEVER)) {
        Err(CertificateError::ExpiredContext { not_after, .. }) => millis(not_after),
        _ => u64::MAX,
    };
    match verify(&parsed, rest, roots, now) {
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

/// Who looks at a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Eyes {
    /// A proxy may stand between; it may be content with less.
    Listener,
    /// Clients themselves.
    Clients,
}

/// The finding about the certificate at a place.
pub(crate) fn finding(condition: &Condition, place: &str, names: &[&str], eyes: Eyes) -> Finding {
    let weak = |what: String, advice: &str| match eyes {
        Eyes::Listener => Finding::warn(CHECK, what, advice),
        Eyes::Clients => Finding::wrong(CHECK, what, advice),
    };
    let wanted = names.join(" or ");
    let renew = "renew it (certbot renew, or where it comes from)";
    match condition {
        Condition::Good(until) => {
            Finding::ok(CHECK, format!("{place}: good until {}", show::day(*until)))
        }
        Condition::Soon(until) => {
            let what = format!("{place}: it ends soon, on {}", show::day(*until));
            Finding::warn(CHECK, what, renew)
        }
        Condition::Expired(since) => {
            let what = format!("{place}: it ended on {}", show::day(*since));
            Finding::wrong(CHECK, what, renew)
        }
        Condition::NotYet(from) => {
            let what = format!("{place}: it begins only on {}", show::day(*from));
            Finding::wrong(CHECK, what, "set this machine's clock, or get another one")
        }
        Condition::SelfSigned(_) => weak(
            format!("{place}: it is self-signed, so clients refuse it"),
            "get one from a CA, unless a proxy in front has a good one",
        ),
        Condition::UnknownIssuer(_) => weak(
            format!("{place}: nobody known here signed it, or its chain is not complete"),
            "put the whole chain into the file (fullchain.pem); with a CA of your own, name it in \
             http_client.ca_file",
        ),
        Condition::WrongName(shown) => Finding::wrong(
            CHECK,
            format!("{place}: it is for {}, not for {wanted}", shown.join(", ")),
            &format!("get one for {wanted}"),
        ),
        Condition::Broken(why) => Finding::wrong(
            CHECK,
            format!("{place}: it cannot be used: {why}"),
            "get another one",
        ),
    }
}

/// Looks at a listener's certificate: at the one it shows if it answers, else at its file.
pub(crate) async fn listener(
    config: &Config,
    tools: &Tools,
    spec: &ListenerSpec,
    tls: &Tls,
) -> Vec<Finding> {
    let place = spec.addr.to_string();
    let mut found = Vec::new();
    if let Tls::Files { key, .. } = tls {
        if let Err(error) = spec.check() {
            let advice = "name a certificate and the key that belongs to it, readable for skerry";
            return vec![Finding::wrong(CHECK, format!("{place}: {error}"), advice)];
        }
        found.extend(key_file(key));
    }
    let origin = Origin::of(&config.base_url);
    let base = origin.map_or_else(|| host_of(&config.server_name), |origin| origin.host);
    let server = host_of(&config.server_name);
    let names = [base.as_str(), server.as_str()];
    let names = if base == server { &names[..1] } else { &names };
    let Some(chain) = chain(spec, tls, &base).await else {
        let what = format!("{place}: it cannot be seen while nothing listens there");
        found.push(Finding::unknown(CHECK, what, "start skerry and ask again"));
        return found;
    };
    let condition = judge(&chain, names, &tools.roots, tools.now_ms);
    found.push(finding(&condition, &place, names, Eyes::Listener));
    found
}

async fn chain(spec: &ListenerSpec, tls: &Tls, name: &str) -> Option<Vec<CertificateDer<'static>>> {
    if let Addr::Tcp(address) = &spec.addr
        && let Some(address) = process::reachable(*address)
        && let Ok(seen) = probe::look(address, Some(name)).await
    {
        return Some(seen.chain);
    }
    match tls {
        Tls::Files { cert, .. } => read(cert).ok(),
        Tls::SelfSigned { .. } => None,
    }
}

/// The certificates of a PEM file.
fn read(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect)
        .map_err(|e| e.to_string())
}

/// A private key that everybody can read is none.
fn key_file(file: &Path) -> Option<Finding> {
    let mode = std::fs::metadata(file).ok()?.permissions().mode();
    (mode & 0o007 != 0).then(|| {
        let what = format!("everybody on this machine can read {}", file.display());
        Finding::wrong(CHECK, what, &format!("chmod o= {}", file.display()))
    })
}
