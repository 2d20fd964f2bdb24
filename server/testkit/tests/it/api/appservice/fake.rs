//! An application service in the test's process: notes what comes, and answers as it is told.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use skerry_testkit::TestServer;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// How long something expected may take.
const WITHIN: Duration = Duration::from_secs(30);

/// One request.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: Method,
    pub path: String,
    pub query: String,
    pub token: String,
    pub body: Value,
}

impl Asked {
    /// The number of a transaction; none for other requests.
    pub fn number(&self) -> Option<u64> {
        let (_, number) = self.path.split_once("/_matrix/app/v1/transactions/")?;
        Some(number.parse().unwrap())
    }
}

type Answer = Pin<Box<dyn Future<Output = (u16, Value)> + Send>>;
type Answers = Arc<Mutex<Arc<dyn Fn(Asked) -> Answer + Send + Sync>>>;

/// A listening application service.
pub struct Fake {
    addr: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    answers: Answers,
    task: JoinHandle<()>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Fake {
    /// Listens on a free port; answers everything with 200.
    pub async fn start() -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let good: Arc<dyn Fn(Asked) -> Answer + Send + Sync> =
            Arc::new(|_| Box::pin(async { (200, json!({})) }));
        let answers: Answers = Arc::new(Mutex::new(good));
        let task = tokio::spawn(serve(listener, asked.clone(), answers.clone()));
        Fake {
            addr,
            asked,
            answers,
            task,
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Answers like this from now on.
    pub fn answer<F>(&self, answer: impl Fn(Asked) -> F + Send + Sync + 'static)
    where
        F: Future<Output = (u16, Value)> + Send + 'static,
    {
        *self.answers.lock().unwrap() = Arc::new(move |asked| Box::pin(answer(asked)));
    }

    /// Answers everything like this from now on.
    pub fn answer_all(&self, status: u16, body: Value) {
        self.answer(move |_| {
            let body = body.clone();
            async move { (status, body) }
        });
    }

    /// Everything that came so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// Waits until `find` finds something in what came.
    pub async fn wait<T>(&self, find: impl Fn(&[Asked]) -> Option<T>) -> T {
        let wait = async {
            loop {
                if let Some(found) = find(&self.asked()) {
                    return found;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        match tokio::time::timeout(WITHIN, wait).await {
            Ok(found) => found,
            Err(_) => panic!("did not come: {:#?}", self.asked()),
        }
    }

    /// The items of a list in all transactions so far, each transaction once.
    pub fn items(&self, list: &str) -> Vec<Value> {
        items(&self.asked(), list)
    }

    /// Waits for an item of a list, in any transaction.
    pub async fn item(&self, list: &str, fits: impl Fn(&Value) -> bool) -> Value {
        self.wait(|asked| items(asked, list).into_iter().find(|item| fits(item)))
            .await
    }

    /// A registration for it, with an exclusive namespace for users, aliases and no rooms.
    pub fn registration(&self, id: &str) -> Value {
        json!({
            "id": id,
            "url": self.url(),
            "as_token": format!("as-{id}"),
            "hs_token": format!("hs-{id}"),
            "sender_localpart": format!("{id}-bot"),
            "namespaces": {
                "users": [{ "regex": format!("@_{id}_.*:test.example"), "exclusive": true }],
                "aliases": [{ "regex": format!("#_{id}_.*"), "exclusive": true }],
            },
        })
    }
}

fn items(asked: &[Asked], list: &str) -> Vec<Value> {
    let mut seen = Vec::new();
    let mut found = Vec::new();
    for one in asked {
        let Some(number) = one.number().filter(|number| !seen.contains(number)) else {
            continue;
        };
        seen.push(number);
        match &one.body[list] {
            Value::Array(items) => found.extend(items.clone()),
            Value::Null => {}
            other => found.push(other.clone()),
        }
    }
    found
}

/// Registers an application service while the server runs.
pub async fn register(server: &TestServer, registration: Value) {
    let path = "/_skerry/admin/v1/appservices";
    let (status, answer) = server.admin(Method::POST, path, Some(registration)).await;
    assert_eq!(status, 200, "{answer}");
}

/// Makes a user of an application service: the full user id.
pub async fn ghost(server: &TestServer, token: &str, name: &str) -> String {
    let body = json!({
        "type": "m.login.application_service",
        "username": name,
        "inhibit_login": true,
    });
    let path = "/_matrix/client/v3/register";
    let made = server.ok(Method::POST, path, Some(token), Some(body)).await;
    made["user_id"].as_str().unwrap().to_owned()
}

async fn serve(listener: TcpListener, asked: Arc<Mutex<Vec<Asked>>>, answers: Answers) {
    while let Ok((stream, _)) = listener.accept().await {
        let (asked, answers) = (asked.clone(), answers.clone());
        let service = service_fn(move |request| note(asked.clone(), answers.clone(), request));
        tokio::spawn(async move {
            let http = hyper::server::conn::http1::Builder::new();
            let _ = http.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn note(
    asked: Arc<Mutex<Vec<Asked>>>,
    answers: Answers,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let header = parts.headers.get(http::header::AUTHORIZATION);
    let token = header.map_or("", |value| value.to_str().unwrap());
    let path = percent_encoding::percent_decode_str(parts.uri.path());
    let one = Asked {
        method: parts.method,
        path: path.decode_utf8().unwrap().into_owned(),
        query: parts.uri.query().unwrap_or("").to_owned(),
        token: token.to_owned(),
        body: serde_json::from_slice(&body).unwrap_or(Value::Null),
    };
    asked.lock().unwrap().push(one.clone());
    let answer = answers.lock().unwrap().clone();
    let (status, body) = answer(one).await;
    let response = Response::builder().status(status);
    Ok(response
        .body(Full::new(Bytes::from(body.to_string())))
        .unwrap())
}
