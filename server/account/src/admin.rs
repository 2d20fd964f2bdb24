//! What the server's owner may do with accounts, from the command line or the admin API; and
//! what people may do to end their own.

use serde_json::Value;
use skerry_core::UserNid;
use skerry_store::Scan;
use skerry_store::schema::account as t;

use crate::address::{EMAIL, Purpose};
use crate::job::RoomJob;
use crate::login::drop_all_devices;
use crate::register::NewAccount;
use crate::tx::Tx;
use crate::{
    AccountError, Accounts, Stage, UiaScope, address, data, e2e, filter, profile, username,
    validation,
};

/// An account as the server's owner sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserListing {
    /// Its Matrix id.
    pub user_id: String,
    /// May use the admin API.
    pub admin: bool,
    /// Made by guest registration.
    pub guest: bool,
    /// Closed for good.
    pub deactivated: bool,
    /// When it was made, in ms since the epoch.
    pub created_ms: u64,
}

/// Sets a password; log-in tokens from before it are no good any more.
fn put_password(tx: &mut Tx<'_>, user: UserNid, phc: String) -> Result<(), AccountError> {
    let row = tx.snap.get::<t::Accounts>(&user)?;
    let mut row = row.ok_or(AccountError::NotFound("No such user"))?;
    if row.deactivated {
        return Err(AccountError::Deactivated);
    }
    row.password = Some(phc);
    row.pos = tx.w.stamp();
    tx.w.put::<t::Accounts>(&user, &row);
    tx.inner.login_tokens.forget(user);
    Ok(())
}

impl Accounts {
    /// Makes an account. Without a decision about `admin`, the first person becomes one.
    ///
    /// # Errors
    /// `InvalidUsername`, `UserInUse`.
    pub async fn create_user(
        &self,
        name: &str,
        password: String,
        admin: Option<bool>,
    ) -> Result<UserNid, AccountError> {
        let username = Some(name.to_owned());
        let account = NewAccount {
            username,
            password: Some(password),
            admin,
            ..NewAccount::default()
        };
        Ok(self.create(account, None).await?.0)
    }

