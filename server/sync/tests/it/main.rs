//! Sync on a real store.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]
#![allow(missing_docs)]

mod abroad;
mod basics;
mod crowd;
mod foreign;
mod house;
mod lazy;
mod leaving;
mod model;

mod private;
mod slider;
mod state;
mod waiting;
