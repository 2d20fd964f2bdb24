//! OpenID tokens: with one, a user shows a third party who they are (client-server API,
//! "OpenID").
//!
//! A token says by itself whose it is and how long it is good for, under a MAC of ours: nothing
//! is stored, nothing has to be swept, and a restart changes nothing.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use skerry_core::UserNid;
use subtle::ConstantTimeEq as _;

use crate::{AccountError, Accounts, hold, secret, user};

/// How long a token is good for, in ms.
const OPENID_MS: u64 = 60 * 60 * 1000;
/// Prefix of the tokens.
const PREFIX: &str = "sko_";
/// User, end, chance.
const SAID_BYTES: usize = 24;
/// All that is in a token: what it says, and the MAC over that.
const TOKEN_BYTES: usize = SAID_BYTES + 32;

/// An OpenID token.
#[derive(Clone, Debug)]
pub struct OpenIdToken {
    /// The token.
    pub token: String,
    /// How long it is good for, in ms.
    pub expires_in_ms: u64,
}

fn mac(pepper: &[u8; 32], said: &[u8]) -> [u8; 32] {
    let key = blake3::derive_key("skerry openid token", pepper);
    *blake3::keyed_hash(&key, said).as_bytes()
}

impl Accounts {
    /// A token that shows to others who a user is, for an hour.
    #[must_use]
    pub fn openid_token(&self, user: UserNid) -> OpenIdToken {
        let until = self.inner.clock.now_ms() + OPENID_MS;
        let mut chance = [0; 8];
        self.inner.dice.dice().fill(&mut chance);
        let said = [user.0.to_be_bytes(), until.to_be_bytes(), chance].concat();
        let mac = mac(&self.inner.settings.pepper, &said);
        let whole = [said.as_slice(), &mac].concat();
        OpenIdToken {
            token: format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(whole)),
            expires_in_ms: OPENID_MS,
        }
    }

    /// Whose OpenID token this is: a Matrix id.
    ///
    /// # Errors
    /// `UnknownToken` for one that is not ours, has expired, or is of an account that is closed
    /// or locked.
    pub async fn openid_user(&self, token: &str) -> Result<Arc<str>, AccountError> {
        const UNKNOWN: AccountError = AccountError::UnknownToken { soft_logout: false };
        let nid = self.openid_nid(token).ok_or(UNKNOWN)?;
        self.read(move |inner, snap| {
            if !user::is_active(snap, nid)? || hold::of(snap, nid)?.locked {
                return Err(UNKNOWN);
            }
            Ok(inner.store.user_id(nid)?)
        })
        .await
    }

    fn openid_nid(&self, token: &str) -> Option<UserNid> {
        let text = token.strip_prefix(PREFIX)?;
        if text.len() > secret::MAX_TOKEN_BYTES {
            return None;
        }
        let whole = URL_SAFE_NO_PAD.decode(text).ok()?;
        if whole.len() != TOKEN_BYTES {
            return None;
        }
        let (said, given) = whole.split_at(SAID_BYTES);
        let ours = mac(&self.inner.settings.pepper, said);
        if !bool::from(ours.ct_eq(given)) {
            return None;
        }
        let number = |bytes: &[u8]| Some(u64::from_be_bytes(bytes.try_into().ok()?));
        let until = number(said.get(8..16)?)?;
        (until > self.inner.clock.now_ms()).then_some(())?;
        number(said.get(..8)?).map(UserNid)
    }
}
