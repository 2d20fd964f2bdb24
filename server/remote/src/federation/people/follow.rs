//! What other servers are to be told because of what happened here, found from the log.
//!
//! What has to arrive (device lists, public keys) is queued in the commit that moves the cursor;
//! receipts and presence are said once, and may be lost.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use skerry_account::PresenceState;
use skerry_account::e2e;
use skerry_core::{Membership, Pos, RoomNid, ServerNid, UserNid};
use skerry_store::{Change, Snapshot, Store, StoreError, Write, blocking, follow};
use tokio::sync::watch;

use super::lists::server_of;
use super::moment::presence_content;
use super::{Inner, People};

/// The follower's name in the store.
const NAME: &str = "people";
/// How many facts of the log are gone through in one commit.
const STEP: usize = 256;
/// After so many positions the cursor is stored although nothing was queued.
const SAVE_EVERY: u64 = 20_000;
/// How long to wait after the store failed.
const PAUSE: Duration = Duration::from_secs(10);
/// How often it is looked for servers that can be reached again.
const LATE_EVERY: Duration = Duration::from_secs(30);
/// Of so many members at most a new server is told at once how present they are.
const GREETED_MAX: usize = 50;

/// How far it has come; in memory.
#[derive(Clone, Copy)]
struct Progress {
    at: Pos,
    saved: Pos,
}

/// What is to be done after the commit.
#[derive(Default)]
struct After {
    receipts: Vec<(RoomNid, Pos)>,
    /// Rooms in which a receipt waits for an event.
    retry: BTreeSet<RoomNid>,
    /// Who is to be introduced to which servers.
    greet: Vec<(UserNid, Vec<ServerNid>)>,
    /// Somebody has come into a room.
    came: bool,
}

/// Makes the cursor, so that the first start after an update does not tell of years ago.
pub(super) fn begin(store: &Store) -> Result<(), StoreError> {
    let snap = store.snapshot();
    if follow::cursor(&snap, NAME)?.is_none() {
        let mut w = store.write();
        follow::set_cursor(&mut w, NAME, snap.head());
        let applied = store.commit(w)?;
        store.wait_durable(&applied)?;
    }
    Ok(())
}

/// Takes the cursor away, so that the log is not kept for a server that talks with no others.
pub(super) fn end(store: &Store) -> Result<(), StoreError> {
    let snap = store.snapshot();
    if follow::cursor(&snap, NAME)?.is_some() {
        let mut w = store.write();
        follow::forget(&mut w, NAME);
        let applied = store.commit(w)?;
        store.wait_durable(&applied)?;
    }
    Ok(())
}

impl People {
    /// Follows the log until `stop` becomes true. After a crash it may see a fact twice: then a
    /// server is told again only what it was not told yet.
    pub(super) async fn follow(&self, mut stop: watch::Receiver<bool>) {
        let mut head = self.inner.store.published();
        let mut progress: Option<Progress> = None;
        let mut late = tokio::time::interval(LATE_EVERY);
        late.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !*stop.borrow() {
            let target = *head.borrow_and_update();
            match self.catch_up(progress.take(), target).await {
                Ok(after) => progress = Some(after),
                Err(StoreError::Closed) => return,
                Err(error) => {
                    tracing::warn!(%error, "what other servers are to be told has to wait");
                    let stopped = stop.wait_for(|stop| *stop);
                    let _ = tokio::time::timeout(PAUSE, stopped).await;
                    continue;
                }
            }
            let mut look = false;
            tokio::select! {
                changed = head.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                _ = late.tick() => look = true,
                _ = stop.wait_for(|stop| *stop) => {}
            }
            if look && let Err(error) = self.tell_late().await {
                tracing::warn!(%error, "what servers missed has to wait");
            }
        }
    }

    async fn catch_up(
        &self,
        before: Option<Progress>,
        target: Pos,
    ) -> Result<Progress, StoreError> {
        let mut progress = match before {
            Some(progress) => progress,
            None => {
                let snap = self.inner.store.snapshot();
                let at = follow::cursor(&snap, NAME)?.unwrap_or(snap.head());
                Progress { at, saved: at }
            }
        };
        while progress.at < target {
            let (inner, before) = (Arc::clone(&self.inner), progress);
            let (now, after) = blocking(move || inner.step(before)).await??;
            progress = now;
            for room in after.retry {
                self.inner.retry_receipts(room).await?;
            }
        }
        Ok(progress)
    }

