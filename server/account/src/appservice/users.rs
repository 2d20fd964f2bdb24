//! The users of application services: made, logged in and given devices without a password
//! (application service API, "Server admin style permissions", "Device management").

use std::sync::Arc;

use serde_json::Value;
use skerry_core::{Pos, UserNid};
use skerry_store::schema::account as account_tables;
use skerry_store::schema::appservice as t;
use skerry_store::{Snapshot, StoreError};

use super::Appservice;
use crate::device::{check_device_id, check_display_name, rename};
use crate::facade::Inner;
use crate::login::{fresh_device, grant, not_locked};
use crate::register::{NewAccount, parse};
use crate::tx::Tx;
use crate::{AccountError, Accounts, Grant, NewDevice, Registered, user, username};

/// Longest localpart, in bytes: the whole id must not be longer than 255.
const LOCALPART_BYTES_MAX: usize = 255;

/// Whether this can be the localpart of a user whom an application service makes. Bridges rely
/// on more signs than people may use: the historical grammar counts (appendices, "Historical
/// User IDs").
pub(super) fn is_localpart(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= LOCALPART_BYTES_MAX
        && text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b':')
}

/// The id of the application service that made a user, if one did.
///
/// # Errors
/// Those of the store.
pub(crate) fn maker(snap: &Snapshot, user: UserNid) -> Result<Option<String>, StoreError> {
    snap.get::<t::Users>(&user)
}

/// Notes who made an account.
pub(crate) fn put_maker(tx: &mut Tx<'_>, user: UserNid, appservice: &str) {
    tx.w.put::<t::Users>(&user, &appservice.to_owned());
}

/// An account without a password, for the own user of an application service.
fn sender_row(now_ms: u64, pos: Pos) -> account_tables::Account {
    account_tables::Account {
        password: None,
        admin: false,
        guest: false,
        deactivated: false,
        erased: false,
        created_ms: now_ms,
        terms: None,
        pos,
    }
}

/// Makes the own user of an application service, unless there is such a user.
pub(super) fn put_sender(
    tx: &mut Tx<'_>,
    user: UserNid,
    one: &Appservice,
) -> Result<(), StoreError> {
    if user::exists(&tx.snap, user)? {
        return Ok(());
    }
    let row = sender_row(tx.now_ms(), tx.w.stamp());
    tx.w.put::<account_tables::Accounts>(&user, &row);
    put_maker(tx, user, &one.id);
    Ok(())
}

impl Inner {
    /// The same at start, before anybody else writes.
    pub(super) fn make_sender(&self, one: &Appservice) -> Result<(), StoreError> {
        let user = self.store.intern_user(&one.sender)?;
        if user::exists(&self.store.newest(), user)? {
            return Ok(());
        }
        let mut w = self.store.write();
        let row = sender_row(self.clock.now_ms(), w.stamp());
        w.put::<account_tables::Accounts>(&user, &row);
        w.put::<t::Users>(&user, &one.registration.id);
        let applied = self.store.commit(w)?;
        self.store.wait_durable(&applied)
    }
}

const NONE: AccountError = AccountError::NotFound("No such application service");
const NOT_ITS_OWN: AccountError =
    AccountError::Exclusive("This user is not in the application service's namespace");

impl Accounts {
    /// Registers a user for an application service: no stages, no password.
    ///
    /// # Errors
    /// `Exclusive` outside of its namespace, `InvalidUsername`, `UserInUse`, `Missing` without a
    /// name, `AppserviceLogin` where it may not log in and does not say that it will not.
    pub async fn register_for_appservice(
        &self,
        appservice: &str,
        body: Value,
    ) -> Result<Registered, AccountError> {
        let one = self.appservices().get(appservice).cloned().ok_or(NONE)?;
        let wanted = parse(&body)?;
        let name = wanted.username.ok_or(AccountError::Missing("username"))?;
        if one.registration.devices && !wanted.inhibit_login {
            return Err(AccountError::AppserviceLogin);
        }
        let device = (!wanted.inhibit_login).then_some(NewDevice {
            device_id: wanted.device_id,
            display_name: wanted.initial_device_display_name,
            refresh: wanted.refresh_token,
        });
        let account = NewAccount {
            username: Some(name),
            appservice: Some(one.id.clone()),
            ..NewAccount::default()
        };
        let (user, grant) = self.create(account, device).await?;
        Ok(Registered {
            user_id: self.inner.store.user_id(user)?,
            user,
            grant,
        })
    }

