//! `PUT /send/{txnId}`: a transaction. What can be known of its PDUs without asking anybody is
//! said at once; those that are worth it are taken into the inbox together with that answer, and
//! judged afterwards.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use skerry_core::canonical::{Mode, Object};
use skerry_core::hash::event_id_of;
use skerry_core::{RoomNid, RoomVersion, StoredEvent};
use skerry_http::{Answer, ApiError, Call, LARGE_BODY, Route, route};
use skerry_room::Rooms;
use skerry_store::{Snapshot, StoreError, blocking};

use crate::{Begun, Ctx, fault, outside};

/// The endpoints of this file.
pub(crate) const ROUTES: &[Route<Ctx>] = &[
    // The events in it may nest as deep as events may: what is around them does not count.
    route!(PUT "/_matrix/federation/v1/send/{txnId}", Server, Federation, put)
        .bytes()
        .max_body(LARGE_BODY),
];

/// The most PDUs of a transaction.
const MAX_PDUS: usize = 50;
/// The most EDUs of a transaction.
const MAX_EDUS: usize = 100;
/// The longest transaction id, in bytes.
const MAX_TXN_BYTES: usize = 255;
/// When a server that has too much waiting may come again, in ms.
const BUSY_MS: u64 = 10_000;

/// EDUs that lose nothing if they are lost: all others are taken before the answer is kept.
const MOMENTARY: [&str; 3] = ["m.typing", "m.receipt", "m.presence"];

/// What a server sends at once, unread.
#[derive(Deserialize)]
pub struct Transaction {
    /// Events of rooms.
    #[serde(default)]
    pub pdus: Vec<Box<RawValue>>,
    /// What is no event of a room.
    #[serde(default)]
    pub edus: Vec<Box<RawValue>>,
}

#[derive(Deserialize)]
struct Edu {
    edu_type: String,
    content: Box<RawValue>,
}

/// `PUT /send/{txnId}`
async fn put(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let origin = Arc::clone(call.origin()?);
    let txn = call.param("txnId");
    if txn.len() > MAX_TXN_BYTES {
        return Err(ApiError::invalid_param("The transaction id is too long"));
    }
    let sent: Transaction = call.json()?;
    if sent.pdus.len() > MAX_PDUS || sent.edus.len() > MAX_EDUS {
        let text = "A transaction has at most 50 PDUs and 100 EDUs";
        return Err(ApiError::invalid_param(text));
    }
    let heard = ctx.federation.sender().heard_from(&origin);
    heard.map_err(|error| fault::store(&error))?;
    let begun = ctx.inbox.begin(&origin, txn).await;
    let open = match begun.map_err(|error| fault::store(&error))? {
        Begun::New(open) => open,
        Begun::Answered(answer) => return Ok(Answer::json_bytes(answer)),
        Begun::Busy => return Err(ApiError::limit(BUSY_MS)),
    };
    let edus: Vec<Edu> = sent
        .edus
        .iter()
        .filter_map(|edu| serde_json::from_str(edu.get()).ok())
        .collect();
    let momentary = |edu: &Edu| MOMENTARY.contains(&&*edu.edu_type);
    take_edus(&ctx, &origin, edus.iter().filter(|edu| !momentary(edu))).await?;
    let (rooms, from) = (ctx.rooms.clone(), Arc::clone(&origin));
    let looked_at = blocking(move || look_at(&rooms, &from, sent.pdus)).await;
    let looked_at = looked_at.and_then(|found| found);
    let found = match looked_at {
        Ok(found) => doubted(&ctx, found).await,
        Err(error) => Err(error),
    };
    let found = found.map_err(|error| fault::store(&error))?;
    let answer = json!({ "pdus": found.said }).to_string().into_bytes();
    let worth = found.worth.into_iter().map(|pdu| (pdu.room, pdu.text));
    let taken = ctx.inbox.take(open, worth.collect(), answer.clone()).await;
    taken.map_err(|error| fault::store(&error))?;
    take_edus(&ctx, &origin, edus.iter().filter(|edu| momentary(edu))).await?;
    Ok(Answer::json_bytes(answer))
}

async fn take_edus<'a>(
    ctx: &Ctx,
    origin: &str,
    edus: impl Iterator<Item = &'a Edu>,
) -> Result<(), ApiError> {
    for edu in edus {
        let taken = ctx.people.take(origin, &edu.edu_type, &edu.content).await;
        taken.map_err(|error| fault::store(&error))?;
    }
    Ok(())
}

