//! Certificates and the TLS configuration made of them.

mod der;

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::sync::watch;

use crate::ProxyError;

/// Who replaces two files may be between them; then both are read once more after this time.
const BETWEEN_FILES: Duration = Duration::from_secs(1);

/// Where a listener's certificate comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tls {
    /// PEM files: a certificate with its chain, and its key. Read again when they change.
    Files {
        /// The certificate, followed by the chain.
        cert: PathBuf,
        /// The private key.
        key: PathBuf,
    },
    /// A certificate for these names, made at each start and signed by nobody.
    SelfSigned {
        /// Host names and addresses.
        names: Vec<String>,
    },
}

/// TLS as one listener speaks it.
#[derive(Clone)]
pub(crate) struct TlsDoor {
    pub(crate) config: Arc<ServerConfig>,
    pub(crate) certificate: Arc<Certificate>,
}

/// Reads or makes the certificate and builds a configuration that offers h2 and http/1.1.
pub(crate) fn open(tls: &Tls) -> Result<TlsDoor, ProxyError> {
    let certificate = Arc::new(Certificate::load(tls)?);
    let resolver = Arc::clone(&certificate);
    let mut config = ServerConfig::builder_with_provider(Arc::clone(&certificate.provider))
        .with_safe_default_protocol_versions()
        .map_err(|e| ProxyError::Tls(format!("TLS cannot be used: {e}")))?
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsDoor {
        config: Arc::new(config),
        certificate,
    })
}

/// What tells that files are not the same any more: time of change, inode and length of each.
type Stamp = Vec<(i64, i64, u64, u64)>;

/// A certificate that can be replaced while it is in use: connections keep what they began with.
#[derive(Debug)]
pub(crate) struct Certificate {
    source: Tls,
    provider: Arc<CryptoProvider>,
    current: RwLock<Arc<CertifiedKey>>,
    self_signed: AtomicBool,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// The files that are in use.
    good: Option<Stamp>,
    /// The files about which was complained.
    bad: Option<Option<Stamp>>,
}

/// What came of looking at the files.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refreshed {
    /// They are what is in use.
    Same,
    /// There was a new certificate, which is in use now.
    New,
    /// They cannot be used, and that was said just now.
    Broken,
    /// They still cannot be used.
    StillBroken,
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(&current))
    }
}

impl Certificate {
    fn load(source: &Tls) -> Result<Certificate, ProxyError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let good = stamp(source);
        let key = read(source, &provider)?;
        Ok(Certificate {
            source: source.clone(),
            provider,
            self_signed: AtomicBool::new(is_self_signed(&key)),
            current: RwLock::new(Arc::new(key)),
            seen: Mutex::new(Seen { good, bad: None }),
        })
    }

    /// Whether nobody but itself signed it.
    pub(crate) fn is_self_signed(&self) -> bool {
        self.self_signed.load(Ordering::Relaxed)
    }

    /// Looks whether the files changed and takes what is in them; `asked` also when they look the
    /// same. What cannot be used changes nothing and is said once. Blocks on the disk.
    pub(crate) fn refresh(&self, asked: bool) -> Refreshed {
        let Tls::Files { cert, .. } = &self.source else {
            return Refreshed::Same;
        };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found = stamp(&self.source);
        if found == seen.good && !asked {
            return Refreshed::Same;
        }
        let mut key = read(&self.source, &self.provider);
        if key.is_err() && seen.bad.as_ref() != Some(&found) {
            std::thread::sleep(BETWEEN_FILES);
            found = stamp(&self.source);
            key = read(&self.source, &self.provider);
        }
        match key {
            Ok(key) => {
                self.self_signed
                    .store(is_self_signed(&key), Ordering::Relaxed);
                let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
                *current = Arc::new(key);
                *seen = Seen {
                    good: found,
                    bad: None,
                };
                tracing::info!(file = %cert.display(), "the certificate was read anew");
                Refreshed::New
            }
            Err(_) if seen.bad.as_ref() == Some(&found) && !asked => Refreshed::StillBroken,
            Err(error) => {
                seen.bad = Some(found);
                tracing::error!(
                    "the new certificate cannot be used, the old one stays until it is \
                     mended: {error}"
                );
                Refreshed::Broken
            }
        }
    }
}

/// Looks at a certificate's files now and then, and whenever `asked` changes, until `stop`.
pub(crate) async fn watch(
    certificate: Arc<Certificate>,
    every: Duration,
    mut asked: watch::Receiver<()>,
    mut stop: watch::Receiver<bool>,
) {
    if matches!(certificate.source, Tls::SelfSigned { .. }) {
        return;
    }
    loop {
        let was_asked = tokio::select! {
            () = tokio::time::sleep(every) => false,
            Ok(()) = asked.changed() => true,
            // An error means that the sender is gone, which is an end as well.
            _ = stop.wait_for(|stop| *stop) => return,
        };
        let certificate = Arc::clone(&certificate);
        let looking = tokio::task::spawn_blocking(move || certificate.refresh(was_asked));
        if let Err(error) = looking.await {
            tracing::error!(%error, "the certificate's files could not be looked at");
        }
    }
}

fn stamp(source: &Tls) -> Option<Stamp> {
    let Tls::Files { cert, key } = source else {
        return None;
    };
    let of = |path: &PathBuf| {
        let facts = std::fs::metadata(path).ok()?;
        let times = (facts.mtime(), facts.mtime_nsec());
        Some((times.0, times.1, facts.ino(), facts.len()))
    };
    [cert, key].into_iter().map(of).collect()
}

fn read(source: &Tls, provider: &CryptoProvider) -> Result<CertifiedKey, ProxyError> {
    let (chain, key) = match source {
        Tls::Files { cert, key } => (read_chain(cert)?, read_key(key)?),
        Tls::SelfSigned { names } => self_signed(names)?,
    };
    CertifiedKey::from_der(chain, key, provider)
        .map_err(|e| ProxyError::Tls(format!("the certificate cannot be used: {e}")))
}

fn is_self_signed(key: &CertifiedKey) -> bool {
    key.cert
        .first()
        .is_none_or(|cert| der::issuer_is_subject(cert))
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, ProxyError> {
    let wrong =
        |e: &dyn std::fmt::Display| ProxyError::Tls(format!("certificate {}: {e}", path.display()));
    let chain = CertificateDer::pem_file_iter(path)
        .map_err(|e| wrong(&e))?
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| wrong(&e))?;
    if chain.is_empty() {
        return Err(wrong(&"the file holds no certificate"));
    }
    Ok(chain)
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, ProxyError> {
    PrivateKeyDer::from_pem_file(path)
        .map_err(|e| ProxyError::Tls(format!("private key {}: {e}", path.display())))
}

type Pair = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn self_signed(names: &[String]) -> Result<Pair, ProxyError> {
    let made = rcgen::generate_simple_self_signed(names.to_vec())
        .map_err(|e| ProxyError::Tls(format!("cannot make a self-signed certificate: {e}")))?;
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    Ok((vec![made.cert.der().clone()], PrivateKeyDer::from(key)))
}