    /// Logs a user in for an application service. `name` is a localpart or a full user id.
    ///
    /// # Errors
    /// `Exclusive` outside of its namespace, `Forbidden` for a user who is not registered,
    /// `Deactivated`, `Locked`, `AppserviceLogin` where it may not log in.
    pub async fn log_in_for_appservice(
        &self,
        appservice: &str,
        name: &str,
        device: NewDevice,
    ) -> Result<Grant, AccountError> {
        device.check()?;
        let one = self.appservices().get(appservice).cloned().ok_or(NONE)?;
        if one.registration.devices {
            return Err(AccountError::AppserviceLogin);
        }
        let user_id = username::meant(name, self.server_name()).ok_or(NOT_ITS_OWN)?;
        if !one.has_user(&user_id) {
            return Err(NOT_ITS_OWN);
        }
        const UNKNOWN: AccountError = AccountError::Forbidden("This user is not registered");
        let user = self.inner.store.user_nid(&user_id)?.ok_or(UNKNOWN)?;
        self.change(user, move |tx| {
            let account = tx.snap.get::<account_tables::Accounts>(&user)?;
            if account.ok_or(UNKNOWN)?.deactivated {
                return Err(AccountError::Deactivated);
            }
            not_locked(tx, user)?;
            grant(tx, user, device)
        })
        .await
    }

    /// Gives a device another name, or makes it, for an application service. True if it is new.
    ///
    /// # Errors
    /// `Invalid`, `TooLarge`.
    pub async fn put_device(
        &self,
        user: UserNid,
        device: &str,
        name: Option<String>,
    ) -> Result<bool, AccountError> {
        check_device_id(device)?;
        check_display_name(name.as_deref())?;
        let key = (user, device.to_owned());
        self.change(user, move |tx| {
            if tx.snap.get::<account_tables::Devices>(&key)?.is_some() {
                return rename(tx, key, name).map(|()| false);
            }
            let mut row = fresh_device(tx, user, &key.1, name)?;
            row.pos = tx.w.stamp();
            tx.w.put::<account_tables::Devices>(&key, &row);
            Ok(true)
        })
        .await
    }

    /// The localpart of a user whom somebody wants to make: in lower case and of plain signs,
    /// unless an application service makes one of its own.
    pub(crate) fn wanted_localpart(
        &self,
        name: &str,
        appservice: Option<&Arc<str>>,
    ) -> Result<String, AccountError> {
        let id = |localpart: &str| format!("@{localpart}:{}", self.server_name());
        let known = self.appservices();
        let Some(asker) = appservice else {
            let name = username::registrable(name, self.server_name())?;
            return match known.keeps_user(&id(&name), None) {
                true => Err(AccountError::Exclusive(
                    "This name is kept for an application service",
                )),
                false => Ok(name),
            };
        };
        if !is_localpart(name) || id(name).len() > LOCALPART_BYTES_MAX {
            let why = "The username has signs that no user id can have, or is too long";
            return Err(AccountError::InvalidUsername(why));
        }
        let user_id = id(name);
        let own = known.get(asker).is_some_and(|one| one.has_user(&user_id));
        if !own || known.keeps_user(&user_id, Some(asker)) {
            return Err(NOT_ITS_OWN);
        }
        Ok(name.to_owned())
    }
}
