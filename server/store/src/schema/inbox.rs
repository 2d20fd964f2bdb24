//! Tables of what other servers sent and what is still to be judged.
//!
//! Owned by `skerry-federation`; everybody else calls its functions.

use skerry_core::{Pos, RoomNid, ServerNid};

use crate::{record, table, tables};

record! {
    /// A PDU that was taken and is still to be judged.
    pub struct InboxRow v1 {
        /// The server whose transaction it came in.
        pub origin: ServerNid,
        /// When it came, in ms since the epoch.
        pub at_ms: u64,
        /// The PDU, as JSON.
        pub pdu: Vec<u8>,
    }
}

record! {
    /// A PDU on which no judgement could be come to.
    pub struct InboxAsideRow v1 {
        /// The server whose transaction it came in.
        pub origin: ServerNid,
        /// When it was set aside, in ms since the epoch.
        pub at_ms: u64,
        /// Why.
        pub reason: String,
        /// The PDU, as JSON.
        pub pdu: Vec<u8>,
    }
}

record! {
    /// A transaction of another server.
    pub struct InboxTxnRow v1 {
        /// When it was answered, in ms since the epoch.
        pub at_ms: u64,
        /// The answer, as JSON.
        pub answer: Vec<u8>,
    }
}

table!(
    /// PDUs to be judged, by room and in the order they came.
    Inbox: "inbox", Federation, (RoomNid, Pos) => InboxRow, profile Scan
);
table!(
    /// PDUs that crashed or outlived their budget, kept to be looked at.
    InboxAside: "inbox_aside", Federation, (Pos, RoomNid) => InboxAsideRow, profile Small
);
table!(
    /// What was answered to transactions, by server and transaction id.
    InboxTxn: "inbox_txn", Federation, (ServerNid, String) => InboxTxnRow, profile Point
);

tables!(Inbox, InboxAside, InboxTxn);
