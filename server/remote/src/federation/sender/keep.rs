//! What of the queues is in the store, and how they are filled after a start.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use skerry_core::{Pos, RoomNid, ServerNid};
use skerry_store::outbox::{self, Dest};
use skerry_store::schema::remote::{SendBehind, SendOwed, SendSeen};
use skerry_store::{Scan, Snapshot, StoreError, Write};

use super::Inner;
use super::queue::{Kept, Waiting};
use super::source::Outgoing;

/// How many outgoing events are given to queues at a time.
const STEP: usize = 256;
/// How long a server may fail before it is told how its rooms stand instead of every event, in
/// ms: half an hour.
const LAGS_AFTER_MS: u64 = 30 * 60_000;

/// The servers in a room.
struct Present {
    servers: Vec<ServerNid>,
    /// Those that came after the first event that is looked at, with when.
    after: HashMap<ServerNid, Pos>,
}

impl Present {
    /// Those that were there when something was said.
    fn at(&self, pos: Pos) -> impl Iterator<Item = ServerNid> {
        let was_there =
            move |server: &ServerNid| self.after.get(server).is_none_or(|since| *since <= pos);
        self.servers.iter().copied().filter(was_there)
    }
}

impl Inner {
    /// Fills the queues with what the store says.
    pub(super) fn begin(&self) -> Result<(), StoreError> {
        let snap = self.store.snapshot();
        let seen = snap.get::<SendSeen>(&())?.unwrap_or(Pos::ZERO);
        let behind: Vec<(ServerNid, Pos)> = snap
            .scan::<SendBehind>(Scan::all())
            .collect::<Result<_, _>>()?;
        for (server, pos) in &behind {
            let name = self.store.server_name(*server)?;
            let mut queues = self.queues.lock();
            queues.of(*server, &name).kept.behind = Some(*pos);
        }
        for row in snap.scan::<SendOwed>(Scan::all()) {
            let ((server, room), owed) = row?;
            let name = self.store.server_name(server)?;
            let mut queues = self.queues.lock();
            let queue = queues.of(server, &name);
            queue.owed.insert(room, owed.clone());
            queue.kept.owed.insert(room, owed);
            queues.wake(server);
        }
        {
            let mut queues = self.queues.lock();
            (queues.seen, queues.seen_kept) = (seen, seen);
        }
        self.refill(&snap, &behind.into_iter().collect(), seen)?;
        for dest in outbox::destinations(&snap)? {
            if let Dest::Server(server) = dest {
                self.rows_for(server)?;
            }
        }
        Ok(())
    }

    /// Gives servers that are behind the events that they have not got.
    fn refill(
        &self,
        snap: &Snapshot,
        behind: &HashMap<ServerNid, Pos>,
        seen: Pos,
    ) -> Result<(), StoreError> {
        let Some(first) = behind.values().min() else {
            return Ok(());
        };
        let mut after = Pos(first.0.saturating_sub(1));
        while after < seen {
            let rows = self.source.outgoing(snap, after, STEP)?;
            let Some(last) = rows.last() else { break };
            after = last.pos;
            let rows = rows.into_iter().filter(|row| row.pos <= seen).collect();
            self.give(snap, rows, |server, pos| {
                behind.get(&server).is_some_and(|first| *first <= pos)
            })?;
        }
        Ok(())
    }

    /// There is something in the outbox for a server.
    pub(super) fn rows_for(&self, server: ServerNid) -> Result<(), StoreError> {
        let name = self.store.server_name(server)?;
        self.queues.lock().add_rows(server, &name);
        Ok(())
    }

    /// Gives new outgoing events to the queues of those who are to get them. Says whether there
    /// may be more.
    pub(super) fn distribute(&self) -> Result<bool, StoreError> {
        let snap = self.store.snapshot();
        let seen = self.queues.lock().seen;
        let rows = self.source.outgoing(&snap, seen, STEP)?;
        let (count, last) = (rows.len(), rows.last().map(|row| row.pos));
        self.give(&snap, rows, |_, _| true)?;
        if let Some(last) = last {
            self.queues.lock().seen = last;
        }
        Ok(count == STEP)
    }

