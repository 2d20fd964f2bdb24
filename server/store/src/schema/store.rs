//! Tables of the store itself: head, log, cursors, outbox, names.

use skerry_core::{EventNid, Pos};

use crate::codec::Raw;
use crate::log::Change;
use crate::outbox::Dest;
use crate::{code_enum, record, table, tables};

record! {
    /// Where the store stands; rewritten by every commit, in its own batch.
    pub struct HeadRow v1 {
        /// The newest log position.
        pub head: Pos,
        /// Every event number given out so far is below this.
        pub next_event: u64,
        /// Every state number given out so far is below this.
        pub next_state: u64,
    }
}

code_enum! {
    /// What a name is the name of.
    pub enum NameKind {
        /// A user id.
        User = 1,
        /// A room id.
        Room = 2,
        /// A server name.
        Server = 3,
        /// An event type and a state key.
        StateKey = 4,
    }
}

record! {
    /// How sending to a destination went.
    pub struct Standing v1 {
        /// Failures since the last success.
        pub failures: u32,
        /// Nothing is sent before this, in ms since the epoch.
        pub retry_at_ms: u64,
        /// When the first of these failures was, in ms since the epoch; 0 without any.
        pub failing_since_ms: u64,
        /// When something last arrived, in ms since the epoch.
        pub success_ms: Option<u64>,
    }
}

table!(
    /// One row: where the store stands.
    Head: "head", Store, () => HeadRow, profile Small
);
table!(
    /// Facts about this database by name: the version of its schema, the floor of its log, the
    /// number of the name of the server it belongs to.
    Facts: "meta", Store, String => u64, profile Small
);
table!(
    /// What changed, in order.
    Log: "log", Store, Pos => Change, profile Scan
);
table!(
    /// Where the log stood at a time in ms since the epoch, noted now and then for trimming.
    LogMark: "log_mark", Store, u64 => Pos, profile Small
);
table!(
    /// How far each follower of the log has come.
    Cursor: "cursor", Store, String => Pos, profile Small
);
table!(
    /// What is to be sent to others, by destination and in order.
    Outbox: "outbox", Store, (Dest, Pos) => Raw, profile Scan
);
table!(
    /// Items of queues that nobody understood, kept to be looked at.
    OutboxAside: "outbox_aside", Store, (Pos, Dest) => Raw, profile Small
);
table!(
    /// How sending to each destination went.
    Standings: "dest", Store, Dest => Standing, profile Small
);
table!(
    /// From a name to its number.
    Name: "intern", Store, (NameKind, Vec<u8>) => u64, profile Point
);
table!(
    /// From a number to its name.
    NameOf: "intern_rev", Store, (NameKind, u64) => Raw, profile Point
);
table!(
    /// From an event id (packed) to its number.
    EventName: "event_name", Store, Vec<u8> => EventNid, profile Point
);
table!(
    /// From the number of an event to its id (packed).
    EventNameOf: "event_name_rev", Store, EventNid => Raw, profile Point
);

tables!(
    Head,
    Facts,
    Log,
    LogMark,
    Cursor,
    Outbox,
    OutboxAside,
    Standings,
    Name,
    NameOf,
    EventName,
    EventNameOf
);
