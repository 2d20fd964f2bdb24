//! For tests: other servers, in this process, over real TLS on this machine.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use base64::Engine;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use parking_lot::Mutex;
use rustls_pki_types::PrivateKeyDer;
use skerry_core::canonical::Object;
use skerry_core::fixtures::{FakeClock, SeededSource, signing_key};
use skerry_core::hash::base64;
use skerry_core::keys::SigningKey;
use skerry_store::{Store, StoreOptions};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::http::{Client, ClientOptions, Guard, Resolve, Service, Tls};

/// The names that the certificate of all servers is for.
const HOSTS: [&str; 6] = [
    "own.test",
    "one.test",
    "two.test",
    "three.test",
    "srv.test",
    "127.0.0.1",
];

/// What a server was asked.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) host: String,
    pub(crate) authorization: Option<String>,
    pub(crate) body: Bytes,
}

/// Status and body.
pub(crate) type Answer = (u16, String);

type Answers = Arc<dyn Fn(&Asked) -> Answer + Send + Sync>;

/// Another server.
#[derive(Clone)]
pub(crate) struct Fake {
    /// With its port.
    pub(crate) name: Arc<str>,
    pub(crate) addr: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    answers: Arc<Mutex<Answers>>,
}

impl Fake {
    /// What it was asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().clone()
    }

    /// What it was asked whose path begins like this.
    pub(crate) fn asked_for(&self, path: &str) -> Vec<Asked> {
        let mut asked = self.asked();
        asked.retain(|asked| asked.path.starts_with(path));
        asked
    }

    /// Answers like this from now on.
    pub(crate) fn answers(&self, with: impl Fn(&Asked) -> Answer + Send + Sync + 'static) {
        *self.answers.lock() = Arc::new(with);
    }

    /// Answers with its keys, and with an empty object to everything else.
    pub(crate) fn answers_keys(&self, keys: Object) {
        let keys = keys.to_string();
        self.answers(move |asked| match asked.path.as_str() {
            "/_matrix/key/v2/server" => (200, keys.clone()),
            _ => (200, "{}".to_owned()),
        });
    }

    /// The key that it signs with.
    pub(crate) fn key(&self) -> SigningKey {
        signing_key(&self.name)
    }

    /// What it says about its keys.
    pub(crate) fn keys(&self, valid_until_ms: u64) -> Object {
        let mut object = unsigned_keys(&self.name, &self.key(), valid_until_ms);
        self.key().sign_object(&self.name, &mut object);
        object
    }
}

/// An answer about keys, not signed yet.
pub(crate) fn unsigned_keys(server: &str, key: &SigningKey, valid_until_ms: u64) -> Object {
    let mut public = Object::new();
    public.insert("key", base64(&key.public_key()));
    let mut verify_keys = Object::new();
    verify_keys.insert(key.id(), public);
    let mut object = Object::new();
    object.insert("server_name", server);
    object.insert("verify_keys", verify_keys);
    object.insert("old_verify_keys", Object::new());
    let until = i64::try_from(valid_until_ms).unwrap();
    object.insert("valid_until_ts", until);
    object
}

/// Every name is this machine.
#[derive(Default)]
struct Names(Mutex<HashMap<String, Vec<Service>>>);

impl Resolve for Names {
    fn addresses<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, String>> {
        let known = name.ends_with(".test");
        Box::pin(async move {
            known
                .then(|| vec![IpAddr::V4(Ipv4Addr::LOCALHOST)])
                .ok_or_else(|| "no such name".to_owned())
        })
    }

    fn services<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<Service>, String>> {
        let found = self.0.lock().get(name).cloned().unwrap_or_default();
        Box::pin(async move { Ok(found) })
    }
}

/// Several servers on this machine, and what one needs to talk with them.
pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) clock: Arc<FakeClock>,
    pub(crate) dice: Arc<SeededSource>,
    tls: Arc<Tls>,
    acceptor: TlsAcceptor,
    names: Arc<Names>,
}

