//! What administrators put on accounts: locks and suspensions (client-server API, "Account
//! moderation"). Who is held keeps tokens and devices; the door looks at each request.

use skerry_core::{Pos, UserNid};
use skerry_store::schema::account as t;
use skerry_store::{Snapshot, StoreError};

use crate::facade::Inner;
use crate::{AccountError, Accounts, DeviceView, device, user, username};

/// What is on an account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hold {
    /// Nothing but logging out.
    pub locked: bool,
    /// Reading and tidying up only.
    pub suspended: bool,
}

/// A change of what is on an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldChange {
    /// Lock it, or open it again.
    Locked(bool),
    /// Suspend it, or lift that.
    Suspended(bool),
}

/// What is on an account.
///
/// # Errors
/// Those of the store.
pub fn of(snap: &Snapshot, user: UserNid) -> Result<Hold, StoreError> {
    let row = snap.get::<t::Holds>(&user)?;
    Ok(row.map_or(Hold::default(), |row| Hold {
        locked: row.locked,
        suspended: row.suspended,
    }))
}

/// The account that an administrator means: one of this server, open, and not their equal's.
fn target(inner: &Inner, snap: &Snapshot, user_id: &str) -> Result<UserNid, AccountError> {
    const NONE: AccountError = AccountError::NotFound("User not found");
    if !username::is_local_id(user_id, &inner.settings.server_name) {
        let why = "The user id does not belong to this server";
        return Err(AccountError::Invalid(why));
    }
    let nid = inner.store.user_nid(user_id)?.ok_or(NONE)?;
    if !user::is_active(snap, nid)? {
        return Err(NONE);
    }
    Ok(nid)
}

fn moderated(
    inner: &Inner,
    snap: &Snapshot,
    by: UserNid,
    user_id: &str,
) -> Result<UserNid, AccountError> {
    if !user::is_admin(snap, by)? {
        return Err(AccountError::Forbidden("You are not a server admin"));
    }
    let nid = target(inner, snap, user_id)?;
    if user::is_admin(snap, nid)? {
        let why = "Administrators cannot be locked or suspended";
        return Err(AccountError::Forbidden(why));
    }
    Ok(nid)
}

impl Accounts {
    /// What is on an account, for an administrator.
    ///
    /// # Errors
    /// `Forbidden` for who is no administrator, or asks about one; `Invalid` for a user of
    /// another server; `NotFound`.
    pub async fn hold(&self, by: UserNid, user_id: &str) -> Result<Hold, AccountError> {
        let user_id = user_id.to_owned();
        self.read(move |inner, snap| {
            let nid = moderated(inner, snap, by, &user_id)?;
            Ok(of(snap, nid)?)
        })
        .await
    }

    /// Puts something on an account, or takes it off, as an administrator.
    ///
    /// # Errors
    /// As [`Accounts::hold`].
    pub async fn set_hold(
        &self,
        by: UserNid,
        user_id: &str,
        change: HoldChange,
    ) -> Result<(), AccountError> {
        let asked = user_id.to_owned();
        let nid = self
            .read(move |inner, snap| moderated(inner, snap, by, &asked))
            .await?;
        self.change(nid, move |tx| {
            if user::is_admin(&tx.snap, nid)? || !user::is_active(&tx.snap, nid)? {
                return Err(AccountError::Forbidden("The account has changed meanwhile"));
            }
            let mut hold = of(&tx.snap, nid)?;
            match change {
                HoldChange::Locked(locked) => hold.locked = locked,
                HoldChange::Suspended(suspended) => hold.suspended = suspended,
            }
            if hold == Hold::default() {
                tx.w.delete::<t::Holds>(&nid);
            } else {
                let pos: Pos = tx.w.stamp();
                let Hold { locked, suspended } = hold;
                let row = t::Hold {
                    locked,
                    suspended,
                    pos,
                };
                tx.w.put::<t::Holds>(&nid, &row);
            }
            tx.stale.push(nid);
            Ok(())
        })
        .await
    }

    /// The devices of a user and when they were seen, for the user or an administrator.
    ///
    /// # Errors
    /// `Forbidden` for anybody else; `Invalid` for a user of another server; `NotFound`.
    pub async fn whois(&self, by: UserNid, user_id: &str) -> Result<Vec<DeviceView>, AccountError> {
        let user_id = user_id.to_owned();
        self.read(move |inner, snap| {
            let own = inner.store.user_nid(&user_id)? == Some(by);
            if !own && !user::is_admin(snap, by)? {
                return Err(AccountError::Forbidden("You are not a server admin"));
            }
            let nid = target(inner, snap, &user_id)?;
            Ok(device::list(inner, snap, nid)?)
        })
        .await
    }
}
