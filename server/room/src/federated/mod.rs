//! Rooms that other servers take part in: what they send us, what they ask of us, and how our
//! users come into rooms of theirs. All of it without a network: who calls has fetched and
//! checked, and calls again with what was missing.
//!
//! Our rooms: `template` and `take` let users of other servers in, `drafted` invites them,
//! `serve`, `reader` and `space` answer what other servers ask. Rooms of others: `own` makes our
//! users' events, `enter` is the end of a join, `outside` keeps memberships of rooms that we do
//! not hold, `invite` takes invites to them.
//!
//! An event of another server is judged three times (`receive`): by the events it names as what
//! allows it, by the state before it, and by the room's current state. What the first two refuse
//! is kept as rejected, what the third refuses as soft-failed: neither has a place in the
//! timeline, but others may come after it. What others rest on is kept as `outliers`; what is
//! missing before an event is a hole (`backfill`).

mod acl;
mod backfill;
mod chain;
mod drafted;
mod enter;
mod find;
mod invite;
mod judge;
mod outgoing;
mod outliers;
mod outside;
mod own;
mod reader;
mod receive;
mod serve;
mod shown;
mod space;
mod squash;
mod take;
mod template;
mod verdict;

pub use backfill::{Backfilled, Hole};
pub use drafted::DraftedInvite;
pub use enter::Entry;
pub use find::Extremities;
pub use outgoing::OutgoingPdu;
pub use outside::Waiting;
pub use own::{ForeignTemplate, Wanted};
pub use serve::{MissingAsk, ServedState};
pub use space::ServedSpace;
pub use take::Entered;
pub use template::Template;
pub use verdict::{Arrival, Gap, Missing, Verdict};

pub(crate) use acl::takes_part;
pub(crate) use squash::DUMMY;

use crate::RoomError;

/// A server that the access list of a room does not name among those it lets in.
fn kept_out() -> RoomError {
    RoomError::Forbidden("The room keeps your server out".to_owned())
}
