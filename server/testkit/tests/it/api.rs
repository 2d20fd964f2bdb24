//! The API of the whole server, through its router.

mod admin;
mod every_route;
mod talk;
