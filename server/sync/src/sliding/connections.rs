//! What the server remembers of each connection: which rooms it was told of, up to where, and
//! how much of them.
//!
//! An answer makes a new memory beside the one it was computed from, so that a client which never
//! got the answer and asks again from where it was finds everything as it was then. A memory is
//! forgotten once the client has come back with a later one, when its device has more
//! connections than it may, or when all memories together are too many: the client then begins
//! anew.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;
use skerry_core::{EventNid, Pos, RoomNid, UserNid};

use super::required::Required;

/// Memory of all connections together, in bytes: some hundred and twenty with two memories of a
/// thousand rooms each.
const BYTES_MAX: usize = 32 << 20;
/// Memory of the connections of one device, in bytes; the last one is kept whatever it weighs.
const DEVICE_BYTES_MAX: usize = 4 << 20;
/// Connections that one device may have.
const PER_DEVICE_MAX: usize = 8;
/// Answers of a connection remembered that the client may come back with.
const MEMORIES_MAX: usize = 4;
/// Rooms remembered in one connection.
const ROOMS_MAX: usize = 20_000;
/// Members remembered in one connection, over all its rooms.
const MEMBERS_MAX: usize = 20_000;
/// Bytes that a room weighs, about.
const ROOM_BYTES: usize = 128;
/// Bytes that a member weighs, about.
const MEMBER_BYTES: usize = 32;

/// What a client was told of one room.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    /// Timeline and state up to here.
    pub events: Pos,
    /// Receipts up to here; `None`: none yet.
    pub receipts: Option<Pos>,
    /// Account data up to here; `None`: none yet.
    pub data: Option<Pos>,
    /// Length of the timeline that it has at least, if the room is that long.
    pub limit: u32,
    /// The state it has.
    pub required: Arc<Required>,
    /// The members told of for the timeline's sake.
    pub members: Members,
}

/// Members told of for a timeline's sake, with the events that said what they are.
#[derive(Clone, Debug, Default)]
pub(super) struct Members {
    pub told: Option<Arc<HashMap<UserNid, EventNid>>>,
    /// Some were forgotten: the client may know of anybody.
    pub forgotten: bool,
}

/// What a client knows that has come back with an answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    pub rooms: HashMap<RoomNid, Sent>,
    /// How many rooms its lists had.
    pub counts: BTreeMap<String, u64>,
}

/// All connections, bounded.
#[derive(Default)]
pub(super) struct Connections(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    devices: HashMap<DeviceKey, Device>,
    /// Devices in order of use.
    order: BTreeMap<u64, DeviceKey>,
    clock: u64,
    last_id: u64,
    bytes: usize,
}

type DeviceKey = (UserNid, Arc<str>);

#[derive(Default)]
struct Device {
    /// In order of use.
    connections: Vec<Connection>,
    used: u64,
    bytes: usize,
}

struct Connection {
    name: Box<str>,
    /// The oldest first.
    memories: Vec<Memory>,
}

/// What the client knows once it has an answer.
struct Memory {
    /// The answer's number.
    id: u64,
    known: Arc<Known>,
    bytes: usize,
}

impl Connections {
    /// What the client knows that comes back with an answer's number; `None` if that is
    /// forgotten. What was remembered of other answers is not needed any more.
    pub(super) fn known(&self, device: &DeviceKey, name: &str, id: u64) -> Option<Arc<Known>> {
        if id == 0 {
            // An answer that left nothing to be remembered.
            return Some(Arc::default());
        }
        let inner = &mut *self.0.lock();
        let found = inner.devices.get_mut(device)?;
        let connection = found.connections.iter_mut().find(|c| *c.name == *name)?;
        let known = connection.memories.iter().find(|memory| memory.id == id)?;
        let known = Arc::clone(&known.known);
        connection.memories.retain(|memory| memory.id == id);
        inner.touch(device);
        Some(known)
    }

