//! Who is to be woken by what: follows the log and raises a channel per user.
//!
//! A channel says where, never what: the woken reader takes a fresh snapshot and finds out for
//! itself. No wake-up is missed, because a reader subscribes first, takes its snapshot second,
//! and the channel keeps the last position raised.

mod channel;
mod locals;
mod recent;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use skerry_account::{Accounts, EphemeralPos};
use skerry_core::{Membership, Pos, RoomNid, UserNid};
use skerry_room::Rooms;
use skerry_store::{Change, Snapshot, Store, StoreError};
use tokio::time::Instant;

use channel::Channel;
use channel::Notes;
pub(crate) use channel::{About, Bell};
use locals::{Locals, Members};
use recent::Recent;

/// How often presence is told at most.
const PRESENCE_EVERY: Duration = Duration::from_millis(300);
/// Channels kept at most while nobody listens on them.
const CHANNELS_MAX: usize = 10_000;

/// Follows the log and wakes the users concerned.
pub(crate) struct Notifier {
    store: Arc<Store>,
    accounts: Accounts,
    rooms: Rooms,
    channels: Mutex<HashMap<UserNid, Channel>>,
    recent: RwLock<Recent>,
    locals: Mutex<Locals>,
    /// Typing up to here has been told.
    typing: Mutex<u64>,
    /// Presence up to here has been told.
    presence: Mutex<EphemeralPos>,
    /// Notes left for users, counted.
    notes: AtomicU64,
}

/// What concerns one user.
pub(crate) struct News {
    /// What was noted.
    pub noted: Vec<About>,
    /// The last piece of the log, of which nothing is noted yet.
    pub rest: Vec<Change>,
}

