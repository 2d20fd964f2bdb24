//! Whom we believe.

use std::path::Path;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::error::SetupError;

/// The certificates that others may prove themselves by.
#[derive(Clone, Copy, Debug, Default)]
pub struct Roots<'a> {
    /// A file of further certificates (PEM) besides those of the system.
    pub ca_file: Option<&'a Path>,
}

/// The settings of TLS for all requests: the system's certificates, or a built-in list where the
/// system has none, and those of `ca_file`.
///
/// # Errors
/// `CaFile`, `Tls`.
pub fn tls_config(roots: Roots<'_>) -> Result<Arc<ClientConfig>, SetupError> {
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
    if let Some(file) = roots.ca_file {
        add_file(&mut store, file)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| SetupError::Tls(error.to_string()))?
        .with_root_certificates(store)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn add_file(store: &mut RootCertStore, file: &Path) -> Result<(), SetupError> {
    let failed = |cause: String| SetupError::CaFile {
        file: file.display().to_string(),
        cause,
    };
    let all = CertificateDer::pem_file_iter(file).map_err(|error| failed(error.to_string()))?;
    let mut any = false;
    for certificate in all {
        let certificate = certificate.map_err(|error| failed(error.to_string()))?;
        store
            .add(certificate)
            .map_err(|error| failed(error.to_string()))?;
        any = true;
    }
    if any {
        Ok(())
    } else {
        Err(failed("there is no certificate in it".to_owned()))
    }
}