impl World {
    pub(crate) fn new() -> World {
        let dir = tempfile::tempdir().unwrap();
        let names: Vec<String> = HOSTS.iter().map(|host| (*host).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let file = dir.path().join("ca.pem");
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
        World {
            tls: Arc::new(Tls::new(Some(&file)).unwrap()),
            dir,
            clock: Arc::new(FakeClock::new()),
            dice: Arc::new(SeededSource::new(1)),
            acceptor: TlsAcceptor::from(Arc::new(config)),
            names: Arc::default(),
        }
    }

    /// A server that listens; it answers with its keys, good for a day.
    pub(crate) async fn server(&self, host: &str) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let fake = Fake {
            name: format!("{host}:{}", addr.port()).into(),
            addr,
            asked: Arc::default(),
            answers: Arc::new(Mutex::new(Arc::new(|_: &Asked| (200, "{}".to_owned())))),
        };
        fake.answers_keys(fake.keys(FakeClock::START_MS + 24 * 3_600_000));
        let (acceptor, server) = (self.acceptor.clone(), fake.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, server) = (acceptor.clone(), server.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let service = service_fn(|request| serve(server.clone(), request));
                    let _ = auto::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        fake
    }

    /// Lets an SRV record lead to a server.
    pub(crate) fn service(&self, name: &str, port: u16) {
        let service = Service {
            priority: 0,
            weight: 0,
            target: "target.test.".to_owned(),
            port,
        };
        self.names.0.lock().insert(name.to_owned(), vec![service]);
    }

    pub(crate) fn store(&self) -> Arc<Store> {
        let dir = self.dir.path().join("db");
        Store::open(&dir, StoreOptions::default()).unwrap()
    }

    /// The way to all of them that the guard lets through.
    pub(crate) fn carry(&self, guard: Guard) -> Arc<dyn Carry> {
        let names: Arc<dyn Resolve> = self.names.clone();
        let options = ClientOptions::new(guard, Arc::clone(&names), Arc::clone(&self.tls));
        let client = Client::new(options);
        Arc::new(Internet::new(client, names, self.clock.clone()))
    }

    /// What `own` says to the others.
    pub(crate) fn peers_of(&self, own: &str, store: &Arc<Store>, guard: Guard) -> Peers {
        let options = PeersOptions {
            own_name: own.into(),
            key: Arc::new(signing_key(own)),
            carry: self.carry(guard),
            policy: Policy::new(true, &[], &["denied.test".to_owned()]),
            store: Arc::clone(store),
            clock: self.clock.clone(),
            dice: self.dice.clone(),
        };
        Peers::new(options).unwrap()
    }

    pub(crate) fn peers(&self, store: &Arc<Store>) -> Peers {
        self.peers_of("own.test", store, Guard::open())
    }

    /// The keys that `peers` can find.
    pub(crate) fn keys_of(&self, peers: &Peers, store: &Arc<Store>, trusted: &[&Fake]) -> KeyRing {
        KeyRing::new(KeyRingOptions {
            store: Arc::clone(store),
            peers: peers.clone(),
            trusted: trusted.iter().map(|fake| fake.name.clone()).collect(),
            old_keys: Vec::new(),
            revoked: Revoked::load(None).unwrap(),
            clock: self.clock.clone(),
        })
    }
}

async fn serve(
    fake: Fake,
    request: ::http::Request<Incoming>,
) -> Result<::http::Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let header = |name: &str| {
        let value = parts.headers.get(name);
        value.map(|value| value.to_str().unwrap().to_owned())
    };
    let authority = parts.uri.authority().map(ToString::to_string);
    let asked = Asked {
        method: parts.method.to_string(),
        path: parts.uri.path_and_query().unwrap().to_string(),
        host: authority.or(header("host")).unwrap_or_default(),
        authorization: header("authorization"),
        body: body.collect().await.unwrap().to_bytes(),
    };
    fake.asked.lock().push(asked.clone());
    let answers = Arc::clone(&*fake.answers.lock());
    let (status, body) = answers(&asked);
    let answer = ::http::Response::builder().status(status);
    Ok(answer.body(Full::new(Bytes::from(body))).unwrap())
}