    /// Remembers what a client will know once it has an answer; gives the answer's number.
    pub(super) fn remember(&self, device: &DeviceKey, name: &str, mut known: Known) -> u64 {
        if known.rooms.is_empty() && known.counts.values().all(|count| *count == 0) {
            return 0;
        }
        known.shrink();
        let bytes = known.bytes();
        let inner = &mut *self.0.lock();
        inner.last_id += 1;
        let id = inner.last_id;
        let of = inner.devices.entry(device.clone()).or_default();
        let at = of.connections.iter().position(|c| *c.name == *name);
        let mut connection = match at {
            Some(at) => of.connections.remove(at),
            None => Connection {
                name: name.into(),
                memories: Vec::new(),
            },
        };
        if connection.memories.len() >= MEMORIES_MAX {
            // Not the first: the client is known to have it.
            connection.memories.remove(1);
        }
        connection.memories.push(Memory {
            id,
            known: Arc::new(known),
            bytes,
        });
        of.connections.push(connection);
        while of.connections.len() > PER_DEVICE_MAX
            || (of.connections.len() > 1 && of.weight() > DEVICE_BYTES_MAX)
        {
            of.connections.remove(0);
        }
        inner.touch(device);
        inner.shrink();
        id
    }
}

impl Device {
    fn weight(&self) -> usize {
        let memories = self.connections.iter().flat_map(|c| &c.memories);
        memories.map(|memory| memory.bytes).sum()
    }
}

impl Inner {
    /// Notes that a device was used just now, and what it weighs.
    fn touch(&mut self, key: &DeviceKey) {
        self.clock += 1;
        let Some(device) = self.devices.get_mut(key) else {
            return;
        };
        self.order.remove(&device.used);
        device.used = self.clock;
        self.order.insert(self.clock, key.clone());
        let bytes = device.weight();
        self.bytes = self.bytes + bytes - device.bytes;
        device.bytes = bytes;
    }

    /// Forgets the devices longest away.
    fn shrink(&mut self) {
        while self.bytes > BYTES_MAX
            && let Some((_, key)) = self.order.pop_first()
        {
            let gone = self.devices.remove(&key);
            self.bytes -= gone.map_or(0, |device| device.bytes);
        }
    }
}

impl Known {
    fn bytes(&self) -> usize {
        // Mostly the same set for all rooms.
        let mut sets = HashSet::new();
        let mut bytes = 256;
        for sent in self.rooms.values() {
            let members = sent.members.told.as_ref().map_or(0, |told| told.len());
            bytes += ROOM_BYTES + members * MEMBER_BYTES;
            if sets.insert(Arc::as_ptr(&sent.required)) {
                bytes += sent.required.bytes();
            }
        }
        bytes
    }

    /// Forgets what is too much. A forgotten room is new to the client once it is told again,
    /// a forgotten member is told once more.
    fn shrink(&mut self) {
        if self.rooms.len() > ROOMS_MAX {
            let mut told: Vec<Pos> = self.rooms.values().map(|sent| sent.events).collect();
            told.sort_unstable();
            let surplus = self.rooms.len() - ROOMS_MAX;
            if let Some(oldest) = told.get(surplus).copied() {
                self.rooms.retain(|_, sent| sent.events >= oldest);
            }
        }
        let members = |sent: &Sent| sent.members.told.as_ref().map_or(0, |told| told.len());
        if self.rooms.values().map(members).sum::<usize>() > MEMBERS_MAX {
            for sent in self.rooms.values_mut() {
                sent.members.forget();
            }
        }
    }
}

impl Members {
    /// Most members remembered of one room.
    const MAX: usize = 1_000;

    /// Whether the client has this very event.
    pub(super) fn has(&self, user: UserNid, event: EventNid) -> bool {
        let told = self.told.as_ref().and_then(|told| told.get(&user));
        told == Some(&event)
    }

    /// Whether the client may know something of a user.
    pub(super) fn may_know(&self, user: UserNid) -> bool {
        self.forgotten
            || self
                .told
                .as_ref()
                .is_some_and(|told| told.contains_key(&user))
    }

