//! Certificates and the TLS configuration made of them.

pub(crate) mod facts;
mod files;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, Ticketer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{CipherSuite, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::sync::watch;

use crate::acme::Acme;
use crate::{Limits, ProxyError};

use files::FileCertificate;

/// What a CA says that it speaks when it looks whether a name is ours (RFC 8737).
pub(crate) const ACME_TLS: &[u8] = b"acme-tls/1";

/// A certificate and its key as PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertFiles {
    /// The certificate, followed by the chain.
    pub cert: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// Where a listener's certificates come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tls {
    /// Files, at least one pair; read again when they change. A client gets the first that is for
    /// the name it asks for, or the first of all.
    Files(Vec<CertFiles>),
    /// A certificate for these names, made at each start and signed by nobody.
    SelfSigned {
        /// Host names and addresses.
        names: Vec<String>,
    },
    /// Certificates that are got from a CA ([`Acme`]).
    Acme,
}

/// TLS as one listener speaks it.
#[derive(Clone)]
pub(crate) struct TlsDoor {
    pub(crate) config: Arc<ServerConfig>,
    pub(crate) certificates: Arc<Certificates>,
}

/// The certificates from files that a listener serves, for whoever wants to know how they stand.
#[derive(Clone, Debug)]
pub struct Served(pub(crate) Arc<Certificates>);

impl Served {
    /// Each file with the time until which what is served of it is good, in ms since the epoch;
    /// none where it cannot be read from it. Others than files are not among them.
    #[must_use]
    pub fn until(&self) -> Vec<(PathBuf, Option<u64>)> {
        let Certificates::Files(files) = &*self.0 else {
            return Vec::new();
        };
        let of = |file: &Arc<FileCertificate>| {
            let leaf = file.current().cert.first().and_then(facts::facts);
            (file.path().to_owned(), leaf.map(|facts| facts.until_ms))
        };
        files.iter().map(of).collect()
    }
}

/// Reads or makes the certificates and builds a configuration that offers h2 and http/1.1.
pub(crate) fn open(tls: &Tls, acme: Option<&Acme>) -> Result<TlsDoor, ProxyError> {
    let unusable = |e: &dyn fmt::Display| ProxyError::Tls(format!("TLS cannot be used: {e}"));
    let provider = provider();
    let certificates = Arc::new(Certificates::load(tls, acme, &provider)?);
    let mut config = ServerConfig::builder_with_provider(Arc::new(ordered(&provider)))
        .with_safe_default_protocol_versions()
        .map_err(|e| unusable(&e))?
        .with_no_client_auth()
        .with_cert_resolver(Arc::clone(&certificates) as Arc<dyn ResolvesServerCert>);
    config.ignore_client_order = true;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    if matches!(*certificates, Certificates::Acme(_)) {
        config.alpn_protocols.push(ACME_TLS.to_vec());
    }
    // Who comes back need not be remembered here: the ticket holds what is needed.
    config.ticketer = Ticketer::new().map_err(|e| unusable(&e))?;
    Ok(TlsDoor {
        config: Arc::new(config),
        certificates,
    })
}

/// The one that is used everywhere.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// The same with its suites in the order in which the door prefers them: the safe ones that are
/// all it has, the quickest first.
fn ordered(provider: &CryptoProvider) -> CryptoProvider {
    let mut ordered = provider.clone();
    // The sort is stable: the others stay as they are.
    ordered.cipher_suites.sort_by_key(|suite| {
        let quick = matches!(
            suite.suite(),
            CipherSuite::TLS13_AES_128_GCM_SHA256
                | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
                | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
        );
        !quick
    });
    ordered
}

/// The certificates of a listener.
pub(crate) enum Certificates {
    Files(Vec<Arc<FileCertificate>>),
    SelfSigned(Arc<CertifiedKey>),
    Acme(Acme),
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Certificates::Files(_) => "Files",
            Certificates::SelfSigned(_) => "SelfSigned",
            Certificates::Acme(_) => "Acme",
        })
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        match self {
            Certificates::Files(files) => {
                Some(files::chosen(files, hello.server_name())?.current())
            }
            Certificates::SelfSigned(key) => Some(Arc::clone(key)),
            Certificates::Acme(acme) => {
                let mut offered = hello.alpn().into_iter().flatten();
                if offered.next() == Some(ACME_TLS) && offered.next().is_none() {
                    return acme.challenges().certificate(hello.server_name()?);
                }
                Some(acme.certificate(hello.server_name()))
            }
        }
    }
}

impl Certificates {
    fn load(
        tls: &Tls,
        acme: Option<&Acme>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Certificates, ProxyError> {
        match (tls, acme) {
            (Tls::Files(files), _) => {
                let load = |pair: &CertFiles| FileCertificate::load(pair, provider).map(Arc::new);
                Ok(Certificates::Files(
                    files.iter().map(load).collect::<Result<_, _>>()?,
                ))
            }
            (Tls::SelfSigned { names }, _) => {
                Ok(Certificates::SelfSigned(self_signed(names, provider)?))
            }
            (Tls::Acme, Some(acme)) => Ok(Certificates::Acme(acme.clone())),
            (Tls::Acme, None) => Err(ProxyError::Tls(
                "tls = \"acme\" needs to know the CA, which is for [acme] to say".to_owned(),
            )),
        }
    }

    /// Whether the certificate that is served for this name is one on which browsers can be told
    /// to rely for years.
    pub(crate) fn is_promised(&self, name: Option<&str>) -> bool {
        match self {
            Certificates::Files(files) => {
                files::chosen(files, name).is_some_and(|file| file.is_promised())
            }
            Certificates::SelfSigned(_) => false,
            Certificates::Acme(acme) => acme.is_promised(name),
        }
    }
}

/// Looks at files now and then, and whenever `asked` changes, until `stop`.
pub(crate) async fn watch(
    certificates: Arc<Certificates>,
    limits: Limits,
    mut asked: watch::Receiver<()>,
    mut stop: watch::Receiver<bool>,
) {
    let Certificates::Files(files) = &*certificates else {
        return;
    };
    let every: Duration = limits.certificate_check;
    loop {
        let was_asked = tokio::select! {
            () = tokio::time::sleep(every) => false,
            Ok(()) = asked.changed() => true,
            // An error means that the sender is gone, which is an end as well.
            _ = stop.wait_for(|stop| *stop) => return,
        };
        let files = files.clone();
        let looking = tokio::task::spawn_blocking(move || {
            for file in files {
                file.refresh(was_asked);
            }
        });
        if let Err(error) = looking.await {
            tracing::error!(%error, "the certificate's files could not be looked at");
        }
    }
}

/// A certificate for these names that nobody signed.
pub(crate) fn self_signed(
    names: &[String],
    provider: &CryptoProvider,
) -> Result<Arc<CertifiedKey>, ProxyError> {
    let made = rcgen::generate_simple_self_signed(names.to_vec())
        .map_err(|e| ProxyError::Tls(format!("cannot make a self-signed certificate: {e}")))?;
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    pair(
        vec![made.cert.der().clone()],
        PrivateKeyDer::from(key),
        provider,
    )
    .map(Arc::new)
}

/// A chain and the key that belongs to it.
pub(crate) fn pair(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, ProxyError> {
    CertifiedKey::from_der(chain, key, provider)
        .map_err(|e| ProxyError::Tls(format!("the certificate cannot be used: {e}")))
}
