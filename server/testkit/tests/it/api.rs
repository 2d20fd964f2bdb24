//! The API of the whole server, through its router.

mod accounts;
mod admin;
mod directory;
mod e2e;
mod every_route;
mod invites;
mod notices;
mod pages;
mod previews;
mod push;
mod reading;
mod redaction;
mod reports;
mod search;
mod sliding;
mod spaces;
mod spec;
mod sticky;
mod sync;
mod talk;
mod thread_subscriptions;
mod unsigned;
mod user_directory;
