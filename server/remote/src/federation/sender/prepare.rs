//! One transaction: what is in it, its text, and what becomes of it.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use skerry_core::canonical::{MAX_INPUT_BYTES, Mode, Object, write_string};
use skerry_core::{EventNid, Pos, RoomNid, ServerNid};
use skerry_store::outbox::{self, Dest};
use skerry_store::schema::remote::Owed;
use skerry_store::{Snapshot, StoreError};

use super::Inner;
use super::queue::{Flight, TXN_EDUS, TXN_PDUS};
use crate::federation::peers::PeerError;

/// How long a transaction is at which nothing more is put into it, in bytes; one event or EDU may
/// go beyond it.
const TEXT_MAX: usize = 4 << 20;

/// A transaction, ready to be sent.
pub(super) struct Ready {
    pub(super) name: Arc<str>,
    pub(super) path: String,
    pub(super) body: String,
}

/// What a transaction carries, as JSON.
#[derive(Default)]
struct Cargo {
    pdus: Vec<String>,
    edus: Vec<String>,
    bytes: usize,
    /// How many rows of the outbox were looked at for it.
    rows_read: usize,
}

impl Cargo {
    fn is_full(&self) -> bool {
        self.bytes >= TEXT_MAX
    }

    fn text(&self, origin: &str, at_ms: u64) -> String {
        let mut text = String::with_capacity(self.bytes + 256);
        let list = |name: &str, items: &[String], text: &mut String| {
            text.push_str(name);
            for (n, item) in items.iter().enumerate() {
                text.push_str(if n > 0 { "," } else { "" });
                text.push_str(item);
            }
            text.push(']');
        };
        // In the order of canonical JSON.
        list("{\"edus\":[", &self.edus, &mut text);
        text.push_str(",\"origin\":");
        write_string(origin, &mut text);
        // Writing to a string does not fail.
        let _ = write!(text, ",\"origin_server_ts\":{at_ms}");
        list(",\"pdus\":[", &self.pdus, &mut text);
        text.push('}');
        text
    }
}

impl Inner {
    /// The next transaction for a server: the one that has not arrived yet, else a new one.
    /// Nothing where nothing waits.
    pub(super) fn prepare(&self, server: ServerNid) -> Result<Option<Ready>, StoreError> {
        loop {
            let snap = self.store.snapshot();
            let newest = self.newest(&snap, server)?;
            let Some((name, mut flight, rows)) = self.depart(server, &newest) else {
                return Ok(None);
            };
            // What is to be sent is there by now.
            let snap = self.store.snapshot();
            let loaded = self.load(&snap, server, &mut flight, rows);
            let more_rows = loaded
                .as_ref()
                .map_or(rows > 0, |cargo| cargo.rows_read > 0);
            if more_rows && let Some(queue) = self.queues.lock().get_mut(server) {
                queue.rows = true;
            }
            let cargo = loaded?;
            if flight.id.is_empty() {
                let n = self.count.fetch_add(1, Ordering::Relaxed);
                flight.id = format!("{:x}-{n}", self.born);
            }
            if !cargo.pdus.is_empty() || !cargo.edus.is_empty() {
                let body = cargo.text(self.peers.own_name(), flight.at_ms);
                let path = format!("/_matrix/federation/v1/send/{}", flight.id);
                self.put_flight(server, Some(flight));
                return Ok(Some(Ready { name, path, body }));
            }
            // Nothing in it can or need be sent.
            self.put_flight(server, None);
            if flight.pdus.is_empty() && flight.owed.is_empty() && cargo.rows_read == 0 {
                return Ok(None);
            }
        }
    }

