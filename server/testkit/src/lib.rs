//! For tests alone: the whole server in this process, people who use it, and the real program as
//! a child that can be killed.
//!
//! It deliberately knows nothing that a client could not know: everything goes through the
//! router, as requests. Start reading at [`TestServer`].

mod child;
mod client;
mod clock;
mod gateway;
mod logs;
mod mail;
mod server;

pub use child::Child;
pub use client::Client;
pub use clock::TestClock;
pub use gateway::{Gateway, Told};
pub use mail::{Mail, MailSink};
pub use server::{Person, TestServer};
