//! Bringing other servers up to date about the devices of our users.
//!
//! Every change of a device leaves its position in `device_change`. For each server that follows
//! a user stands how far it was told (`list_sent`); whoever brings it up to date queues what came
//! after that. So a server that could not be reached for a week gets each device once, and one
//! that was told of nothing yet gets one update without a predecessor, upon which it fetches the
//! list. Of deleted devices the latest changes are kept; a server that would have to be told of
//! earlier ones fetches the list too.

use std::collections::BTreeMap;

use skerry_core::{Pos, ServerNid, UserNid};
use skerry_store::outbox::{self, Dest, queue_edu};
use skerry_store::schema::account::Devices;
use skerry_store::schema::e2e::DeviceKeyTable;
use skerry_store::schema::e2e_remote::{DeviceChangeTable, ListLateTable, ListSent, ListSentTable};
use skerry_store::{Scan, Snapshot, StoreError, Write};

use super::served::{Served, stream};
use super::{Keys, Owner, lists};

/// Of more changed devices, one update is sent without a predecessor: the list is to be fetched.
const UPDATES_MAX: usize = 20;
/// Of how many deleted devices the changes are kept; from twice as many on, so many are left.
/// Never none: the newest change numbers the list.
const DELETED_KEPT: usize = UPDATES_MAX;
/// As which change a server counts that has to fetch the list again.
const UNKNOWN: Pos = Pos::ZERO;
/// How many users a server that could be reached again is told of in one batch.
const LATE_AT_ONCE: usize = 200;

/// EDUs for one server, type and content, and what it is told of by them.
struct Told {
    edus: Vec<(&'static str, String)>,
    now: ListSent,
}

/// What a server was told of: [`ListSent`] as a key.
type Known = Option<(Pos, Pos)>;

impl Keys {
    /// Adds to a batch what these servers are not yet told of the devices of a local user. Those
    /// that cannot be reached are noted, and told later ([`late_servers`]).
    ///
    /// # Errors
    /// Those of the store.
    pub fn tell_servers(
        &self,
        snap: &Snapshot,
        w: &mut Write,
        user: UserNid,
        servers: &[ServerNid],
    ) -> Result<(), StoreError> {
        if servers.is_empty() {
            return Ok(());
        }
        let owner = Owner {
            user_id: self.store().user_id(user)?,
            user,
        };
        let mut news = News::of(self, snap, &owner)?;
        let keys: Vec<_> = servers.iter().map(|server| (user, *server)).collect();
        let sent = snap.get_many::<ListSentTable>(&keys)?;
        for (server, sent) in servers.iter().zip(sent) {
            let Some(told) = news.since(sent.as_ref())? else {
                continue;
            };
            if is_failing(snap, *server)? {
                w.put::<ListLateTable>(&(*server, user), &());
                continue;
            }
            for (kind, content) in &told.edus {
                queue_edu(w, *server, kind, content);
            }
            w.put::<ListSentTable>(&(user, *server), &told.now);
        }
        Ok(())
    }

    /// Adds to a batch what a server that could not be reached missed, of some users. `shares`
    /// says whether a room is still shared with it. Whether there are more.
    ///
    /// # Errors
    /// Those of the store.
    pub fn tell_late(
        &self,
        snap: &Snapshot,
        w: &mut Write,
        server: ServerNid,
        shares: impl Fn(UserNid) -> Result<bool, StoreError>,
    ) -> Result<bool, StoreError> {
        let mut told = 0;
        let scan = Scan::prefix(&server).limit(LATE_AT_ONCE);
        for row in snap.scan::<ListLateTable>(scan) {
            let (key, ()) = row?;
            told += 1;
            w.delete::<ListLateTable>(&key);
            if shares(key.1)? {
                self.tell_servers(snap, w, key.1, &[server])?;
            }
        }
        Ok(told == LATE_AT_ONCE)
    }
}

/// Servers that missed something and can be reached again.
///
/// # Errors
/// Those of the store.
pub fn late_servers(snap: &Snapshot) -> Result<Vec<ServerNid>, StoreError> {
    let mut found = Vec::new();
    let mut last: Option<ServerNid> = None;
    loop {
        let mut scan = Scan::all().limit(1);
        if let Some(last) = last {
            scan = scan.after(&(last, UserNid(u64::MAX)));
        }
        let Some(row) = snap.scan::<ListLateTable>(scan).next() else {
            return Ok(found);
        };
        let ((server, _), ()) = row?;
        last = Some(server);
        if !is_failing(snap, server)? {
            found.push(server);
        }
    }
}

/// Adds to a batch that changes of devices of a local user go that were deleted long ago; servers
/// that were not told of them will be told to fetch the list. Nothing happens to `device`, of
/// which the batch says something itself. The caller holds the user's lane.
///
/// # Errors
/// Those of the store.
pub(super) fn trim(
    snap: &Snapshot,
    w: &mut Write,
    user: UserNid,
    device: &str,
) -> Result<(), StoreError> {
    let mut deleted = Vec::new();
    for row in snap.scan::<DeviceChangeTable>(Scan::prefix(&user)) {
        let (slot, pos) = row?;
        let other = slot.1 != lists::OWN_KEYS && slot.1 != device;
        if other && snap.get::<Devices>(&slot)?.is_none() {
            deleted.push((pos, slot));
        }
    }
    if deleted.len() < 2 * DELETED_KEPT {
        return Ok(());
    }
    deleted.sort_unstable();
    deleted.truncate(deleted.len() - DELETED_KEPT);
    let Some((newest, _)) = deleted.last().cloned() else {
        return Ok(());
    };
    for (_, slot) in deleted {
        w.delete::<DeviceChangeTable>(&slot);
    }
    for row in snap.scan::<ListSentTable>(Scan::prefix(&user)) {
        let (key, sent) = row?;
        if sent.upto < newest {
            let sent = ListSent {
                stream: UNKNOWN,
                ..sent
            };
            w.put::<ListSentTable>(&key, &sent);
        }
    }
    Ok(())
}

fn is_failing(snap: &Snapshot, server: ServerNid) -> Result<bool, StoreError> {
    let standing = outbox::standing(snap, &Dest::Server(server))?;
    Ok(standing.is_some_and(|standing| standing.failures > 0))
}

/// What changed of a user's devices, for servers that know different amounts of it.
struct News<'a> {
    served: Served<'a>,
    snap: &'a Snapshot,
    user: UserNid,
    /// Devices by their last change.
    changes: BTreeMap<Pos, String>,
    /// What was made already, by what the server was told of.
    made: BTreeMap<Known, Option<Told>>,
}