    /// The newest event at the end of each room of which a server has missed much.
    fn newest(
        &self,
        snap: &Snapshot,
        server: ServerNid,
    ) -> Result<HashMap<RoomNid, EventNid>, StoreError> {
        let rooms: Vec<RoomNid> = {
            let queues = self.queues.lock();
            let queue = queues.get(server).filter(|queue| queue.flight.is_none());
            queue.map_or_else(Vec::new, |queue| queue.owed.keys().copied().collect())
        };
        let mut newest = HashMap::new();
        for room in rooms {
            if let Some(event) = self.source.ends(snap, room)?.into_iter().max() {
                newest.insert(room, event);
            }
        }
        Ok(newest)
    }

    /// What is under way to a server, or departs now; and how many rows of the outbox may be
    /// added to it.
    fn depart(
        &self,
        server: ServerNid,
        newest: &HashMap<RoomNid, EventNid>,
    ) -> Option<(Arc<str>, Flight, usize)> {
        let now_ms = self.clock.now_ms();
        let mut queues = self.queues.lock();
        let queue = queues.get_mut(server)?;
        if queue.flight.is_none() {
            queue.flight = Some(queue.depart(now_ms, newest));
        }
        // It stays in its place: what is under way is never out of sight.
        let flight = queue.flight.clone()?;
        let room = queue.most.saturating_sub(flight.len() + flight.owed.len());
        let room = room.min(TXN_EDUS.saturating_sub(flight.soon.len()));
        let reads = queue.rows && flight.id.is_empty() && room > 0;
        // Said again by whoever adds one from now on.
        queue.rows &= !reads;
        Some((
            Arc::clone(&queue.name),
            flight,
            if reads { room } else { 0 },
        ))
    }

    /// Puts a transaction into its place in the queue, or takes it from there.
    fn put_flight(&self, server: ServerNid, flight: Option<Flight>) {
        if let Some(queue) = self.queues.lock().get_mut(server) {
            queue.flight = flight;
        }
    }

    /// Reads what a transaction carries. What is not here any more, or damaged, is left out: it
    /// never holds up the rest (CVE-2025-30355).
    fn load(
        &self,
        snap: &Snapshot,
        server: ServerNid,
        flight: &mut Flight,
        rows: usize,
    ) -> Result<Cargo, StoreError> {
        let mut cargo = Cargo::default();
        if flight.id.is_empty() {
            for (room, owed) in &flight.owed {
                let ends = self.stands(snap, server, *room, owed)?;
                flight.ends.extend(ends);
            }
            flight.ends.truncate(TXN_PDUS);
        }
        let pdus = flight.pdus.iter().map(|waiting| waiting.event);
        for event in pdus.chain(flight.ends.iter().copied()) {
            if let Some(json) = self.pdu(snap, event) {
                cargo.bytes += json.len();
                cargo.pdus.push(json);
            }
        }
        let dest = Dest::Server(server);
        if flight.id.is_empty() && rows > 0 && !cargo.is_full() {
            let found = outbox::pending(snap, &dest, rows)?;
            self.edus(snap, &dest, found, flight, &mut cargo)?;
        } else if let Some(last) = flight.rows.last().copied() {
            let mut found = outbox::pending(snap, &dest, flight.rows.len())?;
            found.retain(|(pos, _)| *pos <= last);
            flight.rows.clear();
            self.edus(snap, &dest, found, flight, &mut cargo)?;
        }
        for edu in &flight.soon {
            cargo.edus.push(edu.json.clone());
        }
        Ok(cargo)
    }

    fn pdu(&self, snap: &Snapshot, event: EventNid) -> Option<String> {
        match self.source.json(snap, event) {
            Ok(json) => json,
            Err(error) => {
                tracing::error!(?event, %error, "an event cannot be sent to other servers");
                None
            }
        }
    }

