//! Rooms of several servers, which hand each other what a network would carry.

mod handshakes;
mod outside;
mod served;