/// What is known of PDUs without asking anybody.
#[derive(Default)]
struct Found {
    /// What the server is told, by event id.
    said: BTreeMap<String, Value>,
    /// Those to be judged.
    worth: Vec<Pdu>,
}

/// A PDU of a room that is known.
struct Pdu {
    room: RoomNid,
    version: RoomVersion,
    event_id: String,
    text: Vec<u8>,
}

/// Takes out those of whose signatures is known that they are not good.
async fn doubted(ctx: &Ctx, mut found: Found) -> Result<Found, StoreError> {
    let mut by_version: BTreeMap<RoomVersion, Vec<Pdu>> = BTreeMap::new();
    let mut order = Vec::with_capacity(found.worth.len());
    for pdu in std::mem::take(&mut found.worth) {
        order.push(pdu.version);
        by_version.entry(pdu.version).or_default().push(pdu);
    }
    let mut judged = BTreeMap::new();
    for (version, pdus) in by_version {
        let texts = pdus.iter().map(|pdu| pdu.text.clone()).collect();
        let doubts = ctx.federation.checker().doubts(version, texts).await?;
        judged.insert(version, pdus.into_iter().zip(doubts));
    }
    // In the order in which they came: those of one room rest on each other.
    for version in order {
        match judged.get_mut(&version).and_then(Iterator::next) {
            Some((pdu, None)) => found.worth.push(pdu),
            Some((pdu, Some(fault))) => {
                let why = json!({ "error": fault.to_string() });
                found.said.insert(pdu.event_id, why);
            }
            None => {}
        }
    }
    Ok(found)
}

/// Why a PDU goes no further.
enum Not {
    /// It is of a room in which nobody of this server is: that is not the other server's fault.
    Ours,
    /// For this reason.
    Good(String),
}

fn look_at(rooms: &Rooms, origin: &str, pdus: Vec<Box<RawValue>>) -> Result<Found, StoreError> {
    let snap = rooms.store().newest();
    let mut found = Found::default();
    for pdu in pdus {
        let text: Box<str> = Box::<RawValue>::into(pdu);
        let (event_id, outcome) = look_at_one(rooms, &snap, origin, &text)?;
        let said = match outcome {
            Ok((room, version)) => {
                found.worth.push(Pdu {
                    room,
                    version,
                    event_id: event_id.clone().unwrap_or_default(),
                    text: text.into_string().into_bytes(),
                });
                json!({})
            }
            Err(Not::Ours) => json!({}),
            Err(Not::Good(why)) => json!({ "error": why }),
        };
        // What cannot be named cannot be answered for.
        if let Some(event_id) = event_id {
            found.said.insert(event_id, said);
        }
    }
    Ok(found)
}

/// The event's id, as far as it can be known, and its room and the version of that, or why it goes
/// no further.
#[allow(clippy::type_complexity)] // Two plain facts.
fn look_at_one(
    rooms: &Rooms,
    snap: &Snapshot,
    origin: &str,
    text: &str,
) -> Result<(Option<String>, Result<(RoomNid, RoomVersion), Not>), StoreError> {
    let good = |why: &dyn std::fmt::Display| Err(Not::Good(why.to_string()));
    let object = match Object::parse(text.as_bytes(), Mode::Lenient) {
        Ok(object) => object,
        Err(error) => return Ok((None, good(&error))),
    };
    let named = object.str("event_id").map(str::to_owned);
    let Some(room_id) = object.str("room_id") else {
        return Ok((named, good(&"the event names no room")));
    };
    let room = rooms.store().room_nid(room_id)?;
    let version = rooms.room_version(snap, room_id)?;
    let here = match room {
        Some(room) => rooms.is_here(snap, room)?,
        None => false,
    };
    // Of other rooms, only what ends an invite or a knock of somebody here is looked at.
    let version = match here {
        true => version,
        false => outside::version(rooms, snap, &object)?,
    };
    let (Some(room), Some(version)) = (room, version) else {
        return Ok((named, Err(Not::Ours)));
    };
    let event_id = match Object::parse(text.as_bytes(), version.json_mode()) {
        Ok(mut object) => {
            object.remove("unsigned");
            event_id_of(&object, version).ok().or(named)
        }
        Err(error) => return Ok((named, good(&error))),
    };
    if here && !rooms.acl_allows(snap, room, origin)? {
        return Ok((event_id, good(&"the room keeps this server out")));
    }
    Ok(match StoredEvent::from_pdu(text.as_bytes(), version) {
        Ok(event) => (Some(event.event_id().to_owned()), Ok((room, version))),
        Err(error) => (event_id, good(&error)),
    })
}
