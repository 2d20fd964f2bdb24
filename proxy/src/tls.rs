//! Certificates and the TLS configuration made of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::ProxyError;

/// Where a listener's certificate comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tls {
    /// PEM files: a certificate with its chain, and its key.
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

/// Reads or makes the certificate and builds a configuration that offers h2 and http/1.1.
pub(crate) fn server_config(tls: &Tls) -> Result<Arc<ServerConfig>, ProxyError> {
    let (chain, key) = match tls {
        Tls::Files { cert, key } => (read_chain(cert)?, read_key(key)?),
        Tls::SelfSigned { names } => self_signed(names)?,
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|e| ProxyError::Tls(format!("the certificate cannot be used: {e}")))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
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
