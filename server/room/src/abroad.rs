//! People of other servers in our rooms, and which servers our people are met on: receipts and
//! typing both ways.

use skerry_core::{Membership, Order, Pos, RoomNid, ServerNid, UserNid};
use skerry_store::schema::room as t;
use skerry_store::schema::room_read::{ReceiptAt, ReceiptKind, ReceiptRow, Receipts};
use skerry_store::{Applied, Change, Expect, Scan, Snapshot, StoreError, Write, blocking};

use crate::Rooms;

/// How long somebody of another server counts as typing after their server said so, in ms: it
/// says so again before that.
pub const TYPING_ABROAD_MS: u64 = 60_000;
/// Threads of one room in which a user of another server may have receipts.
const THREADS_MAX: usize = 1_000;
/// Longest thread id, in bytes.
const THREAD_BYTES_MAX: usize = 255;
/// How often receipts are planned again because one moved meanwhile.
const ATTEMPTS: usize = 8;

/// A public receipt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicReceipt {
    /// Whose.
    pub user_id: String,
    /// Up to where they have read.
    pub event_id: String,
    /// The thread it is about: an event id or `main`; `None` for all.
    pub thread: Option<String>,
    /// When they read it, in ms since the epoch.
    pub ts: u64,
}

impl Rooms {
    /// The numbers of the other servers that have members joined to a room.
    ///
    /// # Errors
    /// The store's.
    pub fn server_numbers_in(
        &self,
        snap: &Snapshot,
        room: RoomNid,
    ) -> Result<Vec<ServerNid>, StoreError> {
        let rows = snap.scan::<t::RoomServer>(Scan::prefix(&room));
        rows.map(|row| row.map(|((_, server), _)| server)).collect()
    }

    /// The other servers that share a room with a user, each once.
    ///
    /// # Errors
    /// The store's.
    pub fn servers_of(&self, snap: &Snapshot, user: UserNid) -> Result<Vec<ServerNid>, StoreError> {
        let mut servers = Vec::new();
        for room in self.joined_rooms(snap, user)? {
            servers.extend(self.server_numbers_in(snap, room)?);
        }
        servers.sort_unstable();
        servers.dedup();
        Ok(servers)
    }

