//! The whole server in this process: real router, real store in a temporary directory.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use skerry_app::config::Config;
use skerry_app::{House, StartError, SystemDice, Workers};
use skerry_http::Router;
use skerry_store::StoreOptions;
use tempfile::TempDir;
use tower::ServiceExt;

use crate::logs::LogCheck;
use crate::{Network, TestClock};

/// What tests begin with: registration without a token, cheap passwords, no limits.
const CONFIG: &str = "
    server_name = \"test.example\"
    [registration]
    open = true
    shared_secret = \"secret\"
    [password]
    cost = \"minimal\"
    [rate_limit]
    enabled = false
    [guests]
    enabled = true
";

/// A server.
pub struct TestServer {
    /// Everything behind the router.
    pub house: House,
    /// The time.
    pub clock: Arc<TestClock>,
    router: Router,
    admin: Router,
    workers: Workers,
    dir: TempDir,
    /// The configuration, as text.
    text: String,
    /// The network it is in.
    network: Option<Network>,
    next: AtomicU64,
    _logs: LogCheck,
}

/// Someone who uses a server.
#[derive(Clone, Debug)]
pub struct Person {
    /// Full user id.
    pub user_id: String,
    /// Access token.
    pub token: String,
    /// Device.
    pub device: String,
}

/// A server that is down.
pub struct StoppedServer {
    dir: TempDir,
    text: String,
    clock: Arc<TestClock>,
    network: Option<Network>,
}

impl StoppedServer {
    /// Starts it again on the same data. Its clock goes on where it stood.
    #[must_use]
    pub fn start(self) -> TestServer {
        TestServer::in_dir(self.dir, self.text, self.clock, self.network)
    }
}

impl TestServer {
    /// A new server. Has to be called inside a tokio runtime with several threads.
    #[must_use]
    pub fn start() -> TestServer {
        TestServer::start_with("")
    }

    /// The same with more configuration: sections that tests do not begin with.
    #[must_use]
    pub fn start_with(extra: &str) -> TestServer {
        TestServer::start_as(&format!("{CONFIG}\n{extra}"))
    }

    /// The same with this configuration alone.
    #[must_use]
    pub fn start_as(config: &str) -> TestServer {
        let clock = Arc::new(TestClock::new());
        TestServer::in_dir(tempfile::tempdir().unwrap(), config.to_owned(), clock, None)
    }

    /// A server of this name in a network, with more configuration than tests begin with.
    pub(crate) fn start_in(network: &Network, name: &str, extra: &str) -> TestServer {
        let config = format!("{}\n{extra}", CONFIG.replace("test.example", name));
        let clock = Arc::new(TestClock::new());
        let dir = tempfile::tempdir().unwrap();
        TestServer::in_dir(dir, config, clock, Some(network.clone()))
    }

