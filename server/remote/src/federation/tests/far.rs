//! A server that has one room, written as text, and answers what it is asked about it: honestly,
//! or as a test wants it to.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, StatusCode};
use parking_lot::Mutex;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use skerry_core::canonical::{Mode, Object};
use skerry_core::fixtures::{RoomFixture, signing_key};
use skerry_core::hash::base64;
use skerry_core::{RoomVersion, StoredEvent};

use super::super::{Carry, Outbound};
use crate::http::{HttpError, Streamed};

pub(super) const FAR: &str = "far.example";

/// What goes wrong with an endpoint.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    /// This status and code.
    Refusal(u16, &'static str),
    /// This instead.
    Instead(Value),
    /// So many bytes of nothing.
    Huge(usize),
    /// Every signature is another one.
    Forged,
}

pub(super) struct Far {
    pub(super) room: Mutex<RoomFixture>,
    faults: Mutex<BTreeMap<&'static str, Fault>>,
    /// Events that it denies to have.
    pub(super) denied: Mutex<HashSet<String>>,
    /// The endpoints that were asked, in order.
    pub(super) asked: Mutex<Vec<String>>,
    /// Events that it was given.
    pub(super) given: Mutex<Vec<Value>>,
}

impl Far {
    pub(super) fn new(version: RoomVersion, text: &str) -> Arc<Far> {
        Arc::new(Far {
            room: Mutex::new(RoomFixture::new(version, text)),
            faults: Mutex::default(),
            denied: Mutex::default(),
            asked: Mutex::default(),
            given: Mutex::default(),
        })
    }

    /// A room of `ann`, open to all.
    pub(super) fn open(version: RoomVersion) -> Arc<Far> {
        let text = "ann:far.example create\nann:far.example join\nann:far.example power {}\n\
                    ann:far.example rules public\nann:far.example visibility shared";
        Far::new(version, text)
    }

    pub(super) fn room_id(&self) -> String {
        self.room.lock().room_id().to_owned()
    }

    /// One more line of the room.
    pub(super) fn add(&self, line: &str) -> Arc<StoredEvent> {
        self.room.lock().add(line)
    }

    /// So many messages of ann.
    pub(super) fn chat(&self, from: usize, to: usize) -> Arc<StoredEvent> {
        let mut room = self.room.lock();
        let mut last = None;
        for n in from..to {
            last = Some(room.add(&format!("ann:far.example message m{n}")));
        }
        last.unwrap()
    }

    pub(super) fn fault(&self, endpoint: &'static str, fault: Fault) {
        self.faults.lock().insert(endpoint, fault);
    }

    pub(super) fn heal(&self) {
        self.faults.lock().clear();
        self.denied.lock().clear();
    }

    /// How often an endpoint was asked.
    pub(super) fn count(&self, endpoint: &str) -> usize {
        let asked = self.asked.lock();
        asked.iter().filter(|one| *one == endpoint).count()
    }

