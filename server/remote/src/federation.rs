//! What we say to other Matrix servers: where they are, how we prove who we are, which keys they
//! sign with, whether what they signed is good, and what they are told.
//!
//! Start reading at [`Federation`], which holds it together, and at [`Peers`], through which
//! everything is asked; then [`KeyRing`], [`Checker`] and [`Sender`].

mod approve;
mod ask;
mod asked;
mod backfill;
mod budget;
mod call;
mod candidates;
mod carry;
mod checker;
mod desk;
mod discover;
mod fault;
mod fetch;
mod gather;
mod handle;
mod history;
mod invite;
mod join;
mod kept;
mod keyring;
mod knock;
mod leave;
mod openid;
mod paths;
mod peers;
pub mod people;
mod pieces;
mod policy;
mod sender;
mod spaces;
mod stage;
mod standing;
mod template;
#[cfg(feature = "fixtures")]
pub mod untrusted;
mod xmatrix;

#[cfg(test)]
mod fakes;
#[cfg(test)]
mod tests;

pub use ask::{Aliased, Profile, RemoteDirectory, RemotePage};
pub use carry::{Carry, Internet, Outbound};
pub use checker::{Checker, PduFault, RequestFault};
pub use desk::{DeskOptions, MediaHashes, PolicyDesk};
pub use discover::{Discovery, Place};
pub use fault::FederationError;
pub use handle::{Federation, FederationOptions};
pub use keyring::{KeyRing, KeyRingOptions, KeysAsked, OldKey, Revoked, RevokedError};
pub use peers::{Limits, PeerError, Peers, PeersOptions};
pub use policy::Policy;
pub use sender::{SendStatus, Sender};
pub use xmatrix::{Proof, Signed};