    /// Whether another server shares a room with a user.
    ///
    /// # Errors
    /// The store's.
    pub fn shares_with(
        &self,
        snap: &Snapshot,
        user: UserNid,
        server: ServerNid,
    ) -> Result<bool, StoreError> {
        for room in self.joined_rooms(snap, user)? {
            if snap.has::<t::RoomServer>(&(room, server))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a user of another server shares a room with anybody here, and has since `since`:
    /// with `None`, at all.
    ///
    /// # Errors
    /// The store's.
    pub fn is_met(
        &self,
        snap: &Snapshot,
        user: UserNid,
        since: Option<Pos>,
    ) -> Result<bool, StoreError> {
        for (room, member) in self.rooms_of(snap, user)? {
            let joined = member.membership == Membership::Join;
            if !joined || since.is_some_and(|since| member.since > since) {
                continue;
            }
            if self
                .head(snap, room)?
                .is_some_and(|head| head.joined > head.remote)
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn joined_rooms(&self, snap: &Snapshot, user: UserNid) -> Result<Vec<RoomNid>, StoreError> {
        let rooms = self.rooms_of(snap, user)?.into_iter();
        let joined = rooms.filter(|(_, member)| member.membership == Membership::Join);
        Ok(joined.map(|(room, _)| room).collect())
    }

    /// The public receipt that moved at a position of the log; `None` where it has moved on, and
    /// for one that says no more than its owner's own event does.
    ///
    /// # Errors
    /// The store's.
    pub fn receipt_at(
        &self,
        snap: &Snapshot,
        room: RoomNid,
        pos: Pos,
    ) -> Result<Option<PublicReceipt>, StoreError> {
        let Some((user, kind, thread)) = snap.get::<ReceiptAt>(&(room, pos))? else {
            return Ok(None);
        };
        let key = (room, user, kind, thread);
        let Some(row) = snap.get::<Receipts>(&key)? else {
            return Ok(None);
        };
        let own = self
            .meta(snap, row.event)?
            .is_none_or(|meta| meta.sender == user);
        if own || kind != ReceiptKind::Public {
            return Ok(None);
        }
        Ok(Some(PublicReceipt {
            user_id: self.store().user_id(user)?.to_string(),
            event_id: self.store().event_id(row.event)?.to_string(),
            thread: Some(key.3).filter(|thread| !thread.is_empty()),
            ts: row.ts,
        }))
    }

    /// Moves receipts of users of another server, who have to be joined to the room; those that
    /// would go back stay. Gives those whose event is not here, which may still come.
    ///
    /// # Errors
    /// The store's.
    pub async fn take_receipts(
        &self,
        room_id: &str,
        receipts: Vec<PublicReceipt>,
    ) -> Result<Vec<PublicReceipt>, StoreError> {
        let Some(room) = self.store().room_nid(room_id)? else {
            return Ok(Vec::new());
        };
        let this = self.clone();
        let (waiting, applied) =
            blocking(move || this.take_receipts_now(room, &receipts)).await??;
        self.store().durable(&applied).await?;
        Ok(waiting)
    }

    fn take_receipts_now(
        &self,
        room: RoomNid,
        receipts: &[PublicReceipt],
    ) -> Result<(Vec<PublicReceipt>, Applied), StoreError> {
        let mut attempt = 0;
        loop {
            let snap = self.newest();
            let mut w = self.store().write();
            let mut waiting = Vec::new();
            for receipt in receipts {
                if !self.plan_receipt(&snap, &mut w, room, receipt)? {
                    waiting.push(receipt.clone());
                }
            }
            if w.is_empty() {
                return Ok((waiting, self.store().barrier()));
            }
            match self.store().commit(w) {
                Err(StoreError::Conflict { .. }) if attempt < ATTEMPTS => attempt += 1,
                done => return Ok((waiting, done?)),
            }
        }
    }

    /// Adds one receipt to a write, if it moves forward. False if its event is not here.
    fn plan_receipt(
        &self,
        snap: &Snapshot,
        w: &mut Write,
        room: RoomNid,
        receipt: &PublicReceipt,
    ) -> Result<bool, StoreError> {
        let thread = receipt.thread.clone().unwrap_or_default();
        let named = receipt.thread.is_none() || !thread.is_empty();
        let Some(user) = self.store().user_nid(&receipt.user_id)? else {
            return Ok(true);
        };
        if !named || thread.len() > THREAD_BYTES_MAX || !self.is_joined(snap, room, user)? {
            return Ok(true);
        }
        let Some(event) = self.store().event_nid(snap, &receipt.event_id)? else {
            return Ok(false);
        };
        let placed = self.meta(snap, event)?.filter(|meta| meta.room == room);
        // One that has no place in the timeline may still get one.
        let Some(meta) = placed.filter(|meta| meta.is_placed()) else {
            return Ok(false);
        };
        let key = (room, user, ReceiptKind::Public, thread);
        let before = snap.get::<Receipts>(&key)?;
        match &before {
            Some(before) if before.order >= meta.order => return Ok(true),
            Some(before) => {
                w.expect::<Receipts>(&key, Expect::Is(before));
                w.delete::<ReceiptAt>(&(room, before.pos));
            }
            None => {
                let all = Scan::prefix(&(room, user)).limit(THREADS_MAX);
                if snap.scan::<Receipts>(all).count() >= THREADS_MAX {
                    return Ok(true);
                }
                w.expect::<Receipts>(&key, Expect::Absent);
            }
        }
        put_receipt(w, key, (event, meta.order), receipt.ts);
        Ok(true)
    }

    /// Somebody of another server types in a room, or stops. Nothing happens unless they are
    /// joined to it.
    ///
    /// # Errors
    /// The store's.
    pub fn take_typing(
        &self,
        snap: &Snapshot,
        room_id: &str,
        user_id: &str,
        typing: bool,
    ) -> Result<(), StoreError> {
        let room = self.store().room_nid(room_id)?;
        let user = self.store().user_nid(user_id)?;
        let (Some(room), Some(user)) = (room, user) else {
            return Ok(());
        };
        if !self.is_joined(snap, room, user)? {
            return Ok(());
        }
        if typing {
            let until = self.inner.clock.now_ms().saturating_add(TYPING_ABROAD_MS);
            self.typing().start(room, user, until);
        } else {
            self.typing().stop(room, user);
        }
        Ok(())
    }
}

fn put_receipt(
    w: &mut Write,
    key: (RoomNid, UserNid, ReceiptKind, String),
    (event, order): (skerry_core::EventNid, Order),
    ts: u64,
) {
    let (room, user, ..) = key;
    let pos = w.log(Change::Receipt {
        room,
        user,
        private: false,
    });
    let row = ReceiptRow {
        event,
        order,
        ts,
        pos,
    };
    w.put::<Receipts>(&key, &row);
    w.put::<ReceiptAt>(&(room, pos), &(key.1, key.2, key.3));
}
