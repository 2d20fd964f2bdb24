//! A server that does as a test says: it signs what it is told to, good or bad.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use skerry_core::build::{Draft, EventRef, Place, Signer, build};
use skerry_core::canonical::{Mode, Object, canonical_object};
use skerry_core::fixtures::{SeededDice, signing_key};
use skerry_core::keys::SigningKey;
use skerry_core::{Clock, RoomVersion, StoredEvent};
use skerry_http::{
    Answer, ApiError, Authenticator, BoxFuture, Call, Credentials, Options, RateLimits, Requester,
    Route, Router, Shell, SignedRequest, route,
};
use skerry_remote::federation::{Limits, Outbound, Signed};

use crate::server::escape;
use crate::{Network, TestClock};

/// A server without rooms of its own, whose users say what a test wants.
pub struct Stranger {
    /// Its name.
    pub name: String,
    key: Arc<SigningKey>,
    network: Network,
    next: AtomicU64,
}

/// What a stranger knows of a room.
pub struct Entered {
    /// The room.
    pub room_id: String,
    /// Its version.
    pub version: RoomVersion,
    /// The newest event that the stranger knows.
    pub last: EventRef,
    /// The state before the stranger came, and what came with it.
    pub state: Vec<StoredEvent>,
    /// The answer to the join.
    pub answer: Value,
}

const KEYS: &[Route<Published>] = &[route!(GET "/_matrix/key/v2/server", None, Free, keys)];

struct Published {
    name: String,
    key: Arc<SigningKey>,
}

async fn keys(own: Arc<Published>, _: Call) -> Result<Answer, ApiError> {
    let encoded = skerry_core::hash::base64(&own.key.public_key());
    let text = json!({
        "server_name": own.name,
        "valid_until_ts": TestClock::new().now_ms() + 7 * 24 * 3_600_000,
        "verify_keys": { own.key.id(): { "key": encoded } },
        "old_verify_keys": {},
    });
    let mut object = Object::from_json(&text, Mode::Strict).unwrap();
    own.key.sign_object(&own.name, &mut object);
    Ok(Answer::json_bytes(object.to_string()))
}

/// Nobody has to say who they are.
struct Open;

impl Authenticator for Open {
    fn authenticate<'a>(
        &'a self,
        _: Credentials<'a>,
    ) -> BoxFuture<'a, Result<Requester, ApiError>> {
        Box::pin(async { Err(ApiError::unknown_token("There are no users here")) })
    }

    fn authenticate_server<'a>(
        &'a self,
        _: SignedRequest<'a>,
    ) -> BoxFuture<'a, Result<Arc<str>, ApiError>> {
        Box::pin(async { Err(ApiError::unauthorized("There are no servers here")) })
    }
}

fn router(name: &str, key: &Arc<SigningKey>) -> Router {
    let options = Options {
        rates: RateLimits {
            enabled: false,
            ..RateLimits::default()
        },
        ..Options::default()
    };
    let published = Published {
        name: name.to_owned(),
        key: Arc::clone(key),
    };
    Shell::builder(options, Arc::new(Open), Arc::new(TestClock::new()))
        .routes(&Arc::new(published), KEYS)
        .router()
}

impl Stranger {
    /// A stranger in a network.
    #[must_use]
    pub fn new(network: &Network, name: &str) -> Stranger {
        let key = Arc::new(signing_key(name));
        network.join(name, router(name, &key));
        Stranger {
            name: name.to_owned(),
            key,
            network: network.clone(),
            next: AtomicU64::new(1),
        }
    }

    /// The network that it is in.
    #[must_use]
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// A user of the stranger.
    #[must_use]
    pub fn user(&self, name: &str) -> String {
        format!("@{name}:{}", self.name)
    }

    /// A signed request: status and answer. A body that is no JSON is signed as it is.
    pub async fn ask(
        &self,
        to: &str,
        method: Method,
        path: &str,
        body: Option<&str>,
    ) -> (u16, Value) {
        // What has no canonical form is signed as it is.
        let canonical = body.map(|body| {
            let canonical = canonical_object(body.as_bytes(), Mode::Lenient, 64 << 20);
            canonical.unwrap_or_else(|_| body.to_owned())
        });
        let signed = Signed {
            method: method.as_str(),
            uri: path,
            origin: &self.name,
            destination: to,
            content: canonical.as_deref(),
        };
        let request = Outbound {
            authorization: Some(signed.authorization(&self.key)),
            method,
            path: path.to_owned(),
            body: Bytes::from(body.unwrap_or_default().to_owned()),
            limits: Limits::new(Duration::from_secs(60), 64 << 20),
        };
        let mut answer = self
            .network
            .wire(&self.name)
            .open(to, request)
            .await
            .unwrap();
        let bytes = answer.rest().await.unwrap();
        let value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        (answer.status.as_u16(), value)
    }

