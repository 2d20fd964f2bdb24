//! Whom an application service acts as (application service API, "Identity assertion").

use std::sync::Arc;

use skerry_core::UserNid;
use skerry_store::schema::account::{Accounts as AccountTable, Devices};
use skerry_store::{Snapshot, blocking};

use super::Appservice;
use crate::facade::Inner;
use crate::hold::{self, Hold};
use crate::{AccountError, Accounts, TokenHash, secret};

/// An application service acting as a user.
#[derive(Clone, Debug)]
pub struct Acting {
    /// The application service's id.
    pub appservice: Arc<str>,
    /// The user's number.
    pub user: UserNid,
    /// The user's Matrix id.
    pub user_id: Arc<str>,
    /// The device it named; empty where it named none.
    pub device: Arc<str>,
    /// Whether the account may use the admin API.
    pub admin: bool,
    /// What an administrator has put on the account.
    pub hold: Hold,
    /// The keyed hash of the application service's token.
    pub token: TokenHash,
    /// Whether no rate limit applies.
    pub unlimited: bool,
}

impl Accounts {
    /// Whom an application service acts as with its token: the user it names, else its own one.
    /// None for a token that is no application service's.
    ///
    /// # Errors
    /// `Forbidden` for a user who is not in its namespace or not registered, `UnknownDevice`,
    /// `Deactivated`.
    pub async fn act(
        &self,
        token: &str,
        user_id: Option<&str>,
        device: Option<&str>,
    ) -> Result<Option<Acting>, AccountError> {
        let known = self.appservices();
        if known.all().is_empty() {
            return Ok(None);
        }
        let hash = secret::hash(&self.inner.settings.pepper, token);
        let Some(one) = known.by_token.get(&hash).cloned() else {
            return Ok(None);
        };
        let user_id: Arc<str> = user_id.map_or_else(|| one.sender.clone(), Into::into);
        if !one.has_user(&user_id) {
            return Err(AccountError::Forbidden(
                "The application service may not act as this user",
            ));
        }
        let (inner, device) = (self.inner.clone(), device.map(str::to_owned));
        // The newest state: whoever just made the user may use it at once.
        let acting = blocking(move || {
            let snap = inner.store.newest();
            inner.acting(&snap, &one, user_id, device)
        })
        .await??;
        Ok(Some(acting))
    }
}

impl Inner {
    fn acting(
        &self,
        snap: &Snapshot,
        one: &Appservice,
        user_id: Arc<str>,
        device: Option<String>,
    ) -> Result<Acting, AccountError> {
        const NONE: AccountError =
            AccountError::Forbidden("The application service has not registered this user");
        let user = self.store.user_nid(&user_id)?.ok_or(NONE)?;
        let account = snap.get::<AccountTable>(&user)?.ok_or(NONE)?;
        if account.deactivated {
            return Err(AccountError::Deactivated);
        }
        if let Some(device) = &device
            && snap.get::<Devices>(&(user, device.clone()))?.is_none()
        {
            return Err(AccountError::UnknownDevice);
        }
        Ok(Acting {
            appservice: one.id.clone(),
            user,
            device: device.unwrap_or_default().into(),
            admin: account.admin,
            hold: hold::of(snap, user)?,
            token: one.token,
            unlimited: !one.registration.rate_limited || *user_id == *one.sender,
            user_id,
        })
    }
}