    /// The account meant by a localpart or full user id.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn find_user(&self, name: &str) -> Result<UserNid, AccountError> {
        let id = username::meant(name, self.server_name());
        self.read(move |inner, snap| {
            let nid = match id {
                Some(id) => inner.store.user_nid(&id)?,
                None => None,
            };
            match nid {
                Some(nid) if crate::user::exists(snap, nid)? => Ok(nid),
                _ => Err(AccountError::NotFound("No such user")),
            }
        })
        .await
    }

    /// All accounts, in the order of their making, at most `limit` after `after`.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn list_users(
        &self,
        after: Option<UserNid>,
        limit: usize,
    ) -> Result<Vec<(UserNid, UserListing)>, AccountError> {
        self.read(move |inner, snap| {
            let scan = match after {
                Some(user) => Scan::all().after(&user),
                None => Scan::all(),
            };
            let mut users = Vec::new();
            for row in snap.scan::<t::Accounts>(scan.limit(limit)) {
                let (user, row) = row?;
                let listing = UserListing {
                    user_id: inner.store.user_id(user)?.to_string(),
                    admin: row.admin,
                    guest: row.guest,
                    deactivated: row.deactivated,
                    created_ms: row.created_ms,
                };
                users.push((user, listing));
            }
            Ok(users)
        })
        .await
    }

    /// Sets a password and, if wanted, logs all devices out but `keep`.
    ///
    /// # Errors
    /// `NotFound`, `Deactivated`.
    pub async fn set_password(
        &self,
        user: UserNid,
        password: String,
        log_out: bool,
        keep: Option<String>,
    ) -> Result<(), AccountError> {
        let phc = self.inner.hasher.hash(password).await?;
        self.change(user, move |tx| {
            put_password(tx, user, phc)?;
            if log_out {
                drop_all_devices(tx, user, keep.as_deref())?;
            }
            Ok(())
        })
        .await
    }

    /// Lets a user change their own password, after proving the old one.
    ///
    /// # Errors
    /// `Interactive`, `Missing`.
    pub async fn change_password(
        &self,
        scope: UiaScope,
        auth: Option<&Value>,
        new: Option<String>,
        keep_device: Option<String>,
        log_out: bool,
    ) -> Result<(), AccountError> {
        let user = scope.user.ok_or(AccountError::Forbidden("Not logged in"))?;
        if scope.appservice {
            return Err(AccountError::Forbidden(
                "Application services do not set passwords",
            ));
        }
        self.prove_owner(scope, auth).await?;
        let new = new.ok_or(AccountError::Missing("new_password"))?;
        self.set_password(user, new, log_out, keep_device).await
    }

    /// Sets the password of whoever shows an address of theirs, instead of the old password.
    ///
    /// # Errors
    /// `Interactive`, `Missing`; `AddressDenied` where no mail is sent; `AddressUnproved`,
    /// `NotFound` for an address that belongs to nobody any more.
    pub async fn reset_password(
        &self,
        scope: UiaScope,
        auth: Option<&Value>,
        new: Option<String>,
        log_out: bool,
    ) -> Result<(), AccountError> {
        if !self.inner.settings.email {
            return Err(validation::off(Purpose::Password));
        }
        let pass = self
            .interactive(scope, &[vec![Stage::Email]], auth, None)
            .await?;
        let new = new.ok_or(AccountError::Missing("new_password"))?;
        let proof = pass.email.ok_or(AccountError::AddressUnproved)?;
        let email = self.proved(proof.clone()).await?;
        let user = self
            .read(move |_, snap| Ok(address::owner(snap, EMAIL, &email)?))
            .await?
            .ok_or(AccountError::NotFound("No account has this address"))?;
        let phc = self.inner.hasher.hash(new).await?;
        self.change(user, move |tx| {
            let email = validation::use_up(tx, &proof)?;
            if address::owner(&tx.snap, EMAIL, &email)? != Some(user) {
                return Err(AccountError::AddressUnproved);
            }
            put_password(tx, user, phc)?;
            if log_out {
                drop_all_devices(tx, user, None)?;
            }
            Ok(())
        })
        .await?;
        self.inner.uia.close(&pass.session);
        Ok(())
    }

    /// Lets a user close their own account for good, after proving the password.
    ///
    /// # Errors
    /// `Interactive`.
    pub async fn deactivate_own(
        &self,
        scope: UiaScope,
        auth: Option<&Value>,
        erase: bool,
    ) -> Result<(), AccountError> {
        let user = scope.user.ok_or(AccountError::Forbidden("Not logged in"))?;
        self.prove_owner(scope, auth).await?;
        self.deactivate(user, erase).await
    }

    /// Closes an account for good: no password, no devices, no account data; its rooms are left
    /// by a job. With `erase` its profile goes too, and its messages are to be hidden from those
    /// who come later.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn deactivate(&self, user: UserNid, erase: bool) -> Result<(), AccountError> {
        self.change(user, move |tx| {
            let row = tx.snap.get::<t::Accounts>(&user)?;
            let mut row = row.ok_or(AccountError::NotFound("No such user"))?;
            row.password = None;
            row.admin = false;
            row.deactivated = true;
            row.erased |= erase;
            row.pos = tx.w.stamp();
            tx.w.put::<t::Accounts>(&user, &row);
            drop_all_devices(tx, user, None)?;
            data::forget_user(&mut tx.w, user);
            filter::forget_user(&mut tx.w, user);
            address::forget_user(tx, user)?;
            tx.w.delete::<t::Holds>(&user);
            e2e::forget_user(&tx.snap, &mut tx.w, user)?;
            if erase {
                profile::forget_user(tx, user)?;
            }
            let pos = tx.w.stamp();
            tx.w.put::<t::RoomJobs>(&(user, RoomJob::Leave), &pos);
            tx.rings = true;
            tx.stale.push(user);
            Ok(())
        })
        .await
    }

    /// Makes an account an admin, or an ordinary one again. An admin is neither locked nor
    /// suspended, since nobody could lift that.
    ///
    /// # Errors
    /// `NotFound`, `Deactivated`.
    pub async fn set_admin(&self, user: UserNid, admin: bool) -> Result<(), AccountError> {
        self.change(user, move |tx| {
            let row = tx.snap.get::<t::Accounts>(&user)?;
            let mut row = row.ok_or(AccountError::NotFound("No such user"))?;
            if row.deactivated {
                return Err(AccountError::Deactivated);
            }
            row.admin = admin;
            row.pos = tx.w.stamp();
            tx.w.put::<t::Accounts>(&user, &row);
            if admin {
                tx.w.delete::<t::Holds>(&user);
            }
            tx.stale.push(user);
            Ok(())
        })
        .await
    }
}
