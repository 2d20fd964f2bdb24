//! Delayed events (MSC4140): sent later, unless they are taken back before.
//!
//! Two ways of asking for one are in use: a parameter of the query of `/send` and `/state`, and
//! an endpoint of its own.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use skerry_account::TxnKey;
use skerry_http::{Answer, ApiError, Call, Route, route};
use skerry_room::{
    CANCELLED_BY_STATE, DelayedAction, DelayedAsk, DelayedDraft, DelayedEvent, DelayedOrder,
    DelayedOutcome, RoomError,
};

use crate::in_room::{content, refusal, room_id, sticky_ms, ts, txn, who};
use crate::{Ctx, fault};

/// The endpoints of this file.
pub(crate) const ROUTES: &[Route<Ctx>] = &[
    route!(
        PUT "/_matrix/client/unstable/org.matrix.msc4140/rooms/{roomId}/delayed_event/{eventType}/\
             {txnId}",
        Token, Send, schedule
    ),
    route!(GET "/_matrix/client/unstable/org.matrix.msc4140/delayed_events", Token, Heavy, list),
    route!(
        GET "/_matrix/client/unstable/org.matrix.msc4140/delayed_events/{delayId}",
        Token, Heavy, get
    ),
    route!(
        POST "/_matrix/client/unstable/org.matrix.msc4140/delayed_events/{delayId}",
        None, Send, update
    ),
    route!(
        POST "/_matrix/client/unstable/org.matrix.msc4140/delayed_events/{delayId}/restart",
        None, Send, restart
    ),
    route!(
        POST "/_matrix/client/unstable/org.matrix.msc4140/delayed_events/{delayId}/send",
        None, Send, send
    ),
    route!(
        POST "/_matrix/client/unstable/org.matrix.msc4140/delayed_events/{delayId}/cancel",
        None, Send, cancel
    ),
];

/// The query parameter of `/send` and `/state`: how long to wait, in ms.
const DELAY: &str = "org.matrix.msc4140.delay";

/// The answer to a `/send` or `/state` that asks for a delay; `None` where it does not.
pub(crate) async fn by_query(
    ctx: &Ctx,
    call: &Call,
    state_key: Option<String>,
) -> Result<Option<Answer>, ApiError> {
    let Some(delay_ms) = call.query_as(DELAY)? else {
        return Ok(None);
    };
    let draft = DelayedDraft {
        kind: call.param("eventType").to_owned(),
        state_key,
        content: content(call),
        sticky_ms: sticky_ms(call)?,
        ts: ts(call)?,
        delay_ms,
        txn: transaction(call)?,
    };
    let id = ctx.rooms.delay(who(call)?, room_id(call)?, draft).await;
    let id = id.map_err(|error| match error {
        RoomError::DelayTooLong(max_ms) => ApiError::unknown(error.to_string())
            .with("org.matrix.msc4140.errcode", "M_MAX_DELAY_EXCEEDED")
            .with("org.matrix.msc4140.max_delay", max_ms),
        error => refusal(error),
    })?;
    Answer::json(&json!({ "delay_id": id })).map(Some)
}

/// The transaction of a request that schedules something: another than that of the same request
/// without a delay.
fn transaction(call: &Call) -> Result<Option<TxnKey>, ApiError> {
    if call.param("txnId").is_empty() {
        return Ok(None);
    }
    // Refuses an id that is none.
    txn(call)?;
    let (requester, id) = (call.requester()?, call.param("txnId"));
    let path = format!("{}?delay", call.uri.path());
    let key = TxnKey::new(requester.user, &requester.device, "PUT", &path, id);
    key.map(Some).map_err(fault::account)
}

#[derive(Deserialize)]
struct Schedule {
    delay: u64,
    state_key: Option<String>,
    content: Box<RawValue>,
}

/// `PUT /rooms/{roomId}/delayed_event/{eventType}/{txnId}`
async fn schedule(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let body: Schedule = call.json()?;
    let draft = DelayedDraft {
        kind: call.param("eventType").to_owned(),
        state_key: body.state_key,
        content: body.content.get().as_bytes().to_vec(),
        sticky_ms: sticky_ms(&call)?,
        ts: ts(&call)?,
        delay_ms: body.delay,
        txn: transaction(&call)?,
    };
    let id = ctx.rooms.delay(who(&call)?, room_id(&call)?, draft).await;
    Answer::json(&json!({ "delay_id": id.map_err(refusal)? }))
}

#[derive(Deserialize)]
struct Update {
    action: String,
}

/// `POST /delayed_events/{delayId}`: as clients did before each action had a path of its own.
async fn update(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let action = match call.json::<Update>()?.action.as_str() {
        "restart" => DelayedAction::Restart,
        "send" => DelayedAction::Send,
        "cancel" => DelayedAction::Cancel,
        _ => {
            let text = "action has to be restart, send or cancel";
            return Err(ApiError::invalid_param(text));
        }
    };
    act(&ctx, &call, action).await
}

