//! The rules of Matrix as pure functions: identifiers, canonical JSON, events and how they are
//! built, hashed, signed, redacted and checked, authorisation, room state and its resolution,
//! history visibility, push rule evaluation.
//!
//! What this crate deliberately does not know: where anything is stored, who is connected, what
//! time it is, where random bytes come from (both are arguments, see [`Clock`] and [`Dice`]), and
//! HTTP. Nothing here is asynchronous or touches a file or socket.
//!
//! Where to start reading: [`event::StoredEvent`] is what everything is about; [`build::build`]
//! makes one, [`auth::check`] judges one, [`state::StateMap`] holds what rooms are made of.

pub mod acl;
pub mod auth;
pub mod build;
pub mod canonical;
mod clock;
pub mod event;
#[cfg(any(test, feature = "fixtures"))]
pub mod fixtures;
pub mod fold;
pub mod hash;
mod ids;
pub mod keys;
mod membership;
pub mod names;
pub mod policy;
pub mod power;
pub mod push;
pub mod redact;
mod room_version;
pub mod search;
pub mod state;
pub mod units;
pub mod verify;
pub mod visibility;

pub use clock::{Clock, Dice, DiceSource};
pub use event::StoredEvent;
pub use ids::{EventNid, Order, Pos, RoomNid, ServerNid, StateId, StateKeyNid, UserNid};
pub use membership::Membership;
pub use room_version::{EventIdFormat, RoomVersion};
pub use state::{StateDelta, StateMap};
