//! The API of the whole server, through its router.

mod accounts;
mod admin;
mod e2e;
mod every_route;
mod previews;
mod reading;
mod redaction;
mod search;
mod sliding;
mod spec;
mod sticky;
mod sync;
mod talk;
mod thread_subscriptions;
mod unsigned;
