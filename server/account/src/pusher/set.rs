//! Setting, replacing, activating and removing pushers.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};
use skerry_core::UserNid;
use skerry_core::keys::random_name;
use skerry_store::outbox::Dest;
use skerry_store::schema::push as t;
use skerry_store::schema::push::{Pusher, PusherKind};
use skerry_store::{Change, Scan};

use super::{MAX_PUSHERS, PushItem, PusherKey, of_user, one, remove};
use crate::tx::Tx;
use crate::{AccountError, Accounts};

/// The path that a push gateway's URL has to have (push gateway API).
const GATEWAY_PATH: &str = "/_matrix/push/v1/notify";
/// Longest id of an application, in bytes.
const MAX_APP_ID_BYTES: usize = 64;
/// Longest key, in bytes.
const MAX_PUSHKEY_BYTES: usize = 512;
/// Longest name, language or tag, in bytes.
const MAX_TEXT_BYTES: usize = 1_024;
/// Longest data, in bytes of JSON.
const MAX_DATA_BYTES: usize = 8 << 10;
/// Longest URL, in bytes.
const MAX_URL_BYTES: usize = 2_048;
/// How long a pusher has to prove that it is reached, in ms (MSC4174).
const ACK_MS: u64 = 5 * 60_000;
/// Length of what it has to send back.
const ACK_CHARS: usize = 32;

/// Says of a host whether it may be reached without TLS: the operator named it.
pub type GatewayCheck = std::sync::Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// A pusher as a client sets it.
#[derive(Clone, Debug)]
pub struct NewPusher {
    /// Which.
    pub key: PusherKey,
    /// `http`, or `webpush` by either of its names.
    pub kind: String,
    /// The application, as people know it.
    pub app_display_name: String,
    /// The device, as its owner knows it.
    pub device_display_name: String,
    /// Which set of rules it follows.
    pub profile_tag: Option<String>,
    /// The language of its owner.
    pub lang: String,
    /// What else is to be known of it.
    pub data: Map<String, Value>,
    /// Whether it is used; none: yes.
    pub enabled: Option<bool>,
    /// Other users may have a pusher of the same application and key; else theirs go.
    pub append: bool,
}

/// What setting a pusher came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetPusher {
    /// It is set.
    Done,
    /// It is set, and has to prove that it is reached (MSC4174).
    ToActivate,
}

impl Accounts {
    /// Sets a pusher from a device.
    ///
    /// # Errors
    /// `Invalid` for a kind, URL or key that cannot be used, or more than 100 pushers;
    /// `TooLarge`.
    pub async fn set_pusher(
        &self,
        user: UserNid,
        device: &str,
        new: NewPusher,
    ) -> Result<SetPusher, AccountError> {
        let (kind, url) = self.check(&new)?;
        let device = device.to_owned();
        self.change(user, move |tx| set(tx, user, device, new, (kind, url)))
            .await
    }

    /// Removes a pusher; nothing happens if there is none.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn remove_pusher(&self, user: UserNid, key: PusherKey) -> Result<(), AccountError> {
        self.change(user, move |tx| {
            if one(&tx.snap, user, &key)?.is_some() {
                remove(&mut tx.w, user, &key);
            }
            Ok(())
        })
        .await
    }

    /// A pusher proves that it is reached (MSC4174).
    ///
    /// # Errors
    /// `NotFound` without a pusher of the application; `ActivationExpired`, `ActivationUnknown`.
    pub async fn activate_pusher(
        &self,
        user: UserNid,
        app_id: String,
        token: String,
    ) -> Result<(), AccountError> {
        self.change(user, move |tx| activate(tx, user, &app_id, &token))
            .await
    }

    fn check(&self, new: &NewPusher) -> Result<(PusherKind, String), AccountError> {
        let PusherKey { app_id, pushkey } = &new.key;
        if app_id.is_empty() || app_id.len() > MAX_APP_ID_BYTES {
            return Err(AccountError::Invalid("app_id must be 1 to 64 bytes long"));
        }
        if pushkey.is_empty() || pushkey.len() > MAX_PUSHKEY_BYTES {
            return Err(AccountError::Invalid("pushkey must be 1 to 512 bytes long"));
        }
        let texts = [&new.app_display_name, &new.device_display_name, &new.lang];
        let tag = new.profile_tag.iter();
        if texts
            .into_iter()
            .chain(tag)
            .any(|text| text.len() > MAX_TEXT_BYTES)
        {
            return Err(AccountError::TooLarge("A name of the pusher is too long"));
        }
        let url = new.data.get("url").and_then(Value::as_str);
        let url = url.ok_or(AccountError::Missing("data.url"))?;
        if url.len() > MAX_URL_BYTES {
            return Err(AccountError::TooLarge("The pusher's URL is too long"));
        }
        let kind = match new.kind.as_str() {
            "http" => self.check_gateway(url)?,
            "webpush" | "org.matrix.msc4174.webpush" => check_subscription(new, url)?,
            "email" => {
                return Err(AccountError::Invalid(
                    "This server does not send notifications by e-mail",
                ));
            }
            _ => return Err(AccountError::Invalid("Unknown kind of pusher")),
        };
        Ok((kind, url.to_owned()))
    }

    /// A gateway has the path of the push gateway API, and TLS unless the operator named it.
    fn check_gateway(&self, url: &str) -> Result<PusherKind, AccountError> {
        let (tls, host, path) = parts(url).ok_or(AccountError::Invalid(
            "The pusher's URL must be an https URL",
        ))?;
        if !tls && !(self.inner.settings.plain_gateway)(host) {
            return Err(AccountError::Invalid(
                "The pusher's URL must be an https URL",
            ));
        }
        if path != GATEWAY_PATH {
            return Err(AccountError::Invalid(
                "The pusher's URL must have the path /_matrix/push/v1/notify",
            ));
        }
        Ok(PusherKind::Http)
    }
}

