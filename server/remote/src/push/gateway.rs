//! Push gateways (spec, push gateway API).

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use skerry_account::pusher::{Pusher, PusherKey};

use super::notification::{Notification, device};
use super::send::Sent;
use crate::http::{HttpError, Request, Response, Transport};

/// How long a gateway gets.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Longest answer, in bytes.
const MAX_ANSWER: usize = 256 << 10;

/// Hands a notification to a gateway.
pub(super) async fn send(
    transport: &dyn Transport,
    url: &str,
    (key, pusher): (&PusherKey, &Pusher),
    notification: Notification,
) -> Sent {
    let Notification {
        mut fields,
        tweaks,
        unread,
    } = notification;
    let mut counts = Map::new();
    if let Some(unread) = unread {
        counts.insert("unread".into(), unread.into());
    }
    fields.insert("counts".into(), counts.into());
    let devices = json!([device(key, pusher, tweaks)]);
    fields.insert("devices".into(), devices);
    let request = Request::post(url)
        .json(&json!({ "notification": fields }))
        .timeout(TIMEOUT)
        .max_response(MAX_ANSWER);
    match transport.send(request).await {
        Ok(answer) => judge(&answer, key),
        Err(error) => failed(&error),
    }
}

/// What an answer means. A gateway may name keys that it does not know any more; only the one it
/// was asked about is believed.
fn judge(answer: &Response, key: &PusherKey) -> Sent {
    #[derive(Deserialize)]
    struct Rejected {
        #[serde(default)]
        rejected: Vec<Value>,
    }
    let status = answer.status.as_u16();
    match status {
        200..=299 => {
            let rejected = answer.json::<Rejected>();
            let gone = rejected.is_ok_and(|answer| {
                let keys = answer.rejected.iter();
                keys.filter_map(Value::as_str).any(|k| k == key.pushkey)
            });
            if gone { Sent::Rejected } else { Sent::Arrived }
        }
        // Something about this one that repeating it does not heal.
        400 | 405..=407 | 411..=428 | 431..=499 => {
            Sent::Refused(format!("the gateway answered {status}"))
        }
        _ => Sent::Failed {
            why: format!("the gateway answered {status}"),
            after: retry_after(answer),
        },
    }
}

/// How long the other side asks to be left alone.
pub(super) fn retry_after(answer: &Response) -> Option<Duration> {
    let text = answer.headers.get("retry-after")?.to_str().ok()?;
    text.trim().parse().ok().map(Duration::from_secs)
}

pub(super) fn failed(error: &HttpError) -> Sent {
    Sent::Failed {
        why: error.to_string(),
        after: None,
    }
}
