//! Registration tokens.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};
use skerry_account::TokenLimits;
use skerry_http::{Answer, ApiError, Call};

use crate::Admin;
use crate::error::refuse;

fn shown(token: &TokenLimits) -> Value {
    json!({
        "token": token.token,
        "uses_allowed": token.uses_allowed,
        "completed": token.completed,
        "pending": 0,
        "expiry_time": token.expires_ms,
    })
}

/// `GET /_synapse/admin/v1/registration_tokens`
pub(crate) async fn list(admin: Arc<Admin>, _: Call) -> Result<Answer, ApiError> {
    let tokens = admin.accounts.registration_tokens().await.map_err(refuse)?;
    let tokens: Vec<Value> = tokens.iter().map(shown).collect();
    Answer::json(&json!({ "registration_tokens": tokens }))
}

#[derive(Deserialize)]
struct Create {
    token: Option<String>,
    uses_allowed: Option<u64>,
    /// In ms since the epoch.
    expiry_time: Option<u64>,
}

/// `POST /_synapse/admin/v1/registration_tokens/new`: a token, random unless named, for any
/// number of accounts and for ever unless limited.
pub(crate) async fn create(admin: Arc<Admin>, call: Call) -> Result<Answer, ApiError> {
    let wanted: Create = call.json()?;
    let made = admin
        .accounts
        .create_registration_token(wanted.token, wanted.uses_allowed, wanted.expiry_time)
        .await
        .map_err(refuse)?;
    Answer::json(&shown(&made))
}

/// `DELETE /_synapse/admin/v1/registration_tokens/{token}`
pub(crate) async fn revoke(admin: Arc<Admin>, call: Call) -> Result<Answer, ApiError> {
    admin
        .accounts
        .revoke_registration_token(call.param("token"))
        .await
        .map_err(refuse)?;
    Ok(Answer::empty())
}