impl<'a> News<'a> {
    fn of(keys: &Keys, snap: &'a Snapshot, owner: &'a Owner) -> Result<News<'a>, StoreError> {
        let mut changes = BTreeMap::new();
        for row in snap.scan::<DeviceChangeTable>(Scan::prefix(&owner.user)) {
            let ((_, device), pos) = row?;
            changes.insert(pos, device);
        }
        Ok(News {
            served: Served::of(keys, snap, owner)?,
            snap,
            user: owner.user,
            changes,
            made: BTreeMap::new(),
        })
    }

    /// What a server has to be sent; `None` if there is nothing.
    fn since(&mut self, sent: Option<&ListSent>) -> Result<Option<&Told>, StoreError> {
        let key = sent.map(|sent| (sent.upto, sent.stream));
        if !self.made.contains_key(&key) {
            let made = match sent {
                Some(sent) => self.make(sent)?,
                None => self.first()?,
            };
            self.made.insert(key, made);
        }
        Ok(self.made.get(&key).and_then(Option::as_ref))
    }

    fn make(&self, sent: &ListSent) -> Result<Option<Told>, StoreError> {
        let after = Pos(sent.upto.0.saturating_add(1));
        let Some((upto, _)) = self.changes.range(after..).next_back() else {
            return Ok(None);
        };
        let news = || self.changes.range(after..);
        let mut edus = Vec::new();
        if news().any(|(_, device)| device == lists::OWN_KEYS) {
            edus.push(("m.signing_key_update", self.served.signing_update()?));
        }
        let mut now = ListSent {
            upto: *upto,
            stream: sent.stream,
        };
        let devices: Vec<_> = news()
            .filter(|(_, device)| *device != lists::OWN_KEYS)
            .collect();
        let skipped = devices.len().saturating_sub(UPDATES_MAX);
        let knows = skipped == 0 && sent.stream != UNKNOWN;
        let mut before = knows.then_some(sent.stream);
        for (pos, device) in devices.into_iter().skip(skipped) {
            let content = self.served.update(device, *pos, before)?;
            edus.push(("m.device_list_update", content));
            before = Some(*pos);
            now.stream = *pos;
        }
        Ok(Some(Told { edus, now }))
    }

    /// For a server that was told of nothing yet: one update that says so, if there are keys.
    fn first(&self) -> Result<Option<Told>, StoreError> {
        let mut newest: Option<(Pos, String)> = None;
        for row in self.snap.scan::<DeviceKeyTable>(Scan::prefix(&self.user)) {
            let ((_, device), row) = row?;
            let changed = self.changes.iter().find(|(_, other)| **other == device);
            let at = changed.map_or(row.pos, |(pos, _)| *pos);
            if newest.as_ref().is_none_or(|(other, _)| *other < at) {
                newest = Some((at, device));
            }
        }
        let Some((_, device)) = newest else {
            return Ok(None);
        };
        let stream = stream(self.snap, self.user)?;
        let content = self.served.update(&device, stream, None)?;
        let upto = self.changes.keys().next_back().copied();
        let now = ListSent {
            upto: upto.unwrap_or(stream),
            stream,
        };
        let edus = vec![("m.device_list_update", content)];
        Ok(Some(Told { edus, now }))
    }
}
