//! Who is to be woken by what: follows the log and raises a channel per user.
//!
//! A channel says where, never what: the woken reader takes a fresh snapshot and finds out for
//! itself. No wake-up is missed, because a reader subscribes first, takes its snapshot second,
//! and the channel keeps the last position raised.

mod locals;
mod recent;

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use skerry_account::{Accounts, EphemeralPos};
use skerry_core::{Membership, Pos, RoomNid, UserNid};
use skerry_room::Rooms;
use skerry_store::{Change, Snapshot, Store, StoreError};
use tokio::sync::watch;

use locals::Locals;
use recent::Recent;

/// Channels kept at most while nobody listens on them.
const CHANNELS_MAX: usize = 10_000;

/// What a waiting reader listens on: the position of the newest fact that concerns the user.
pub type Bell = watch::Receiver<Pos>;

/// Follows the log and wakes the users concerned.
pub(crate) struct Notifier {
    store: Arc<Store>,
    accounts: Accounts,
    rooms: Rooms,
    channels: Mutex<HashMap<UserNid, Channel>>,
    recent: RwLock<Recent>,
    locals: Mutex<Locals>,
    /// Typing and presence up to here have been told.
    ephemeral: Mutex<(u64, EphemeralPos)>,
}

/// One user's channel.
struct Channel {
    bell: watch::Sender<Pos>,
    /// Every fact after this position that concerns the user has been raised.
    born: Pos,
}

impl Notifier {
    /// Follows the log from where it is now.
    pub(crate) fn new(store: Arc<Store>, accounts: Accounts, rooms: Rooms) -> Arc<Notifier> {
        let recent = RwLock::new(Recent::new(store.snapshot().head()));
        Arc::new(Notifier {
            store,
            accounts,
            rooms,
            channels: Mutex::default(),
            recent,
            locals: Mutex::default(),
            ephemeral: Mutex::default(),
        })
    }