/// A subscription of Web Push: an https URL, a point on the curve P-256, and 16 random bytes.
fn check_subscription(new: &NewPusher, url: &str) -> Result<PusherKind, AccountError> {
    if !matches!(parts(url), Some((true, _, _))) {
        return Err(AccountError::Invalid(
            "The pusher's URL must be an https URL",
        ));
    }
    let bytes = |text: &str| URL_SAFE_NO_PAD.decode(text).unwrap_or_default();
    let auth = new.data.get("auth").and_then(Value::as_str);
    let auth = auth.ok_or(AccountError::Missing("data.auth"))?;
    if bytes(auth).len() != 16 {
        return Err(AccountError::Invalid(
            "data.auth must be 16 bytes in URL-safe base64 without padding",
        ));
    }
    let key = bytes(&new.key.pushkey);
    if key.len() != 65 || key.first() != Some(&4) {
        return Err(AccountError::Invalid(
            "pushkey must be an uncompressed P-256 public key in URL-safe base64 without padding",
        ));
    }
    Ok(PusherKind::WebPush)
}

/// Whether a URL has TLS, its host without port, and its path.
fn parts(url: &str) -> Option<(bool, &str, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    let tls = match scheme {
        "https" => true,
        "http" => false,
        _ => return None,
    };
    if url.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return None;
    }
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if authority.contains('@') {
        return None;
    }
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?.0,
        None => authority.split(':').next().unwrap_or_default(),
    };
    (!host.is_empty()).then_some((tls, host, path))
}

fn set(
    tx: &mut Tx<'_>,
    user: UserNid,
    device: String,
    new: NewPusher,
    (kind, url): (PusherKind, String),
) -> Result<SetPusher, AccountError> {
    let data = Value::Object(new.data.clone()).to_string();
    if data.len() > MAX_DATA_BYTES {
        return Err(AccountError::TooLarge("The pusher's data is too long"));
    }
    let before = one(&tx.snap, user, &new.key)?;
    if before.is_none() && of_user(&tx.snap, user)?.len() >= MAX_PUSHERS {
        return Err(AccountError::Invalid("At most 100 pushers"));
    }
    if !new.append {
        drop_others(tx, user, &new.key)?;
    }
    // One that was reached once and is the same subscription needs no proof again.
    let known = |old: &Pusher| old.kind == kind && old.activated && same(&old.data, &new);
    let activated = kind == PusherKind::Http || before.as_ref().is_some_and(known);
    // Who switches a pusher on or off may be on another device of the same user (MSC3881).
    let device = match before {
        Some(before) if new.enabled.is_some() => before.device,
        _ => device,
    };
    let ack = (!activated).then(|| random_name(&mut *tx.inner.dice.dice(), ACK_CHARS));
    let now_ms = tx.now_ms();
    let dest = Dest::Push(url);
    if let Some(token) = &ack {
        let item = PushItem::Activate {
            user: user.0,
            key: (new.key.app_id.clone(), new.key.pushkey.clone()),
            token: token.clone(),
        };
        item.queue(&mut tx.w, &dest);
    }
    let pos = tx.w.log(Change::Pusher { user });
    let row = Pusher {
        kind,
        app_display_name: new.app_display_name,
        device_display_name: new.device_display_name,
        profile_tag: new.profile_tag,
        lang: new.lang,
        data,
        device,
        enabled: new.enabled.unwrap_or(true),
        set_ms: now_ms,
        activated,
        ack,
        ack_until_ms: now_ms + ACK_MS,
        pos,
    };
    let PusherKey { app_id, pushkey } = new.key;
    tx.w.put::<t::PushersByKey>(&(app_id.clone(), pushkey.clone(), user), &());
    tx.w.put::<t::Pushers>(&(user, app_id, pushkey), &row);
    Ok(if activated {
        SetPusher::Done
    } else {
        SetPusher::ToActivate
    })
}

/// Whether stored data names the same subscription.
fn same(before: &str, new: &NewPusher) -> bool {
    let before: Value = serde_json::from_str(before).unwrap_or_default();
    ["url", "auth"]
        .iter()
        .all(|field| before.get(field) == new.data.get(*field))
}

/// The device changed hands: pushers of other users under the same key go. Their lanes are not
/// held; one that is set at this moment is simply there again.
fn drop_others(tx: &mut Tx<'_>, user: UserNid, key: &PusherKey) -> Result<(), AccountError> {
    let prefix = (key.app_id.clone(), key.pushkey.clone());
    let mut others = Vec::new();
    for row in tx.snap.scan::<t::PushersByKey>(Scan::prefix(&prefix)) {
        let ((_, _, other), ()) = row?;
        others.extend((other != user).then_some(other));
    }
    for other in others {
        remove(&mut tx.w, other, key);
    }
    Ok(())
}

fn activate(tx: &mut Tx<'_>, user: UserNid, app_id: &str, token: &str) -> Result<(), AccountError> {
    let mut any = false;
    for (key, pusher) in of_user(&tx.snap, user)? {
        if key.app_id != app_id {
            continue;
        }
        any = true;
        if pusher.ack.as_deref() != Some(token) {
            continue;
        }
        if pusher.ack_until_ms <= tx.now_ms() {
            return Err(AccountError::ActivationExpired);
        }
        let row = Pusher {
            activated: true,
            ack: None,
            pos: tx.w.log(Change::Pusher { user }),
            ..pusher
        };
        tx.w.put::<t::Pushers>(&key.row(user), &row);
        return Ok(());
    }
    if any {
        Err(AccountError::ActivationUnknown)
    } else {
        Err(AccountError::NotFound("No pusher of this application"))
    }
}
