//! Something in front of the CA that has it stumble, and adds what it does not know itself.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};

use super::*;

/// What happens to a request.
#[derive(Clone, Copy)]
pub(super) enum Fault {
    /// It is answered so.
    Status(u16),
    /// There were too many, for so many seconds.
    Limited(u64),
    /// The connection breaks.
    Cut,
}

#[derive(Default)]
struct State {
    faults: HashMap<&'static str, VecDeque<Fault>>,
    /// How often the CA did what was asked for at each path.
    done: HashMap<String, usize>,
    /// Whether certificates have to be renewed at once.
    advises: bool,
    /// What was said to be replaced.
    replaced: Option<String>,
}

#[derive(Clone)]
pub(super) struct Faults {
    state: Arc<Mutex<State>>,
    port: u16,
    ca: u16,
    trust: Arc<ClientConfig>,
    stop: Arc<watch::Sender<bool>>,
}

impl Faults {
    pub(super) async fn start(pebble: &Pebble) -> Faults {
        let dir = tempfile::tempdir().unwrap();
        let (cert, key) = pebble.authority.sign(&["localhost"], (-1, 30));
        let files = CertFiles {
            cert: dir.path().join("cert.pem"),
            key: dir.path().join("key.pem"),
        };
        std::fs::write(&files.cert, cert).unwrap();
        std::fs::write(&files.key, key).unwrap();
        let listener = Listener::bind(&spec(any_port(), Some(Tls::Files(vec![files])))).await;
        let listener = listener.unwrap();
        let Addr::Tcp(addr) = *listener.addr() else {
            panic!("a port was asked for");
        };
        let (stop, stopped) = watch::channel(false);
        let faults = Faults {
            state: Arc::default(),
            port: addr.port(),
            ca: pebble.port,
            trust: pebble.trust(),
            stop: Arc::new(stop),
        };
        let own = faults.clone();
        let router = Router::new().fallback(move |request: Request| {
            let faults = own.clone();
            async move { faults.answer(request).await }
        });
        let (_, reload) = watch::channel(());
        let orders = Orders {
            stop: stopped,
            reload,
        };
        let doors = vec![Door { listener, router }];
        tokio::spawn(serve(doors, Settings::default(), orders));
        faults
    }

    pub(super) fn directory(&self) -> String {
        assert!(!*self.stop.borrow());
        format!("https://localhost:{}/dir", self.port)
    }

    /// The next request whose path holds this stumbles.
    pub(super) fn add(&self, path: &'static str, fault: Fault) {
        let mut state = self.state.lock().unwrap();
        state.faults.entry(path).or_default().push_back(fault);
    }

    /// From now on every certificate has to be renewed.
    pub(super) fn advise_now(&self) {
        self.state.lock().unwrap().advises = true;
    }

    pub(super) fn replaced(&self) -> Option<String> {
        self.state.lock().unwrap().replaced.clone()
    }

    /// How often the CA did what was asked for at this path.
    pub(super) fn count(&self, path: &str) -> usize {
        let state = self.state.lock().unwrap();
        state.done.get(path).copied().unwrap_or_default()
    }

    async fn answer(&self, request: Request) -> Response {
        let path = request.uri().path().to_owned();
        let fault = {
            let mut state = self.state.lock().unwrap();
            let fitting = state.faults.iter_mut().find(|(at, _)| path.contains(**at));
            fitting.and_then(|(_, faults)| faults.pop_front())
        };
        match fault {
            None => {}
            Some(Fault::Status(status)) => {
                return StatusCode::from_u16(status).unwrap().into_response();
            }
            Some(Fault::Limited(seconds)) => return limited(seconds),
            Some(Fault::Cut) => panic!("a fault that was asked for"),
        }
        if path.starts_with("/ari/") {
            return self.advice();
        }
        self.passed_on(request).await
    }

    fn advice(&self) -> Response {
        let window = match self.state.lock().unwrap().advises {
            true => ["2020-01-01T00:00:00Z", "2020-01-02T00:00:00Z"],
            false => ["2100-01-01T00:00:00Z", "2100-01-02T00:00:00Z"],
        };
        let body = json!({ "suggestedWindow": { "start": window[0], "end": window[1] } });
        let headers = [
            ("content-type", "application/json"),
            ("retry-after", "21600"),
        ];
        (headers, body.to_string()).into_response()
    }

    async fn passed_on(&self, request: Request) -> Response {
        let (mut head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let tcp = TcpStream::connect(("127.0.0.1", self.ca)).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let connector = TlsConnector::from(Arc::clone(&self.trust));
        let stream = connector.connect(name, tcp).await.unwrap();
        let io = TokioIo::new(stream);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        tokio::spawn(connection);
        let replaces = payload(&body)["replaces"].as_str().map(str::to_owned);
        let path = head.uri.path().to_owned();
        head.uri = path.parse::<Uri>().unwrap();
        head.extensions.clear();
        let asked = http::Request::from_parts(head, Full::new(body));
        let answer = sender.send_request(asked).await.unwrap();
        if answer.status().is_success() {
            *self
                .state
                .lock()
                .unwrap()
                .done
                .entry(path.clone())
                .or_default() += 1;
        }
        let (head, body) = answer.into_parts();
        let mut bytes = body.collect().await.unwrap().to_bytes().to_vec();
        if let Ok(mut value) = serde_json::from_slice::<Value>(&bytes) {
            if path == "/dir" {
                value["renewalInfo"] = format!("https://localhost:{}/ari", self.port).into();
            }
            if let Some(replaces) = replaces {
                value["replaces"] = replaces.as_str().into();
                self.state.lock().unwrap().replaced = Some(replaces);
            }
            bytes = value.to_string().into_bytes();
        }
        let mut headers: HeaderMap = head.headers;
        headers.remove("content-length");
        headers.remove("transfer-encoding");
        (head.status, headers, Body::from(bytes)).into_response()
    }
}

fn limited(seconds: u64) -> Response {
    let body = json!({
        "type": "urn:ietf:params:acme:error:rateLimited",
        "detail": "too many new orders recently",
    });
    let headers = [
        ("content-type", "application/problem+json".to_owned()),
        ("retry-after", seconds.to_string()),
    ];
    (StatusCode::TOO_MANY_REQUESTS, headers, body.to_string()).into_response()
}

/// What a signed request says.
fn payload(body: &[u8]) -> Value {
    let signed: Value = serde_json::from_slice(body).unwrap_or_default();
    let payload = signed["payload"].as_str().unwrap_or_default();
    let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let bytes = engine.decode(payload).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}
