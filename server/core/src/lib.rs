//! The rules of Matrix as pure functions.

mod clock;
mod ids;

pub use clock::{Clock, Dice, DiceSource};
pub use ids::{EventNid, Order, Pos, RoomNid, ServerNid, StateId, StateKeyNid, UserNid};
