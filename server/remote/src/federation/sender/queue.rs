//! What waits for each server, in memory.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use skerry_core::{EventNid, Pos, RoomNid, ServerNid};
use skerry_store::schema::remote::Owed;

use super::soon::{Soon, SoonEdu};

/// How many events wait for a server one by one, those under way included: it must not depend on
/// when a transaction departs. One that misses more is told how its rooms stand.
const PDUS_MAX: usize = 200;
/// How many events, or EDUs, a transaction may have (server-server API).
pub(super) const TXN_PDUS: usize = 50;
/// The same of EDUs.
pub(super) const TXN_EDUS: usize = 100;
/// How many rooms one transaction says of how they stand.
const TXN_ROOMS: usize = 10;

/// An event that waits for a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) pos: Pos,
    pub(super) room: RoomNid,
    pub(super) event: EventNid,
    /// It is to be sent although the server has no joined member.
    pub(super) alone: bool,
}

/// A transaction that is under way. It keeps its id until it has arrived.
#[derive(Clone, Debug, Default)]
pub(super) struct Flight {
    pub(super) id: String,
    pub(super) at_ms: u64,
    /// Events, one by one.
    pub(super) pdus: Vec<Waiting>,
    /// Rooms, as they stand.
    pub(super) owed: Vec<(RoomNid, Owed)>,
    /// The events that say so.
    pub(super) ends: Vec<EventNid>,
    /// Rows of the outbox.
    pub(super) rows: Vec<Pos>,
    /// EDUs that only help now.
    pub(super) soon: Vec<Arc<SoonEdu>>,
}

impl Flight {
    /// How many events and EDUs it has.
    pub(super) fn len(&self) -> usize {
        self.pdus.len() + self.ends.len() + self.rows.len() + self.soon.len()
    }
}

/// When a queue's turn is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// Nothing waits.
    Idle,
    Ready,
    /// A task is at it; whether something came meanwhile.
    Running(bool),
    /// Nothing is sent before this time, in ms since the epoch.
    Resting(u64),
}

/// What waits for one server.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) name: Arc<str>,
    pub(super) pdus: VecDeque<Waiting>,
    pub(super) owed: BTreeMap<RoomNid, Owed>,
    /// There may be rows in the outbox.
    pub(super) rows: bool,
    pub(super) soon: Soon,
    pub(super) flight: Option<Flight>,
    /// How many events and EDUs a transaction has at most: fewer where a server did not take one.
    pub(super) most: usize,
    /// What the store says of it.
    pub(super) kept: Kept,
    /// How often in a row it answered that it takes nothing from us.
    pub(super) turned_away: u32,
    turn: Turn,
    /// It spoke to us while a task was at it: it does not rest afterwards.
    hurried: bool,
}

/// What the store says of a queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) behind: Option<Pos>,
    pub(super) owed: BTreeMap<RoomNid, Owed>,
}

impl Queue {
    fn new(name: Arc<str>) -> Queue {
        Queue {
            name,
            pdus: VecDeque::new(),
            owed: BTreeMap::new(),
            rows: false,
            soon: Soon::default(),
            flight: None,
            most: TXN_PDUS + TXN_EDUS,
            kept: Kept::default(),
            turned_away: 0,
            turn: Turn::Idle,
            hurried: false,
        }
    }

    fn is_empty(&self) -> bool {
        self.pdus.is_empty()
            && self.owed.is_empty()
            && !self.rows
            && self.soon.is_empty()
            && self.flight.is_none()
    }

    /// An event is to be sent.
    fn add(&mut self, waiting: Waiting) {
        let under_way = self.flight.as_ref().map_or(0, |flight| flight.pdus.len());
        if self.owed.is_empty() && self.pdus.len() + under_way < PDUS_MAX {
            self.pdus.push_back(waiting);
        } else {
            self.lag();
            self.owe(waiting);
        }
    }

    /// From now on it is told how rooms stand, instead of every event; also of those that it has
    /// not taken and that are not being sent at this moment.
    pub(super) fn lag(&mut self) {
        let rests = !matches!(self.turn, Turn::Running(_));
        let passes = |flight: &mut Flight| rests && !flight.pdus.is_empty();
        if let Some(flight) = self.flight.take_if(passes) {
            self.undo(flight);
        }
        for waiting in std::mem::take(&mut self.pdus) {
            self.owe(waiting);
        }
    }

    fn owe(&mut self, waiting: Waiting) {
        let owed = self.owed.entry(waiting.room).or_insert(Owed {
            since: waiting.pos,
            alone: None,
        });
        // What was under way is older than what came since.
        owed.since = owed.since.min(waiting.pos);
        if waiting.alone {
            owed.alone = owed.alone.max(Some(waiting.event));
        }
    }