    fn in_dir(
        dir: TempDir,
        text: String,
        clock: Arc<TestClock>,
        network: Option<Network>,
    ) -> TestServer {
        let mut config = Config::from_text(&text, std::iter::empty()).unwrap();
        config.data_dir = dir.path().to_owned();
        let config = Arc::new(config);
        let options = StoreOptions::for_tests();
        let open = || {
            let (config, clock) = (Arc::clone(&config), Arc::clone(&clock));
            let name = Arc::clone(&config.server_name);
            let wire = network.as_ref().map(|network| network.wire(&name));
            House::open_among(config, options.clone(), clock, Arc::new(SystemDice), wire)
        };
        // A request of the server before may still be about to end, and holds the database.
        let house = tokio::task::block_in_place(|| {
            let mut tries = 0;
            loop {
                match open() {
                    Err(StartError::Store { .. }) if tries < 100 => tries += 1,
                    opened => return opened.unwrap(),
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let workers = Workers::start(&house);
        let router = house.public_router(Some(workers.stopping()));
        let admin = house.admin_router();
        if let Some(network) = &network {
            network.join(&house.config.server_name, router.clone());
        }
        TestServer {
            house,
            clock,
            router,
            admin,
            workers,
            dir,
            text,
            network,
            next: AtomicU64::new(1),
            _logs: LogCheck::start(),
        }
    }

    /// Stops the server and starts it again on the same data.
    #[must_use]
    pub async fn restart(self) -> TestServer {
        self.stop().await.start()
    }

    /// Stops the server; its data stays.
    pub async fn stop(self) -> StoppedServer {
        if let Some(network) = &self.network {
            network.leave(&self.house.config.server_name);
        }
        self.workers.stop().await;
        drop((self.router, self.admin));
        tokio::task::block_in_place(|| self.house.close());
        StoppedServer {
            dir: self.dir,
            text: self.text,
            clock: self.clock,
            network: self.network,
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.house.config.server_name
    }

    /// What clients talk to.
    pub fn router(&self) -> Router {
        self.router.clone()
    }

    /// One request with a JSON body or none: status and answer.
    pub async fn req(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: Option<Value>,
    ) -> (u16, Value) {
        let body = body.map_or_else(Bytes::new, |body| Bytes::from(body.to_string()));
        let (parts, bytes) = self.raw(method, path, token, body).await.into_parts();
        (
            parts.status.as_u16(),
            serde_json::from_slice(&bytes).unwrap_or(Value::Null),
        )
    }

    /// One request with any body: the whole answer.
    pub async fn raw(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: Bytes,
    ) -> Response<Bytes> {
        ask(&self.router, method, path, token, body).await
    }

    /// One request to the admin API.
    pub async fn admin(&self, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let body = body.map_or_else(Bytes::new, |body| Bytes::from(body.to_string()));
        let (parts, bytes) = ask(&self.admin, method, path, None, body)
            .await
            .into_parts();
        (
            parts.status.as_u16(),
            serde_json::from_slice(&bytes).unwrap_or(Value::Null),
        )
    }

    /// The same as [`TestServer::req`] for what has to succeed.
    pub async fn ok(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: Option<Value>,
    ) -> Value {
        let (status, answer) = self.req(method.clone(), path, token, body).await;
        assert_eq!(status, 200, "{method} {path}: {answer}");
        answer
    }

    /// Registers someone.
    pub async fn person(&self, name: &str) -> Person {
        let body = json!({
            "username": name,
            "password": "correct horse",
            "auth": { "type": "m.login.dummy" },
        });
        let path = "/_matrix/client/v3/register";
        let answer = self.ok(Method::POST, path, None, Some(body)).await;
        person_of(&answer)
    }

    /// Logs someone in on another device.
    pub async fn log_in(&self, name: &str) -> Person {
        let body = json!({
            "type": "m.login.password",
            "identifier": { "type": "m.id.user", "user": name },
            "password": "correct horse",
        });
        let path = "/_matrix/client/v3/login";
        person_of(&self.ok(Method::POST, path, None, Some(body)).await)
    }

    /// Makes a room: its id.
    pub async fn room(&self, who: &Person, body: Value) -> String {
        let path = "/_matrix/client/v3/createRoom";
        let answer = self
            .ok(Method::POST, path, Some(&who.token), Some(body))
            .await;
        answer["room_id"].as_str().unwrap().to_owned()
    }

    /// Joins a room.
    pub async fn join(&self, who: &Person, room: &str) {
        let path = format!("/_matrix/client/v3/rooms/{}/join", escape(room));
        self.ok(Method::POST, &path, Some(&who.token), Some(json!({})))
            .await;
    }

    /// Invites someone.
    pub async fn invite(&self, who: &Person, room: &str, whom: &Person) {
        let path = format!("/_matrix/client/v3/rooms/{}/invite", escape(room));
        let body = json!({ "user_id": whom.user_id });
        self.ok(Method::POST, &path, Some(&who.token), Some(body))
            .await;
    }

    /// Sends a text: the event's id.
    pub async fn say(&self, who: &Person, room: &str, text: &str) -> String {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        let room = escape(room);
        let path = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/t{n}");
        let body = json!({ "msgtype": "m.text", "body": text });
        let answer = self
            .ok(Method::PUT, &path, Some(&who.token), Some(body))
            .await;
        answer["event_id"].as_str().unwrap().to_owned()
    }

    /// One sync that does not wait.
    pub async fn sync(&self, who: &Person, since: Option<&str>) -> Value {
        let path = match since {
            Some(since) => format!("/_matrix/client/v3/sync?timeout=0&since={since}"),
            None => "/_matrix/client/v3/sync?timeout=0".to_owned(),
        };
        self.ok(Method::GET, &path, Some(&who.token), None).await
    }
}

fn person_of(answer: &Value) -> Person {
    let text = |key: &str| answer[key].as_str().unwrap().to_owned();
    Person {
        user_id: text("user_id"),
        token: text("access_token"),
        device: text("device_id"),
    }
}

async fn ask(
    router: &Router,
    method: Method,
    path: &str,
    token: Option<&str>,
    body: Bytes,
) -> Response<Bytes> {
    let mut request = Request::builder().method(method).uri(path);
    if let Some(token) = token {
        request = request.header(http::header::AUTHORIZATION, format!("Bearer {token}"));
    }
    let request = request.body(Full::new(body)).unwrap();
    let (parts, body) = router.clone().oneshot(request).await.unwrap().into_parts();
    Response::from_parts(parts, body.collect().await.unwrap().to_bytes())
}

/// A name as one segment of a path.
pub(crate) fn escape(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}
