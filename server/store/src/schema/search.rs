//! Tables of full-text search.
//!
//! Owned by `skerry-room`; its follower of the log fills the index, nothing else writes it.

use skerry_core::{Order, Pos, RoomNid};

use crate::codec::Raw;
use crate::{record, table, tables};

record! {
    /// The index is being made for events that were there before it.
    pub struct SearchBuild v1 {
        /// Events up to here are made up for; later ones come by the log.
        pub upto: Pos,
        /// The room it has come to.
        pub room: RoomNid,
        /// The place it has come to there.
        pub order: Order,
    }
}

table!(
    /// Where terms stand: by room, term and the first of some events that have it; the value is a
    /// list of those events, written by `skerry-room`.
    Search: "search", Room, (RoomNid, String, Order) => Raw, profile Scan
);
table!(
    /// Terms of events that are to be found no more, until the index has dropped them.
    SearchGone: "search_gone", Room, (RoomNid, Order) => Vec<String>, profile Scan
);
table!(
    /// One row while the index is being made for what was there before it.
    SearchBuilds: "search_build", Room, () => SearchBuild, profile Small
);

tables!(Search, SearchGone, SearchBuilds);