    /// Takes out what the next transaction has; nothing where there is nothing but, perhaps, rows
    /// of the outbox. Of rooms of which it missed much those go first whose end is the `newest`.
    pub(super) fn depart(&mut self, now_ms: u64, newest: &HashMap<RoomNid, EventNid>) -> Flight {
        let mut flight = Flight {
            at_ms: now_ms,
            ..Flight::default()
        };
        let pdus = self.most.min(TXN_PDUS).min(self.pdus.len());
        flight.pdus = self.pdus.drain(..pdus).collect();
        if flight.pdus.is_empty() {
            flight.owed = self.latest(TXN_ROOMS.min(self.most), newest);
        }
        let room = self
            .most
            .saturating_sub(flight.pdus.len() + flight.owed.len());
        flight.soon = self.soon.take(room.min(TXN_EDUS), now_ms);
        flight
    }

    fn latest(
        &mut self,
        limit: usize,
        newest: &HashMap<RoomNid, EventNid>,
    ) -> Vec<(RoomNid, Owed)> {
        let mut rooms: Vec<RoomNid> = self.owed.keys().copied().collect();
        rooms.sort_by_key(|room| std::cmp::Reverse(newest.get(room).map(|event| event.0)));
        rooms.truncate(limit);
        let owed = &mut self.owed;
        let taken = rooms.into_iter();
        taken
            .filter_map(|room| Some((room, owed.remove(&room)?)))
            .collect()
    }

    /// Puts everything of a transaction back: it will be sent in another.
    pub(super) fn undo(&mut self, flight: Flight) {
        for waiting in flight.pdus.into_iter().rev() {
            self.pdus.push_front(waiting);
        }
        for (room, owed) in flight.owed {
            let newer = self.owed.remove(&room);
            self.owed.insert(room, merged(owed, newer));
        }
        if !self.owed.is_empty() {
            // What came for it while it was being told how rooms stand is part of how they stand.
            self.lag();
        }
        self.rows |= !flight.rows.is_empty();
        self.soon.put_back(flight.soon);
    }

    /// A transaction has not arrived. It is sent again as it is, unless what it says has changed
    /// meanwhile: how rooms stand, and what only helps now, is said anew.
    pub(super) fn missed(&mut self) {
        let lags = !self.owed.is_empty();
        let changes =
            |flight: &mut Flight| lags || !flight.owed.is_empty() || !flight.soon.is_empty();
        if let Some(flight) = self.flight.take_if(changes) {
            self.undo(flight);
        }
    }

    /// What the store has to say of it.
    pub(super) fn to_keep(&self) -> Kept {
        let mut owed = self.owed.clone();
        if let Some(flight) = &self.flight {
            for (room, missed) in &flight.owed {
                let newer = owed.remove(room);
                owed.insert(*room, merged(missed.clone(), newer));
            }
        }
        Kept {
            behind: self.behind(),
            owed,
        }
    }

    /// The first event that waits for it one by one.
    fn behind(&self) -> Option<Pos> {
        let under_way = self.flight.as_ref().and_then(|flight| flight.pdus.first());
        under_way.or(self.pdus.front()).map(|waiting| waiting.pos)
    }
}

/// What was missed of a room, and what came later.
fn merged(missed: Owed, newer: Option<Owed>) -> Owed {
    Owed {
        since: missed.since,
        alone: newer.and_then(|newer| newer.alone).or(missed.alone),
    }
}

/// The queues of all servers that have something waiting.
#[derive(Debug, Default)]
pub(super) struct Queues {
    all: HashMap<ServerNid, Queue>,
    ready: VecDeque<ServerNid>,
    /// Those that rest, by the time until which.
    resting: BTreeSet<(u64, ServerNid)>,
    /// Those of which the store may say something else.
    pub(super) changed: HashSet<ServerNid>,
    /// Up to where outgoing events were given to queues, and what the store says of it.
    pub(super) seen: Pos,
    pub(super) seen_kept: Pos,
}

impl Queues {
    pub(super) fn get(&self, server: ServerNid) -> Option<&Queue> {
        self.all.get(&server)
    }

    pub(super) fn get_mut(&mut self, server: ServerNid) -> Option<&mut Queue> {
        self.changed.insert(server);
        self.all.get_mut(&server)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&ServerNid, &Queue)> {
        self.all.iter()
    }

    /// A server's queue, a new one if it has none.
    pub(super) fn of(&mut self, server: ServerNid, name: &Arc<str>) -> &mut Queue {
        self.changed.insert(server);
        self.all
            .entry(server)
            .or_insert_with(|| Queue::new(Arc::clone(name)))
    }

    /// An event is to be sent to a server.
    pub(super) fn add(&mut self, server: ServerNid, name: &Arc<str>, waiting: Waiting) {
        self.of(server, name).add(waiting);
        self.wake(server);
    }

