//! Keys of devices and users: upload, query, claim, cross-signing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use skerry_account::e2e::{
    ClaimRequest, CrossSigningOutcome, CrossSigningUpload, KeyQuery, KeyUpload, KeysError, Owner,
    SignatureFailure, SignatureUpload,
};
use skerry_http::{Answer, ApiError, Call, Route, route};
use skerry_sync::{Request, Token};

use crate::{Ctx, fault, scope, sync};

/// The endpoints of this file.
pub(crate) const ROUTES: &[Route<Ctx>] = &[
    route!(POST "/_matrix/client/v3/keys/upload", Token, Send, upload).large(),
    route!(POST "/_matrix/client/v3/keys/query", Token, Heavy, query),
    route!(POST "/_matrix/client/v3/keys/claim", Token, Heavy, claim),
    route!(GET "/_matrix/client/v3/keys/changes", Token, Free, changes),
    route!(POST "/_matrix/client/v3/keys/device_signing/upload", Token, Login, cross_signing),
    route!(POST "/_matrix/client/v3/keys/signatures/upload", Token, Send, signatures).large(),
];

pub(crate) fn refusal(error: KeysError) -> ApiError {
    let text = error.to_string();
    match error {
        KeysError::Shape(_) => ApiError::bad_json(text),
        KeysError::KeyTaken(_) | KeysError::TooMany => ApiError::invalid_param(text),
        KeysError::Signature(_) => ApiError::invalid_signature(text),
        KeysError::NoMaster => ApiError::missing_param(text),
        KeysError::KeyIdInUse => ApiError::forbidden(text),
        KeysError::NoDevice => ApiError::unknown_token(text),
        KeysError::Store(error) => fault::store(&error),
    }
}

pub(crate) fn owner(call: &Call) -> Result<Owner, ApiError> {
    let requester = call.requester()?;
    Ok(Owner {
        user_id: requester.user_id.clone(),
        user: requester.user,
    })
}

/// `POST /keys/upload`: all that is uploaded is durable before the answer, or nothing is taken.
async fn upload(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let body: KeyUpload = call.json()?;
    let device = call.requester()?.device.clone();
    if device.is_empty() {
        let text = "An application service has to name the device by `device_id`";
        return Err(ApiError::missing_param(text));
    }
    let counts = ctx
        .accounts
        .keys()
        .upload(&owner(&call)?, &device, body)
        .await;
    Answer::json(&json!({ "one_time_key_counts": counts.map_err(refusal)?.one_time }))
}

/// How long a client waits for other servers unless it asks for another time, in ms.
const WAIT_MS: u64 = 10_000;

/// For how long a client wants to wait for other servers.
#[derive(Deserialize)]
struct Wait {
    #[serde(default)]
    timeout: Option<u64>,
}

impl Wait {
    fn of(call: &Call) -> Result<Duration, ApiError> {
        let wait: Wait = call.json()?;
        Ok(Duration::from_millis(wait.timeout.unwrap_or(WAIT_MS)))
    }
}

/// `POST /keys/query`: servers that do not answer in time are listed among the failures.
async fn query(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    #[derive(Serialize)]
    struct Body<'a> {
        #[serde(flatten)]
        found: &'a skerry_account::e2e::QueriedKeys,
        failures: BTreeMap<&'a str, Value>,
    }
    let body: KeyQuery = call.json()?;
    check_user_ids(body.device_keys.keys())?;
    let (viewer, within) = (owner(&call)?, Wait::of(&call)?);
    let asked = ctx.people.query(&viewer, body, within).await;
    let asked = asked.map_err(refusal)?;
    Answer::json(&Body {
        failures: failures(&asked.failures),
        found: &asked.found,
    })
}

/// `POST /keys/claim`: no one-time key is ever in two answers.
async fn claim(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    #[derive(Deserialize)]
    struct Body {
        one_time_keys: ClaimRequest,
    }
    let body: Body = call.json()?;
    check_user_ids(body.one_time_keys.keys())?;
    let within = Wait::of(&call)?;
    let asked = ctx.people.claim(body.one_time_keys, within).await;
    let asked = asked.map_err(refusal)?;
    let failures = failures(&asked.failures);
    Answer::json(&json!({ "one_time_keys": asked.found.keys, "failures": failures }))
}

