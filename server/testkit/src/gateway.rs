//! A push gateway, or any other server that is told things, in the test's process: notes what
//! comes and answers what it is told to answer.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::VecDeque;
use std::convert::Infallible;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls_pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// How long something expected may take.
const WITHIN: Duration = Duration::from_secs(10);

/// One request.
#[derive(Clone, Debug)]
pub struct Told {
    /// Path and query.
    pub path: String,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

impl Told {
    /// The body as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

#[derive(Default)]
struct Shared {
    told: Vec<Told>,
    /// Answers to the next requests: status and body.
    next: VecDeque<(u16, Value)>,
    /// The answer when there is no next one.
    always: Option<(u16, Value)>,
}

/// A listening server.
pub struct Gateway {
    base: String,
    shared: Arc<Mutex<Shared>>,
    task: JoinHandle<()>,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Gateway {
    /// Listens on a free port of this machine.
    pub async fn start() -> Gateway {
        Gateway::listen(None).await
    }

    /// The same with TLS. The certificate that proves it, and is to be trusted, is written to a
    /// file.
    pub async fn start_tls(ca_file: &Path) -> Gateway {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let text = base64::engine::general_purpose::STANDARD.encode(made.cert.der());
        let pem = format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n");
        std::fs::write(ca_file, pem).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        Gateway::listen(Some(TlsAcceptor::from(Arc::new(config)))).await
    }

    async fn listen(tls: Option<TlsAcceptor>) -> Gateway {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Mutex::new(Shared::default()));
        let scheme = if tls.is_some() { "https" } else { "http" };
        let task = tokio::spawn(serve(listener, tls, Arc::clone(&shared)));
        Gateway {
            base: format!("{scheme}://localhost:{port}"),
            shared,
            task,
        }
    }

    /// Its URL, with this path.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// Answers the next request that has no answer yet like this; without, 200 and `{}`.
    pub fn answer(&self, status: u16, body: Value) {
        self.shared.lock().unwrap().next.push_back((status, body));
    }

    /// Answers all requests like this that have no answer of their own.
    pub fn answer_all(&self, status: u16, body: Value) {
        self.shared.lock().unwrap().always = Some((status, body));
    }

    /// Everything it was told so far.
    #[must_use]
    pub fn told(&self) -> Vec<Told> {
        self.shared.lock().unwrap().told.clone()
    }

    /// Waits until it was told so much, and gives it.
    pub async fn wait(&self, count: usize) -> Vec<Told> {
        let wait = async {
            loop {
                let told = self.told();
                if told.len() >= count {
                    return told;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        match tokio::time::timeout(WITHIN, wait).await {
            Ok(told) => told,
            Err(_) => panic!("told {} of {count}: {:#?}", self.told().len(), self.told()),
        }
    }
}

async fn serve(listener: TcpListener, tls: Option<TlsAcceptor>, shared: Arc<Mutex<Shared>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (shared, tls) = (Arc::clone(&shared), tls.clone());
        let service = service_fn(move |request| note(Arc::clone(&shared), request));
        tokio::spawn(async move {
            let http = hyper::server::conn::http1::Builder::new();
            let _ = match tls {
                None => http.serve_connection(TokioIo::new(stream), service).await,
                Some(tls) => match tls.accept(stream).await {
                    Ok(stream) => http.serve_connection(TokioIo::new(stream), service).await,
                    Err(_) => return,
                },
            };
        });
    }
}

async fn note(
    shared: Arc<Mutex<Shared>>,
    request: http::Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes());
    let told = Told {
        path: parts.uri.to_string(),
        headers: parts.headers,
        body: body.unwrap_or_default(),
    };
    let mut shared = shared.lock().unwrap();
    shared.told.push(told);
    let always = shared.always.clone().unwrap_or((200, json!({})));
    let (status, body) = shared.next.pop_front().unwrap_or(always);
    let response = Response::builder().status(status);
    Ok(response
        .body(Full::new(Bytes::from(body.to_string())))
        .unwrap())
}
