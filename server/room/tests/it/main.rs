//! Rooms on a real store.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod abroad;
mod aliases;
mod create;
mod damaged;
mod federated;
mod house;
mod membership;
mod people;
mod readers;
mod reading;
mod receipts;
mod redaction;
mod relations;
mod restricted;
mod retention;
mod search;
mod search_speed;
mod send;
mod state;
mod upgrade;
mod visibility;
