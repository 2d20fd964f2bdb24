//! Tables of what other servers add to rooms: events known only as what others rest on, holes in
//! timelines, forks, and what is to be sent.
//!
//! Owned by `skerry-room`, which reads and writes them; everybody else calls its functions.

use skerry_core::{EventNid, Order, Pos, RoomNid, ServerNid, StateId};

use crate::{code_enum, record, table, tables};

code_enum! {
    /// How an event waits for another one that is not here.
    pub enum Awaits {
        /// It comes right after it.
        Prev = 1,
        /// It redacts it.
        Redaction = 2,
        /// It relates to it.
        Relation = 3,
    }
}

record! {
    /// An event in a timeline with something before it that is not here.
    pub struct HoleRow v1 {
        /// The event after the hole.
        pub event: EventNid,
        /// The ids of its previous events that are not here.
        pub missing: Vec<String>,
    }
}

record! {
    /// An event that is to be sent to the other servers of its room.
    pub struct PduOutRow v1 {
        /// The room.
        pub room: RoomNid,
        /// The event.
        pub event: EventNid,
        /// Servers without a joined member that are to get it all the same.
        pub also: Vec<ServerNid>,
    }
}

table!(
    /// Events known only because others rest on them, which have no place in a timeline.
    Outliers: "outlier", Room, (RoomNid, EventNid) => (), profile Scan
);
table!(
    /// Outliers not yet judged by their auth events, since some of these are not here.
    Unjudged: "outlier_unjudged", Room, (RoomNid, EventNid) => (), profile Scan
);
table!(
    /// The events that allow a state event; none for one from before this table.
    AuthOf: "auth_of", Room, EventNid => Vec<EventNid>, profile Point
);
table!(
    /// Where a room's current state became another one than that after its newest event.
    StateAt: "state_at", Room, (RoomNid, Pos) => StateId, profile Scan
);
table!(
    /// Holes in timelines, by the place of the event after the hole.
    Holes: "hole", Room, (RoomNid, Order) => HoleRow, profile Scan
);
table!(
    /// Events by the id of one that they refer to and that is not here.
    Waiting: "waiting", Room, (RoomNid, String, Awaits, EventNid) => (), profile Scan
);
table!(
    /// What is to be sent to other servers, in order.
    PduOut: "pdu_out", Room, Pos => PduOutRow, profile Scan
);

tables!(Outliers, Unjudged, AuthOf, StateAt, Holes, Waiting, PduOut);
