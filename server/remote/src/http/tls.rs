//! Whom we believe.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::error::SetupError;
use crate::inspect::Roots;

/// Whose certificates are believed: the system's roots, or a built-in list where the system has
/// none, and those of a file. The roots are read when the first connection needs them.
pub struct Tls {
    extra: Vec<CertificateDer<'static>>,
    config: OnceLock<Result<Arc<ClientConfig>, String>>,
}

impl Tls {
    /// With the certificates of a file (PEM) besides the system's.
    ///
    /// # Errors
    /// `CaFile`.
    pub fn new(ca_file: Option<&Path>) -> Result<Tls, SetupError> {
        Ok(Tls {
            extra: ca_file.map(read).transpose()?.unwrap_or_default(),
            config: OnceLock::new(),
        })
    }

    /// The settings of all connections.
    ///
    /// # Errors
    /// Why there can be none, in words.
    pub fn config(&self) -> Result<Arc<ClientConfig>, String> {
        self.config.get_or_init(|| self.build()).clone()
    }

    /// Whose certificates are believed.
    ///
    /// # Errors
    /// Why they cannot be used, in words.
    pub fn roots(&self) -> Result<Roots, String> {
        self.store().map(Roots::new)
    }

    fn store(&self) -> Result<RootCertStore, String> {
        let mut store = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        let (good, bad) = store.add_parsable_certificates(found.certs);
        tracing::debug!(good, bad, "root certificates of the system");
        if good == 0 {
            tracing::info!("the system has no root certificates; the built-in ones are used");
            store
                .roots
                .extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        for certificate in &self.extra {
            let added = store.add(certificate.clone());
            added.map_err(|error| error.to_string())?;
        }
        Ok(store)
    }

    fn build(&self) -> Result<Arc<ClientConfig>, String> {
        let store = self.store()?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(store)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

/// The certificates of a file, each of which can be believed.
fn read(file: &Path) -> Result<Vec<CertificateDer<'static>>, SetupError> {
    let failed = |cause: String| SetupError::CaFile {
        file: file.display().to_string(),
        cause,
    };
    let all = CertificateDer::pem_file_iter(file).map_err(|error| failed(error.to_string()))?;
    let mut found = Vec::new();
    for certificate in all {
        let certificate = certificate.map_err(|error| failed(error.to_string()))?;
        let usable = RootCertStore::empty().add(certificate.clone());
        usable.map_err(|error| failed(error.to_string()))?;
        found.push(certificate);
    }
    if found.is_empty() {
        return Err(failed("there is no certificate in it".to_owned()));
    }
    Ok(found)
}
