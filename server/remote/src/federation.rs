//! What we say to other Matrix servers: where they are, and how we prove who we are.
//!
//! Start reading at [`Discovery`], which finds a server by its name.

mod discover;
mod xmatrix;

pub use discover::{Discovery, Place};
pub use xmatrix::{Proof, Signed};
