//! Tables of redaction: what events said before they were redacted, and redactions still to be
//! carried out.
//!
//! Owned by `skerry-room`; everybody else calls its query functions.

use skerry_core::{EventNid, Order, RoomNid, UserNid};

use crate::schema::room::RelKind;
use crate::{code_enum, record, table, tables};

record! {
    /// An event as it was before it was redacted, kept for a time for moderators (MSC2815).
    pub struct OriginalRow v1 {
        /// When it was redacted, in ms since the epoch.
        pub at_ms: u64,
        /// Who sent it.
        pub sender: UserNid,
        /// `skerry_core::StoredEvent` as bytes.
        pub event: Vec<u8>,
    }
}

code_enum! {
    /// Which events a piece of work is about.
    pub enum RedactKind {
        /// Those that a removed user sent (MSC4293).
        Sender = 1,
        /// Those that relate to a redacted one (MSC3912).
        Related = 2,
    }
}

record! {
    /// Redactions that were too many for the write that asked for them.
    pub struct RedactJob v1 {
        /// Which events.
        pub kind: RedactKind,
        /// Whose events, or who redacts.
        pub user: UserNid,
        /// Who redacts is an administrator of this server.
        pub admin: bool,
        /// The event that the others relate to.
        pub target: Option<EventNid>,
        /// The relations meant; `*` stands for all.
        pub rel_types: Vec<String>,
        /// The place it has come to in the timeline (going back), or among the relations.
        pub reached: Option<(RelKind, Order)>,
    }
}

table!(
    /// What redacted events said.
    Original: "redacted_original", Room, (RoomNid, EventNid) => OriginalRow, profile Event
);
table!(
    /// The same by the time of the redaction, in ms since the epoch.
    OriginalAt: "redacted_original_at", Room, (u64, EventNid) => RoomNid, profile Scan
);
table!(
    /// Redactions to be carried out, by the event that asked for them.
    RedactJobs: "redact_job", Room, (RoomNid, EventNid) => RedactJob, profile Scan
);

tables!(Original, OriginalAt, RedactJobs);