    /// Tells servers that can be reached again what they missed.
    async fn tell_late(&self) -> Result<(), StoreError> {
        let inner = Arc::clone(&self.inner);
        blocking(move || {
            let snap = inner.store.snapshot();
            for server in e2e::late_servers(&snap)? {
                inner.tell_late_server(server)?;
            }
            Ok(())
        })
        .await?
    }
}

impl Inner {
    fn tell_late_server(&self, server: ServerNid) -> Result<(), StoreError> {
        loop {
            let snap = self.store.snapshot();
            let mut w = self.store.write();
            let shares = |user| self.rooms.shares_with(&snap, user, server);
            let more = self.keys.tell_late(&snap, &mut w, server, shares)?;
            if !w.is_empty() {
                let applied = self.store.commit(w)?;
                self.store.wait_durable(&applied)?;
            }
            if !more {
                return Ok(());
            }
        }
    }

    fn step(&self, mut progress: Progress) -> Result<(Progress, After), StoreError> {
        let snap = self.store.snapshot();
        let Some(facts) = snap.changes(progress.at, snap.head())? else {
            // The log was cut although the cursor was stored: nothing can be made of that.
            progress.at = snap.head();
            return Ok((progress, After::default()));
        };
        let (mut count, mut at) = (0, snap.head());
        let mut after = After::default();
        let mut plan = Plan::default();
        for fact in facts.take(STEP) {
            let (pos, change) = fact?;
            self.note(&snap, &mut plan, &mut after, pos, &change)?;
            count += 1;
            if count == STEP {
                at = pos;
            }
        }
        let mut w = self.store.write();
        self.carry_out(&snap, &mut w, plan)?;
        progress.at = at;
        let far = at.0.saturating_sub(progress.saved.0) >= SAVE_EVERY;
        if !w.is_empty() || far {
            follow::set_cursor(&mut w, NAME, at);
            let applied = self.store.commit(w)?;
            self.store.wait_durable(&applied)?;
            progress.saved = at;
        }
        for (room, pos) in std::mem::take(&mut after.receipts) {
            self.tell_receipt(&snap, room, pos)?;
        }
        for (user, servers) in std::mem::take(&mut after.greet) {
            self.greet(user, &servers)?;
        }
        if std::mem::take(&mut after.came) {
            self.note_early()?;
        }
        Ok((progress, after))
    }

