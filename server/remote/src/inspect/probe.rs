//! One connection, and what the other side shows of itself.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How long one connection or answer is waited for.
pub const PATIENCE: Duration = Duration::from_secs(8);

/// What was seen.
#[derive(Debug)]
pub struct Seen {
    /// The certificates that were shown; none without TLS.
    pub chain: Vec<CertificateDer<'static>>,
    /// Whether the other side is this machine itself.
    pub here: bool,
}

/// Why nothing was seen.
#[derive(Debug)]
pub enum Unseen {
    /// Nobody answered.
    NoConnection(String),
    /// Somebody answered, but no TLS came about.
    NoTls(String),
}

impl fmt::Display for Unseen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unseen::NoConnection(cause) => f.write_str(cause),
            Unseen::NoTls(cause) => write!(f, "TLS does not come about: {cause}"),
        }
    }
}

/// Connects, and with `name` greets with TLS for that name. Any address is good: it is the
/// operator's own.
///
/// # Errors
/// [`Unseen`].
pub async fn look(address: SocketAddr, name: Option<&str>) -> Result<Seen, Unseen> {
    let stream = in_time(TcpStream::connect(address), PATIENCE).await;
    let stream = stream.map_err(Unseen::NoConnection)?;
    let here = match (stream.local_addr(), stream.peer_addr()) {
        (Ok(ours), Ok(theirs)) => ours.ip() == theirs.ip(),
        _ => false,
    };
    let Some(name) = name else {
        let chain = Vec::new();
        return Ok(Seen { chain, here });
    };
    let config = everybody().map_err(Unseen::NoTls)?;
    let name = ServerName::try_from(name.to_owned()).map_err(|e| Unseen::NoTls(e.to_string()))?;
    let greeting = TlsConnector::from(config).connect(name, stream);
    let stream = in_time(greeting, PATIENCE).await.map_err(Unseen::NoTls)?;
    let shown = stream.get_ref().1.peer_certificates().unwrap_or_default();
    Ok(Seen {
        chain: shown.to_vec(),
        here,
    })
}

/// What a future comes to within a time.
///
/// # Errors
/// Why it came to nothing, in words.
pub async fn in_time<T>(
    future: impl Future<Output = std::io::Result<T>>,
    limit: Duration,
) -> Result<T, String> {
    match tokio::time::timeout(limit, future).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} seconds", limit.as_secs())),
    }
}

/// TLS that believes everybody: the certificate is judged afterwards, and nothing is sent.
fn everybody() -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = Arc::new(Everybody(Arc::clone(&provider)));
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

#[derive(Debug)]
struct Everybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Everybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            cert,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            cert,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
