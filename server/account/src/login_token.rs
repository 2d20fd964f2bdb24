//! Log-in tokens: a client that is logged in lets another one in, once (client-server API,
//! `POST /login/get_token`).
//!
//! They live in memory, bounded in number and time: losing them means asking for another.

use std::collections::HashMap;

use parking_lot::Mutex;
use serde_json::Value;
use skerry_core::UserNid;
use skerry_store::schema::account as t;

use crate::login::{Grant, grant, not_locked};
use crate::register::NewDevice;
use crate::{AccountError, Accounts, TokenHash, UiaScope, secret};

/// How long a token is good for, in ms (spec's recommendation).
const LOGIN_TOKEN_MS: u64 = 120_000;
/// How many tokens are outstanding at most.
const MAX_TOKENS: usize = 10_000;
/// How many of them one user can have.
const MAX_PER_USER: usize = 10;
/// Prefix of the tokens.
const PREFIX: &str = "skl_";

#[derive(Clone, Copy)]
struct Outstanding {
    user: UserNid,
    until_ms: u64,
}

/// Tokens handed out and not used yet, by their hash.
#[derive(Default)]
pub(crate) struct LoginTokens(Mutex<HashMap<TokenHash, Outstanding>>);

impl LoginTokens {
    fn add(&self, hash: TokenHash, user: UserNid, now_ms: u64) -> Result<(), AccountError> {
        let mut tokens = self.0.lock();
        let own = |token: &Outstanding| token.user == user && token.until_ms > now_ms;
        let owned = tokens.values().filter(|token| own(token)).count();
        if tokens.len() >= MAX_TOKENS {
            tokens.retain(|_, token| token.until_ms > now_ms);
        }
        if tokens.len() >= MAX_TOKENS || owned >= MAX_PER_USER {
            return Err(AccountError::Busy {
                retry_after_ms: LOGIN_TOKEN_MS,
            });
        }
        let until_ms = now_ms + LOGIN_TOKEN_MS;
        tokens.insert(hash, Outstanding { user, until_ms });
        Ok(())
    }

    /// Takes a token out: whoever comes second finds none.
    fn take(&self, hash: &TokenHash, now_ms: u64) -> Option<UserNid> {
        let token = self.0.lock().remove(hash)?;
        (token.until_ms > now_ms).then_some(token.user)
    }

    /// Takes out the tokens of a user: their password changed, or their account was closed.
    pub(crate) fn forget(&self, user: UserNid) {
        self.0.lock().retain(|_, token| token.user != user);
    }
}

impl Accounts {
    /// A token by which another device can be logged in, once, within two minutes; after proving
    /// the password. Gives the token and its time in ms.
    ///
    /// # Errors
    /// `Interactive`; `Forbidden` to application services; `Busy` with ten tokens outstanding.
    pub async fn login_token(
        &self,
        scope: UiaScope,
        auth: Option<&Value>,
    ) -> Result<(String, u64), AccountError> {
        let user = scope.user.ok_or(AccountError::Forbidden("Not logged in"))?;
        if scope.appservice {
            // It has ways of its own, or none at all.
            return Err(AccountError::Forbidden(
                "Application services do not make log-in tokens",
            ));
        }
        self.prove_owner(scope, auth).await?;
        let token = secret::token(&mut *self.inner.dice.dice(), PREFIX);
        let hash = secret::hash(&self.inner.settings.pepper, &token);
        let now = self.inner.clock.now_ms();
        self.inner.login_tokens.add(hash, user, now)?;
        Ok((token, LOGIN_TOKEN_MS))
    }

    /// Logs in by such a token.
    ///
    /// # Errors
    /// `Forbidden` for a token that is not known, used or too old; `Deactivated`, `Locked`.
    pub async fn log_in_by_token(
        &self,
        token: &str,
        device: NewDevice,
    ) -> Result<Grant, AccountError> {
        device.check()?;
        let hash = secret::hash(&self.inner.settings.pepper, token);
        let now = self.inner.clock.now_ms();
        let user = self.inner.login_tokens.take(&hash, now);
        let user = user.ok_or(AccountError::Forbidden("Invalid login token"))?;
        self.change(user, move |tx| {
            let account = tx.snap.get::<t::Accounts>(&user)?;
            if account.is_none_or(|account| account.deactivated) {
                return Err(AccountError::Deactivated);
            }
            not_locked(tx, user)?;
            grant(tx, user, device)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn tokens_are_bounded_and_good_once() {
        let tokens = LoginTokens::default();
        let hash = |n: usize| {
            let mut hash = [0; 32];
            hash[..8].copy_from_slice(&n.to_be_bytes());
            hash
        };
        for n in 0..MAX_PER_USER {
            tokens.add(hash(n), UserNid(1), 0).unwrap();
        }
        assert!(tokens.add(hash(99), UserNid(1), 0).is_err());
        tokens.add(hash(99), UserNid(1), LOGIN_TOKEN_MS).unwrap();
        assert_eq!(tokens.take(&hash(0), 1), Some(UserNid(1)));
        assert_eq!(tokens.take(&hash(0), 1), None);
        assert_eq!(tokens.take(&hash(1), LOGIN_TOKEN_MS), None);
        let mut refused = 0;
        for n in 0..MAX_TOKENS + 100 {
            let added = tokens.add(hash(1_000 + n), UserNid(1_000 + n as u64), 0);
            refused += usize::from(added.is_err());
        }
        assert!(refused >= 100);
        assert!(tokens.0.lock().len() <= MAX_TOKENS);
    }
}
