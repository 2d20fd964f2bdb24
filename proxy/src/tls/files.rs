//! Certificates that lie in files and can be replaced while they are in use: connections keep what
//! they began with.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use rustls::client::verify_server_name;
use rustls::crypto::CryptoProvider;
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};

use super::{CertFiles, facts, pair};
use crate::ProxyError;

/// Who replaces two files may be between them; then both are read once more after this time.
const BETWEEN_FILES: Duration = Duration::from_secs(1);

/// What tells that files are not the same any more: time of change, inode and length of each.
type Stamp = Vec<(i64, i64, u64, u64)>;

/// A certificate with its files.
#[derive(Debug)]
pub(crate) struct FileCertificate {
    source: CertFiles,
    provider: Arc<CryptoProvider>,
    current: RwLock<Arc<CertifiedKey>>,
    promised: AtomicBool,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// The files that are in use.
    good: Option<Stamp>,
    /// The files about which was complained.
    bad: Option<Option<Stamp>>,
}

/// The certificate for a name: the first that is for it, or the first of all.
pub(super) fn chosen<'a>(
    all: &'a [Arc<FileCertificate>],
    name: Option<&str>,
) -> Option<&'a FileCertificate> {
    let fitting = match (all, name) {
        ([_, _, ..], Some(name)) => all.iter().find(|file| file.is_for(name)),
        _ => None,
    };
    fitting.or(all.first()).map(Arc::as_ref)
}

impl FileCertificate {
    pub(super) fn load(
        source: &CertFiles,
        provider: &Arc<CryptoProvider>,
    ) -> Result<FileCertificate, ProxyError> {
        let good = stamp(source);
        let key = read(source, provider)?;
        Ok(FileCertificate {
            source: source.clone(),
            provider: Arc::clone(provider),
            promised: AtomicBool::new(is_promised(&key)),
            current: RwLock::new(Arc::new(key)),
            seen: Mutex::new(Seen { good, bad: None }),
        })
    }

    /// What is served now.
    pub(super) fn current(&self) -> Arc<CertifiedKey> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&current)
    }

    /// The file of the certificate.
    pub(super) fn path(&self) -> &Path {
        &self.source.cert
    }

    /// Whether browsers can be told to rely on it.
    pub(super) fn is_promised(&self) -> bool {
        self.promised.load(Ordering::Relaxed)
    }

    fn is_for(&self, name: &str) -> bool {
        let current = self.current();
        let Some(leaf) = current.cert.first() else {
            return false;
        };
        match (
            ParsedCertificate::try_from(leaf),
            ServerName::try_from(name),
        ) {
            (Ok(parsed), Ok(name)) => verify_server_name(&parsed, &name).is_ok(),
            _ => false,
        }
    }

    /// Looks whether the files changed and takes what is in them; `asked` also when they look the
    /// same. What cannot be used changes nothing and is said once. Blocks on the disk.
    pub(super) fn refresh(&self, asked: bool) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found = stamp(&self.source);
        if found == seen.good && !asked {
            return;
        }
        let mut key = read(&self.source, &self.provider);
        if key.is_err() && seen.bad.as_ref() != Some(&found) {
            std::thread::sleep(BETWEEN_FILES);
            found = stamp(&self.source);
            key = read(&self.source, &self.provider);
        }
        match key {
            Ok(key) => {
                self.promised.store(is_promised(&key), Ordering::Relaxed);
                let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
                *current = Arc::new(key);
                *seen = Seen {
                    good: found,
                    bad: None,
                };
                let file = self.source.cert.display();
                tracing::info!(%file, "the certificate was read anew");
            }
            Err(_) if seen.bad.as_ref() == Some(&found) && !asked => {}
            Err(error) => {
                seen.bad = Some(found);
                tracing::error!(
                    "the new certificate cannot be used, the old one stays until it is \
                     mended: {error}"
                );
            }
        }
    }
}

fn is_promised(key: &CertifiedKey) -> bool {
    let leaf = key.cert.first();
    leaf.and_then(facts::facts)
        .is_some_and(|facts| facts.promised)
}

fn stamp(source: &CertFiles) -> Option<Stamp> {
    let of = |path: &PathBuf| {
        let facts = std::fs::metadata(path).ok()?;
        let times = (facts.mtime(), facts.mtime_nsec());
        Some((times.0, times.1, facts.ino(), facts.len()))
    };
    [&source.cert, &source.key].into_iter().map(of).collect()
}

fn read(source: &CertFiles, provider: &CryptoProvider) -> Result<CertifiedKey, ProxyError> {
    pair(read_chain(&source.cert)?, read_key(&source.key)?, provider)
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
