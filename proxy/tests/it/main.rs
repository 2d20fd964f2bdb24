//! Real sockets, real handshakes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod acme;
mod certificates;
mod inherited;
mod limits;
mod pages;
mod trust;

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::ConnectInfo;
use axum::response::Html;
use axum::routing::{get, post};
use base64::Engine;
use bytes::Bytes;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use skerry_proxy::{
    Addr, CertFiles, Door, Limits, Listener, ListenerSpec, Orders, Settings, Tls, Trusted, serve,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

fn router() -> Router {
    Router::new()
        .route("/", get(|| async { "here" }))
        .route(
            "/peer",
            get(|info: ConnectInfo<SocketAddr>| async move { info.0.ip().to_string() }),
        )
        .route(
            "/slow",
            get(|| async {
                tokio::time::sleep(Duration::from_millis(300)).await;
                "done"
            }),
        )
        .route(
            "/size",
            post(|body: Bytes| async move { body.len().to_string() }),
        )
        .route("/large", get(|| async { vec![b'x'; 8 << 20] }))
        .route("/text", get(|| async { "word ".repeat(4000) }))
        .route("/page", get(|| async { Html("<p>here") }))
        .route(
            "/own",
            get(|| async { ([("x-frame-options", "DENY"), ("server", "x")], Html("")) }),
        )
        .route(
            "/never",
            get(|| async { std::future::pending::<&str>().await }),
        )
}

fn spec(addr: Addr, tls: Option<Tls>) -> ListenerSpec {
    ListenerSpec {
        tls,
        ..ListenerSpec::plain(addr)
    }
}

fn any_port() -> Addr {
    Addr::Tcp("127.0.0.1:0".parse().unwrap())
}

struct Running {
    addr: Addr,
    stop: watch::Sender<bool>,
    reload: watch::Sender<()>,
    serving: JoinHandle<()>,
}

async fn start(spec: &ListenerSpec, limits: Limits) -> Running {
    let settings = Settings {
        limits,
        ..Settings::default()
    };
    start_with(spec, settings).await
}

async fn start_with(spec: &ListenerSpec, settings: Settings) -> Running {
    let listener = Listener::bind(spec).await.unwrap();
    let addr = listener.addr().clone();
    let (stop, stopped) = watch::channel(false);
    let (reload, asked) = watch::channel(());
    let doors = vec![Door {
        listener,
        router: router(),
    }];
    let orders = Orders {
        stop: stopped,
        reload: asked,
    };
    Running {
        addr,
        stop,
        reload,
        serving: tokio::spawn(serve(doors, settings, orders)),
    }
}

fn trusting(entries: &[&str]) -> Settings {
    let entries: Vec<String> = entries.iter().map(|entry| (*entry).to_owned()).collect();
    Settings {
        trusted: Trusted::parse(&entries).unwrap(),
        ..Settings::default()
    }
}

impl Running {
    fn tcp(&self) -> SocketAddr {
        match &self.addr {
            Addr::Tcp(addr) => *addr,
            other => panic!("{other}"),
        }
    }
}

fn quick() -> Limits {
    Limits {
        headers: Duration::from_millis(300),
        handshake: Duration::from_millis(300),
        max_connections: 100,
        drain: Duration::from_millis(600),
        ..Limits::default()
    }
}

const ASK: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

async fn exchange(
    mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    ask: &[u8],
) -> String {
    stream.write_all(ask).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn plain_http() {
    let running = start(&spec(any_port(), None), Limits::default()).await;
    let stream = TcpStream::connect(running.tcp()).await.unwrap();
    assert!(exchange(stream, ASK).await.ends_with("here"));
    let stream = TcpStream::connect(running.tcp()).await.unwrap();
    let ask = b"GET /peer HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    assert!(exchange(stream, ask).await.ends_with("127.0.0.1"));
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = text
        .as_bytes()
        .chunks(64)
        .map(|l| str::from_utf8(l).unwrap())
        .collect();
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        lines.join("\n")
    )
}

fn certificate(dir: &Path) -> (Tls, RootCertStore) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
    std::fs::write(&cert, pem("CERTIFICATE", made.cert.der())).unwrap();
    std::fs::write(&key, pem("PRIVATE KEY", &made.signing_key.serialize_der())).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    (Tls::Files(vec![CertFiles { cert, key }]), roots)
}

fn connector(roots: RootCertStore, alpn: &[&[u8]]) -> TlsConnector {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    TlsConnector::from(Arc::new(config))
}

#[tokio::test]
async fn tls_speaks_http_1_and_http_2() {
    let dir = tempfile::tempdir().unwrap();
    let (tls, roots) = certificate(dir.path());
    let running = start(&spec(any_port(), Some(tls)), Limits::default()).await;
    let name = ServerName::try_from("localhost").unwrap();

    let tcp = TcpStream::connect(running.tcp()).await.unwrap();
    let stream = connector(roots.clone(), &[])
        .connect(name.clone(), tcp)
        .await
        .unwrap();
    assert!(exchange(stream, ASK).await.ends_with("here"));

    let tcp = TcpStream::connect(running.tcp()).await.unwrap();
    let stream = connector(roots, &[b"h2", b"http/1.1"])
        .connect(name, tcp)
        .await
        .unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
    let io = hyper_util::rt::TokioIo::new(stream);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, io)
        .await
        .unwrap();
    tokio::spawn(connection);
    let request = http::Request::get("https://localhost/")
        .body(String::new())
        .unwrap();
    assert_eq!(sender.send_request(request).await.unwrap().status(), 200);
}

