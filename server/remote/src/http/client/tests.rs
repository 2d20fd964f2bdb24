#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rustls_pki_types::PrivateKeyDer;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::http::{Route, Service, Tls};

/// Names that a test knows.
struct Names(Vec<(&'static str, Vec<IpAddr>)>);

impl Resolve for Names {
    fn addresses<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, String>> {
        let found = self.0.iter().find(|(known, _)| *known == name);
        let found = found.map(|(_, addresses)| addresses.clone());
        Box::pin(async move { found.ok_or_else(|| "no such name".to_owned()) })
    }

    fn services<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Vec<Service>, String>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn client_with(guard: Guard, tls: Tls) -> Client {
    let names = Names(vec![
        ("public.example", vec![ip("192.0.2.1")]),
        ("local.example", vec![ip("127.0.0.1")]),
        ("both.example", vec![ip("10.0.0.1"), ip("127.0.0.1")]),
        ("localhost", vec![ip("127.0.0.1")]),
    ]);
    Client::new(ClientOptions::new(guard, Arc::new(names), Arc::new(tls)))
}

fn client(guard: Guard) -> Client {
    client_with(guard, Tls::new(None).unwrap())
}

fn named(names: &[&str]) -> Guard {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    Guard::new(false, &names).unwrap()
}

/// A server, and how many connections were made to it.
struct Server {
    addr: SocketAddr,
    connections: Arc<AtomicUsize>,
}

/// Answers by path: what was asked, a redirect, much, or nothing.
async fn answer(
    request: ::http::Request<Incoming>,
) -> Result<::http::Response<Full<Bytes>>, Infallible> {
    use http_body_util::BodyExt;
    let path = request.uri().path().to_owned();
    let response = ::http::Response::builder();
    let response = match path.as_str() {
        "/once" => response.status(302).header("location", "/echo"),
        "/post" => response.status(307).header("location", "/echo"),
        "/around" => response.status(301).header("location", "/around"),
        "/away" => response
            .status(302)
            .header("location", "http://other.example/"),
        "/home" => response.status(302).header("location", "http://10.0.0.1/"),
        _ => response,
    };
    if path == "/slow" {
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    let text = match path.as_str() {
        "/much" => "x".repeat(5_000),
        _ => {
            let (parts, body) = request.into_parts();
            let host = parts.headers.get(HOST).map(|host| host.to_str().unwrap());
            let host = host.unwrap_or_else(|| parts.uri.authority().unwrap().as_str());
            let body = body.collect().await.unwrap().to_bytes();
            let body = String::from_utf8_lossy(&body).into_owned();
            let version = format!("{:?}", parts.version);
            format!(
                "{} {host} {} {body} {version}",
                parts.method,
                parts.uri.path()
            )
        }
    };
    Ok(response.body(Full::new(Bytes::from(text))).unwrap())
}

async fn serve(tls: Option<TlsAcceptor>) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::Relaxed);
            let tls = tls.clone();
            tokio::spawn(async move {
                let http = auto::Builder::new(TokioExecutor::new());
                let service = service_fn(answer);
                match tls {
                    None => {
                        let _ = http.serve_connection(TokioIo::new(stream), service).await;
                    }
                    Some(tls) => {
                        let Ok(stream) = tls.accept(stream).await else {
                            return;
                        };
                        let _ = http.serve_connection(TokioIo::new(stream), service).await;
                    }
                }
            });
        }
    });
    Server { addr, connections }
}

async fn text(client: &Client, request: Request) -> String {
    let answer = client.send(request).await.unwrap();
    String::from_utf8(answer.body.to_vec()).unwrap()
}

#[tokio::test]
async fn private_addresses_are_refused_however_they_are_named() {
    let server = serve(None).await;
    let port = server.addr.port();
    let guarded = client(Guard::default());
    for url in [
        format!("http://127.0.0.1:{port}/"),
        format!("http://[::ffff:127.0.0.1]:{port}/"),
        format!("http://local.example:{port}/"),
        format!("http://both.example:{port}/"),
        format!("http://public.example:{port}/"),
    ] {
        let refused = guarded.send(Request::get(&url)).await.unwrap_err();
        assert!(
            matches!(refused, HttpError::Refused { .. }),
            "{url}: {refused}"
        );
        assert!(refused.is_final());
    }
    let unknown = guarded.send(Request::get("http://nobody.example/")).await;
    assert!(matches!(unknown, Err(HttpError::Dns { .. })), "{unknown:?}");
    assert_eq!(server.connections.load(Ordering::Relaxed), 0);
    // What is named is reached, and what the operator wrote himself.
    let url = format!("http://local.example:{port}/x");
    let open = client(named(&["local.example"]));
    let expected = format!("GET local.example:{port} /x  HTTP/1.1");
    assert_eq!(text(&open, Request::get(&url)).await, expected);
    assert_eq!(text(&guarded, Request::get(&url).trusted()).await, expected);
    // What was trusted once does not open the door for others by a kept connection.
    let refused = guarded.send(Request::get(&url)).await;
    assert!(matches!(refused, Err(HttpError::Refused { .. })));
}