    /// Follows until the store closes.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut published = self.store.published();
        let mut typing = self.rooms.typing().watch();
        let mut presence = self.accounts.ephemeral().subscribe();
        loop {
            published.borrow_and_update();
            typing.borrow_and_update();
            presence.borrow_and_update();
            let this = Arc::clone(&self);
            let advanced = skerry_store::blocking(move || this.advance()).await;
            if let Ok(Err(error)) | Err(error) = advanced {
                tracing::error!(%error, "the notifier cannot read the log");
            }
            let open = tokio::select! {
                open = published.changed() => open,
                open = typing.changed() => open,
                open = presence.changed() => open,
            };
            if open.is_err() {
                return;
            }
        }
    }

    /// Follows everything up to now.
    fn advance(&self) -> Result<(), StoreError> {
        self.advance_log()?;
        self.advance_ephemeral()
    }

    /// A user's channel. Subscribe first, take the snapshot after.
    pub(crate) fn subscribe(&self, user: UserNid) -> Bell {
        let mut channels = self.channels.lock();
        if let Some(channel) = channels.get(&user) {
            return channel.bell.subscribe();
        }
        if channels.len() >= CHANNELS_MAX {
            channels.retain(|_, channel| channel.bell.receiver_count() > 0);
        }
        // Facts up to here may have been read already, at a time when there was no channel.
        let born = self.recent.read().upto();
        let (bell, receiver) = watch::channel(Pos::ZERO);
        channels.insert(user, Channel { bell, born });
        receiver
    }

    /// Whether it is known without looking that nothing durable concerns the user in
    /// `(since, upto]`.
    pub(crate) fn is_quiet(&self, user: UserNid, since: Pos, upto: Pos) -> bool {
        if since >= upto {
            return true;
        }
        // In this order: what is raised is raised before `upto` of the recent facts moves on.
        if self.recent.read().upto() < upto {
            return false;
        }
        let channels = self.channels.lock();
        let Some(channel) = channels.get(&user) else {
            return false;
        };
        channel.born <= since && *channel.bell.borrow() <= since
    }

    /// All facts in `(since, head]` of a snapshot, from memory where possible. `None` if they are
    /// too many to go through, or the log does not reach back so far.
    pub(crate) fn facts(
        &self,
        snap: &Snapshot,
        since: Pos,
        most: usize,
    ) -> Result<Option<Vec<Change>>, StoreError> {
        let head = snap.head();
        if head.0.saturating_sub(since.0) > most as u64 {
            return Ok(None);
        }
        let (mut facts, from) = match self.recent.read().between(since, head) {
            Some((facts, upto)) => (facts, upto),
            None => (Vec::new(), since),
        };
        if from < head {
            let Some(rows) = snap.changes(from, head)? else {
                return Ok(None);
            };
            for row in rows {
                facts.push(row?.1);
            }
        }
        Ok(Some(facts))
    }

    /// Wakes a user for something that has no position in the log.
    fn nudge(&self, user: UserNid) {
        if let Some(channel) = self.channels.lock().get(&user) {
            channel.bell.send_modify(|_| ());
        }
    }

    /// Wakes the local members of a room for something that has no position in the log.
    fn nudge_room(&self, snap: &Snapshot, room: RoomNid) -> Result<(), StoreError> {
        if self.channels.lock().is_empty() {
            return Ok(());
        }
        let members = self.locals.lock().of(&self.rooms, snap, room)?;
        members.iter().for_each(|user| self.nudge(*user));
        Ok(())
    }

    /// Wakes everybody here who shares a room with a user, and the user.
    fn nudge_friends(&self, snap: &Snapshot, user: UserNid) -> Result<(), StoreError> {
        if self.channels.lock().is_empty() {
            return Ok(());
        }
        self.nudge(user);
        for room in self.joined_rooms(snap, user)? {
            self.nudge_room(snap, room)?;
        }
        Ok(())
    }

    /// Wakes those whom new typing and presence concern.
    fn advance_ephemeral(&self) -> Result<(), StoreError> {
        let (typing, presence) = (
            self.rooms.typing().pos(),
            self.accounts.ephemeral().current(),
        );
        let told = std::mem::replace(&mut *self.ephemeral.lock(), (typing, presence));
        if (typing, presence) == told || self.channels.lock().is_empty() {
            return Ok(());
        }
        let snap = self.store.snapshot();
        for room in self.rooms.typing().rooms_since(told.0) {
            self.nudge_room(&snap, room)?;
        }
        for view in self.accounts.presence().changed_since(told.1) {
            self.nudge_friends(&snap, view.user)?;
        }
        Ok(())
    }

    /// Reads the log up to the published head and raises whom it concerns.
    fn advance_log(&self) -> Result<(), StoreError> {
        let snap = self.store.snapshot();
        let from = self.recent.read().upto();
        let head = snap.head();
        if from >= head {
            return Ok(());
        }
        let Some(rows) = snap.changes(from, head)? else {
            // The log was cut off under us: start anew from here, and wake everybody.
            self.locals.lock().clear();
            let channels = self.channels.lock();
            raise_all(&channels, head);
            self.recent.write().restart(head);
            return Ok(());
        };
        let facts: Vec<(Pos, Change)> = rows.collect::<Result<_, _>>()?;
        let concerned = self.concerned(&snap, &facts)?;
        // Whoever subscribes comes before this, and is raised, or after, and is born at `head`.
        let channels = self.channels.lock();
        match concerned {
            Some(users) => raise(&channels, &users),
            None => raise_all(&channels, head),
        }
        self.recent.write().push(facts, head);
        Ok(())
    }

    /// The users whom facts concern, each with the position of the last that does. `None` if
    /// nobody was listening: whoever has begun since is to be raised unasked.
    fn concerned(
        &self,
        snap: &Snapshot,
        facts: &[(Pos, Change)],
    ) -> Result<Option<HashMap<UserNid, Pos>>, StoreError> {
        let mut users = HashMap::new();
        let mut rooms: HashMap<RoomNid, Pos> = HashMap::new();
        let mut lists: HashMap<UserNid, Pos> = HashMap::new();
        let mut locals = self.locals.lock();
        for (pos, fact) in facts {
            match fact {
                Change::Timeline { room, .. }
                | Change::Receipt {
                    room,
                    private: false,
                    ..
                } => {
                    rooms.insert(*room, *pos);
                }
                Change::Member {
                    room,
                    user,
                    membership,
                } => {
                    // Those who leave are woken as well as those who stay.
                    users.insert(*user, *pos);
                    locals.note(*room, *user, *membership == Membership::Join);
                    rooms.insert(*room, *pos);
                }
                Change::Receipt {
                    user,
                    private: true,
                    ..
                }
                | Change::AccountData { user, .. }
                | Change::ToDevice { user, .. }
                | Change::Keys { user, .. }
                | Change::PrivateList { viewer: user } => {
                    users.insert(*user, *pos);
                }
                Change::DeviceList { user } => {
                    lists.insert(*user, *pos);
                }
                Change::Pusher { .. } | Change::Profile { .. } => {}
            }
        }
        if self.channels.lock().is_empty() {
            return Ok(None);
        }
        for (user, pos) in lists {
            later(&mut users, user, pos);
            for room in self.joined_rooms(snap, user)? {
                later(&mut rooms, room, pos);
            }
        }
        for (room, pos) in rooms {
            for user in locals.of(&self.rooms, snap, room)?.iter() {
                later(&mut users, *user, pos);
            }
        }
        Ok(Some(users))
    }

    fn joined_rooms(&self, snap: &Snapshot, user: UserNid) -> Result<Vec<RoomNid>, StoreError> {
        let rooms = self.rooms.rooms_of(snap, user)?.into_iter();
        Ok(rooms
            .filter(|(_, m)| m.membership == Membership::Join)
            .map(|(room, _)| room)
            .collect())
    }
}

fn raise(channels: &HashMap<UserNid, Channel>, users: &HashMap<UserNid, Pos>) {
    for (user, pos) in users {
        if let Some(channel) = channels.get(user) {
            channel.bell.send_modify(|seen| *seen = (*seen).max(*pos));
        }
    }
}

fn raise_all(channels: &HashMap<UserNid, Channel>, pos: Pos) {
    for channel in channels.values() {
        channel.bell.send_modify(|seen| *seen = (*seen).max(pos));
    }
}

/// Keeps the larger position.
fn later<K: std::hash::Hash + Eq>(map: &mut HashMap<K, Pos>, key: K, pos: Pos) {
    let seen = map.entry(key).or_default();
    *seen = pos.max(*seen);
}
