//! Presence: in memory, with an ephemeral position, and allowed to be lost.
//!
//! A local user is as present as their most present device. A device counts from when it says so
//! (by a sync or by `PUT status`) until 30 seconds after its last sync ended. A user of another
//! server is as present as that server said last, for half an hour.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;
use skerry_core::{Clock, UserNid};

use crate::{Ephemeral, EphemeralPos};

/// How long a device counts after its last sync, in ms.
const GONE_AFTER_MS: u64 = 30_000;
/// How long what another server said of its user counts, in ms; it says it again before that.
const GONE_ABROAD_MS: u64 = 31 * 60_000;
/// How many users of other servers are kept; beyond it nobody new is noted.
const MAX_ABROAD: usize = 50_000;
/// For how long it is known that a user of another server is offline, in ms.
const OFFLINE_ABROAD_MS: u64 = 24 * 3_600_000;
/// How long a user counts as currently active after doing something, in ms.
const ACTIVE_MS: u64 = 60_000;
/// How long a user has to have been there to count as attentive, in ms: a phone that was woken up
/// looks once and sleeps on.
const SETTLED_MS: u64 = 10_000;
/// How many local users' presence is kept; beyond it nobody new is noted.
const MAX_USERS: usize = 50_000;
/// How many devices of one user are noted.
const MAX_DEVICES: usize = 50;

/// How present someone is. The order is that of importance among a user's devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum PresenceState {
    /// Not there.
    #[default]
    Offline,
    /// There, but idle.
    Unavailable,
    /// There.
    Online,
    /// There, and not to be disturbed.
    Busy,
}

impl PresenceState {
    /// Its name in the protocol.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            PresenceState::Offline => "offline",
            PresenceState::Unavailable => "unavailable",
            PresenceState::Online => "online",
            PresenceState::Busy => "busy",
        }
    }

    /// The state of that name; also takes the unstable name of `busy`.
    #[must_use]
    pub fn named(name: &str) -> Option<PresenceState> {
        Some(match name {
            "offline" => PresenceState::Offline,
            "unavailable" => PresenceState::Unavailable,
            "online" => PresenceState::Online,
            "busy" | "org.matrix.msc3026.busy" => PresenceState::Busy,
            _ => return None,
        })
    }
}

/// A user's presence as others see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresenceView {
    /// Whose.
    pub user: UserNid,
    /// How present.
    pub state: PresenceState,
    /// Their own words.
    pub status_msg: Option<String>,
    /// How long ago they did something, in ms; none if they never did.
    pub last_active_ago_ms: Option<u64>,
    /// Whether that was just now.
    pub currently_active: bool,
    /// Whether it is what another server says of its user.
    pub abroad: bool,
    /// The newest change.
    pub pos: EphemeralPos,
}

#[derive(Default)]
struct DevicePresence {
    state: PresenceState,
    /// Syncs that are waiting right now.
    polls: usize,
    seen_ms: u64,
}

#[derive(Default)]
struct Person {
    devices: HashMap<Arc<str>, DevicePresence>,
    state: PresenceState,
    status_msg: Option<String>,
    active_ms: Option<u64>,
    /// Since when they have been there.
    came_ms: u64,
    pos: EphemeralPos,
    /// What another server said, if it is its user.
    abroad: Option<Abroad>,
}

/// What another server said of its user.
#[derive(Clone, Copy)]
struct Abroad {
    /// Whether they are doing something.
    active: bool,
    /// When it was said.
    at_ms: u64,
}

/// Presence of a user of another server, as that server tells it.
#[derive(Clone, Debug)]
pub struct PresenceAbroad {
    /// How present.
    pub state: PresenceState,
    /// Their own words.
    pub status_msg: Option<String>,
    /// How long ago they did something, in ms.
    pub last_active_ago_ms: Option<u64>,
    /// Whether that was just now.
    pub currently_active: bool,
}

#[derive(Default)]
struct Board {
    people: HashMap<UserNid, Person>,
    /// How many of them are of other servers.
    abroad: usize,
    by_pos: BTreeMap<EphemeralPos, UserNid>,
}

/// Who is online. A cheap handle.
#[derive(Clone)]
pub struct PresenceBoard {
    board: Arc<Mutex<Board>>,
    ephemeral: Arc<Ephemeral>,
    clock: Arc<dyn Clock>,
}

/// Held by a sync while it is answered: its device counts for as long.
pub struct SyncingGuard {
    board: PresenceBoard,
    user: UserNid,
    device: Arc<str>,
    counted: bool,
}

impl Drop for SyncingGuard {
    fn drop(&mut self) {
        if !self.counted {
            return;
        }
        let now_ms = self.board.clock.now_ms();
        let mut board = self.board.board.lock();
        if let Some(person) = board.people.get_mut(&self.user)
            && let Some(device) = person.devices.get_mut(&self.device)
        {
            device.polls = device.polls.saturating_sub(1);
            device.seen_ms = now_ms;
        }
    }
}

