//! What other Matrix servers say to us: the server-server endpoints, thin.
//!
//! A handler translates, asks a facade, renders. It deliberately knows no rule of rooms (those
//! are `skerry-room`'s) and reaches no other server by itself (that is `skerry-remote`'s).
//!
//! Start reading at [`routes`]; each file lists its endpoints in `ROUTES` at its top.

mod fault;
mod keys;
mod people;
mod query;

use skerry_account::Accounts;
use skerry_http::Route;
use skerry_remote::federation::Federation;
use skerry_remote::federation::people::People;
use skerry_room::Rooms;

/// What every handler gets.
pub struct Ctx {
    /// People and their devices.
    pub accounts: Accounts,
    /// Rooms.
    pub rooms: Rooms,
    /// What is said to other servers, and whether what they signed is good.
    pub federation: Federation,
    /// People and their devices across servers.
    pub people: People,
    /// What the operator chose.
    pub config: FederationConfig,
}

/// The operator's choices that endpoints themselves act on; facades have their own.
#[derive(Clone, Debug)]
pub struct FederationConfig {
    /// The version of this program.
    pub version: &'static str,
}

/// All endpoints of this crate.
#[must_use]
pub fn routes() -> Vec<Route<Ctx>> {
    let lists: &[&[Route<Ctx>]] = &[keys::ROUTES, people::ROUTES, query::ROUTES];
    lists.concat()
}