    /// The same for what has to succeed and carries nothing.
    pub async fn get(&self, to: &str, path: &str) -> Value {
        let (status, answer) = self.ask(to, Method::GET, path, None).await;
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    /// Joins a room of another server by `make_join` and `send_join`.
    pub async fn join(&self, to: &str, room_id: &str, user_id: &str) -> Entered {
        let room = escape(room_id);
        let versions: Vec<String> = RoomVersion::all().map(|v| format!("ver={v}")).collect();
        let path = format!(
            "/_matrix/federation/v1/make_join/{room}/{}?{}",
            escape(user_id),
            versions.join("&")
        );
        let made = self.get(to, &path).await;
        let version = RoomVersion::parse(made["room_version"].as_str().unwrap()).unwrap();
        let event = self.from_template(version, &made["event"]);
        let id = escape(event.event_id());
        let path = format!("/_matrix/federation/v2/send_join/{room}/{id}");
        let (status, answer) = self.ask(to, Method::PUT, &path, Some(event.json())).await;
        assert_eq!(status, 200, "{answer}");
        let mut state: Vec<StoredEvent> = answer["state"]
            .as_array()
            .unwrap()
            .iter()
            .map(|event| StoredEvent::from_pdu(event.to_string().as_bytes(), version).unwrap())
            .collect();
        state.push(event.clone());
        Entered {
            room_id: room_id.to_owned(),
            version,
            last: EventRef::of(&event),
            state,
            answer,
        }
    }

    /// A template, completed and signed.
    #[must_use]
    pub fn from_template(&self, version: RoomVersion, template: &Value) -> StoredEvent {
        let template = Object::from_json(template, Mode::Strict).unwrap();
        let depth = u64::try_from(template.int("depth").unwrap()).unwrap();
        let refs = |name: &str, depth: u64| -> Vec<EventRef> {
            let ids = template.get(name).unwrap().as_array().unwrap().iter();
            let of = |id: &skerry_core::canonical::Value| EventRef {
                event_id: id.as_str().unwrap().to_owned(),
                depth,
                hash: None,
            };
            ids.map(of).collect()
        };
        let draft = Draft {
            room_id: template.str("room_id").map(str::to_owned),
            sender: template.str("sender").unwrap().to_owned(),
            event_type: template.str("type").unwrap().to_owned(),
            state_key: template.str("state_key").map(str::to_owned),
            content: template.object("content").unwrap().clone(),
            redacts: None,
            sticky_ms: None,
        };
        self.build(
            version,
            draft,
            &refs("prev_events", depth - 1),
            &refs("auth_events", 1),
        )
    }

    /// Makes and signs an event.
    #[must_use]
    pub fn build(
        &self,
        version: RoomVersion,
        draft: Draft,
        prev: &[EventRef],
        auth: &[EventRef],
    ) -> StoredEvent {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        let place = Place {
            version,
            prev,
            auth,
            origin_server_ts: TestClock::new().now_ms() + n,
        };
        let signer = Signer {
            server: &self.name,
            key: &self.key,
        };
        build(draft, place, signer, &mut SeededDice::new(n)).unwrap()
    }

    /// The next message of a user in a room that the stranger has entered.
    pub fn message(&self, entered: &mut Entered, user_id: &str, text: &str) -> StoredEvent {
        let content = json!({ "msgtype": "m.text", "body": text });
        let event = self.event(entered, user_id, ("m.room.message", None), &content);
        entered.last = EventRef::of(&event);
        event
    }

    /// An event after the newest one that the stranger knows, allowed by the state that it knows.
    #[must_use]
    pub fn event(
        &self,
        entered: &Entered,
        user_id: &str,
        (event_type, state_key): (&str, Option<&str>),
        content: &Value,
    ) -> StoredEvent {
        let draft = Draft {
            room_id: Some(entered.room_id.clone()),
            sender: user_id.to_owned(),
            event_type: event_type.to_owned(),
            state_key: state_key.map(str::to_owned),
            content: Object::from_json(content, Mode::Strict).unwrap(),
            redacts: None,
            sticky_ms: None,
        };
        let allows = |event: &&StoredEvent| {
            (event.is_create() && !entered.version.room_id_is_create_event_id())
                || event.is("m.room.power_levels", "")
                || event.is("m.room.member", user_id)
        };
        let auth: Vec<EventRef> = entered
            .state
            .iter()
            .filter(allows)
            .map(EventRef::of)
            .collect();
        self.build(
            entered.version,
            draft,
            std::slice::from_ref(&entered.last),
            &auth,
        )
    }

    /// Sends a transaction: status and answer.
    pub async fn send(&self, to: &str, txn: &str, pdus: &[&str], edus: &[Value]) -> (u16, Value) {
        let edus: Vec<String> = edus.iter().map(Value::to_string).collect();
        let body = format!(
            "{{\"origin\":\"{}\",\"origin_server_ts\":1,\"pdus\":[{}],\"edus\":[{}]}}",
            self.name,
            pdus.join(","),
            edus.join(",")
        );
        let path = format!("/_matrix/federation/v1/send/{txn}");
        self.ask(to, Method::PUT, &path, Some(&body)).await
    }
}
