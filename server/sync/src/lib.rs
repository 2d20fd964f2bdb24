//! What changed for a user between two positions, and waiting for it.
//!
//! [`Sync::wait`] takes a [`Request`] (who, from where, what is wanted) and gives a [`Delta`]: the
//! news in types of our own, with events already written as bytes. A door renders it in one of
//! the formats that clients know. The same computation serves every format.
//!
//! [`Sync::slide`] does the same for sliding sync, where the client names the rooms it wants and
//! the server remembers what it was told: see [`sliding`].
//!
//! What it deliberately does not know: HTTP, the shape of an answer, the tables (it asks
//! `skerry-room` and `skerry-account`), and who may see what (`skerry-room` decides).
//!
//! Start reading at [`Sync::wait`]: subscribe, take a snapshot, compute, wait. Then
//! `compute/mod.rs` for what is asked in which order, and `notifier.rs` for who is woken.

mod compute;
mod delta;
mod filter;
mod lazy;
mod notifier;
mod project;
pub mod sliding;
mod stream;
mod sync;
mod tails;
mod token;
mod turns;

pub use compute::overview::{Inside, Overview, RoomOverview};
pub use compute::stream::Happening;
pub use delta::{
    AccountEvent, Delta, DeviceLists, EventList, Presence, RoomDelta, StateSection, StrippedRoom,
    Summary, Timeline,
};
pub use filter::{
    BadFilter, FILTER_BYTES_MAX, Filter, RoomFilter, TIMELINE_LIMIT_DEFAULT, TIMELINE_LIMIT_MAX,
};
pub use skerry_account::e2e::KeyCounts;
pub use skerry_room::unread::{Count, Unread};
pub use stream::Stream;
pub use sync::{Request, Sync, SyncError, TIMEOUT_MAX};
pub use token::{BadToken, Token};
