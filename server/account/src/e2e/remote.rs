//! Device lists of users of other servers: fetched once, then kept up to date by the updates that
//! their server sends, for as long as a room is shared with them.
//!
//! A list is followed while it has a row. Each update names the one before it; where that is not
//! the one the list stands at, something was missed: the list is *stale* until it was fetched
//! again. Whoever fetches notes what was missed before and hands it back with the answer, so that
//! an update that came meanwhile is not taken for known.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;
use skerry_core::UserNid;
use skerry_store::schema::e2e::{CrossKeyTable, CrossKind};
use skerry_store::schema::e2e_remote::{
    RemoteDevice, RemoteDeviceTable, RemoteList, RemoteListTable, StaleList, StaleListTable,
};
use skerry_store::{Scan, Snapshot, StoreError, Write};

use super::checked::{DEVICES_MAX, FetchedDevice, OwnKeys, device, devices, own_keys};
use super::{Keys, KeysError, lists, server_of, signatures};

/// How long a list that is being fetched is left to whoever fetches it, in ms.
const FETCHING_MS: u64 = 60_000;
/// The first pause after a list could not be fetched, in ms; doubled with each failure.
const FIRST_PAUSE_MS: u64 = 60_000;
/// The longest such pause, in ms.
const LONGEST_PAUSE_MS: u64 = 6 * 3_600_000;
/// Most waiting lists that are looked at for those that are due.
const LOOKED_AT_MAX: usize = 10_000;

/// `m.device_list_update`: one device of a user of another server.
#[derive(Debug, Deserialize)]
pub struct ListUpdate {
    /// Whose.
    pub user_id: String,
    device_id: String,
    #[serde(default)]
    device_display_name: Option<String>,
    stream_id: u64,
    #[serde(default)]
    prev_id: Vec<u64>,
    #[serde(default)]
    deleted: bool,
    #[serde(default)]
    keys: Option<Box<RawValue>>,
}

/// `m.signing_key_update`: public keys of a user of another server.
#[derive(Debug, Deserialize)]
pub struct SigningKeyUpdate {
    /// Whose.
    pub user_id: String,
    #[serde(default)]
    master_key: Option<Box<RawValue>>,
    #[serde(default)]
    self_signing_key: Option<Box<RawValue>>,
}

/// The answer of `GET /user/devices/{userId}` of another server.
#[derive(Debug, Deserialize)]
pub struct FetchedList {
    user_id: String,
    stream_id: u64,
    devices: Vec<FetchedDevice>,
    #[serde(default)]
    master_key: Option<Box<RawValue>>,
    #[serde(default)]
    self_signing_key: Option<Box<RawValue>>,
}

/// What became of an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// The list, or who looks at it, knows of it now.
    Applied,
    /// It says nothing new, or nobody here has to do with the user.
    Nothing,
    /// The list is stale and has to be fetched.
    Gap,
}

/// Whether a list is followed and nothing of it is missing: one point read.
///
/// # Errors
/// Those of the store.
pub fn is_fresh(snap: &Snapshot, user: UserNid) -> Result<bool, StoreError> {
    let row = snap.get::<RemoteListTable>(&user)?;
    Ok(row.is_some_and(|row| !row.stale))
}

/// Whether a list is followed.
///
/// # Errors
/// Those of the store.
pub fn is_followed(snap: &Snapshot, user: UserNid) -> Result<bool, StoreError> {
    snap.has::<RemoteListTable>(&user)
}

/// Whether a list is followed and was fetched at least once, if it is up to date or not.
///
/// # Errors
/// Those of the store.
pub(super) fn was_fetched(snap: &Snapshot, user: UserNid) -> Result<bool, StoreError> {
    let row = snap.get::<RemoteListTable>(&user)?;
    Ok(row.is_some_and(|row| row.fetched_ms > 0))
}

/// Lists that are to be fetched now, at most `limit`.
///
/// # Errors
/// Those of the store.
pub fn lists_due(snap: &Snapshot, now_ms: u64, limit: usize) -> Result<Vec<UserNid>, StoreError> {
    let mut due = Vec::new();
    for row in snap.scan::<StaleListTable>(Scan::all().limit(LOOKED_AT_MAX)) {
        let (user, row) = row?;
        // A time further away than any pause was noted by a clock that was wrong.
        let far = row.next_ms > now_ms.saturating_add(LONGEST_PAUSE_MS);
        if row.next_ms <= now_ms || far {
            due.push(user);
        }
        if due.len() == limit {
            break;
        }
    }
    Ok(due)
}

/// Adds to a batch that a list is followed no more, because no room is shared with the user.
///
/// # Errors
/// Those of the store.
pub fn unfollow(snap: &Snapshot, w: &mut Write, user: UserNid) -> Result<(), StoreError> {
    if !is_followed(snap, user)? {
        return Ok(());
    }
    w.delete::<RemoteListTable>(&user);
    w.delete::<StaleListTable>(&user);
    w.delete_range::<RemoteDeviceTable>(user);
    for kind in [CrossKind::Master, CrossKind::SelfSigning] {
        w.delete::<CrossKeyTable>(&(user, kind));
    }
    Ok(())
}

