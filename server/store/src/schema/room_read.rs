//! Tables for reading rooms: which events were redacted or have children, receipts, unread counts.
//!
//! Owned by `skerry-room`, which reads and writes them; everybody else calls its query functions.

use skerry_core::{EventNid, Order, Pos, RoomNid, UserNid};

use crate::schema::room::RelKind;
use crate::{code_enum, record, table, tables};

code_enum! {
    /// The two receipts that tell how far a user has read.
    pub enum ReceiptKind {
        /// `m.read`: everybody in the room sees it.
        Public = 1,
        /// `m.read.private`: only the user sees it.
        Private = 2,
    }
}

record! {
    /// How far a user has read, in one thread or in all of a room.
    pub struct ReceiptRow v1 {
        /// The event read up to.
        pub event: EventNid,
        /// Its place in the timeline.
        pub order: Order,
        /// When, in ms since the epoch.
        pub ts: u64,
        /// Log position of the receipt.
        pub pos: Pos,
    }
}

record! {
    /// What a user has not read in one thread of a room, for the events before a place.
    pub struct UnreadCount v1 {
        /// The thread: `main`, or the event id of its root.
        pub thread: String,
        /// Events that notify.
        pub notify: u32,
        /// Those of them that highlight.
        pub highlight: u32,
    }
}

record! {
    /// Unread counts of a user in a room up to a place in the timeline. A saved calculation:
    /// without the row, the push rules are evaluated from the user's receipt on.
    pub struct UnreadRow v1 {
        /// Events up to here, included, are in the counts.
        pub upto: Order,
        /// The largest log position of the receipts the counts were made with.
        pub receipts: Pos,
        /// Threads in which anything is unread.
        pub counts: Vec<UnreadCount>,
    }
}

record! {
    /// What a user said about one thread (MSC4306). Kept when they end a subscription.
    pub struct ThreadSubRow v1 {
        /// The room of the thread.
        pub room: RoomNid,
        /// Whether they are subscribed.
        pub subscribed: bool,
        /// Whether a client subscribed without being told to.
        pub automatic: bool,
        /// Log position of the newest change.
        pub pos: Pos,
    }
}

table!(
    /// Redacted events, with the redaction that took effect.
    Redacted: "redacted", Room, (RoomNid, EventNid) => EventNid, profile Scan
);
table!(
    /// Where the newest redaction of a room took effect.
    RedactedAt: "redacted_at", Room, RoomNid => Pos, profile Point
);
table!(
    /// Events that have children of a kind.
    Parents: "relation_parent", Room, (RoomNid, RelKind, EventNid) => (), profile Scan
);
table!(
    /// Receipts of a room. The thread is empty (all threads), `main`, or a root's event id.
    Receipts: "receipt", Room, (RoomNid, UserNid, ReceiptKind, String) => ReceiptRow, profile Scan
);
table!(
    /// Receipts of a room by log position, each receipt once.
    ReceiptAt: "receipt_at", Room, (RoomNid, Pos) => (UserNid, ReceiptKind, String), profile Scan
);
table!(
    /// Saved unread counts.
    Unread: "unread", Room, (UserNid, RoomNid) => UnreadRow, profile Point
);
table!(
    /// What users said about threads, by the event that begins the thread.
    ThreadSubs: "thread_sub", Room, (UserNid, EventNid) => ThreadSubRow, profile Scan
);
table!(
    /// The same by log position, each once.
    ThreadSubAt: "thread_sub_at", Room, (UserNid, Pos) => EventNid, profile Scan
);

tables!(
    Redacted,
    RedactedAt,
    Parents,
    Receipts,
    ReceiptAt,
    Unread,
    ThreadSubs,
    ThreadSubAt
);