    fn note(
        &self,
        snap: &Snapshot,
        plan: &mut Plan,
        after: &mut After,
        pos: Pos,
        change: &Change,
    ) -> Result<(), StoreError> {
        match *change {
            Change::DeviceList { user } if self.is_ours(user)? => {
                plan.everywhere.insert(user);
            }
            Change::Receipt {
                room,
                user,
                private: false,
            } if self.is_ours(user)? => after.receipts.push((room, pos)),
            Change::Timeline { room, .. } if self.waiting.has(room) => {
                after.retry.insert(room);
            }
            Change::Member {
                room,
                user,
                membership,
            } => {
                self.fans.forget(self.is_ours(user)?.then_some(user));
                match membership {
                    Membership::Join => {
                        after.came = true;
                        self.note_join(snap, plan, after, room, user)?;
                    }
                    Membership::Leave | Membership::Ban => {
                        self.note_leave(snap, plan, room, user, pos)?;
                    }
                    Membership::Invite | Membership::Knock => {}
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn is_ours(&self, user: UserNid) -> Result<bool, StoreError> {
        Ok(self.rooms.is_local(&self.store.user_id(user)?))
    }

    /// Somebody joined a room: the servers in it may have to be told of one of ours, or a server
    /// of all of ours.
    fn note_join(
        &self,
        snap: &Snapshot,
        plan: &mut Plan,
        after: &mut After,
        room: RoomNid,
        user: UserNid,
    ) -> Result<(), StoreError> {
        let user_id = self.store.user_id(user)?;
        if self.rooms.is_local(&user_id) {
            let servers = self.rooms.server_numbers_in(snap, room)?;
            after.greet.push((user, servers.clone()));
            plan.some.entry(user).or_default().extend(servers);
            return Ok(());
        }
        let server = self.store.intern_server(server_of(&user_id))?;
        if !plan.met.insert((room, server)) {
            return Ok(());
        }
        let mut greeted = 0;
        for ours in self.rooms.joined_users(snap, room)? {
            if !self.is_ours(ours)? {
                continue;
            }
            if greeted < GREETED_MAX {
                after.greet.push((ours, vec![server]));
                greeted += 1;
            }
            plan.some.entry(ours).or_default().insert(server);
        }
        Ok(())
    }

    /// Somebody left a room: lists of those with whom nobody here shares a room any more are not
    /// followed. `pos` is where they left; who has come back since may have been missed.
    fn note_leave(
        &self,
        snap: &Snapshot,
        plan: &mut Plan,
        room: RoomNid,
        user: UserNid,
        pos: Pos,
    ) -> Result<(), StoreError> {
        if !self.is_ours(user)? {
            if e2e::is_followed(snap, user)? && !self.rooms.is_met(snap, user, Some(pos))? {
                plan.lost.insert(user);
            }
            return Ok(());
        }
        let Some(head) = self.rooms.head(snap, room)? else {
            return Ok(());
        };
        if head.joined > head.remote {
            return Ok(());
        }
        for (member, _) in self.rooms.members(snap, room)? {
            if e2e::is_followed(snap, member)? && !self.rooms.is_met(snap, member, None)? {
                plan.lost.insert(member);
            }
        }
        Ok(())
    }

    fn carry_out(&self, snap: &Snapshot, w: &mut Write, plan: Plan) -> Result<(), StoreError> {
        for user in plan.lost {
            e2e::unfollow(snap, w, user)?;
        }
        let Plan {
            everywhere,
            mut some,
            ..
        } = plan;
        for user in everywhere {
            let servers = self.rooms.servers_of(snap, user)?;
            some.entry(user).or_default().extend(servers);
        }
        for (user, servers) in some {
            let servers: Vec<ServerNid> = servers.into_iter().collect();
            self.keys.tell_servers(snap, w, user, &servers)?;
        }
        Ok(())
    }

    /// Tells the servers in a room how far one of ours has read.
    fn tell_receipt(&self, snap: &Snapshot, room: RoomNid, pos: Pos) -> Result<(), StoreError> {
        let Some(receipt) = self.rooms.receipt_at(snap, room, pos)? else {
            return Ok(());
        };
        let servers = self.rooms.servers_in(snap, room)?;
        if servers.is_empty() {
            return Ok(());
        }
        let room_id = self.store.room_id(room)?;
        let mut data = json!({ "ts": receipt.ts });
        let thread = receipt.thread.unwrap_or_default();
        if !thread.is_empty()
            && let Some(data) = data.as_object_mut()
        {
            data.insert("thread_id".to_owned(), thread.clone().into());
        }
        let user_id = &receipt.user_id;
        let content = json!({ &*room_id: { "m.read": { user_id: {
            "event_ids": [receipt.event_id],
            "data": data,
        } } } });
        let key = format!("{room_id} {user_id} {thread}");
        self.reach
            .send_soon(&servers, "m.receipt", key, content.to_string());
        Ok(())
    }

    /// Tells servers that have come to share a room with one of ours how present they are.
    fn greet(&self, user: UserNid, servers: &[ServerNid]) -> Result<(), StoreError> {
        let view = self.accounts.presence().of(user);
        if !self.presence || servers.is_empty() || view.state == PresenceState::Offline {
            return Ok(());
        }
        let user_id = self.store.user_id(user)?;
        let servers = self.server_names(servers)?;
        let content = presence_content(&user_id, &view);
        self.reach
            .send_soon(&servers, "m.presence", user_id.to_string(), content);
        Ok(())
    }

    pub(super) fn server_names(&self, servers: &[ServerNid]) -> Result<Vec<Arc<str>>, StoreError> {
        let names = servers.iter().map(|nid| self.store.server_name(*nid));
        names.collect()
    }
}

/// What facts call for.
#[derive(Default)]
struct Plan {
    /// Local users of whose devices all their servers are told.
    everywhere: BTreeSet<UserNid>,
    /// Local users, and the servers that may have to be told of their devices.
    some: BTreeMap<UserNid, BTreeSet<ServerNid>>,
    /// Where it was looked already whom a server has to be told of.
    met: BTreeSet<(RoomNid, ServerNid)>,
    /// Users of other servers with whom no room is shared any more.
    lost: BTreeSet<UserNid>,
}
