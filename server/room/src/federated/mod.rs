//! Rooms that other servers take part in: what they send us, what they ask of us, and how our
//! users come into rooms of theirs. All of it without a network: who calls has fetched and
//! checked, and calls again with what was missing.
//!
//! Our rooms: `template` and `take` let users of other servers in, `drafted` invites them,
//! `serve`, `reader` and `space` answer what other servers ask. Rooms of others: `own` makes our
//! users' events, `outside` keeps memberships of rooms that we do not hold, `invite` takes
//! invites to them.

mod acl;
mod chain;
mod drafted;
mod invite;
mod outside;
mod own;
mod reader;
mod serve;
mod shown;
mod space;
mod template;

pub use drafted::DraftedInvite;
pub use outside::Waiting;
pub use own::{ForeignTemplate, Wanted};
pub use serve::{MissingAsk, ServedState};
pub use space::ServedSpace;
pub use template::Template;

pub(crate) use acl::takes_part;

use crate::RoomError;

/// A server that the access list of a room does not name among those it lets in.
fn kept_out() -> RoomError {
    RoomError::Forbidden("The room keeps your server out".to_owned())
}