    /// Takes rows of the outbox into a transaction; those that are no EDUs are set aside.
    fn edus(
        &self,
        snap: &Snapshot,
        dest: &Dest,
        found: Vec<(Pos, Vec<u8>)>,
        flight: &mut Flight,
        cargo: &mut Cargo,
    ) -> Result<(), StoreError> {
        let mut bad = Vec::new();
        cargo.rows_read = found.len();
        for (pos, item) in found {
            if cargo.is_full() {
                break;
            }
            match edu(&item) {
                Some(json) => {
                    cargo.bytes += json.len();
                    cargo.edus.push(json);
                    flight.rows.push(pos);
                }
                None => bad.push((pos, item)),
            }
        }
        if bad.is_empty() {
            return Ok(());
        }
        let mut w = self.store.write();
        for (pos, item) in bad {
            tracing::error!(?dest, pos = pos.0, "an EDU is not understood; set aside");
            outbox::set_aside(snap, &mut w, dest, pos, &item)?;
        }
        let applied = self.store.commit(w)?;
        self.store.wait_durable(&applied)
    }

    /// The events that tell a server how a room stands: its forward extremities, where it is in
    /// the room, and what it is to get in any case.
    fn stands(
        &self,
        snap: &Snapshot,
        server: ServerNid,
        room: RoomNid,
        owed: &Owed,
    ) -> Result<Vec<EventNid>, StoreError> {
        let mut events: Vec<EventNid> = owed.alone.into_iter().collect();
        if self.source.is_in(snap, room, server)? {
            let ends = self.source.ends(snap, room)?;
            events.extend(ends.into_iter().filter(|end| Some(*end) != owed.alone));
        }
        Ok(events)
    }

    /// A transaction has arrived: what it carried leaves the queue.
    pub(super) fn arrived(&self, server: ServerNid) -> Result<(), StoreError> {
        let flight = {
            let mut queues = self.queues.lock();
            let queue = queues.get_mut(server);
            queue.and_then(|queue| {
                queue.most = queue.most.saturating_mul(2).min(TXN_PDUS + TXN_EDUS);
                queue.turned_away = 0;
                queue.flight.take()
            })
        };
        let rows = flight.map(|flight| flight.rows).unwrap_or_default();
        self.take_off(server, &rows)
    }

    /// Takes rows off the outbox. Once this returns they are not read again.
    fn take_off(&self, server: ServerNid, rows: &[Pos]) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        let mut w = self.store.write();
        for pos in rows {
            outbox::sent(&mut w, &Dest::Server(server), *pos);
        }
        let applied = self.store.commit(w)?;
        self.store.wait_durable(&applied)
    }

    /// Drops everything that waits for a server with which we do not talk.
    pub(super) fn drop_all(&self, server: ServerNid) -> Result<(), StoreError> {
        self.queues.lock().clear(server);
        let mut w = self.store.write();
        outbox::clear(&mut w, &Dest::Server(server));
        let applied = self.store.commit(w)?;
        self.store.wait_durable(&applied)
    }

    /// A server did not take a transaction, for what is in it. Smaller ones are tried, until what
    /// it does not take is alone; that is left out.
    pub(super) fn refused(&self, server: ServerNid, error: &PeerError) -> Result<(), StoreError> {
        let alone = {
            let mut queues = self.queues.lock();
            let Some(queue) = queues.get_mut(server) else {
                return Ok(());
            };
            let Some(flight) = queue.flight.take() else {
                return Ok(());
            };
            if flight.len() > 1 {
                queue.most = (flight.len() / 2).max(1);
                queue.undo(flight);
                None
            } else {
                Some(flight)
            }
        };
        let Some(flight) = alone else { return Ok(()) };
        let events: Vec<EventNid> = flight.pdus.iter().map(|w| w.event).collect();
        let what = (events, &flight.ends, &flight.rows);
        tracing::warn!(?server, ?what, %error, "a server does not take this; left out");
        self.take_off(server, &flight.rows)
    }
}

/// An EDU as canonical JSON; nothing for what is none.
fn edu(item: &[u8]) -> Option<String> {
    let object = Object::parse_within(item, Mode::Lenient, MAX_INPUT_BYTES).ok()?;
    let whole = object.object("content").is_some() && object.str("edu_type").is_some();
    whole.then(|| object.to_string())
}
