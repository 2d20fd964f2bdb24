//! Everything that is tested against the whole server, and the rules that the sources keep.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod advisories;
mod api;
mod crash;
mod faults;
mod federation;
mod fuzz;
mod tidy;