    fn answer(&self, request: &Outbound) -> Result<Value, (u16, &'static str)> {
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        let parts: Vec<String> = path
            .split('/')
            .skip(3)
            .map(|part| percent_decode_str(part).decode_utf8().unwrap().into_owned())
            .collect();
        let query = |name: &str| {
            let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            let mut found = pairs.filter(|(key, _)| *key == name);
            let value = found.next().map(|(_, value)| value).unwrap_or_default();
            percent_decode_str(value)
                .decode_utf8()
                .unwrap()
                .into_owned()
        };
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let room = self.room.lock();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        match parts[..] {
            ["v2", "server"] => Ok(keys()),
            [_, "make_join" | "make_leave" | "make_knock", _, user] => {
                let verb = parts[1].trim_start_matches("make_");
                Ok(template(room, verb, user))
            }
            [_, "send_join", _, _] => {
                self.given.lock().push(body.clone());
                let state: Vec<_> = room.state().into_values().collect();
                Ok(json!({
                    "origin": FAR,
                    "event": body,
                    "members_omitted": false,
                    "state": pdus(&state),
                    "auth_chain": pdus(&chain(&room, &state)),
                }))
            }
            [_, "send_leave", _, _] => {
                self.given.lock().push(body);
                Ok(json!({}))
            }
            [_, "send_knock", _, _] => {
                self.given.lock().push(body);
                let create = room.current("m.room.create", "").unwrap();
                Ok(json!({ "knock_room_state": pdus(&[create]) }))
            }
            [_, "invite", _, _] => Ok(signed_invite(&body)),
            [_, "event", id] => match self.lookup(&room, id) {
                Some(event) => Ok(json!({ "pdus": pdus(&[event]) })),
                None => Err((404, "M_NOT_FOUND")),
            },
            [_, "event_auth", _, id] => match self.lookup(&room, id) {
                Some(event) => Ok(json!({ "auth_chain": pdus(&chain(&room, &[event])) })),
                None => Err((404, "M_NOT_FOUND")),
            },
            [_, "state_ids" | "state", _] => {
                let id = query("event_id");
                let event = self.lookup(&room, &id).ok_or((404, "M_NOT_FOUND"))?;
                let state = before(&room, &event);
                let chain = chain(&room, &state);
                if parts[1] == "state" {
                    return Ok(json!({ "pdus": pdus(&state), "auth_chain": pdus(&chain) }));
                }
                let ids = |events: &[Arc<StoredEvent>]| -> Vec<String> {
                    events.iter().map(|e| e.event_id().to_owned()).collect()
                };
                Ok(json!({ "pdu_ids": ids(&state), "auth_chain_ids": ids(&chain) }))
            }
            [_, "backfill", _] => {
                let limit = query("limit").parse().unwrap();
                let from = self
                    .lookup(&room, &query("v"))
                    .ok_or((404, "M_NOT_FOUND"))?;
                Ok(json!({ "origin": FAR, "pdus": pdus(&back(&room, vec![from], &[], limit)) }))
            }
            [_, "get_missing_events", _] => {
                let list = |name: &str| -> Vec<String> {
                    serde_json::from_value(body[name].clone()).unwrap()
                };
                let earliest = list("earliest_events");
                let latest: Vec<_> = list("latest_events");
                let from: Vec<_> = latest.iter().filter_map(|id| room.by_id(id)).collect();
                let limit = body["limit"].as_u64().unwrap().min(20) as usize;
                let found = back(&room, from, &earliest, limit + latest.len());
                let found: Vec<_> = found
                    .into_iter()
                    .filter(|event| !latest.iter().any(|id| id == event.event_id()))
                    .collect();
                Ok(json!({ "events": pdus(&found) }))
            }
            _ => Err((404, "M_UNRECOGNIZED")),
        }
    }

    /// An event of the room, or one that came in by a handshake.
    fn lookup(&self, room: &RoomFixture, id: &str) -> Option<Arc<StoredEvent>> {
        let found = room.by_id(id).or_else(|| {
            let given = self.given.lock();
            let read = |pdu: &Value| {
                let text = pdu.to_string();
                StoredEvent::from_pdu(text.as_bytes(), room.version).ok()
            };
            let mut events = given.iter().filter_map(read);
            events.find(|event| event.event_id() == id).map(Arc::new)
        });
        found.filter(|_| !self.denied.lock().contains(id))
    }
}

impl Carry for Far {
    fn open<'a>(
        &'a self,
        to: &'a str,
        request: Outbound,
    ) -> BoxFuture<'a, Result<Streamed, HttpError>> {
        Box::pin(async move {
            if to != FAR {
                return Err(HttpError::Broken(format!("nobody is {to}")));
            }
            let path = request.path.split('?').next().unwrap_or_default();
            let endpoint = path.split('/').nth(4).unwrap_or_default().to_owned();
            self.asked.lock().push(endpoint.clone());
            let fault = self.faults.lock().get(endpoint.as_str()).cloned();
            let answered = match &fault {
                Some(Fault::Refusal(status, code)) => Err((*status, *code)),
                Some(Fault::Instead(value)) => Ok(value.to_string()),
                Some(Fault::Huge(bytes)) => Ok(format!("{{\"x\":\"{}\"}}", "x".repeat(*bytes))),
                Some(Fault::Forged) | None => self.answer(&request).map(|value| value.to_string()),
            };
            let (status, body) = match answered {
                Ok(body) => (200, body),
                Err((status, code)) => (
                    status,
                    json!({ "errcode": code, "error": "no" }).to_string(),
                ),
            };
            let body = match fault {
                Some(Fault::Forged) => body.replace("ed25519:test\":\"", "ed25519:test\":\"AAAA"),
                _ => body,
            };
            let status = StatusCode::from_u16(status).unwrap();
            let max = request.limits.max_response;
            Ok(Streamed::held(
                status,
                HeaderMap::new(),
                Bytes::from(body),
                max,
            ))
        })
    }
}

