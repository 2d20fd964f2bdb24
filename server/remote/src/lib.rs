//! Everything we say to other machines: the guarded HTTP client, the workers that empty the
//! outbox with retries and back-off, push gateways, application services, identity servers, mail.
//!
//! It deliberately does not know what other machines say to us, nor any HTTP endpoint of ours.
//!
//! Start reading at [`http::Client`], through which every request goes out, and at
//! [`outbox::Outbox`], which empties the queues that changes leave in the store.

pub mod appservice;
pub mod federation;
pub mod http;
pub mod identity;
pub mod inspect;
pub mod livekit;
pub mod mail;
pub mod outbox;
pub mod push;
