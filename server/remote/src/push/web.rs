//! Push services of browsers and phones (MSC4174; RFC 8030, 8291, 8292).

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use serde_json::{Map, Value, json};
use skerry_account::pusher::{Pusher, PusherKey};
use skerry_core::Clock;

use super::crypt::{CryptError, Signer, encrypt};
use super::gateway::{failed, retry_after};
use super::lookup::data;
use super::notification::Notification;
use super::send::Sent;
use crate::http::{Request, Response, Transport};

/// How long a push service gets.
const TIMEOUT: Duration = Duration::from_secs(20);
/// How long a push service keeps a notification for a device that is off, in seconds.
const TTL_SECS: u32 = 24 * 3_600;
/// How long a proof of who sends is good, in seconds (RFC 8292 allows a day).
const PROOF_SECS: u64 = 12 * 3_600;
/// Longest text that push services take, in bytes: 4,096 less what encryption adds, and less what
/// some of them take for themselves.
const MAX_TEXT: usize = 3_000;

/// Why Web Push cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WebPushError {
    /// The key is no private key of P-256.
    #[error("not a private key of the curve P-256")]
    Key,
}

/// How soon a device is to be told (RFC 8030, section 5.3).
#[derive(Clone, Copy)]
enum Urgency {
    Normal,
    High,
}

impl Urgency {
    fn as_str(self) -> &'static str {
        match self {
            Urgency::Normal => "normal",
            Urgency::High => "high",
        }
    }
}

/// The key by which push services recognise this server (VAPID).
#[derive(Clone)]
pub struct VapidKey {
    signer: Arc<Signer>,
    /// Whom push services may write to, as a URL.
    contact: Arc<str>,
}

impl VapidKey {
    /// A key from its 32 secret bytes; `contact` is a `https:` or `mailto:` URL under which the
    /// operator is found.
    ///
    /// # Errors
    /// `Key` for bytes that are no key; of random bytes one in 2^32 is none.
    pub fn new(secret: &[u8; 32], contact: &str) -> Result<VapidKey, WebPushError> {
        let signer = Signer::new(secret).map_err(|_| WebPushError::Key)?;
        Ok(VapidKey {
            signer: Arc::new(signer),
            contact: Arc::from(contact),
        })
    }

    /// The public key as clients hand it to their push service: uncompressed, in URL-safe base64
    /// without padding.
    #[must_use]
    pub fn public(&self) -> String {
        self.signer.public()
    }

    /// Who sends, to which push service, until when.
    fn proof(&self, url: &str, now_ms: u64) -> Result<String, CryptError> {
        self.signer.authorization(&json!({
            "aud": origin(url),
            "sub": &*self.contact,
            "exp": now_ms / 1_000 + PROOF_SECS,
        }))
    }
}

/// Encrypts a text for a pusher.
fn sealed(key: &PusherKey, pusher: &Pusher, text: &[u8]) -> Result<Vec<u8>, CryptError> {
    let data = data(pusher);
    let auth = data.get("auth").and_then(Value::as_str).unwrap_or_default();
    let bytes = |text: &str| {
        let text = text.trim_end_matches('=');
        URL_SAFE_NO_PAD.decode(text).map_err(|_| CryptError)
    };
    encrypt(&bytes(&key.pushkey)?, &bytes(auth)?, text)
}

/// Scheme, host and port of a URL: the push service for which a proof is good.
fn origin(url: &str) -> &str {
    let path = url.match_indices('/').nth(2).map(|(at, _)| at);
    url.get(..path.unwrap_or(url.len())).unwrap_or_default()
}

/// Sends to push services.
#[derive(Clone)]
pub(super) struct WebPusher {
    pub(super) key: VapidKey,
    pub(super) clock: Arc<dyn Clock>,
}

impl WebPusher {
    /// Asks a client to prove that it is reached.
    pub(super) async fn activate(
        &self,
        transport: &dyn Transport,
        to: (&str, &PusherKey, &Pusher),
        token: &str,
    ) -> Sent {
        let text = json!({ "app_id": to.1.app_id, "ack_token": token }).to_string();
        self.post(transport, to, text.as_bytes(), Urgency::High)
            .await
    }

    /// Hands a notification to a push service.
    pub(super) async fn send(
        &self,
        transport: &dyn Transport,
        to: (&str, &PusherKey, &Pusher),
        notification: Notification,
    ) -> Sent {
        let urgency = if notification.is_urgent() {
            Urgency::High
        } else {
            Urgency::Normal
        };
        let text = text(to.2, notification);
        self.post(transport, to, text.as_bytes(), urgency).await
    }

    async fn post(
        &self,
        transport: &dyn Transport,
        to: (&str, &PusherKey, &Pusher),
        text: &[u8],
        urgency: Urgency,
    ) -> Sent {
        let (url, key, pusher) = to;
        let proof = self.key.proof(url, self.clock.now_ms());
        let made = proof.and_then(|proof| Ok((proof, sealed(key, pusher, text)?)));
        let (proof, body) = match made {
            Ok(made) => made,
            // Its keys are no keys: nothing can ever be sent to it.
            Err(error) => {
                tracing::debug!(%error, "a subscription of Web Push cannot be used");
                return Sent::Rejected;
            }
        };
        let request = Request::post(url)
            .timeout(TIMEOUT)
            .header("ttl", &TTL_SECS.to_string())
            .header("urgency", urgency.as_str())
            .header("authorization", &proof)
            .header("content-encoding", "aes128gcm")
            .header("content-type", "application/octet-stream")
            .body(Bytes::from(body));
        match transport.send(request).await {
            Ok(answer) => judge(&answer),
            Err(error) => failed(&error),
        }
    }
}

/// The text of a notification: what the client gave beforehand, and the fields of the push
/// gateway API, flat. What does not fit is told by the event's id alone.
fn text(pusher: &Pusher, notification: Notification) -> String {
    let mut all = match data(pusher).remove("default_payload") {
        Some(Value::Object(given)) => given,
        _ => Map::new(),
    };
    let Notification {
        mut fields,
        tweaks,
        unread,
    } = notification;
    if let Some(unread) = unread {
        fields.insert("unread".into(), unread.into());
    }
    if !tweaks.is_empty() {
        fields.insert("tweaks".into(), tweaks.into());
    }
    all.extend(fields);
    let text = Value::Object(all.clone()).to_string();
    if text.len() <= MAX_TEXT {
        return text;
    }
    all.remove("content");
    let text = Value::Object(all.clone()).to_string();
    if text.len() <= MAX_TEXT {
        return text;
    }
    all.retain(|field, _| ["event_id", "room_id", "prio", "unread"].contains(&field.as_str()));
    Value::Object(all).to_string()
}

/// What an answer means. By 404 and 410 the subscription is gone (RFC 8030, section 7.3), by 403
/// it is not for our key (MSC4174).
fn judge(answer: &Response) -> Sent {
    let status = answer.status.as_u16();
    match status {
        200..=299 => Sent::Arrived,
        403 | 404 | 410 => Sent::Rejected,
        400 | 401 | 405..=407 | 411..=428 | 431..=499 => {
            Sent::Refused(format!("the push service answered {status}"))
        }
        _ => Sent::Failed {
            why: format!("the push service answered {status}"),
            after: retry_after(answer),
        },
    }
}
