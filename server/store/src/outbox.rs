//! What is to be sent to others: rows in the same batch as the change that calls for them.
//!
//! Whoever empties the queues looks once at all [`destinations`] at the start, and is then told by
//! [`Store::queued`] which have got something new; nothing is read while nothing is queued.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use skerry_core::{Pos, ServerNid, UserNid};
use tokio::sync::watch;

use crate::codec::{Buf, Cur, Key, Malformed, Raw};
use crate::schema::store::{Outbox, OutboxAside, Standings};
use crate::{Scan, Snapshot, Store, StoreError, Write};

pub use crate::schema::store::Standing;

/// How many rows that nobody understood are kept to be looked at.
const MAX_ASIDE: usize = 1_000;

/// Where something is to be sent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dest {
    /// Another Matrix server.
    Server(ServerNid),
    /// An application service, by its id.
    Appservice(String),
    /// A push gateway, by its URL.
    Push(String),
    /// The mail server.
    Mail,
    /// Push gateways of a user, once it is known whether they read by themselves what they would
    /// be told of.
    Held(UserNid),
}

impl Key for Dest {
    fn encode(&self, out: &mut Buf) {
        match self {
            Self::Server(server) => {
                out.byte(1);
                server.encode(out);
            }
            Self::Appservice(id) => {
                out.byte(2);
                id.encode(out);
            }
            Self::Push(url) => {
                out.byte(3);
                url.encode(out);
            }
            Self::Mail => out.byte(4),
            Self::Held(user) => {
                out.byte(5);
                user.encode(out);
            }
        }
    }

    fn decode(cur: &mut Cur<'_>) -> Result<Self, Malformed> {
        Ok(match cur.byte()? {
            1 => Self::Server(Key::decode(cur)?),
            2 => Self::Appservice(Key::decode(cur)?),
            3 => Self::Push(Key::decode(cur)?),
            4 => Self::Mail,
            5 => Self::Held(Key::decode(cur)?),
            _ => return Err(Malformed),
        })
    }
}

/// Adds an item to a destination's queue. It gets a position of its own.
pub fn queue(w: &mut Write, dest: &Dest, item: &[u8]) -> Pos {
    let pos = w.stamp();
    w.put::<Outbox>(&(dest.clone(), pos), &Raw(item.to_vec()));
    w.queued.push(dest.clone());
    pos
}

/// Adds an EDU to the queue of another Matrix server. `content` is a JSON object. The item is the
/// EDU as it stands in a transaction: `{"content":..,"edu_type":".."}`.
pub fn queue_edu(w: &mut Write, server: ServerNid, edu_type: &str, content: &str) -> Pos {
    // Types of EDUs are ours: none has anything to escape.
    let item = format!("{{\"content\":{content},\"edu_type\":\"{edu_type}\"}}");
    queue(w, &Dest::Server(server), item.as_bytes())
}

/// All destinations that have something in their queue.
///
/// # Errors
/// Reading failed.
pub fn destinations(snap: &Snapshot) -> Result<Vec<Dest>, StoreError> {
    let mut found: Vec<Dest> = Vec::new();
    loop {
        let mut scan = Scan::all().limit(1);
        if let Some(last) = found.last() {
            scan = scan.after(&(last.clone(), Pos(u64::MAX)));
        }
        match snap.scan::<Outbox>(scan).next().transpose()? {
            Some(((dest, _), _)) => found.push(dest),
            None => return Ok(found),
        }
    }
}

/// The oldest items of a destination's queue, at most `limit`.
///
/// # Errors
/// Reading failed.
pub fn pending(
    snap: &Snapshot,
    dest: &Dest,
    limit: usize,
) -> Result<Vec<(Pos, Vec<u8>)>, StoreError> {
    snap.scan::<Outbox>(Scan::prefix(dest).limit(limit))
        .map(|row| row.map(|((_, pos), item)| (pos, item.0)))
        .collect()
}

/// The places of all items of a queue, oldest first.
///
/// # Errors
/// Reading failed.
pub fn positions(snap: &Snapshot, dest: &Dest) -> Result<Vec<Pos>, StoreError> {
    snap.scan::<Outbox>(Scan::prefix(dest))
        .map(|row| row.map(|((_, pos), _)| pos))
        .collect()
}

