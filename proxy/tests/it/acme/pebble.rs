//! A CA for tests, and its DNS.

use std::process::{Child, Command, Stdio};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, UnixTime};

use super::*;

pub(super) const EAB_ID: &str = "kid-1";
pub(super) const EAB_KEY: &str = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";

/// Whom the tests believe, and who signs for the CA's own door.
pub(super) struct Authority {
    pub(super) root: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let name = "A test's authority";
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let root = params.self_signed(&key).unwrap().der().clone();
        let issuer = Issuer::new(params, key);
        Authority { root, issuer }
    }

    /// A certificate and its key as PEM, for some days.
    pub(super) fn sign(&self, names: &[&str], days: (i64, i64)) -> (String, String) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_before = day(days.0);
        params.not_after = day(days.1);
        params.use_authority_key_identifier_extension = true;
        let made = params.signed_by(&key, &self.issuer).unwrap();
        (made.pem(), key.serialize_pem())
    }
}

/// So many days from now.
fn day(days: i64) -> time::OffsetDateTime {
    time::OffsetDateTime::now_utc() + time::Duration::days(days)
}

pub(super) struct Pebble {
    pub(super) authority: Arc<Authority>,
    pub(super) port: u16,
    pub(super) tls_port: u16,
    pub(super) http_port: u16,
    management: u16,
    dns_management: u16,
    /// Ended with it.
    _children: Vec<Ended>,
    _dir: Option<tempfile::TempDir>,
}

struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(super) fn free_port() -> u16 {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    free.local_addr().unwrap().port()
}

/// Without these programs there is nothing to test; where everything has to be there, that is a
/// failure.
fn left_out(error: &std::io::Error) {
    let needed = std::env::var_os("SKERRY_TEST_EVERYTHING").is_some();
    assert!(!needed, "pebble cannot be started: {error}");
    println!("left out, pebble cannot be started: {error}");
}

impl Pebble {
    pub(super) async fn start() -> Option<Pebble> {
        Pebble::started(false).await
    }

    /// One that wants accounts bound to others.
    pub(super) async fn start_bound() -> Option<Pebble> {
        Pebble::started(true).await
    }

    async fn started(bound: bool) -> Option<Pebble> {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        let (cert, key) = authority.sign(&["localhost"], (-1, 30));
        let file = |name: &str| dir.path().join(name).display().to_string();
        std::fs::write(file("cert.pem"), cert).unwrap();
        std::fs::write(file("key.pem"), key).unwrap();
        let [port, management, http_port, tls_port, dns, dns_management] =
            std::array::from_fn(|_| free_port());
        let local = |port: u16| format!("127.0.0.1:{port}");
        let config = serde_json::json!({ "pebble": {
            "listenAddress": local(port),
            "managementListenAddress": local(management),
            "certificate": file("cert.pem"),
            "privateKey": file("key.pem"),
            "httpPort": http_port,
            "tlsPort": tls_port,
            "externalAccountBindingRequired": bound,
            "externalAccountMACKeys": { EAB_ID: EAB_KEY },
            "domainBlocklist": ["blocked-domain.example"],
        }});
        std::fs::write(file("config.json"), config.to_string()).unwrap();
        let run = |program: &str, args: &[&str]| {
            let mut command = Command::new(program);
            command
                .args(args)
                .env("PEBBLE_VA_NOSLEEP", "1")
                .env("PEBBLE_AUTHZREUSE", "0")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            command.spawn().map(Ended)
        };
        let names = run(
            "pebble-challtestsrv",
            &[
                "-dns01",
                &local(dns),
                "-management",
                &local(dns_management),
                "-http01=",
                "-https01=",
                "-tlsalpn01=",
                "-defaultIPv6=",
            ],
        );
        let config = file("config.json");
        let args = ["-config", &config, "-dnsserver", &local(dns), "-strict"];
        let children = match (names, run("pebble", &args)) {
            (Ok(names), Ok(ca)) => vec![names, ca],
            (Err(error), _) | (_, Err(error)) => {
                left_out(&error);
                return None;
            }
        };
        for port in [port, management, dns_management] {
            listens(port).await;
        }
        Some(Pebble {
            authority: Arc::new(authority),
            port,
            tls_port,
            http_port,
            management,
            dns_management,
            _children: children,
            _dir: Some(dir),
        })
    }

    /// The same CA, for somebody who listens elsewhere.
    pub(super) fn clone_ports(&self) -> Pebble {
        Pebble {
            authority: Arc::clone(&self.authority),
            _children: Vec::new(),
            _dir: None,
            ..*self
        }
    }

    pub(super) fn directory(&self) -> String {
        format!("https://localhost:{}/dir", self.port)
    }

    /// Whom to believe about the CA's own door.
    pub(super) fn trust(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.root.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap();
        Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
    }

    /// What it signs with.
    pub(super) async fn roots(&self) -> RootCertStore {
        let tcp = TcpStream::connect(("127.0.0.1", self.management)).await;
        let name = ServerName::try_from("localhost").unwrap();
        let connector = TlsConnector::from(self.trust());
        let stream = connector.connect(name, tcp.unwrap()).await.unwrap();
        let ask = b"GET /roots/0 HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        let answer = exchange(stream, ask).await;
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(answer.as_bytes()) {
            roots.add(root.unwrap()).unwrap();
        }
        assert!(!roots.is_empty(), "{answer}");
        roots
    }

    /// Has DNS say that a name is at an address.
    pub(super) async fn point(&self, name: &str, address: &str) {
        let body = serde_json::json!({ "host": name, "addresses": [address] }).to_string();
        let ask = format!(
            "POST /add-a HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
        let tcp = TcpStream::connect(("127.0.0.1", self.dns_management)).await;
        let answer = exchange(tcp.unwrap(), ask.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    /// A program that publishes records there, and writes down in `heard` how it was called.
    pub(super) fn dns_hook(&self, dir: &Path) -> std::path::PathBuf {
        let script = format!(
            "#!/bin/sh\necho \"$@\" >> {heard}\n\
             case $1 in present) way=set-txt ;; *) way=clear-txt ;; esac\n\
             exec curl -sf -d \"{{\\\"host\\\":\\\"$2.\\\",\\\"value\\\":\\\"$3\\\"}}\" \
             http://127.0.0.1:{port}/$way\n",
            heard = dir.join("heard").display(),
            port = self.dns_management,
        );
        let path = dir.join("hook");
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
        path
    }

    /// Puts a certificate that ends tomorrow in the place of a name's own; its end, in ms since
    /// the epoch.
    pub(super) fn plant(&self, dir: &Path, name: &str) -> u64 {
        let (cert, key) = self.authority.sign(&[name], (-89, 1));
        let ca = std::fs::read_dir(dir).unwrap().next().unwrap().unwrap();
        let file = ca.path().join(format!("{name}.pem"));
        assert!(file.exists());
        std::fs::write(file, format!("{cert}{key}")).unwrap();
        u64::try_from(day(1).unix_timestamp()).unwrap() * 1000
    }
}

async fn listens(port: u16) {
    for _ in 0..400 {
        if TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("nothing listens at {port}");
}

/// For looking at what nobody signed.
pub(super) fn trusting_anybody() -> TlsConnector {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
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
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![
            SignatureScheme::ECDSA_NISTP256_SHA256,
            SignatureScheme::ED25519,
            SignatureScheme::RSA_PSS_SHA256,
        ]
    }
}
