//! Rooms of several servers, which hand each other what a network would carry.

mod advisories;
mod converge;
mod handshakes;
mod joins;
mod outside;
mod pair;
mod received;
mod served;
mod speed;