    fn give(
        &self,
        snap: &Snapshot,
        rows: Vec<Outgoing>,
        wanted: impl Fn(ServerNid, Pos) -> bool,
    ) -> Result<(), StoreError> {
        let mut in_rooms: HashMap<RoomNid, Present> = HashMap::new();
        let mut names: HashMap<ServerNid, Option<Arc<str>>> = HashMap::new();
        for row in rows {
            let present = match in_rooms.entry(row.room) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => new.insert(Present {
                    servers: self.source.servers(snap, row.room)?,
                    after: self.source.servers_after(snap, row.room, row.pos)?,
                }),
            };
            let joined: Vec<ServerNid> = present.at(row.pos).collect();
            let also = row.also.iter().filter(|server| !joined.contains(server));
            let also: Vec<_> = also.map(|server| (*server, true)).collect();
            let joined = joined.into_iter().map(|server| (server, false));
            let all: Vec<_> = joined.chain(also).collect();
            for (server, _) in &all {
                if !names.contains_key(server) {
                    names.insert(*server, self.name_of(*server)?);
                }
            }
            let mut queues = self.queues.lock();
            for (server, alone) in all {
                if row.from == Some(server) || !wanted(server, row.pos) {
                    continue;
                }
                let Some(Some(name)) = names.get(&server) else {
                    continue;
                };
                let waiting = Waiting {
                    pos: row.pos,
                    room: row.room,
                    event: row.event,
                    alone,
                };
                queues.add(server, name, waiting);
            }
        }
        Ok(())
    }

    /// The name of a server with which we talk.
    fn name_of(&self, server: ServerNid) -> Result<Option<Arc<str>>, StoreError> {
        let name = self.store.server_name(server)?;
        let talks = *name != **self.peers.own_name() && self.peers.policy().permits(&name);
        Ok(talks.then_some(name))
    }

    /// Lets a server that fails for long be told how its rooms stand, instead of every event.
    pub(super) fn lag(&self, server: ServerNid, name: &str) {
        let standing = self.peers.standings().of(name);
        let since = standing.map_or(0, |standing| standing.failing_since_ms);
        let long = since > 0 && since.saturating_add(LAGS_AFTER_MS) < self.clock.now_ms();
        if long && let Some(queue) = self.queues.lock().get_mut(server) {
            if let Some(flight) = queue.flight.take() {
                queue.undo(flight);
            }
            queue.lag();
        }
    }

    /// Writes down what has changed since the last time. Not waited for: what a crash takes back
    /// is sent once more.
    pub(super) fn save(&self) -> Result<(), StoreError> {
        let mut w = self.store.write();
        self.peers.standings().write(&mut w)?;
        let mut saved = Vec::new();
        {
            let mut queues = self.queues.lock();
            let seen = queues.seen;
            if seen != queues.seen_kept {
                w.put::<SendSeen>(&(), &seen);
                queues.seen_kept = seen;
            }
            for server in std::mem::take(&mut queues.changed) {
                if let Some(queue) = queues.get(server) {
                    let keep = queue.to_keep();
                    write_kept(&mut w, server, &queue.kept, &keep);
                    saved.push((server, keep));
                }
            }
            for (server, keep) in saved {
                if let Some(queue) = queues.get_mut(server) {
                    queue.kept = keep;
                }
                queues.changed.remove(&server);
                queues.tidy(server);
            }
        }
        if !w.is_empty() {
            let _ = self.store.commit(w)?;
        }
        Ok(())
    }

    /// Forgets outgoing events that nobody needs any more, one by one; after [`Inner::save`].
    pub(super) fn trim(&self, trimmed: Pos) -> Result<Pos, StoreError> {
        let upto = {
            let queues = self.queues.lock();
            let lowest = queues.lowest().map(|pos| Pos(pos.0.saturating_sub(1)));
            lowest.map_or(queues.seen_kept, |low| low.min(queues.seen_kept))
        };
        if upto > trimmed {
            self.source.forget(upto)?;
        }
        Ok(upto.max(trimmed))
    }
}

fn write_kept(w: &mut Write, server: ServerNid, before: &Kept, now: &Kept) {
    if before.behind != now.behind {
        match now.behind {
            Some(pos) => w.put::<SendBehind>(&server, &pos),
            None => w.delete::<SendBehind>(&server),
        }
    }
    for (room, owed) in &now.owed {
        if before.owed.get(room) != Some(owed) {
            w.put::<SendOwed>(&(server, *room), owed);
        }
    }
    for room in before.owed.keys() {
        if !now.owed.contains_key(room) {
            w.delete::<SendOwed>(&(server, *room));
        }
    }
}
