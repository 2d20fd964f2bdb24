//! Rooms on a real store.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod create;
mod house;
mod readers;
mod reading;
mod receipts;
mod relations;
mod send;
mod visibility;
mod aliases;
mod membership;
mod restricted;
mod state;
mod upgrade;