impl Person {
    fn aggregate(&self) -> PresenceState {
        if self.abroad.is_some() {
            return self.state;
        }
        self.devices
            .values()
            .map(|device| device.state)
            .max()
            .unwrap_or_default()
    }

    fn view(&self, user: UserNid, now_ms: u64) -> PresenceView {
        let ago = self.active_ms.map(|at| now_ms.saturating_sub(at));
        let present = matches!(self.state, PresenceState::Online | PresenceState::Busy);
        PresenceView {
            user,
            state: self.state,
            status_msg: self.status_msg.clone(),
            last_active_ago_ms: ago,
            currently_active: present
                && match self.abroad {
                    Some(abroad) => abroad.active,
                    None => ago.is_some_and(|ago| ago < ACTIVE_MS),
                },
            abroad: self.abroad.is_some(),
            pos: self.pos,
        }
    }
}

impl Board {
    /// Applies a change to a person and, if others can see it, gives it a position.
    fn change(
        &mut self,
        user: UserNid,
        ephemeral: &Ephemeral,
        change: impl FnOnce(&mut Person) -> bool,
    ) {
        let local = self.people.len().saturating_sub(self.abroad);
        if !self.people.contains_key(&user) && local >= MAX_USERS {
            return;
        }
        let person = self.people.entry(user).or_default();
        let visible = change(person);
        let state = person.aggregate();
        if !visible && state == person.state {
            return;
        }
        person.state = state;
        self.move_up(user, ephemeral);
    }

    /// Others are told of a person.
    fn move_up(&mut self, user: UserNid, ephemeral: &Ephemeral) {
        if let Some(person) = self.people.get_mut(&user) {
            self.by_pos.remove(&person.pos);
            person.pos = ephemeral.next();
            self.by_pos.insert(person.pos, user);
        }
    }

    /// Notes what another server says of its user.
    fn change_abroad(
        &mut self,
        user: UserNid,
        ephemeral: &Ephemeral,
        told: PresenceAbroad,
        now_ms: u64,
    ) {
        let known = self.people.contains_key(&user);
        let silent = told.state == PresenceState::Offline && told.status_msg.is_none();
        if !known && (silent || self.abroad >= MAX_ABROAD) {
            return;
        }
        self.abroad += usize::from(!known);
        let person = self.people.entry(user).or_default();
        let before = person.view(user, now_ms);
        person.abroad = Some(Abroad {
            active: told.currently_active,
            at_ms: now_ms,
        });
        person.state = told.state;
        person.status_msg = told.status_msg;
        if let Some(ago) = told.last_active_ago_ms {
            person.active_ms = Some(now_ms.saturating_sub(ago));
        }
        let after = person.view(user, now_ms);
        let seen = |view: &PresenceView| {
            let words = view.status_msg.clone();
            (view.state, words, view.currently_active)
        };
        if seen(&before) != seen(&after) {
            self.move_up(user, ephemeral);
        }
    }

    /// Users of other servers of whom nothing was heard for too long are offline, and forgotten
    /// a day later.
    fn sweep_abroad(&mut self, ephemeral: &Ephemeral, now_ms: u64) {
        let (mut gone, mut forgotten) = (Vec::new(), Vec::new());
        for (user, person) in &self.people {
            let Some(abroad) = person.abroad else {
                continue;
            };
            let silent_ms = now_ms.saturating_sub(abroad.at_ms);
            if person.state != PresenceState::Offline && silent_ms >= GONE_ABROAD_MS {
                gone.push(*user);
            } else if person.state == PresenceState::Offline && silent_ms >= OFFLINE_ABROAD_MS {
                forgotten.push(*user);
            }
        }
        for user in gone {
            if let Some(person) = self.people.get_mut(&user) {
                person.state = PresenceState::Offline;
            }
            self.move_up(user, ephemeral);
        }
        for user in forgotten {
            if let Some(person) = self.people.remove(&user) {
                self.by_pos.remove(&person.pos);
                self.abroad = self.abroad.saturating_sub(1);
            }
        }
    }
}

impl PresenceBoard {
    pub(crate) fn new(ephemeral: Arc<Ephemeral>, clock: Arc<dyn Clock>) -> PresenceBoard {
        PresenceBoard {
            board: Arc::default(),
            ephemeral,
            clock,
        }
    }

    /// A sync begins; `state` is its `set_presence`. Hold the guard until it is answered.
    ///
    /// A sync that says "offline" changes nothing: the client only does not want to be taken for
    /// online because of it.
    #[must_use]
    pub fn syncing(&self, user: UserNid, device: &Arc<str>, state: PresenceState) -> SyncingGuard {
        let counted = state != PresenceState::Offline && self.begin(user, device, state);
        SyncingGuard {
            board: self.clone(),
            user,
            device: device.clone(),
            counted,
        }
    }