/// What concerns whom in a piece of the log.
#[derive(Default)]
struct Concerns {
    users: HashMap<UserNid, Notes>,
    rooms: HashMap<RoomNid, Notes>,
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
            typing: Mutex::default(),
            presence: Mutex::default(),
            notes: AtomicU64::new(0),
        })
    }

    /// Follows until the store closes.
    ///
    /// Presence is told at most every so often, then all that changed at once: where everybody
    /// shares a room with everybody, each change concerns all of them.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut published = self.store.published();
        let mut typing = self.rooms.typing().watch();
        let mut presence = self.accounts.ephemeral().subscribe();
        let mut next = Instant::now();
        loop {
            published.borrow_and_update();
            typing.borrow_and_update();
            presence.borrow_and_update();
            let due = Instant::now() >= next;
            let this = Arc::clone(&self);
            let advanced = skerry_store::blocking(move || this.advance(due)).await;
            match advanced {
                Ok(Ok(true)) => next = Instant::now() + PRESENCE_EVERY,
                Ok(Ok(false)) => {}
                // The server stops.
                Ok(Err(StoreError::Closed)) | Err(StoreError::Closed) => return,
                Ok(Err(error)) | Err(error) => {
                    tracing::error!(%error, "the notifier cannot read the log");
                }
            }
            let late = self.accounts.ephemeral().current() != self.presence_told();
            let open = tokio::select! {
                open = published.changed() => open,
                open = typing.changed() => open,
                open = presence.changed(), if !late => open,
                () = tokio::time::sleep_until(next), if late => Ok(()),
            };
            if open.is_err() {
                return;
            }
        }
    }

    /// Follows everything up to now; presence only where it is due. Says whether presence was
    /// told.
    fn advance(&self, due: bool) -> Result<bool, StoreError> {
        self.advance_log()?;
        self.advance_typing()?;
        if due {
            self.advance_presence()
        } else {
            Ok(false)
        }
    }

    /// Presence up to here has been told to those who wait.
    pub(crate) fn presence_told(&self) -> EphemeralPos {
        *self.presence.lock()
    }

    /// How many notes were left for users since the start.
    pub(crate) fn notes(&self) -> u64 {
        self.notes.load(Ordering::Relaxed)
    }

    /// The local users who share a room with a user; `None` if what a snapshot shows is not
    /// followed yet.
    pub(crate) fn friends(
        &self,
        snap: &Snapshot,
        user: UserNid,
    ) -> Result<Option<Members>, StoreError> {
        if self.recent.read().upto() < snap.head() {
            return Ok(None);
        }
        self.locals
            .lock()
            .friends(&self.rooms, snap, user)
            .map(Some)
    }

    /// A user's channel. Subscribe first, take the snapshot after.
    pub(crate) fn subscribe(&self, user: UserNid) -> Bell {
        let mut channels = self.channels.lock();
        if let Some(channel) = channels.get(&user) {
            return channel.subscribe();
        }
        if channels.len() >= CHANNELS_MAX {
            channels.retain(|_, channel| channel.is_listened_to());
        }
        // Facts up to here may have been read already, at a time when there was no channel.
        let born = self.recent.read().upto();
        let channel = Channel::new(born);
        let bell = channel.subscribe();
        channels.insert(user, channel);
        bell
    }

    /// Whether it is known, without looking anywhere, that nothing in `(since, upto]` concerns a
    /// user.
    pub(crate) fn is_quiet(&self, user: UserNid, since: Pos, upto: Pos) -> bool {
        // In this order: what is told to channels is told before `upto` moves on.
        if self.recent.read().upto() < upto {
            return false;
        }
        let channels = self.channels.lock();
        channels
            .get(&user)
            .is_some_and(|channel| channel.is_quiet(since))
    }

    /// What concerns a user in `(since, head]` of a snapshot, if that is known without looking
    /// into the log but for its last piece, of at most so many facts.
    pub(crate) fn news(
        &self,
        snap: &Snapshot,
        user: UserNid,
        since: Pos,
        most: usize,
    ) -> Result<Option<News>, StoreError> {
        let head = snap.head();
        // In this order: what is told to channels is told before `upto` moves on.
        let upto = self.recent.read().upto();
        if head.0.saturating_sub(upto.0) > most as u64 {
            return Ok(None);
        }
        let channels = self.channels.lock();
        let Some(noted) = channels.get(&user).and_then(|channel| channel.news(since)) else {
            return Ok(None);
        };
        drop(channels);
        let mut rest = Vec::new();
        if upto < head {
            let Some(rows) = snap.changes(upto.max(since), head)? else {
                return Ok(None);
            };
            for row in rows {
                rest.push(row?.1);
            }
        }
        Ok(Some(News { noted, rest }))
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
            channel.nudge();
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

    /// Wakes those whom new typing concerns.
    fn advance_typing(&self) -> Result<(), StoreError> {
        let typing = self.rooms.typing().pos();
        let told = std::mem::replace(&mut *self.typing.lock(), typing);
        if typing == told || self.channels.lock().is_empty() {
            return Ok(());
        }
        let snap = self.store.snapshot();
        for room in self.rooms.typing().rooms_since(told) {
            self.nudge_room(&snap, room)?;
        }
        Ok(())
    }

    /// Wakes those whom new presence concerns, each once. Says whether there was any.
    fn advance_presence(&self) -> Result<bool, StoreError> {
        let presence = self.accounts.ephemeral().current();
        let told = std::mem::replace(&mut *self.presence.lock(), presence);
        if presence == told {
            return Ok(false);
        }
        if self.channels.lock().is_empty() {
            return Ok(true);
        }
        let snap = self.store.snapshot();
        let mut concerned = HashSet::new();
        for view in self.accounts.presence().changed_since(told) {
            concerned.insert(view.user);
            let friends = self.locals.lock().friends(&self.rooms, &snap, view.user)?;
            concerned.extend(friends.iter().copied());
        }
        let channels = self.channels.lock();
        for user in &concerned {
            if let Some(channel) = channels.get(user) {
                channel.nudge();
            }
        }
        Ok(true)
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
            let mut channels = self.channels.lock();
            raise_all(&mut channels, head);
            self.recent.write().restart(head);
            return Ok(());
        };
        let facts: Vec<(Pos, Change)> = rows.collect::<Result<_, _>>()?;
        let concerned = self.concerned(&snap, &facts)?;
        // Whoever subscribes comes before this, and is raised, or after, and is born at `head`.
        let mut channels = self.channels.lock();
        match concerned {
            Some(users) => raise(&mut channels, users),
            None => raise_all(&mut channels, head),
        }
        self.recent.write().push(facts, head);
        Ok(())
    }

    /// What of some facts concerns which users. `None` if nobody was listening: whoever has begun
    /// since is to look into the log.
    fn concerned(
        &self,
        snap: &Snapshot,
        facts: &[(Pos, Change)],
    ) -> Result<Option<HashMap<UserNid, Notes>>, StoreError> {
        let mut locals = self.locals.lock();
        let mut concerns = Concerns::default();
        for (pos, fact) in facts {
            if let Change::Member {
                room,
                user,
                membership,
            } = fact
            {
                let joined = *membership == Membership::Join;
                locals.note(&self.rooms, *room, *user, joined)?;
            }
            concerns.note(*pos, fact);
        }
        if self.channels.lock().is_empty() {
            return Ok(None);
        }
        let Concerns { mut users, rooms } = concerns;
        for (pos, fact) in facts {
            if let Change::DeviceList { user } = fact {
                let friends = locals.friends(&self.rooms, snap, *user)?;
                for friend in friends.iter() {
                    last(users.entry(*friend).or_default(), *pos, About::List(*user));
                }
            }
        }
        for (room, news) in rooms {
            for user in locals.of(&self.rooms, snap, room)?.iter() {
                users.entry(*user).or_default().extend_from_slice(&news);
            }
        }
        let notes: usize = users.values().map(Vec::len).sum();
        self.notes.fetch_add(notes as u64, Ordering::Relaxed);
        Ok(Some(users))
    }
}

