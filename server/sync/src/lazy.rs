//! Which members a device has already been told of, so that lazy loading repeats none.
//!
//! The memory is only a saving: forgetting an entry costs a member event sent twice, never one
//! missed. An entry holds from the moment the device comes back with the token of the answer that
//! carried it; when it comes back with an earlier token, that answer was lost and the entry with
//! it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use skerry_core::{EventNid, Pos, RoomNid, UserNid};

/// Devices remembered at once.
const DEVICES_MAX: usize = 2_000;
/// Members remembered for one device, over all its rooms.
const MEMBERS_MAX: usize = 20_000;
/// Members remembered for all devices together: some fifteen megabytes.
const TOTAL_MAX: usize = 200_000;

/// One device of one user.
type DeviceKey = (UserNid, Arc<str>);

/// What one device knows, by room and member.
#[derive(Default)]
struct Known {
    members: HashMap<(RoomNid, UserNid), Told>,
    /// When this device was last seen, in requests; older requests leave stale notes in the queue.
    seen: u64,
}

/// A member event that went out in the answer ending at `next`.
#[derive(Clone, Copy)]
struct Told {
    event: EventNid,
    next: Pos,
}

/// The memory of all devices, bounded: the device that has been away longest is forgotten first.
#[derive(Default)]
pub(crate) struct LazyMemory {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    devices: HashMap<DeviceKey, Known>,
    /// (device, request number) in order of use; a note is stale when the device was seen later.
    queue: VecDeque<(DeviceKey, u64)>,
    clock: u64,
    /// Members remembered now.
    total: usize,
}

/// A member event handed out in an answer, to be remembered.
pub(crate) type Handed = (RoomNid, UserNid, EventNid);

impl LazyMemory {
    /// Begins a request of this device from `since`: whatever was told in answers that it never
    /// came back with is forgotten. Without `since` all is.
    pub(crate) fn begin(&self, user: UserNid, device: &Arc<str>, since: Option<Pos>) {
        let inner = &mut *self.inner.lock();
        inner.clock += 1;
        let now = inner.clock;
        let key = (user, Arc::clone(device));
        let known = inner.devices.entry(key.clone()).or_default();
        known.seen = now;
        let before = known.members.len();
        match since {
            None => known.members.clear(),
            Some(since) => known.members.retain(|_, told| told.next <= since),
        }
        inner.total -= before - known.members.len();
        inner.queue.push_back((key, now));
        inner.shrink();
    }

    /// Whether the device already holds this very member event.
    pub(crate) fn knows(&self, user: UserNid, device: &Arc<str>, member: Handed) -> bool {
        let inner = self.inner.lock();
        let known = inner.devices.get(&(user, Arc::clone(device)));
        let told = known.and_then(|known| known.members.get(&(member.0, member.1)));
        told.is_some_and(|told| told.event == member.2)
    }

    /// Forgets what a device was told of a room, since it is told of it anew: it may have thrown
    /// away what it knew when its user left.
    pub(crate) fn forget(&self, user: UserNid, device: &Arc<str>, room: RoomNid) {
        let inner = &mut *self.inner.lock();
        if let Some(known) = inner.devices.get_mut(&(user, Arc::clone(device))) {
            let before = known.members.len();
            known.members.retain(|(of, _), _| *of != room);
            inner.total -= before - known.members.len();
        }
    }

    /// Remembers what an answer carries that leads from `since` to `next`. An answer that leads
    /// nowhere is not remembered: its loss could not be told from its arrival.
    pub(crate) fn told(
        &self,
        (user, device): (UserNid, &Arc<str>),
        since: Option<Pos>,
        next: Pos,
        handed: &[Handed],
    ) {
        if handed.is_empty() || since.is_some_and(|since| since >= next) {
            return;
        }
        let inner = &mut *self.inner.lock();
        let Some(known) = inner.devices.get_mut(&(user, Arc::clone(device))) else {
            return;
        };
        let before = known.members.len();
        if before + handed.len() > MEMBERS_MAX {
            known.members.clear();
        }
        for &(room, member, event) in handed.iter().take(MEMBERS_MAX) {
            known.members.insert((room, member), Told { event, next });
        }
        inner.total = inner.total + known.members.len() - before;
        inner.shrink();
    }
}