/// The keys of the far server, signed.
fn keys() -> Value {
    let key = signing_key(FAR);
    let keys = json!({
        "server_name": FAR,
        "valid_until_ts": 4_000_000_000_000_u64,
        "verify_keys": { key.id(): { "key": base64(&key.public_key()) } },
        "old_verify_keys": {},
    });
    let mut keys = Object::from_json(&keys, Mode::Strict).unwrap();
    key.sign_object(FAR, &mut keys);
    keys.to_json()
}

/// What an event has to rest on, as a template.
fn template(mut room: parking_lot::MutexGuard<'_, RoomFixture>, verb: &str, user: &str) -> Value {
    let event = room.build(&format!("{} {verb}", user.trim_start_matches('@')));
    let mut event = event.object().unwrap();
    for field in ["hashes", "signatures", "event_id"] {
        event.remove(field);
    }
    json!({ "room_version": room.version.as_str(), "event": event.to_json() })
}

/// The invite with the far server's signature.
fn signed_invite(body: &Value) -> Value {
    let version = RoomVersion::parse(body["room_version"].as_str().unwrap()).unwrap();
    let event = Object::from_json(&body["event"], Mode::Lenient).unwrap();
    let text = skerry_core::hash::signable_text(&event, version);
    let key = signing_key(FAR);
    let mut event = event;
    let signature = key.sign(text.as_bytes());
    skerry_core::keys::add_signature(&mut event, FAR, key.id(), signature);
    json!({ "event": event.to_json() })
}

fn pdus(events: &[Arc<StoredEvent>]) -> Vec<Value> {
    let parse = |event: &Arc<StoredEvent>| serde_json::from_str(event.json()).unwrap();
    events.iter().map(parse).collect()
}

/// All that events rest on, each once.
fn chain(room: &RoomFixture, events: &[Arc<StoredEvent>]) -> Vec<Arc<StoredEvent>> {
    let (mut seen, mut chain) = (HashSet::new(), Vec::new());
    let mut next: Vec<_> = events
        .iter()
        .flat_map(|event| event.auth_events())
        .collect();
    while let Some(id) = next.pop() {
        if seen.insert(id.clone())
            && let Some(event) = room.by_id(&id)
        {
            next.extend(event.auth_events());
            chain.push(event);
        }
    }
    chain
}

/// The state before an event.
fn before(room: &RoomFixture, event: &StoredEvent) -> Vec<Arc<StoredEvent>> {
    let prev = event.prev_events().into_iter().next();
    let prev = prev.and_then(|id| room.by_id(&id));
    let state = prev.map(|prev| room.state_after_event(&prev).clone());
    state.unwrap_or_default().into_values().collect()
}

/// So many events, going back from some, without going past others.
fn back(
    room: &RoomFixture,
    from: Vec<Arc<StoredEvent>>,
    earliest: &[String],
    limit: usize,
) -> Vec<Arc<StoredEvent>> {
    let (mut seen, mut found) = (HashSet::new(), Vec::new());
    let mut next = VecDeque::from(from);
    while let Some(event) = next.pop_front() {
        let id = event.event_id().to_owned();
        if found.len() >= limit || earliest.contains(&id) || !seen.insert(id) {
            continue;
        }
        next.extend(event.prev_events().iter().filter_map(|id| room.by_id(id)));
        found.push(event);
    }
    found
}
