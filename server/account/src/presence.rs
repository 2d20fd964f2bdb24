//! Presence of local users: in memory, with an ephemeral position, and allowed to be lost.
//!
//! A user is as present as their most present device. A device counts from when it says so (by
//! a sync or by `PUT status`) until 30 seconds after its last sync ended.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;
use skerry_core::{Clock, UserNid};

use crate::{Ephemeral, EphemeralPos};

/// How long a device counts after its last sync, in ms.
const GONE_AFTER_MS: u64 = 30_000;
/// How long a user counts as currently active after doing something, in ms.
const ACTIVE_MS: u64 = 60_000;
/// How long a user has to have been there to count as attentive, in ms: a phone that was woken up
/// looks once and sleeps on.
const SETTLED_MS: u64 = 10_000;
/// How many users' presence is kept; beyond it nobody new is noted.
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
}

#[derive(Default)]
struct Board {
    people: HashMap<UserNid, Person>,
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
            currently_active: present && ago.is_some_and(|ago| ago < ACTIVE_MS),
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
        if !self.people.contains_key(&user) && self.people.len() >= MAX_USERS {
            return;
        }
        let person = self.people.entry(user).or_default();
        let visible = change(person);
        let state = person.aggregate();
        if !visible && state == person.state {
            return;
        }
        person.state = state;
        self.by_pos.remove(&person.pos);
        person.pos = ephemeral.next();
        self.by_pos.insert(person.pos, user);
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
