//! Single questions to identity servers.

use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use skerry_core::hash::base64_url_safe;
use std::time::Duration;

use super::{Identity, IdentityError, checked_token, url_of};
use crate::http::Request;

/// How long an identity server may take: a person waits for it.
const TIMEOUT: Duration = Duration::from_secs(20);
/// How long its answers may be, in bytes.
const MAX_ANSWER: usize = 64 << 10;
/// Longest piece of what an identity server says that is passed on, in bytes.
const MAX_SAID_BYTES: usize = 200;

/// How addresses are hidden in look-ups.
#[derive(Deserialize)]
struct HashDetails {
    algorithms: Vec<String>,
    lookup_pepper: String,
}

fn short(text: &str) -> String {
    let end = text.char_indices().map(|(at, _)| at);
    let end = end.take_while(|at| *at <= MAX_SAID_BYTES).last();
    text.get(..end.unwrap_or(0))
        .filter(|_| text.len() > MAX_SAID_BYTES)
        .unwrap_or(text)
        .to_owned()
}

impl Identity {
    /// Sends a request; gives the JSON of a good answer.
    pub(super) async fn ask(&self, request: Request) -> Result<Value, IdentityError> {
        let request = request.timeout(TIMEOUT).max_response(MAX_ANSWER);
        let answer = self.http.send(request).await;
        let answer = answer.inspect_err(|error| tracing::info!(%error, "an identity server"))?;
        let json: Option<Value> = answer.json().ok();
        if answer.status.is_success() {
            return json.ok_or(IdentityError::Answer);
        }
        let text = |name: &str| {
            let text = json.as_ref().and_then(|json| json.get(name));
            text.and_then(Value::as_str).map(short)
        };
        if answer.status.is_server_error() && answer.status.as_u16() != 501 {
            return Err(IdentityError::Answer);
        }
        Err(IdentityError::Refused {
            errcode: text("errcode").unwrap_or_else(|| "M_UNKNOWN".to_owned()),
            error: text("error").unwrap_or_else(|| answer.status.to_string()),
        })
    }

    /// Whose address it is, as far as this identity server tells; the address goes there hashed,
    /// where the server can do that.
    pub(super) async fn look_up(
        &self,
        id_server: &str,
        token: &str,
        (medium, address): (&str, &str),
    ) -> Result<Option<String>, IdentityError> {
        let token = checked_token(token)?;
        let details = Request::get(&url_of(id_server, "hash_details")?).bearer(token);
        let details: HashDetails =
            serde_json::from_value(self.ask(details).await?).map_err(|_| IdentityError::Answer)?;
        let has = |name: &str| details.algorithms.iter().any(|known| known == name);
        let (algorithm, hidden) = if has("sha256") {
            let text = format!("{address} {medium} {}", details.lookup_pepper);
            ("sha256", base64_url_safe(&Sha256::digest(text)))
        } else if has("none") {
            ("none", format!("{address} {medium}"))
        } else {
            return Err(IdentityError::Answer);
        };
        let body = json!({
            "addresses": [hidden],
            "algorithm": algorithm,
            "pepper": details.lookup_pepper,
        });
        let request = Request::post(&url_of(id_server, "lookup")?)
            .bearer(token)
            .json(&body);
        let found = self.ask(request).await?;
        let user_id = found.get("mappings").and_then(|all| all.get(&hidden));
        let user_id = user_id.and_then(Value::as_str);
        Ok(user_id
            .filter(|id| skerry_core::names::is_user_id(id))
            .map(str::to_owned))
    }

    /// Whether the server that gave a key out still stands by it.
    pub(super) async fn key_is_good(&self, url: &str, key: &str) -> Result<bool, IdentityError> {
        let escaped =
            percent_encoding::utf8_percent_encode(key, percent_encoding::NON_ALPHANUMERIC);
        let sign = if url.contains('?') { '&' } else { '?' };
        let answer = self
            .ask(Request::get(&format!("{url}{sign}public_key={escaped}")))
            .await?;
        Ok(answer.get("valid").and_then(Value::as_bool) == Some(true))
    }
}
