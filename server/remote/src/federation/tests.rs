//! This server and a far one that is a script: joins, gaps, history, and answers of every bad kind.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod far;
mod gaps;
mod joins;
mod past;
mod us;
