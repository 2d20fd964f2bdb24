//! The store on a real disk: commits, crashes, damage, full disks.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod commits;
mod crash;
mod damage;
mod disk;
mod format;
mod lanes;
mod log;
mod speed;
mod support;
