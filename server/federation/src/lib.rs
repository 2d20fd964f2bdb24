//! What other Matrix servers say to us: the server-server endpoints, thin, and the durable inbox
//! behind `/send`.
//!
//! A handler translates, asks a facade, renders. It deliberately knows no rule of rooms (those
//! are `skerry-room`'s) and reaches no other server by itself (that is `skerry-remote`'s).
//!
//! Start reading at [`routes`]; each file lists its endpoints in `ROUTES` at its top. `send.rs` is
//! the way of a transaction, [`Inbox`] keeps its PDUs until `judge.rs` has judged them.

mod fault;
mod history;
mod inbox;
mod invite;
mod judge;
mod keys;
mod member;
mod outside;
mod people;
mod pieces;
mod policy;
mod query;
mod send;
mod spaces;

use std::sync::Arc;

use skerry_account::Accounts;
use skerry_core::Clock;
use skerry_http::Route;
use skerry_remote::federation::Federation;
use skerry_remote::federation::people::People;
use skerry_room::Rooms;

pub use inbox::{Begun, Inbox, Open, Outcome, Patience, Pending, Receive};
pub use judge::Judge;
pub use send::Transaction;

/// What every handler gets.
pub struct Ctx {
    /// People and their devices.
    pub accounts: Accounts,
    /// Rooms.
    pub rooms: Rooms,
    /// What is said to other servers, and whether what they signed is good.
    pub federation: Federation,
    /// What is still to be judged.
    pub inbox: Inbox,
    /// People and their devices across servers.
    pub people: People,
    /// What the operator chose.
    pub config: FederationConfig,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// The operator's choices that endpoints themselves act on; facades have their own.
#[derive(Clone, Debug)]
pub struct FederationConfig {
    /// The name of this server.
    pub server_name: Arc<str>,
    /// The version of this program.
    pub version: &'static str,
    /// Whether other servers may read the directory of public rooms.
    pub directory: bool,
}

/// All endpoints of this crate.
#[must_use]
pub fn routes() -> Vec<Route<Ctx>> {
    let lists: &[&[Route<Ctx>]] = &[
        send::ROUTES,
        keys::ROUTES,
        people::ROUTES,
        member::ROUTES,
        invite::ROUTES,
        history::ROUTES,
        query::ROUTES,
        spaces::ROUTES,
        policy::ROUTES,
    ];
    lists.concat()
}
