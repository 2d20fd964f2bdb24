//! Questions to application services: does this user exist, does this alias, are you there?

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use skerry_account::appservice::Appservice;

use super::{Bridges, Inner, endpoint, escape, signed};
use crate::http::{HttpError, Request};

/// How long one try of a question takes at most, and how often it is tried.
const TRY: Duration = Duration::from_secs(10);
/// See [`TRY`].
const TRIES: usize = 3;
/// How long an application service may take over a ping.
const PING: Duration = Duration::from_secs(30);
/// How much of an answer to a ping that went wrong is shown, in bytes.
const SHOWN: usize = 4_096;
/// How long it counts that something does not exist, in ms: asking costs little, and bridges
/// make what they are asked for at any time.
const ABSENT_MS: u64 = 5_000;
/// How many such answers are kept.
const ABSENT_MAX: usize = 4_096;

/// What application services say of a user or an alias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existence {
    /// One of them has made it.
    Made,
    /// It is nobody's, or does not exist.
    None,
    /// None of them gave an answer in time.
    Unknown,
}

/// Why a ping did not come back.
#[derive(Debug, thiserror::Error)]
pub enum PingError {
    /// The application service listens nowhere.
    #[error("The application service has no URL")]
    NoUrl,
    /// It answered, but not with success.
    #[error("The application service answered {status}")]
    Status {
        /// The HTTP status.
        status: u16,
        /// The beginning of the answer's body.
        body: String,
    },
    /// It gave no answer in time.
    #[error("The application service gave no answer in time")]
    Timeout,
    /// It cannot be reached.
    #[error("The application service cannot be reached: {0}")]
    Unreachable(HttpError),
}

impl Bridges {
    /// Asks the application services that have a user in their namespace whether they make them
    /// exist. They do so while they are asked.
    pub async fn find_user(&self, user_id: &str) -> Existence {
        let known = self.inner.accounts.appservices();
        let asked = known.all().iter().filter(|one| one.has_user(user_id));
        let asked: Vec<_> = asked.cloned().collect();
        if asked.is_empty() {
            return Existence::None;
        }
        if self.inner.accounts.find_user(user_id).await.is_ok() {
            return Existence::Made;
        }
        self.inner.find(&asked, "users", user_id).await
    }

    /// The same for several users at once; whoever is not made is left as they are.
    pub async fn find_users(&self, user_ids: &[String]) {
        if self.inner.accounts.appservices().any_listens() {
            join_all(user_ids.iter().map(|user_id| self.find_user(user_id))).await;
        }
    }

    /// The same for an alias.
    pub async fn find_alias(&self, alias: &str) -> Existence {
        let known = self.inner.accounts.appservices();
        let all = known.all().iter();
        let asked = all.filter(|one| one.registration.aliases.has(alias));
        let asked: Vec<_> = asked.cloned().collect();
        self.inner.find(&asked, "rooms", alias).await
    }

    /// Asks an application service whether it is there; how long that took. What waits for it is
    /// then sent at once.
    ///
    /// # Errors
    /// [`PingError`].
    pub async fn ping(
        &self,
        one: &Appservice,
        transaction_id: Option<&str>,
    ) -> Result<Duration, PingError> {
        let url = endpoint(one, "/ping").ok_or(PingError::NoUrl)?;
        let body = match transaction_id {
            Some(id) => json!({ "transaction_id": id }),
            None => json!({}),
        };
        let begun_ms = self.inner.clock.now_ms();
        let request = Request::post(&url).json(&body).timeout(PING);
        let answer = self.inner.ask(signed(one, request)).await;
        let answer = answer.map_err(|error| match error {
            HttpError::Timeout(_) => PingError::Timeout,
            other => PingError::Unreachable(other),
        })?;
        if !answer.status.is_success() {
            let shown = answer.body.get(..SHOWN).unwrap_or(&answer.body);
            return Err(PingError::Status {
                status: answer.status.as_u16(),
                body: String::from_utf8_lossy(shown).into_owned(),
            });
        }
        self.inner.reached(one);
        let took_ms = self.inner.clock.now_ms().saturating_sub(begun_ms);
        Ok(Duration::from_millis(took_ms))
    }
}

impl Inner {
    async fn find(&self, asked: &[Arc<Appservice>], kind: &str, name: &str) -> Existence {
        let key = format!("{kind}/{name}");
        let now_ms = self.clock.now_ms();
        if asked.is_empty() || self.absent.lock().get(&key).is_some_and(|at| *at > now_ms) {
            return Existence::None;
        }
        let mut found = Existence::None;
        for one in asked {
            match self.find_at(one, kind, name).await {
                Existence::Made => return Existence::Made,
                Existence::Unknown => found = Existence::Unknown,
                Existence::None => {}
            }
        }
        if found == Existence::None {
            let mut absent = self.absent.lock();
            if absent.len() >= ABSENT_MAX {
                absent.retain(|_, at| *at > now_ms);
            }
            if absent.len() < ABSENT_MAX {
                absent.insert(key, now_ms + ABSENT_MS);
            }
        }
        found
    }

    async fn find_at(&self, one: &Appservice, kind: &str, name: &str) -> Existence {
        let Some(url) = endpoint(one, &format!("/{kind}/{}", escape(name))) else {
            return Existence::None;
        };
        for _ in 0..TRIES {
            let answer = self.get(one, &url).await;
            match answer {
                Ok((status, _)) if (200..300).contains(&status) => return Existence::Made,
                Ok((404 | 405, Value::Null)) => {
                    // No Matrix error: perhaps it only knows the path from before there were
                    // versions ("Legacy routes").
                    return self.find_old(one, kind, name).await;
                }
                Ok((status, _)) if status < 500 => return Existence::None,
                Ok(_) | Err(HttpError::Timeout(_)) => {}
                Err(error) => {
                    tracing::debug!(id = &*one.id, %error, "an application service is not there");
                    return Existence::None;
                }
            }
        }
        Existence::Unknown
    }

    async fn find_old(&self, one: &Appservice, kind: &str, name: &str) -> Existence {
        let base = one.registration.url.as_deref().unwrap_or_default();
        let token = escape(&one.registration.hs_token);
        let url = format!("{base}/{kind}/{}?access_token={token}", escape(name));
        match self.get(one, &url).await {
            Ok((status, _)) if (200..300).contains(&status) => Existence::Made,
            _ => Existence::None,
        }
    }

    /// One `GET`: status, and the body where it is JSON.
    pub(super) async fn get(&self, one: &Appservice, url: &str) -> Result<(u16, Value), HttpError> {
        let request = signed(one, Request::get(url).timeout(TRY));
        let answer = self.ask(request).await?;
        let body = serde_json::from_slice(&answer.body).unwrap_or_default();
        Ok((answer.status.as_u16(), body))
    }
}