/// `POST /delayed_events/{delayId}/restart`: the delay begins anew.
async fn restart(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    act(&ctx, &call, DelayedAction::Restart).await
}

/// `POST /delayed_events/{delayId}/send`: without waiting any longer.
async fn send(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    act(&ctx, &call, DelayedAction::Send).await
}

/// `POST /delayed_events/{delayId}/cancel`
async fn cancel(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    act(&ctx, &call, DelayedAction::Cancel).await
}

/// Nobody has to say who they are: knowing the id is the permission.
async fn act(ctx: &Ctx, call: &Call, action: DelayedAction) -> Result<Answer, ApiError> {
    let id = call.param("delayId");
    let done = ctx.rooms.update_delayed(id, action).await;
    done.map_err(refusal)?;
    Ok(Answer::empty())
}

/// `GET /delayed_events/{delayId}`
async fn get(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let user = call.requester()?.user;
    let event = ctx.rooms.delayed_event(user, call.param("delayId")).await;
    Answer::json(&shown(event.map_err(refusal)?))
}

/// `GET /delayed_events`
async fn list(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let user = call.requester()?.user;
    let ask = asked(&call)?;
    let backwards = ask.backwards;
    let page = ctx.rooms.delayed_events(user, ask).await.map_err(refusal)?;
    let events: Vec<Value> = page.events.into_iter().map(shown).collect();
    let mut answer = json!({ "delayed_events": events });
    if let Some((at_ms, id)) = page.next {
        let name = if backwards {
            "prev_batch"
        } else {
            "next_batch"
        };
        answer[name] = format!("{at_ms}_{id}").into();
    }
    Answer::json(&answer)
}

/// What the query asks for.
fn asked(call: &Call) -> Result<DelayedAsk, ApiError> {
    let backwards = word(call, "dir", &[("f", false), ("b", true)])?;
    let order = [
        ("send_ts", DelayedOrder::Due),
        ("origin_server_ts", DelayedOrder::End),
        ("running_since", DelayedOrder::Since),
    ];
    let status = [("scheduled", false), ("finalised", true)];
    let outcome = [
        ("send", DelayedOutcome::Send),
        ("cancel", DelayedOutcome::Cancel),
        ("error", DelayedOutcome::Error),
    ];
    let since_ms = match call.query("since_ts").as_deref() {
        Some("end") => Some(u64::MAX),
        _ => call.query_as("since_ts")?,
    };
    let from = call.query("from").map(|from| {
        let (at_ms, id) = from.split_once('_')?;
        Some((at_ms.parse().ok()?, id.to_owned()))
    });
    let from = match from {
        Some(None) => return Err(ApiError::invalid_param("from is not a token of ours")),
        from => from.flatten(),
    };
    Ok(DelayedAsk {
        order: word(call, "order_by", &order)?.unwrap_or_default(),
        backwards: backwards.unwrap_or_default(),
        over: word(call, "status", &status)?,
        room_id: call.query("room_id"),
        kind: call.query("type"),
        outcome: word(call, "outcome", &outcome)?,
        asked: word(call, "reason", &[("action", true), ("delay", false)])?,
        since_ms,
        from,
    })
}

/// A query parameter that is one of a few words.
fn word<T: Copy>(call: &Call, name: &str, words: &[(&str, T)]) -> Result<Option<T>, ApiError> {
    let Some(given) = call.query(name) else {
        return Ok(None);
    };
    let found = words.iter().find(|(word, _)| *word == given);
    let wrong = || ApiError::invalid_param(format!("{name} cannot be {given:?}"));
    found.map(|(_, value)| Some(*value)).ok_or_else(wrong)
}

fn shown(event: DelayedEvent) -> Value {
    let mut shown = Map::new();
    let mut put = |name: &str, value: Value| {
        shown.insert(name.to_owned(), value);
    };
    put("delay_id", event.id.into());
    put("room_id", (*event.room_id).into());
    put("type", event.kind.into());
    if let Some(key) = event.state_key {
        put("state_key", key.into());
    }
    put("delay", event.delay_ms.into());
    put("running_since", event.since_ms.into());
    let content = serde_json::from_slice(&event.content);
    put("content", content.unwrap_or_default());
    if let Some(end) = event.end {
        put("finalised_ts", end.at_ms.into());
        // The same by the name that the proposal now has for it.
        put("origin_server_ts", end.at_ms.into());
        if let Some(event_id) = end.event_id {
            put("event_id", event_id.into());
        }
        if let Some((code, text)) = end.error {
            put("error", error(&code, &text));
        }
    }
    Value::Object(shown)
}

/// Why an event was not sent. A code that is not in the specification yet stands beside
/// `M_UNKNOWN`.
fn error(code: &str, text: &str) -> Value {
    if code == CANCELLED_BY_STATE {
        return json!({ "errcode": "M_UNKNOWN", "org.matrix.msc4140.errcode": code, "error": text });
    }
    json!({ "errcode": code, "error": text })
}
