//! For tests alone: the whole server in this process, or several of them with a network between
//! them, people who use them, and the real program as a child that can be killed.
//!
//! It deliberately knows nothing that a client could not know: everything goes through the
//! router, as requests. Start reading at [`TestServer`].

mod child;
mod client;
mod clock;
pub mod fuzz;
mod gateway;
mod logs;
mod mail;
mod network;
mod server;
mod stranger;

pub use child::Child;
pub use client::Client;
pub use clock::TestClock;
pub use gateway::{Gateway, Told};
pub use mail::{Mail, MailSink};
pub use network::{Faults, Network};
pub use server::{Person, StoppedServer, TestServer};
pub use stranger::{Entered, Stranger};