    /// Notes the begin of a sync; whether there was room for it.
    fn begin(&self, user: UserNid, device: &Arc<str>, state: PresenceState) -> bool {
        let now_ms = self.clock.now_ms();
        let mut counted = false;
        self.board.lock().change(user, &self.ephemeral, |person| {
            if person.state == PresenceState::Offline {
                person.active_ms = Some(now_ms);
                person.came_ms = now_ms;
            }
            if let Some(entry) = device_entry(person, device) {
                // A sync that only says "online" does not end what PUT status set to busy.
                if entry.state != PresenceState::Busy || state != PresenceState::Online {
                    entry.state = state;
                }
                entry.polls += 1;
                entry.seen_ms = now_ms;
                counted = true;
            }
            false
        });
        counted
    }

    /// Sets state and words, as by `PUT /presence/{userId}/status`.
    pub fn set(
        &self,
        user: UserNid,
        device: &Arc<str>,
        state: PresenceState,
        status_msg: Option<String>,
    ) {
        let now_ms = self.clock.now_ms();
        self.board.lock().change(user, &self.ephemeral, |person| {
            if let Some(entry) = device_entry(person, device) {
                entry.state = state;
                entry.seen_ms = now_ms;
            }
            if state != PresenceState::Offline {
                person.active_ms = Some(now_ms);
            }
            let other = person.status_msg != status_msg;
            person.status_msg = status_msg;
            other
        });
    }

    /// Notes what another server says of its user. The caller has looked that it is its user.
    pub fn tell_abroad(&self, user: UserNid, told: PresenceAbroad) {
        let now_ms = self.clock.now_ms();
        let mut board = self.board.lock();
        board.change_abroad(user, &self.ephemeral, told, now_ms);
    }

    /// Notes that a user did something: sent, typed, read. Others are told only when that makes
    /// the user currently active again.
    pub fn touch(&self, user: UserNid) {
        let now_ms = self.clock.now_ms();
        let mut board = self.board.lock();
        let known = board
            .people
            .get(&user)
            .map(|person| person.view(user, now_ms));
        let Some(view) = known.filter(|view| view.state != PresenceState::Offline) else {
            return;
        };
        let again = !view.currently_active && view.state == PresenceState::Online;
        board.change(user, &self.ephemeral, |person| {
            person.active_ms = Some(now_ms);
            again
        });
    }

    /// A user's presence now; offline for who was never seen in this run.
    #[must_use]
    pub fn of(&self, user: UserNid) -> PresenceView {
        let now_ms = self.clock.now_ms();
        let board = self.board.lock();
        let nobody = Person::default();
        board
            .people
            .get(&user)
            .unwrap_or(&nobody)
            .view(user, now_ms)
    }

    /// Whether a user is there with a client in the foreground, has been for a while, and did
    /// something just now: what comes for them is likely to be read at once.
    #[must_use]
    pub fn is_attentive(&self, user: UserNid) -> bool {
        let now_ms = self.clock.now_ms();
        let board = self.board.lock();
        board.people.get(&user).is_some_and(|person| {
            person.view(user, now_ms).currently_active
                && now_ms.saturating_sub(person.came_ms) >= SETTLED_MS
        })
    }

    /// Everyone whose presence changed after `since`, in the order of the changes.
    #[must_use]
    pub fn changed_since(&self, since: EphemeralPos) -> Vec<PresenceView> {
        let now_ms = self.clock.now_ms();
        let board = self.board.lock();
        let after = EphemeralPos(since.0.saturating_add(1));
        let users = board.by_pos.range(after..).map(|(_, user)| *user);
        users
            .filter_map(|user| Some(board.people.get(&user)?.view(user, now_ms)))
            .collect()
    }

    /// Takes devices off that have not synced for half a minute. Called every ten seconds or so.
    pub fn sweep(&self) {
        let now_ms = self.clock.now_ms();
        let mut board = self.board.lock();
        let gone = |device: &DevicePresence| {
            device.polls == 0 && now_ms.saturating_sub(device.seen_ms) >= GONE_AFTER_MS
        };
        let users: Vec<UserNid> = board
            .people
            .iter()
            .filter(|(_, person)| person.devices.values().any(gone))
            .map(|(user, _)| *user)
            .collect();
        board.sweep_abroad(&self.ephemeral, now_ms);
        for user in users {
            board.change(user, &self.ephemeral, |person| {
                person.devices.retain(|_, device| !gone(device));
                false
            });
        }
    }
}

fn device_entry<'a>(person: &'a mut Person, device: &Arc<str>) -> Option<&'a mut DevicePresence> {
    if person.devices.len() >= MAX_DEVICES && !person.devices.contains_key(device) {
        return None;
    }
    Some(person.devices.entry(device.clone()).or_default())
}
