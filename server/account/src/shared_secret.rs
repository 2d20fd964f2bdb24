//! Registration by a shared secret: a nonce from us, a MAC over it and the wanted account.

use std::collections::HashMap;

use parking_lot::Mutex;
use subtle::ConstantTimeEq as _;

use crate::login::Grant;
use crate::register::{NewAccount, NewDevice};
use crate::{AccountError, Accounts, secret};

/// How long a nonce is good for, in ms.
const NONCE_MS: u64 = 60_000;
/// How many nonces are outstanding at most.
const MAX_NONCES: usize = 1_000;

/// Nonces handed out and not used yet, each with the time it stops being good.
#[derive(Default)]
pub(crate) struct Nonces(Mutex<HashMap<String, u64>>);

/// What a caller of the shared-secret registration sends.
#[derive(Debug, Clone, serde::Deserialize)]
pub struct SharedSecretRegistration {
    /// From [`Accounts::registration_nonce`].
    pub nonce: String,
    /// The localpart.
    pub username: String,
    /// The password.
    pub password: String,
    /// Whether to make an admin.
    #[serde(default)]
    pub admin: bool,
    /// Goes into the MAC, and nowhere else.
    #[serde(default)]
    pub user_type: Option<String>,
    /// Display name to set.
    #[serde(default)]
    pub displayname: Option<String>,
    /// HMAC-SHA1 in hexadecimal.
    pub mac: String,
}

impl Accounts {
    /// A new nonce for [`register_by_secret`](Accounts::register_by_secret); good once, for a
    /// minute.
    ///
    /// # Errors
    /// `NotFound` where no shared secret is configured; `Busy` with 1,000 nonces outstanding.
    pub fn registration_nonce(&self) -> Result<String, AccountError> {
        self.shared_secret()?;
        let now = self.inner.clock.now_ms();
        let nonce = secret::opaque(&mut *self.inner.dice.dice());
        let mut nonces = self.inner.nonces.0.lock();
        nonces.retain(|_, until| *until > now);
        if nonces.len() >= MAX_NONCES {
            return Err(AccountError::Busy {
                retry_after_ms: NONCE_MS,
            });
        }
        nonces.insert(nonce.clone(), now + NONCE_MS);
        Ok(nonce)
    }

    /// Makes an account for whoever knows the shared secret, and logs it in.
    ///
    /// # Errors
    /// `NotFound` where no secret is configured, `Invalid` for an unknown nonce, `Forbidden` for
    /// a wrong MAC, and what registration may refuse.
    pub async fn register_by_secret(
        &self,
        wanted: SharedSecretRegistration,
    ) -> Result<Grant, AccountError> {
        let key = self.shared_secret()?.to_owned();
        let now = self.inner.clock.now_ms();
        let known = self.inner.nonces.0.lock().remove(&wanted.nonce);
        if known.is_none_or(|until| until <= now) {
            return Err(AccountError::Invalid("unrecognised nonce"));
        }
        if wanted.username.contains('\0') || wanted.password.contains('\0') {
            return Err(AccountError::Invalid(
                "username and password must not hold NUL",
            ));
        }
        if !mac_fits(key.as_bytes(), &wanted) {
            return Err(AccountError::Forbidden("HMAC incorrect"));
        }
        let account = NewAccount {
            username: Some(wanted.username),
            password: Some(wanted.password),
            admin: Some(wanted.admin),
            display_name: wanted.displayname,
            ..NewAccount::default()
        };
        let (_, grant) = self.create(account, Some(NewDevice::default())).await?;
        grant.ok_or(AccountError::Invalid("no device was made"))
    }

    fn shared_secret(&self) -> Result<&str, AccountError> {
        let secret = self.inner.settings.registration.shared_secret.as_deref();
        secret
            .filter(|s| !s.is_empty())
            .ok_or(AccountError::NotFound(
                "Shared secret registration is not enabled",
            ))
    }
}

/// Whether the MAC is that of the request. Compared in constant time.
fn mac_fits(key: &[u8], wanted: &SharedSecretRegistration) -> bool {
    let role = if wanted.admin { "admin" } else { "notadmin" };
    let mut message = [
        wanted.nonce.as_str(),
        &wanted.username,
        &wanted.password,
        role,
    ]
    .join("\0");
    if let Some(user_type) = &wanted.user_type {
        message.push('\0');
        message.push_str(user_type);
    }
    let ours = hmac_sha1(key, message.as_bytes());
    let hex: String = ours.iter().map(|byte| format!("{byte:02x}")).collect();
    hex.as_bytes()
        .ct_eq(wanted.mac.to_ascii_lowercase().as_bytes())
        .into()
}

/// HMAC (RFC 2104) over SHA-1, which callers of this endpoint, and relays for calls, have always
/// used.
#[must_use]
pub fn hmac_sha1(key: &[u8], message: &[u8]) -> [u8; 20] {
    use sha1::{Digest as _, Sha1};

    const BLOCK_BYTES: usize = 64;
    let mut padded = [0u8; BLOCK_BYTES];
    if key.len() > BLOCK_BYTES {
        for (to, from) in padded.iter_mut().zip(Sha1::digest(key)) {
            *to = from;
        }
    } else {
        for (to, from) in padded.iter_mut().zip(key) {
            *to = *from;
        }
    }
    let inner = Sha1::new()
        .chain_update(padded.map(|b| b ^ 0x36))
        .chain_update(message)
        .finalize();
    Sha1::new()
        .chain_update(padded.map(|b| b ^ 0x5c))
        .chain_update(inner)
        .finalize()
        .into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::{SharedSecretRegistration, hmac_sha1, mac_fits};

    fn hex(bytes: [u8; 20]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn hmac_matches_the_vectors_of_rfc_2202() {
        assert_eq!(
            hex(hmac_sha1(&[0x0b; 20], b"Hi There")),
            "b617318655057264e28bc0b6fb378c8ef146be00"
        );
        assert_eq!(
            hex(hmac_sha1(b"Jefe", b"what do ya want for nothing?")),
            "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"
        );
        assert_eq!(
            hex(hmac_sha1(
                &[0xaa; 80],
                b"Test Using Larger Than Block-Size Key - Hash Key First"
            )),
            "aa4ae5e15272d00e95705637ce8a3b55ed402112"
        );
    }

    fn signed(admin: bool, user_type: Option<&str>, mac: &str) -> SharedSecretRegistration {
        SharedSecretRegistration {
            nonce: "n".to_owned(),
            username: "alice".to_owned(),
            password: "p".to_owned(),
            admin,
            user_type: user_type.map(str::to_owned),
            displayname: None,
            mac: mac.to_owned(),
        }
    }

    #[test]
    fn the_mac_covers_role_and_type() {
        let plain = "a615a146172b007411a382aecc3123e9f470a13c";
        let bot = "9a17584ddb113f713154f85f5bccd05f93aecc90";
        assert!(mac_fits(b"secret", &signed(true, None, plain)));
        assert!(mac_fits(
            b"secret",
            &signed(true, None, &plain.to_uppercase())
        ));
        assert!(mac_fits(b"secret", &signed(true, Some("bot"), bot)));
        assert!(!mac_fits(b"secret", &signed(false, None, plain)));
        assert!(!mac_fits(b"secret", &signed(true, Some("bot"), plain)));
        assert!(!mac_fits(b"other", &signed(true, None, plain)));
        assert!(!mac_fits(b"secret", &signed(true, None, "")));
    }
}