/// Takes an item off its queue, once it has arrived.
pub fn sent(w: &mut Write, dest: &Dest, pos: Pos) {
    w.delete::<Outbox>(&(dest.clone(), pos));
}

/// Takes everything off a queue up to and including `pos`.
pub fn sent_upto(w: &mut Write, dest: &Dest, pos: Pos) {
    let end = (dest.clone(), Pos(pos.0.saturating_add(1)));
    w.delete_between::<Outbox>(&(dest.clone(), Pos::ZERO), &end);
}

/// Takes everything off a queue, with what is known of its destination.
pub fn clear(w: &mut Write, dest: &Dest) {
    w.delete_range::<Outbox>(dest.clone());
    w.delete::<Standings>(dest);
}

/// Takes an item off its queue that nobody understands, and keeps it to be looked at, up to
/// 1,000 in all.
///
/// # Errors
/// Reading failed.
pub fn set_aside(
    snap: &Snapshot,
    w: &mut Write,
    dest: &Dest,
    pos: Pos,
    item: &[u8],
) -> Result<(), StoreError> {
    sent(w, dest, pos);
    let mut kept = Vec::new();
    for row in snap.scan::<OutboxAside>(Scan::all()) {
        kept.push(row?.0);
    }
    let surplus = (kept.len() + 1).saturating_sub(MAX_ASIDE);
    for key in kept.into_iter().take(surplus) {
        w.delete::<OutboxAside>(&key);
    }
    w.put::<OutboxAside>(&(pos, dest.clone()), &Raw(item.to_vec()));
    Ok(())
}

/// How sending to a destination went; none if nothing was ever tried.
///
/// # Errors
/// Reading failed.
pub fn standing(snap: &Snapshot, dest: &Dest) -> Result<Option<Standing>, StoreError> {
    snap.get::<Standings>(dest)
}

/// All destinations to which something was ever sent, with how it went.
///
/// # Errors
/// Reading failed.
pub fn standings(snap: &Snapshot) -> Result<Vec<(Dest, Standing)>, StoreError> {
    snap.scan::<Standings>(Scan::all()).collect()
}

/// Notes how sending to a destination went.
pub fn set_standing(w: &mut Write, dest: &Dest, standing: &Standing) {
    w.put::<Standings>(dest, standing);
}

/// Forgets how sending to a destination went.
pub fn forget_standing(w: &mut Write, dest: &Dest) {
    w.delete::<Standings>(dest);
}

/// Which queues got something, until it is durable and somebody asks.
#[derive(Debug)]
pub(crate) struct Queued {
    fresh: Mutex<BTreeMap<Dest, Pos>>,
    bell: watch::Sender<u64>,
}

impl Default for Queued {
    fn default() -> Queued {
        Queued {
            fresh: Mutex::new(BTreeMap::new()),
            bell: watch::Sender::new(0),
        }
    }
}

impl Queued {
    /// A commit with this head put something into these queues.
    pub(crate) fn note(&self, dests: Vec<Dest>, head: Pos) {
        if dests.is_empty() {
            return;
        }
        let mut fresh = self.fresh.lock();
        for dest in dests {
            fresh.insert(dest, head);
        }
        drop(fresh);
        self.bell.send_modify(|n| *n += 1);
    }
}

impl Store {
    /// Raised whenever a commit puts something into a queue, before it is durable.
    #[must_use]
    pub fn queued_bell(&self) -> watch::Receiver<u64> {
        self.shared.queued.bell.subscribe()
    }

    /// The destinations that got something since this was called last for them and up to this
    /// published head; and whether there are more that are not published yet. Each destination
    /// is `mine` to one of those who empty the queues.
    pub fn queued(&self, published: Pos, mine: impl Fn(&Dest) -> bool) -> (Vec<Dest>, bool) {
        let mut fresh = self.shared.queued.fresh.lock();
        let (mut found, mut more) = (Vec::new(), false);
        fresh.retain(|dest, pos| {
            let (mine, ready) = (mine(dest), *pos <= published);
            if mine && ready {
                found.push(dest.clone());
            }
            more |= mine && !ready;
            !(mine && ready)
        });
        (found, more)
    }
}
