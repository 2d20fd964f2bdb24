//! What we say to other Matrix servers: where they are, and how we prove who we are. Only the
//! groundwork is here: nothing calls it until federation is there.
//!
//! Start reading at [`Discovery`], which finds a server by its name.

mod discover;
mod xmatrix;

pub use discover::{Discovery, Place};
pub use xmatrix::{Proof, Signed};