impl Keys {
    /// Takes an update of one device. Its server is that of the user: the caller has looked.
    /// `shared`: whether a room is shared with the user.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn take_list_update(
        &self,
        update: ListUpdate,
        shared: bool,
    ) -> Result<Taken, StoreError> {
        let Some(user) = self.store().user_nid(&update.user_id)? else {
            return Ok(Taken::Nothing);
        };
        self.in_lane(user, move |keys, w| {
            let snap = keys.store().newest();
            match snap.get::<RemoteListTable>(&user)? {
                Some(row) => keys.take_update(&snap, w, (user, row), update),
                None => Ok(note_unfollowed(w, user, shared)),
            }
        })
        .await
    }

    fn take_update(
        &self,
        snap: &Snapshot,
        w: &mut Write,
        (user, mut row): (UserNid, RemoteList),
        update: ListUpdate,
    ) -> Result<Taken, StoreError> {
        if !row.stale && update.stream_id == row.stream {
            return Ok(Taken::Nothing);
        }
        let next = !update.prev_id.is_empty() && update.prev_id.iter().all(|id| *id == row.stream);
        let slot = (user, update.device_id);
        let old = snap.get::<RemoteDeviceTable>(&slot)?;
        let full = old.is_none() && self.devices_of(snap, user)? >= DEVICES_MAX;
        if row.stale || !next || full {
            self.note_gap(w, user, row);
            return Ok(Taken::Gap);
        }
        let (keys, name) = (update.keys, update.device_display_name);
        let keys = keys.filter(|_| !update.deleted);
        let new = keys.and_then(|keys| device(&update.user_id, &slot.1, &keys, name));
        row.stream = update.stream_id;
        w.put::<RemoteListTable>(&user, &row);
        if new != old {
            match &new {
                Some(new) => w.put::<RemoteDeviceTable>(&slot, new),
                None => w.delete::<RemoteDeviceTable>(&slot),
            }
            lists::note_list(w, user);
        }
        Ok(Taken::Applied)
    }

    fn devices_of(&self, snap: &Snapshot, user: UserNid) -> Result<usize, StoreError> {
        let scan = Scan::prefix(&user).limit(DEVICES_MAX);
        let rows = snap.scan::<RemoteDeviceTable>(scan);
        rows.map(|row| row.map(|_| 1)).sum()
    }

    /// An update could not be applied. Clients are told when it is the first.
    fn note_gap(&self, w: &mut Write, user: UserNid, mut row: RemoteList) {
        if !row.stale {
            lists::note_list(w, user);
        }
        row.stale = true;
        row.missed += 1;
        w.put::<RemoteListTable>(&user, &row);
        let now = StaleList {
            failures: 0,
            next_ms: self.now_ms(),
        };
        w.put::<StaleListTable>(&user, &now);
    }

    /// Takes new public keys. Its server is that of the user: the caller has looked. What does
    /// not verify is left out. `shared`: whether a room is shared with the user.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn take_signing_keys(
        &self,
        update: SigningKeyUpdate,
        shared: bool,
    ) -> Result<Taken, StoreError> {
        let Some(user) = self.store().user_nid(&update.user_id)? else {
            return Ok(Taken::Nothing);
        };
        self.in_lane(user, move |keys, w| {
            let snap = keys.store().newest();
            if !is_followed(&snap, user)? {
                return Ok(note_unfollowed(w, user, shared));
            }
            let master = snap.get::<CrossKeyTable>(&(user, CrossKind::Master))?;
            let given = (update.master_key, update.self_signing_key);
            let new = own_keys(&update.user_id, given, master.as_ref());
            let found = new.master.is_some() || new.self_signing.is_some();
            if found && put_own_keys(&snap, w, user, new, false)? {
                lists::note_list(w, user);
                return Ok(Taken::Applied);
            }
            Ok(Taken::Nothing)
        })
        .await
    }

    /// Begins to follow a list, or to fetch one that is stale: gives what has to be handed back
    /// with the list. A list that nobody hands back is fetched by [`lists_due`] after a minute.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn begin_fetch(&self, user: UserNid) -> Result<u64, StoreError> {
        self.in_lane(user, move |keys, w| {
            let row = keys.store().newest().get::<RemoteListTable>(&user)?;
            if let Some(row) = row {
                return Ok(row.missed);
            }
            let row = RemoteList {
                stream: 0,
                stale: true,
                missed: 0,
                fetched_ms: 0,
            };
            w.put::<RemoteListTable>(&user, &row);
            let later = StaleList {
                failures: 0,
                next_ms: keys.now_ms().saturating_add(FETCHING_MS),
            };
            w.put::<StaleListTable>(&user, &later);
            Ok(0)
        })
        .await
    }

    /// Stores a list that was fetched; `missed` is what [`Keys::begin_fetch`] gave. Whether the
    /// list is up to date now; otherwise something was missed meanwhile, and it is to be fetched
    /// again. Devices and keys that are not as the spec has them are left out.
    ///
    /// # Errors
    /// [`KeysError::Shape`] if it is another user's list; those of the store.
    pub async fn put_list(
        &self,
        user_id: &str,
        user: UserNid,
        missed: u64,
        list: FetchedList,
    ) -> Result<bool, KeysError> {
        if list.user_id != user_id {
            return Err(KeysError::Shape("the list is of another user".to_owned()));
        }
        self.in_lane(user, move |keys, w| {
            let snap = keys.store().newest();
            // Nobody shares a room with them any more.
            let Some(row) = snap.get::<RemoteListTable>(&user)? else {
                return Ok(true);
            };
            let fresh = row.missed == missed;
            let row = RemoteList {
                stream: list.stream_id,
                stale: !fresh,
                missed: row.missed,
                fetched_ms: keys.now_ms(),
            };
            w.put::<RemoteListTable>(&user, &row);
            if fresh {
                w.delete::<StaleListTable>(&user);
            }
            let own = own_keys(
                &list.user_id,
                (list.master_key, list.self_signing_key),
                None,
            );
            let devices = devices(&list.user_id, list.devices);
            let changed = put_devices(&snap, w, user, devices)?;
            if put_own_keys(&snap, w, user, own, true)? || changed {
                lists::note_list(w, user);
            }
            Ok(fresh)
        })
        .await
    }

    /// Notes that a list could not be fetched: it is tried again later, and later each time.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn fetch_failed(&self, user: UserNid) -> Result<(), StoreError> {
        self.in_lane(user, move |keys, w| {
            let snap = keys.store().newest();
            if !is_followed(&snap, user)? {
                return Ok(());
            }
            let failures = snap
                .get::<StaleListTable>(&user)?
                .map_or(0, |row| row.failures);
            let pause = FIRST_PAUSE_MS.saturating_mul(1 << failures.min(16));
            let row = StaleList {
                failures: failures.saturating_add(1),
                next_ms: keys.now_ms().saturating_add(pause.min(LONGEST_PAUSE_MS)),
            };
            w.put::<StaleListTable>(&user, &row);
            Ok(())
        })
        .await
    }

    fn now_ms(&self) -> u64 {
        self.accounts.inner.clock.now_ms()
    }
}

