//! The user directory: people of this server and of the rooms it takes part in, found by name
//! (client-server API, "User directory").
//!
//! `index` keeps the words of everybody's name, `search` finds people by them and decides whom the
//! asking user may know of. Who shares a room with whom is looked up when somebody asks, so a
//! change of rooms needs no work here.

mod index;
mod search;

pub use search::{Found, FoundPeople};
