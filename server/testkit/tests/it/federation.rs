//! Several servers that talk with each other.

mod requests;
