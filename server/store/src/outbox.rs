//! What is to be sent to others: rows in the same batch as the change that calls for them.

use skerry_core::{Pos, ServerNid};

use crate::codec::{Buf, Cur, Key, Malformed, Raw};
use crate::schema::store::Outbox;
use crate::{Scan, Snapshot, StoreError, Write};

/// Where something is to be sent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dest {
    /// Another Matrix server.
    Server(ServerNid),
    /// An application service, by its id.
    Appservice(String),
    /// A push gateway, by its URL.
    Push(String),
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
        }
    }

    fn decode(cur: &mut Cur<'_>) -> Result<Self, Malformed> {
        Ok(match cur.byte()? {
            1 => Self::Server(Key::decode(cur)?),
            2 => Self::Appservice(Key::decode(cur)?),
            3 => Self::Push(Key::decode(cur)?),
            _ => return Err(Malformed),
        })
    }
}

/// Adds an item to a destination's queue. It gets a position of its own.
pub fn queue(w: &mut Write, dest: &Dest, item: &[u8]) -> Pos {
    let pos = w.stamp();
    w.put::<Outbox>(&(dest.clone(), pos), &Raw(item.to_vec()));
    pos
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

/// Takes an item off its queue, once it has arrived.
pub fn sent(w: &mut Write, dest: &Dest, pos: Pos) {
    w.delete::<Outbox>(&(dest.clone(), pos));
}