#[tokio::test]
async fn self_signed_serves_and_plain_bytes_are_dropped() {
    let tls = Tls::SelfSigned {
        names: vec!["localhost".into(), "127.0.0.1".into()],
    };
    let running = start(&spec(any_port(), Some(tls)), quick()).await;
    let stream = TcpStream::connect(running.tcp()).await.unwrap();
    assert!(!exchange(stream, ASK).await.contains("here"));
    // Who says nothing at all is not waited for.
    let mut silent = TcpStream::connect(running.tcp()).await.unwrap();
    let begun = Instant::now();
    assert_eq!(silent.read(&mut [0; 10]).await.unwrap_or(0), 0);
    assert!(begun.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn mistakes_are_said_in_plain_words() {
    let dir = tempfile::tempdir().unwrap();
    let files = Tls::Files(vec![CertFiles {
        cert: dir.path().join("none.pem"),
        key: dir.path().join("k.pem"),
    }]);
    let wrong = spec(any_port(), Some(files));
    assert!(wrong.check().unwrap_err().to_string().contains("none.pem"));
    std::fs::write(dir.path().join("none.pem"), "no certificate").unwrap();
    assert!(
        wrong
            .check()
            .unwrap_err()
            .to_string()
            .contains("holds no certificate")
    );
    let running = start(&spec(any_port(), None), Limits::default()).await;
    let again = spec(running.addr.clone(), None);
    let error = Listener::bind(&again).await.err().unwrap().to_string();
    assert!(error.contains("another program"), "{error}");
}

#[tokio::test]
async fn unix_sockets_are_private_and_replace_what_a_killed_process_left() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.sock");
    // What a killed process leaves: a file that nobody listens on.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let wanted = spec(Addr::Unix(path.clone()), None);
    let running = start(&wanted, Limits::default()).await;
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let stream = UnixStream::connect(&path).await.unwrap();
    assert!(exchange(stream, ASK).await.ends_with("here"));
    assert!(Listener::bind(&wanted).await.is_err(), "two on one socket");
    running.stop.send_replace(true);
    running.serving.await.unwrap();
    assert!(!path.exists());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn the_end_waits_for_answers_but_not_for_ever() {
    let running = start(&spec(any_port(), None), quick()).await;
    let ask = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").into_bytes();
    let slow = TcpStream::connect(running.tcp()).await.unwrap();
    let slow = tokio::spawn(async move { exchange(slow, &ask("/slow")).await });
    let never = TcpStream::connect(running.tcp()).await.unwrap();
    let never = tokio::spawn(async move { exchange(never, &ask("/never")).await });
    let idle = TcpStream::connect(running.tcp()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let begun = Instant::now();
    running.stop.send_replace(true);
    running.serving.await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(3));
    assert!(slow.await.unwrap().ends_with("done"));
    assert!(!never.await.unwrap().contains("200"));
    drop(idle);
}

#[tokio::test]
async fn half_a_request_is_not_waited_for() {
    let running = start(&spec(any_port(), None), quick()).await;
    let mut stream = TcpStream::connect(running.tcp()).await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n")
        .await
        .unwrap();
    let begun = Instant::now();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(begun.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn one_connection_more_than_allowed_waits() {
    let limits = Limits {
        max_connections: 1,
        headers: Duration::from_secs(5),
        ..quick()
    };
    let running = start(&spec(any_port(), None), limits).await;
    let first = TcpStream::connect(running.tcp()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let second = TcpStream::connect(running.tcp()).await.unwrap();
    let second = tokio::spawn(exchange(second, ASK));
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!second.is_finished());
    drop(first);
    assert!(second.await.unwrap().ends_with("here"));
}

#[tokio::test]
async fn a_full_port_does_not_close_the_owners_socket() {
    let limits = Limits {
        max_connections: 1,
        headers: Duration::from_secs(5),
        ..quick()
    };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.sock");
    let mut doors = Vec::new();
    for addr in [any_port(), Addr::Unix(path.clone())] {
        let listener = Listener::bind(&spec(addr, None)).await.unwrap();
        doors.push(Door {
            listener,
            router: router(),
        });
    }
    let Addr::Tcp(port) = *doors[0].listener.addr() else {
        panic!("a port was asked for");
    };
    let (_stop, stop) = watch::channel(false);
    let (_reload, reload) = watch::channel(());
    let settings = Settings {
        limits,
        ..Settings::default()
    };
    tokio::spawn(serve(doors, settings, Orders { stop, reload }));
    let _full = TcpStream::connect(port).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let stream = UnixStream::connect(&path).await.unwrap();
    let answer = tokio::time::timeout(Duration::from_secs(2), exchange(stream, ASK)).await;
    assert!(answer.unwrap().ends_with("here"));
}
