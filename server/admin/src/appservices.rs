//! Application services.

use std::sync::Arc;

use serde_json::{Value, json};
use skerry_account::appservice::{Appservice, Origin, Registration, Waiting};
use skerry_http::{Answer, ApiError, Call};

use crate::Admin;
use crate::error::refuse;

/// Fields of a registration that are shown to nobody.
const SECRET: [&str; 2] = ["as_token", "hs_token"];

fn shown(one: &Appservice, waiting: &Waiting) -> Value {
    json!({
        "id": one.registration.id,
        "sender": &*one.sender,
        "url": one.registration.url,
        "origin": match one.origin {
            Origin::File => "file",
            Origin::Stored => "registered",
        },
        "waiting": waiting.items,
        "failing_since_ts": waiting.failing_since_ms,
    })
}

/// `GET /_skerry/admin/v1/appservices`
pub(crate) async fn list(admin: Arc<Admin>, _: Call) -> Result<Answer, ApiError> {
    let all = admin.accounts.list_appservices().await.map_err(refuse)?;
    let all: Vec<Value> = all.iter().map(|(one, w)| shown(one, w)).collect();
    Answer::json(&json!({ "appservices": all }))
}

/// `GET /_skerry/admin/v1/appservices/{id}`: with its registration, but for its tokens.
pub(crate) async fn show(admin: Arc<Admin>, call: Call) -> Result<Answer, ApiError> {
    let all = admin.accounts.list_appservices().await.map_err(refuse)?;
    let mut all = all.iter();
    let found = all.find(|(one, _)| *one.id == *call.param("id"));
    let (one, waiting) = found.ok_or_else(|| ApiError::not_found("No such application service"))?;
    let mut registration = one.registration.source.clone();
    if let Some(fields) = registration.as_object_mut() {
        fields.retain(|key, _| !SECRET.contains(&key.as_str()));
    }
    let mut body = shown(one, waiting);
    if let Some(fields) = body.as_object_mut() {
        fields.insert("registration".to_owned(), registration);
    }
    Answer::json(&body)
}

/// `POST /_skerry/admin/v1/appservices`: the body is a registration; it counts at once, and
/// replaces one of the same id.
pub(crate) async fn register(admin: Arc<Admin>, call: Call) -> Result<Answer, ApiError> {
    let registration = Registration::read(call.json()?);
    let registration = registration.map_err(|e| ApiError::invalid_param(e.to_string()))?;
    let made = admin.accounts.register_appservice(registration).await;
    let made = made.map_err(refuse)?;
    Answer::json(&json!({ "id": &*made.id, "sender": &*made.sender }))
}

/// `DELETE /_skerry/admin/v1/appservices/{id}`
pub(crate) async fn unregister(admin: Arc<Admin>, call: Call) -> Result<Answer, ApiError> {
    admin
        .accounts
        .unregister_appservice(call.param("id"))
        .await
        .map_err(refuse)?;
    Ok(Answer::empty())
}
