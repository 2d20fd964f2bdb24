//! The API of the whole server, through its router.

mod accounts;
mod admin;
mod e2e;
mod every_route;
mod reading;
mod spec;
mod sticky;
mod sync;
mod talk;
mod thread_subscriptions;
