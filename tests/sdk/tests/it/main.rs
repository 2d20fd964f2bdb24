//! The Rust SDK of Element X against the real server, as a process of its own.

mod conversation;
mod element_x;
mod skerry;
