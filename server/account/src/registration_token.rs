//! Registration tokens: who has one may make an account where registration is not open.

use skerry_store::schema::account as t;
use skerry_store::{Scan, Snapshot, StoreError};

use crate::tx::Tx;
use crate::{AccountError, Accounts, secret};

/// Longest registration token, in bytes (spec: 64 of `A-Za-z0-9._~-`).
const MAX_TOKEN_BYTES: usize = 64;

/// A registration token with its limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenLimits {
    /// The token.
    pub token: String,
    /// How many accounts it is good for; none: any number.
    pub uses_allowed: Option<u64>,
    /// How many accounts were made with it.
    pub completed: u64,
    /// When it stops being good, in ms since the epoch.
    pub expires_ms: Option<u64>,
}

fn still_good(row: &t::RegistrationToken, now_ms: u64) -> bool {
    row.expires_ms.is_none_or(|at| at > now_ms)
        && row
            .uses_allowed
            .is_none_or(|allowed| row.completed < allowed)
}

/// Whether an account could be made with this token now.
pub(crate) fn is_good(snap: &Snapshot, token: &str, now_ms: u64) -> Result<bool, StoreError> {
    if token.len() > MAX_TOKEN_BYTES {
        return Ok(false);
    }
    let row = snap.get::<t::RegistrationTokens>(&token.to_owned())?;
    Ok(row.is_some_and(|row| still_good(&row, now_ms)))
}

/// Uses a token up once, in the batch that makes the account.
pub(crate) fn consume(tx: &mut Tx<'_>, token: String) -> Result<(), AccountError> {
    let row = tx.snap.get::<t::RegistrationTokens>(&token)?;
    let Some(mut row) = row.filter(|row| still_good(row, tx.now_ms())) else {
        return Err(AccountError::Forbidden(
            "The registration token is used up or has expired",
        ));
    };
    row.completed += 1;
    row.pos = tx.w.stamp();
    tx.w.put::<t::RegistrationTokens>(&token, &row);
    Ok(())
}

impl Accounts {
    /// Whether a registration token is good now.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn registration_token_good(&self, token: &str) -> Result<bool, AccountError> {
        let (token, now) = (token.to_owned(), self.inner.clock.now_ms());
        self.read(move |_, snap| Ok(is_good(snap, &token, now)?))
            .await
    }

    /// Makes a registration token; without a `token`, a random one.
    ///
    /// # Errors
    /// `Invalid` for a token with other characters than `A-Za-z0-9._~-`, longer than 64 bytes,
    /// or one that exists.
    pub async fn create_registration_token(
        &self,
        token: Option<String>,
        uses_allowed: Option<u64>,
        expires_ms: Option<u64>,
    ) -> Result<TokenLimits, AccountError> {
        let token = match token {
            Some(token) => token,
            None => secret::opaque(&mut *self.inner.dice.dice()),
        };
        let legal = |c: char| c.is_ascii_alphanumeric() || "._~-".contains(c);
        if token.is_empty() || token.len() > MAX_TOKEN_BYTES || !token.chars().all(legal) {
            return Err(AccountError::Invalid(
                "A registration token is 1 to 64 characters out of A-Za-z0-9._~-",
            ));
        }
        self.change_registering(None, move |tx| {
            if tx.snap.get::<t::RegistrationTokens>(&token)?.is_some() {
                return Err(AccountError::Invalid(
                    "This registration token exists already",
                ));
            }
            let created_ms = tx.now_ms();
            let pos = tx.w.stamp();
            let row = t::RegistrationToken {
                uses_allowed,
                completed: 0,
                expires_ms,
                created_ms,
                pos,
            };
            tx.w.put::<t::RegistrationTokens>(&token, &row);
            Ok(TokenLimits {
                token,
                uses_allowed,
                completed: 0,
                expires_ms,
            })
        })
        .await
    }

    /// All registration tokens, by token.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn registration_tokens(&self) -> Result<Vec<TokenLimits>, AccountError> {
        self.read(|_, snap| {
            let rows = snap.scan::<t::RegistrationTokens>(Scan::all()).map(|row| {
                row.map(|(token, row)| TokenLimits {
                    token,
                    uses_allowed: row.uses_allowed,
                    completed: row.completed,
                    expires_ms: row.expires_ms,
                })
            });
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// Takes a registration token out.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn revoke_registration_token(&self, token: &str) -> Result<(), AccountError> {
        let token = token.to_owned();
        self.change_registering(None, move |tx| {
            if tx.snap.get::<t::RegistrationTokens>(&token)?.is_none() {
                return Err(AccountError::NotFound("No such registration token"));
            }
            tx.w.delete::<t::RegistrationTokens>(&token);
            Ok(())
        })
        .await
    }

    /// The token for the first account: while nobody has an account, makes sure that `token` is
    /// good for one, and gives it back; afterwards none.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn first_token(&self, token: String) -> Result<Option<String>, AccountError> {
        if self.has_people().await? {
            return Ok(None);
        }
        if !self.registration_token_good(&token).await? {
            match self
                .create_registration_token(Some(token.clone()), Some(1), None)
                .await
            {
                Ok(_) | Err(AccountError::Invalid(_)) => {}
                Err(other) => return Err(other),
            }
        }
        Ok(Some(token))
    }
}
