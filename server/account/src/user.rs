//! Questions about accounts that other crates ask.

use std::sync::atomic::Ordering;

use skerry_core::UserNid;
use skerry_store::schema::account as t;
use skerry_store::{Scan, Snapshot, StoreError};

use crate::appservice::users;
use crate::{AccountError, Accounts};

/// Whether this user has an account here that is not deactivated.
///
/// # Errors
/// Those of the store.
pub fn is_active(snap: &Snapshot, user: UserNid) -> Result<bool, StoreError> {
    Ok(snap
        .get::<t::Accounts>(&user)?
        .is_some_and(|account| !account.deactivated))
}

/// Whether this user ever had an account here.
///
/// # Errors
/// Those of the store.
pub fn exists(snap: &Snapshot, user: UserNid) -> Result<bool, StoreError> {
    Ok(snap.get::<t::Accounts>(&user)?.is_some())
}

/// Whether this user is an admin of the server.
///
/// # Errors
/// Those of the store.
pub fn is_admin(snap: &Snapshot, user: UserNid) -> Result<bool, StoreError> {
    Ok(snap
        .get::<t::Accounts>(&user)?
        .is_some_and(|a| a.admin && !a.deactivated))
}

/// Whether this user registered as a guest.
///
/// # Errors
/// Those of the store.
pub fn is_guest(snap: &Snapshot, user: UserNid) -> Result<bool, StoreError> {
    Ok(snap
        .get::<t::Accounts>(&user)?
        .is_some_and(|account| account.guest))
}

/// Whether this user asked at deactivation that new readers do not see their messages.
///
/// # Errors
/// Those of the store.
pub fn is_erased(snap: &Snapshot, user: UserNid) -> Result<bool, StoreError> {
    Ok(snap
        .get::<t::Accounts>(&user)?
        .is_some_and(|account| account.erased))
}

/// Whether the user directory may show this user: an open account of a person.
///
/// # Errors
/// Those of the store.
pub fn is_listable(snap: &Snapshot, user: UserNid) -> Result<bool, StoreError> {
    let open = snap
        .get::<t::Accounts>(&user)?
        .is_some_and(|account| !account.deactivated && !account.guest);
    Ok(open && !crate::hold::of(snap, user)?.locked)
}

/// Users with an account here in the order of their numbers, at most `limit` after `after`.
///
/// # Errors
/// Those of the store.
pub fn page(
    snap: &Snapshot,
    after: Option<UserNid>,
    limit: usize,
) -> Result<Vec<UserNid>, StoreError> {
    let scan = after.map_or_else(Scan::all, |user| Scan::all().after(&user));
    let rows = snap.scan::<t::Accounts>(scan.limit(limit));
    rows.map(|row| row.map(|(user, _)| user)).collect()
}

/// Whether any person (not a guest, not a bridge's) has an account here. Stops at the first.
pub(crate) fn any_person(snap: &Snapshot) -> Result<bool, StoreError> {
    for row in snap.scan::<t::Accounts>(Scan::all()) {
        let (user, account) = row?;
        if !account.guest && users::maker(snap, user)?.is_none() {
            return Ok(true);
        }
    }
    Ok(false)
}

impl Accounts {
    /// Whether any person (not a guest) has an account here: until then, the next one to
    /// register becomes admin.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn has_people(&self) -> Result<bool, AccountError> {
        if self.inner.settled.load(Ordering::Acquire) {
            return Ok(true);
        }
        self.read(|inner, snap| {
            let any = any_person(snap)?;
            if any {
                inner.settled.store(true, Ordering::Release);
            }
            Ok(any)
        })
        .await
    }
}
