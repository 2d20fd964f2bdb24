//! Pushers, and the list of what notified.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use skerry_account::pusher::{NewPusher, Pusher, PusherKey, PusherKind, SetPusher};
use skerry_core::Pos;
use skerry_http::{Answer, ApiError, Call, Route, StatusCode, route};
use skerry_room::NotificationsAsk;

use crate::reading::{Context, ask, limit};
use crate::{Ctx, fault};

/// Notifications given unless the client asks for another number.
const NOTIFICATIONS: usize = 20;

/// The endpoints of this file.
pub(crate) const ROUTES: &[Route<Ctx>] = &[
    route!(GET "/_matrix/client/v3/pushers", Token, Free, list),
    route!(POST "/_matrix/client/v3/pushers/set", Token, Send, set),
    route!(POST "/_matrix/client/v3/pushers/ack", Token, Send, activate),
    route!(POST "/_matrix/client/unstable/org.matrix.msc4174/pushers/ack",
        Token, Send, activate),
    route!(GET "/_matrix/client/v3/notifications", Token, Heavy, notifications),
];

/// `GET /pushers`
async fn list(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let pushers = ctx.accounts.pushers(call.requester()?.user).await;
    let pushers = pushers.map_err(fault::account)?;
    let pushers: Vec<Value> = pushers
        .iter()
        .map(|(key, pusher)| pusher_json(key, pusher))
        .collect();
    Answer::json(&json!({ "pushers": pushers }))
}

fn pusher_json(key: &PusherKey, pusher: &Pusher) -> Value {
    let mut data: Map<String, Value> = serde_json::from_str(&pusher.data).unwrap_or_default();
    let mut body = json!({
        "pushkey": key.pushkey,
        "app_id": key.app_id,
        "kind": "http",
        "app_display_name": pusher.app_display_name,
        "device_display_name": pusher.device_display_name,
        "lang": pusher.lang,
        "org.matrix.msc3881.enabled": pusher.enabled,
        "org.matrix.msc3881.device_id": pusher.device,
    });
    let Some(map) = body.as_object_mut() else {
        return body;
    };
    if let Some(tag) = &pusher.profile_tag {
        map.insert("profile_tag".to_owned(), json!(tag));
    }
    if pusher.kind == PusherKind::WebPush {
        map.insert("kind".to_owned(), json!("org.matrix.msc4174.webpush"));
        // The proposal moved it from one place to the other; clients look in either.
        map.insert("activated".to_owned(), json!(pusher.activated));
        data.insert("activated".to_owned(), json!(pusher.activated));
    }
    map.insert("data".to_owned(), data.into());
    body
}

#[derive(Deserialize)]
struct SetBody {
    app_id: String,
    pushkey: String,
    #[serde(default, deserialize_with = "present")]
    kind: Option<Option<String>>,
    app_display_name: Option<String>,
    device_display_name: Option<String>,
    profile_tag: Option<String>,
    lang: Option<String>,
    data: Option<Map<String, Value>>,
    #[serde(default)]
    append: bool,
    #[serde(alias = "org.matrix.msc3881.enabled")]
    enabled: Option<bool>,
}

/// Tells a value of `null` from none.
fn present<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Option<String>>, D::Error> {
    Option::<String>::deserialize(from).map(Some)
}

impl SetBody {
    /// The pusher to be set, of the kind given.
    fn pusher(self, kind: String) -> Result<NewPusher, ApiError> {
        let missing = || {
            let text = "Missing: app_display_name, device_display_name, lang and data are needed";
            ApiError::missing_param(text)
        };
        let mut data = self.data.ok_or_else(missing)?;
        // Only the server says it.
        data.remove("activated");
        Ok(NewPusher {
            key: PusherKey {
                app_id: self.app_id,
                pushkey: self.pushkey,
            },
            kind,
            app_display_name: self.app_display_name.ok_or_else(missing)?,
            device_display_name: self.device_display_name.ok_or_else(missing)?,
            profile_tag: self.profile_tag,
            lang: self.lang.ok_or_else(missing)?,
            data,
            enabled: self.enabled,
            append: self.append,
        })
    }
}

/// `POST /pushers/set`: 201 for one that still has to prove that it is reached (MSC4174).
async fn set(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let body: SetBody = call.json()?;
    let who = call.requester()?;
    let kind = body.kind.clone();
    match kind.ok_or_else(|| ApiError::missing_param("kind is missing"))? {
        None => {
            let key = PusherKey {
                app_id: body.app_id,
                pushkey: body.pushkey,
            };
            let gone = ctx.accounts.remove_pusher(who.user, key).await;
            gone.map_err(fault::account)?;
            Ok(Answer::empty())
        }
        Some(kind) => {
            let new = body.pusher(kind)?;
            let set = ctx.accounts.set_pusher(who.user, &who.device, new).await;
            Ok(match set.map_err(fault::account)? {
                SetPusher::Done => Answer::empty(),
                SetPusher::ToActivate => Answer::empty().status(StatusCode::CREATED),
            })
        }
    }
}

/// `POST /pushers/ack` (MSC4174)
async fn activate(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    #[derive(Deserialize)]
    struct Body {
        app_id: String,
        ack_token: String,
    }
    let body: Body = call.json()?;
    let user = call.requester()?.user;
    let activated = ctx
        .accounts
        .activate_pusher(user, body.app_id, body.ack_token);
    activated.await.map_err(fault::account)?;
    Ok(Answer::empty())
}

/// `GET /notifications`
async fn notifications(ctx: Context, call: Call) -> Result<Answer, ApiError> {
    let from = match call.query("from").as_deref().map(parse_token) {
        None => None,
        Some(Some(pos)) => Some(pos),
        Some(None) => return Err(ApiError::invalid_param("Unknown pagination token in from")),
    };
    let wanted = NotificationsAsk {
        from,
        limit: limit(&call, 1, NOTIFICATIONS)?,
        highlight: call.query("only").as_deref() == Some("highlight"),
    };
    let json = ask(&ctx, &call, move |rooms, snap, viewer| {
        rooms.notifications_json(snap, viewer, wanted)
    });
    Ok(Answer::json_bytes(json.await?))
}

/// A token of [`NotificationsAsk`], as an earlier answer gave it.
fn parse_token(token: &str) -> Option<Pos> {
    token.strip_prefix('n')?.parse().ok().map(Pos)
}