/// Something about a user whose list is not followed: clients of those who share a room with them
/// are told to ask again.
fn note_unfollowed(w: &mut Write, user: UserNid, shared: bool) -> Taken {
    if shared {
        lists::note_list(w, user);
        return Taken::Applied;
    }
    Taken::Nothing
}

/// Stores the devices of a list in place of those before; whether anything is other than it was.
fn put_devices(
    snap: &Snapshot,
    w: &mut Write,
    user: UserNid,
    mut devices: BTreeMap<String, RemoteDevice>,
) -> Result<bool, StoreError> {
    let mut changed = false;
    for row in snap.scan::<RemoteDeviceTable>(Scan::prefix(&user)) {
        let (slot, old) = row?;
        match devices.remove(&slot.1) {
            Some(new) if new == old => {}
            Some(new) => {
                changed = true;
                w.put::<RemoteDeviceTable>(&slot, &new);
            }
            None => {
                changed = true;
                w.delete::<RemoteDeviceTable>(&slot);
            }
        }
    }
    for (device, new) in devices {
        changed = true;
        w.put::<RemoteDeviceTable>(&(user, device), &new);
    }
    Ok(changed)
}

/// Stores public keys; `all` if there are no others. A new master key takes away the self-signing
/// key that did not come with it. Whether anything is other than it was.
fn put_own_keys(
    snap: &Snapshot,
    w: &mut Write,
    user: UserNid,
    new: OwnKeys,
    all: bool,
) -> Result<bool, StoreError> {
    let mut changed = false;
    let mut alone = all;
    let both = [
        (CrossKind::Master, new.master),
        (CrossKind::SelfSigning, new.self_signing),
    ];
    for (kind, new) in both {
        let old = snap.get::<CrossKeyTable>(&(user, kind))?;
        let other = old.as_ref().map(|row| &row.public) != new.as_ref().map(|row| &row.public);
        match &new {
            Some(new) if old.as_ref() != Some(new) => {
                w.put::<CrossKeyTable>(&(user, kind), new);
                changed = true;
                alone |= kind == CrossKind::Master && other;
            }
            None if old.is_some() && alone => {
                w.delete::<CrossKeyTable>(&(user, kind));
                changed = true;
            }
            _ => continue,
        }
        if let Some(old) = old.filter(|_| other) {
            signatures::drop_about(snap, w, user, &old.public)?;
        }
    }
    Ok(changed)
}

/// Whether a user id belongs to a server: what that server says about others is not taken.
#[must_use]
pub fn is_of(user_id: &str, server: &str) -> bool {
    server_of(user_id) == Some(server)
}
