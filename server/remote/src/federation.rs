//! What we say to other Matrix servers: where they are, how we prove who we are, which keys they
//! sign with, whether what they signed is good, and what they are told.
//!
//! Start reading at [`Federation`], which holds it together, and at [`Peers`], through which
//! everything is asked; then [`KeyRing`], [`Checker`] and [`Sender`].

mod carry;
mod checker;
mod discover;
mod handle;
mod keyring;
mod peers;
pub mod people;
mod policy;
mod sender;
mod standing;
mod xmatrix;

#[cfg(test)]
mod fakes;

pub use carry::{Carry, Internet, Outbound};
pub use checker::{Checker, PduFault, RequestFault};
pub use discover::{Discovery, Place};
pub use handle::{Federation, FederationOptions};
pub use keyring::{KeyRing, KeyRingOptions, OldKey, Revoked, RevokedError};
pub use peers::{Limits, PeerError, Peers, PeersOptions};
pub use policy::Policy;
pub use sender::{SendStatus, Sender};
pub use xmatrix::{Proof, Signed};