impl Inner {
    /// Forgets the devices longest away, and drops stale notes from the queue's front.
    fn shrink(&mut self) {
        while let Some((key, at)) = self.queue.front() {
            let current = self.devices.get(key).is_some_and(|known| known.seen == *at);
            if current && self.devices.len() <= DEVICES_MAX && self.total <= TOTAL_MAX {
                // A device that syncs often fills the queue behind one that does not: sweep it.
                if self.queue.len() > 4 * DEVICES_MAX {
                    let devices = &self.devices;
                    self.queue
                        .retain(|(k, at)| devices.get(k).is_some_and(|d| d.seen == *at));
                }
                return;
            }
            if current {
                let gone = self.devices.remove(key);
                self.total -= gone.map_or(0, |known| known.members.len());
            }
            self.queue.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    const ALICE: UserNid = UserNid(1);
    const BOB: UserNid = UserNid(2);
    const ROOM: RoomNid = RoomNid(1);

    fn phone() -> Arc<str> {
        "PHONE".into()
    }

    #[test]
    fn a_member_is_known_once_the_answer_has_arrived() {
        let memory = LazyMemory::default();
        let bob = (ROOM, BOB, EventNid(5));
        memory.begin(ALICE, &phone(), Some(Pos(10)));
        memory.told((ALICE, &phone()), Some(Pos(10)), Pos(20), &[bob]);
        memory.begin(ALICE, &phone(), Some(Pos(20)));
        assert!(memory.knows(ALICE, &phone(), bob));
        assert!(
            !memory.knows(ALICE, &phone(), (ROOM, BOB, EventNid(6))),
            "another event"
        );
        assert!(
            !memory.knows(ALICE, &"TABLET".into(), bob),
            "another device"
        );
    }

    #[test]
    fn a_room_that_is_told_anew_is_forgotten() {
        let memory = LazyMemory::default();
        let (here, there) = ((ROOM, BOB, EventNid(5)), (RoomNid(2), BOB, EventNid(6)));
        memory.begin(ALICE, &phone(), Some(Pos(10)));
        memory.told((ALICE, &phone()), Some(Pos(10)), Pos(20), &[here, there]);
        memory.forget(ALICE, &phone(), ROOM);
        assert!(!memory.knows(ALICE, &phone(), here) && memory.knows(ALICE, &phone(), there));
        assert_eq!(memory.inner.lock().total, 1);
    }

    #[test]
    fn a_lost_answer_is_forgotten() {
        let memory = LazyMemory::default();
        let bob = (ROOM, BOB, EventNid(5));
        memory.begin(ALICE, &phone(), Some(Pos(10)));
        memory.told((ALICE, &phone()), Some(Pos(10)), Pos(20), &[bob]);
        memory.begin(ALICE, &phone(), Some(Pos(10)));
        assert!(!memory.knows(ALICE, &phone(), bob));
        memory.begin(ALICE, &phone(), Some(Pos(25)));
        assert!(
            !memory.knows(ALICE, &phone(), bob),
            "also under the retry's later token"
        );
    }

    #[test]
    fn an_initial_sync_forgets_and_an_answer_that_leads_nowhere_is_not_noted() {
        let memory = LazyMemory::default();
        let bob = (ROOM, BOB, EventNid(5));
        memory.begin(ALICE, &phone(), None);
        memory.told((ALICE, &phone()), None, Pos(20), &[bob]);
        memory.begin(ALICE, &phone(), None);
        assert!(!memory.knows(ALICE, &phone(), bob));
        memory.told((ALICE, &phone()), Some(Pos(20)), Pos(20), &[bob]);
        memory.begin(ALICE, &phone(), Some(Pos(20)));
        assert!(!memory.knows(ALICE, &phone(), bob));
    }

    #[test]
    fn the_number_of_members_is_bounded() {
        let memory = LazyMemory::default();
        let many: Vec<Handed> = (0..15_000)
            .map(|n| (ROOM, UserNid(n + 10), EventNid(n + 1)))
            .collect();
        for n in 0..40 {
            let device: Arc<str> = format!("D{n}").into();
            memory.begin(ALICE, &device, None);
            memory.told((ALICE, &device), None, Pos(5), &many);
            let inner = memory.inner.lock();
            let held: usize = inner
                .devices
                .values()
                .map(|known| known.members.len())
                .sum();
            assert_eq!(inner.total, held);
            assert!(held <= TOTAL_MAX);
        }
        assert!(memory.knows(ALICE, &"D39".into(), many[0]));
        assert!(!memory.knows(ALICE, &"D0".into(), many[0]));
    }

    #[test]
    fn the_number_of_devices_and_of_notes_is_bounded() {
        let memory = LazyMemory::default();
        for n in 0..(DEVICES_MAX + 50) {
            memory.begin(ALICE, &format!("D{n}").into(), None);
            for _ in 0..5 {
                memory.begin(BOB, &phone(), Some(Pos(1)));
            }
        }
        let inner = memory.inner.lock();
        assert_eq!(inner.devices.len(), DEVICES_MAX);
        assert!(inner.queue.len() <= 4 * DEVICES_MAX + 1);
        assert!(inner.devices.contains_key(&(BOB, phone())));
    }
}