#[tokio::test]
async fn redirects_are_followed_as_far_as_asked_and_checked_each_time() {
    let server = serve(None).await;
    let client = client(named(&["127.0.0.1"]));
    let url = |path: &str| format!("http://{}{path}", server.addr);
    let plain = client.send(Request::get(&url("/once"))).await.unwrap();
    assert_eq!(plain.status, 302, "not followed unless asked");
    let asked = Request::post(&url("/once")).body("body".into()).follow(1);
    let got = text(&client, asked).await;
    assert!(got.starts_with("GET ") && !got.contains("body"), "{got}");
    let asked = Request::post(&url("/post")).body("body".into()).follow(1);
    let got = text(&client, asked).await;
    assert!(got.starts_with("POST ") && got.contains("body"), "{got}");
    let around = client.send(Request::get(&url("/around")).follow(3)).await;
    assert!(matches!(around, Err(HttpError::Redirect)), "{around:?}");
    let home = client.send(Request::get(&url("/home")).follow(3)).await;
    assert!(matches!(home, Err(HttpError::Refused { .. })), "{home:?}");
    let home = client
        .send(Request::get(&url("/home")).trusted().follow(3))
        .await;
    assert!(matches!(home, Err(HttpError::Refused { .. })), "{home:?}");
    let away = client.send(Request::get(&url("/away")).follow(3)).await;
    assert!(matches!(away, Err(HttpError::Dns { .. })), "{away:?}");
}

#[tokio::test]
async fn time_and_size_are_bounded() {
    let server = serve(None).await;
    let client = client(Guard::open());
    let url = |path: &str| format!("http://{}{path}", server.addr);
    let limit = Duration::from_millis(50);
    let slow = client
        .send(Request::get(&url("/slow")).timeout(limit))
        .await;
    assert!(matches!(slow, Err(HttpError::Timeout(_))), "{slow:?}");
    let much = client
        .send(Request::get(&url("/much")).max_response(4_999))
        .await;
    assert!(matches!(much, Err(HttpError::TooLarge(4_999))), "{much:?}");
    let fits = client
        .send(Request::get(&url("/much")).max_response(5_000))
        .await;
    assert_eq!(fits.unwrap().body.len(), 5_000);
    let mut open = client.open(Request::get(&url("/much"))).await.unwrap();
    let mut seen = 0;
    while let Some(piece) = open.next().await.unwrap() {
        seen += piece.len();
    }
    assert_eq!(seen, 5_000);
    let nobody = client.send(Request::get("http://127.0.0.1:1/")).await;
    assert!(
        matches!(nobody, Err(HttpError::Connect { .. })),
        "{nobody:?}"
    );
    for url in ["nonsense", "ftp://a.example/", "/path", "http://"] {
        let wrong = client.send(Request::get(url)).await;
        assert!(matches!(wrong, Err(HttpError::Url(_))), "{url}: {wrong:?}");
    }
    let secret = client.send(Request::get("ftp://a.example/secret?x")).await;
    assert_eq!(
        secret.unwrap_err().to_string(),
        "\"ftp://a.example\" is not an http or https URL"
    );
    let header = client
        .send(Request::get(&url("/")).header("a", "b\r\nc: d"))
        .await;
    assert!(matches!(header, Err(HttpError::Request(_))), "{header:?}");
}

#[tokio::test]
async fn connections_are_kept() {
    let server = serve(None).await;
    let client = client(Guard::open());
    let url = format!("http://{}/", server.addr);
    for _ in 0..5 {
        client.send(Request::get(&url)).await.unwrap();
        // The connection is put back once its answer was read.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(server.connections.load(Ordering::Relaxed), 1);
}

fn acceptor(name: &str, dir: &std::path::Path) -> (TlsAcceptor, Tls) {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let file = dir.join("ca.pem");
    let text = base64::engine::general_purpose::STANDARD.encode(made.cert.der());
    let pem = format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n");
    std::fs::write(&file, pem).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    (
        TlsAcceptor::from(Arc::new(config)),
        Tls::new(Some(&file)).unwrap(),
    )
}

#[tokio::test]
async fn the_other_side_proves_its_name_which_may_be_another_than_the_host() {
    let dir = tempfile::tempdir().unwrap();
    let (acceptor, tls) = acceptor("name.example", dir.path());
    let server = serve(Some(acceptor)).await;
    let client = client_with(Guard::open(), tls);
    let route = |tls_name: &str| Route {
        host: "127.0.0.1".to_owned(),
        port: server.addr.port(),
        tls_name: tls_name.to_owned(),
    };
    let request = || Request::get("https://name.example/x").via(route("name.example"));
    // By HTTP/2, several at once on one connection.
    assert_eq!(
        text(&client, request()).await,
        "GET name.example /x  HTTP/2.0"
    );
    let at_once = (0..10).map(|_| text(&client, request()));
    for got in futures_util::future::join_all(at_once).await {
        assert_eq!(got, "GET name.example /x  HTTP/2.0");
    }
    assert_eq!(server.connections.load(Ordering::Relaxed), 1);
    let wrong = Request::get("https://name.example/x").via(route("other.example"));
    let wrong = client.send(wrong).await;
    assert!(matches!(wrong, Err(HttpError::Tls { .. })), "{wrong:?}");
    let stranger = super::tests::client(Guard::open());
    let unknown = stranger.send(request()).await;
    assert!(matches!(unknown, Err(HttpError::Tls { .. })), "{unknown:?}");
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_is_replaced() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        // Answers once on each connection, says it would keep it, and closes it.
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buffer = [0; 1024];
            let _ = stream.read(&mut buffer).await;
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
            let _ = stream.write_all(answer).await;
        }
    });
    let client = client(Guard::open());
    for _ in 0..5 {
        assert_eq!(text(&client, Request::get(&url)).await, "ok");
    }
}