    /// Adds what is told now.
    pub(super) fn add(&mut self, new: &[(UserNid, EventNid)]) {
        if new.is_empty() {
            return;
        }
        let have = self.told.as_ref().map_or(0, |told| told.len());
        if have + new.len() > Self::MAX {
            self.forget();
        }
        let told = Arc::make_mut(self.told.get_or_insert_default());
        told.extend(new.iter().take(Self::MAX).copied());
    }

    fn forget(&mut self) {
        self.forgotten |= self.told.is_some();
        self.told = None;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn known(rooms: u64) -> Known {
        let sent = Sent {
            events: Pos(1),
            receipts: None,
            data: None,
            limit: 1,
            required: Arc::default(),
            members: Members::default(),
        };
        Known {
            rooms: (0..rooms)
                .map(|room| (RoomNid(room), sent.clone()))
                .collect(),
            counts: BTreeMap::new(),
        }
    }

    fn phone() -> DeviceKey {
        (UserNid(1), "PHONE".into())
    }

    #[test]
    fn a_lost_answer_leaves_what_was_known_before() {
        let connections = Connections::default();
        let first = connections.remember(&phone(), "", known(1));
        let lost = connections.remember(&phone(), "", known(2));
        let again = connections.known(&phone(), "", first).unwrap();
        assert_eq!(again.rooms.len(), 1);
        assert!(
            connections.known(&phone(), "", lost).is_none(),
            "taken back"
        );
        let next = connections.remember(&phone(), "", known(3));
        assert_eq!(
            connections.known(&phone(), "", next).unwrap().rooms.len(),
            3
        );
        assert!(
            connections.known(&phone(), "", first).is_none(),
            "acknowledged"
        );
        assert!(connections.known(&phone(), "other", next).is_none());
        assert!(
            connections
                .known(&(UserNid(2), "PHONE".into()), "", next)
                .is_none()
        );
    }

    #[test]
    fn answers_that_nobody_takes_do_not_pile_up() {
        let connections = Connections::default();
        let first = connections.remember(&phone(), "", known(1));
        for _ in 0..100 {
            connections.remember(&phone(), "", known(1));
        }
        assert!(connections.known(&phone(), "", first).is_some());
    }

    #[test]
    fn what_is_nothing_is_not_kept() {
        let connections = Connections::default();
        let mut known = known(0);
        known.counts.insert("a".to_owned(), 0);
        assert_eq!(connections.remember(&phone(), "", known.clone()), 0);
        assert!(connections.known(&phone(), "", 0).is_some());
        known.counts.insert("a".to_owned(), 1);
        assert_ne!(connections.remember(&phone(), "", known), 0);
    }

    #[test]
    fn a_device_has_few_connections_and_all_together_are_bounded() {
        let connections = Connections::default();
        let first = connections.remember(&phone(), "0", known(1));
        for n in 1..=PER_DEVICE_MAX {
            connections.remember(&phone(), &n.to_string(), known(1));
        }
        assert!(connections.known(&phone(), "0", first).is_none());
        let last = (0..2_000).map(|n| {
            let device = (UserNid(n), Arc::from("PHONE"));
            connections.remember(&device, "", known(1_000))
        });
        let last = last.last().unwrap();
        let inner = connections.0.lock();
        assert!(inner.bytes <= BYTES_MAX && inner.devices.len() == inner.order.len());
        let sum: usize = inner.devices.values().map(|device| device.bytes).sum();
        assert_eq!(inner.bytes, sum);
        drop(inner);
        let device = (UserNid(1_999), Arc::from("PHONE"));
        assert!(connections.known(&device, "", last).is_some());
    }

    #[test]
    fn forgotten_members_may_still_be_known_to_the_client() {
        let mut members = Members::default();
        members.add(&[(UserNid(1), EventNid(1))]);
        assert!(members.has(UserNid(1), EventNid(1)) && !members.may_know(UserNid(2)));
        let many: Vec<_> = (0..1_000).map(|n| (UserNid(n), EventNid(n))).collect();
        members.add(&many);
        assert!(members.may_know(UserNid(5_000)) && members.has(UserNid(7), EventNid(7)));
    }
}