impl Concerns {
    /// Notes whom a fact concerns: users by themselves, or the members of a room.
    fn note(&mut self, pos: Pos, fact: &Change) {
        let (user, about) = match fact {
            Change::Timeline { room, .. } => {
                return self.note_room(*room, pos, About::Events(*room));
            }
            Change::Receipt {
                room,
                private: false,
                ..
            } => {
                return self.note_room(*room, pos, About::Receipts(*room));
            }
            Change::Member { room, user, .. } => {
                self.note_room(*room, pos, About::Events(*room));
                // Those who leave are told as well as those who stay.
                (user, About::Events(*room))
            }
            Change::Receipt {
                room,
                user,
                private: true,
            } => (user, About::Receipts(*room)),
            Change::AccountData {
                user,
                room: Some(room),
            } => (user, About::RoomData(*room)),
            Change::AccountData { user, room: None } => (user, About::Data),
            Change::ToDevice { user, .. } | Change::Keys { user, .. } => (user, About::Device),
            Change::DeviceList { user } => (user, About::List(*user)),
            Change::PrivateList { viewer } => (viewer, About::PrivateList),
            Change::ThreadSubscription { user } => (user, About::Subscriptions),
            Change::Pusher { .. } | Change::Profile { .. } | Change::Redacted { .. } => return,
        };
        last(self.users.entry(*user).or_default(), pos, about);
    }

    fn note_room(&mut self, room: RoomNid, pos: Pos, about: About) {
        last(self.rooms.entry(room).or_default(), pos, about);
    }
}

/// Keeps of each thing the last position.
fn last(news: &mut Notes, pos: Pos, about: About) {
    match news.iter_mut().find(|(_, other)| *other == about) {
        Some(entry) => entry.0 = pos.max(entry.0),
        None => news.push((pos, about)),
    }
}

fn raise(channels: &mut HashMap<UserNid, Channel>, users: HashMap<UserNid, Notes>) {
    for (user, news) in users {
        if let Some(channel) = channels.get_mut(&user) {
            channel.raise(news);
        }
    }
}

fn raise_all(channels: &mut HashMap<UserNid, Channel>, head: Pos) {
    for channel in channels.values_mut() {
        channel.restart(head);
    }
}