    /// Something is in the outbox for a server.
    pub(super) fn add_rows(&mut self, server: ServerNid, name: &Arc<str>) {
        self.of(server, name).rows = true;
        self.wake(server);
    }

    pub(super) fn add_soon(&mut self, server: ServerNid, name: &Arc<str>, edu: Arc<SoonEdu>) {
        self.of(server, name).soon.add(edu);
        self.wake(server);
    }

    /// Something waits for a server.
    pub(super) fn wake(&mut self, server: ServerNid) {
        let Some(queue) = self.all.get_mut(&server) else {
            return;
        };
        match &mut queue.turn {
            Turn::Idle => {
                queue.turn = Turn::Ready;
                self.ready.push_back(server);
            }
            Turn::Running(again) => *again = true,
            Turn::Ready | Turn::Resting(_) => {}
        }
    }

    /// A server that is left alone is left alone no longer, and comes before others.
    pub(super) fn hurry(&mut self, server: ServerNid) {
        let Some(queue) = self.all.get_mut(&server) else {
            return;
        };
        match queue.turn {
            Turn::Resting(at_ms) => {
                self.resting.remove(&(at_ms, server));
                queue.turn = Turn::Ready;
                self.ready.push_front(server);
            }
            Turn::Running(_) => queue.hurried = true,
            Turn::Idle | Turn::Ready => {}
        }
    }

    /// Lets a server that turned us away be left alone until then, and no longer. Says whether
    /// that is a change.
    pub(super) fn shorten(&mut self, server: ServerNid, until_ms: u64) -> bool {
        let Some(queue) = self.all.get_mut(&server) else {
            return false;
        };
        match queue.turn {
            Turn::Resting(at_ms) if queue.turned_away > 0 && at_ms > until_ms => {
                self.resting.remove(&(at_ms, server));
                self.resting.insert((until_ms, server));
                queue.turn = Turn::Resting(until_ms);
                true
            }
            _ => false,
        }
    }

    /// Those that have rested long enough get their turn.
    pub(super) fn wake_rested(&mut self, now_ms: u64) {
        while let Some((at_ms, server)) = self.resting.first().copied() {
            if at_ms > now_ms {
                break;
            }
            self.resting.pop_first();
            if let Some(queue) = self.all.get_mut(&server) {
                queue.turn = Turn::Ready;
                self.ready.push_back(server);
            }
        }
    }

    /// When the first of those that rest gets its turn, in ms since the epoch.
    pub(super) fn rested_at(&self) -> Option<u64> {
        self.resting.first().map(|(at_ms, _)| *at_ms)
    }

    /// The next whose turn it is, of those that pass. It counts as running from now on.
    pub(super) fn next(&mut self, passes: impl Fn(&Queue) -> bool) -> Option<ServerNid> {
        for _ in 0..self.ready.len() {
            let server = self.ready.pop_front()?;
            let Some(queue) = self.all.get_mut(&server) else {
                continue;
            };
            if passes(queue) {
                queue.turn = Turn::Running(false);
                queue.hurried = false;
                return Some(server);
            }
            self.ready.push_back(server);
        }
        None
    }

    /// A task is done with a queue: it rests until then, or there is more, or nothing.
    pub(super) fn ended(&mut self, server: ServerNid, until_ms: Option<u64>) {
        self.changed.insert(server);
        let Some(queue) = self.all.get_mut(&server) else {
            return;
        };
        if let Some(until_ms) = until_ms.filter(|_| !queue.hurried) {
            queue.turn = Turn::Resting(until_ms);
            self.resting.insert((until_ms, server));
        } else if until_ms.is_some() || queue.turn == Turn::Running(true) || !queue.is_empty() {
            queue.turn = Turn::Ready;
            self.ready.push_back(server);
        } else {
            queue.turn = Turn::Idle;
        }
    }

    /// Forgets the queues of which there is nothing to say.
    pub(super) fn tidy(&mut self, server: ServerNid) {
        let gone = |queue: &Queue| {
            queue.is_empty() && queue.turn == Turn::Idle && queue.kept == Kept::default()
        };
        if self.all.get(&server).is_some_and(gone) {
            self.all.remove(&server);
        }
    }

    /// Drops everything that waits for a server.
    pub(super) fn clear(&mut self, server: ServerNid) {
        self.changed.insert(server);
        if let Some(queue) = self.all.get_mut(&server) {
            let (name, turn, kept) = (Arc::clone(&queue.name), queue.turn, queue.kept.clone());
            *queue = Queue::new(name);
            (queue.turn, queue.kept) = (turn, kept);
        }
    }

    /// The first outgoing event that anybody still needs, one by one.
    pub(super) fn lowest(&self) -> Option<Pos> {
        self.all.values().filter_map(Queue::behind).min()
    }
}

#[cfg(test)]
mod tests;
