//! Guests: accounts without name and password, and how they become full ones (client-server
//! API, "Guest access").

use skerry_core::UserNid;

use crate::login::drop_all_devices;
use crate::register::NewAccount;
use crate::tx::Tx;
use crate::{AccountError, Accounts, NewDevice, Registered, secret, username};

/// What a guest's device is over: the full account logs in anew.
pub(crate) fn leave_guesthood(tx: &mut Tx<'_>, user: UserNid) -> Result<(), AccountError> {
    drop_all_devices(tx, user, None)?;
    tx.stale.push(user);
    Ok(())
}

impl Accounts {
    /// Registers a guest.
    ///
    /// # Errors
    /// `GuestsDisabled`.
    pub async fn register_guest(&self, device: NewDevice) -> Result<Registered, AccountError> {
        if !self.inner.settings.guests {
            return Err(AccountError::GuestsDisabled);
        }
        let device = NewDevice {
            device_id: None,
            ..device
        };
        let account = NewAccount {
            guest: true,
            ..NewAccount::default()
        };
        let (user, grant) = self.create(account, Some(device)).await?;
        Ok(Registered {
            user_id: self.inner.store.user_id(user)?,
            user,
            grant,
        })
    }

    /// The guest whose token this is, if `name` is theirs: they keep it with a full account.
    pub(crate) async fn guest_of(
        &self,
        token: &str,
        name: Option<&str>,
    ) -> Result<UserNid, AccountError> {
        const NOT_THEIRS: AccountError =
            AccountError::Forbidden("The token is not that of a guest of this name");
        let name = name.ok_or(AccountError::Missing("username"))?;
        if token.len() > secret::MAX_TOKEN_BYTES {
            return Err(NOT_THEIRS);
        }
        let hash = secret::hash(&self.inner.settings.pepper, token);
        let inner = self.inner.clone();
        let session = skerry_store::blocking(move || inner.look_up(hash)).await??;
        let session = session.filter(|session| session.guest && !session.locked);
        let session = session.ok_or(NOT_THEIRS)?;
        if username::localpart(&session.user_id) != name.to_ascii_lowercase() {
            return Err(NOT_THEIRS);
        }
        Ok(session.user)
    }
}
