//! Full-text search: an index in the store, and the questions asked of it.
//!
//! The index follows the log (`follow.rs`), so that sending costs nothing; a search first lets it
//! catch up with what its asker has been told (`find.rs`), then takes the places of the terms
//! from it (`hits.rs`, `postings.rs`), then looks at the events themselves through the asker's [`View`]s:
//! who may see what is decided there, as for every other reader.
//!
//! [`View`]: crate::View

mod answer;
mod find;
mod follow;
mod hits;
mod postings;
mod token;

pub(crate) use follow::{Follower, forget};

pub use find::{ContextSizes, GroupBy, SearchAsk};