/// `GET /keys/changes?from=&to=`: users sharing a room whose devices changed, and users who left
/// all shared rooms. `to` is looked at only to be a token.
async fn changes(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let token = |name: &str| match call.query(name) {
        None => Err(ApiError::missing_param(format!(
            "Missing parameter: {name}"
        ))),
        Some(text) => Token::parse(&text)
            .map_err(|_| ApiError::invalid_param(format!("{name} is not a token of this server"))),
    };
    let (from, _) = (token("from")?, token("to")?);
    let requester = call.requester()?;
    let request = Request {
        user: requester.user,
        user_id: requester.user_id.clone(),
        device: requester.device.clone(),
        since: Some(from),
        filter: Arc::default(),
        full_state: false,
        state_after: false,
    };
    let lists = ctx.sync.key_changes(request).await.map_err(sync::refusal)?;
    let ids = |ids: &[Arc<str>]| ids.iter().map(|id| Value::from(&**id)).collect::<Vec<_>>();
    Answer::json(&json!({ "changed": ids(&lists.changed), "left": ids(&lists.left) }))
}

/// `POST /keys/device_signing/upload`: asks for the password before keys are replaced.
async fn cross_signing(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    #[derive(Deserialize)]
    struct Body {
        #[serde(default)]
        auth: Option<Value>,
        #[serde(default)]
        master_key: Option<Box<RawValue>>,
        #[serde(default)]
        self_signing_key: Option<Box<RawValue>>,
        #[serde(default)]
        user_signing_key: Option<Box<RawValue>>,
    }
    let Body {
        auth,
        master_key,
        self_signing_key,
        user_signing_key,
    } = call.json()?;
    let upload = CrossSigningUpload {
        master_key,
        self_signing_key,
        user_signing_key,
    };
    let (keys, owner) = (ctx.accounts.keys(), owner(&call)?);
    let outcome = keys
        .upload_cross_signing(&owner, &upload, false)
        .await
        .map_err(refusal)?;
    if outcome == CrossSigningOutcome::NeedsAuth {
        ctx.accounts
            .prove_owner(scope::uia(&call), auth.as_ref())
            .await
            .map_err(fault::account)?;
        keys.upload_cross_signing(&owner, &upload, true)
            .await
            .map_err(refusal)?;
    }
    Ok(Answer::empty())
}

/// `POST /keys/signatures/upload`: what was not taken is named in `failures`.
async fn signatures(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let upload: SignatureUpload = call.json()?;
    let failures = ctx
        .accounts
        .keys()
        .upload_signatures(&owner(&call)?, upload)
        .await;
    let told = |failure| match failure {
        SignatureFailure::NotFound => ("M_NOT_FOUND", "Unknown key"),
        SignatureFailure::Mismatch => ("M_INVALID_PARAM", "The object is not the key known here"),
        SignatureFailure::Invalid => ("M_INVALID_SIGNATURE", "Invalid signature"),
    };
    let mut answer = BTreeMap::new();
    for (user_id, keys) in failures.map_err(refusal)? {
        let keys: BTreeMap<_, _> = keys
            .into_iter()
            .map(|(key, failure)| (key, told(failure)))
            .map(|(key, (errcode, error))| (key, json!({ "errcode": errcode, "error": error })))
            .collect();
        answer.insert(user_id, keys);
    }
    Answer::json(&json!({ "failures": answer }))
}

fn check_user_ids<'a>(user_ids: impl Iterator<Item = &'a String>) -> Result<(), ApiError> {
    for user_id in user_ids {
        if ruma_common::UserId::parse(user_id.as_str()).is_err() {
            return Err(ApiError::bad_json("A key of the object is not a user id"));
        }
    }
    Ok(())
}

/// What is said of servers that did not answer.
fn failures(servers: &BTreeSet<String>) -> BTreeMap<&str, Value> {
    let unreachable = json!({ "errcode": "M_UNREACHABLE", "error": "Server not reachable" });
    let named = servers.iter();
    named
        .map(|server| (&**server, unreachable.clone()))
        .collect()
}
