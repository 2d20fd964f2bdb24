//! Tables of what happens in rooms by the clock: sticky events and delayed ones.
//!
//! Owned by `skerry-room`; everybody else calls its query functions.

use skerry_core::{EventNid, Pos, RoomNid, StateKeyNid, UserNid};

use crate::{code_enum, record, table, tables};

record! {
    /// An event that is sticky for a while (MSC4354).
    pub struct StickyRow v1 {
        /// The event.
        pub event: EventNid,
        /// When it stops being sticky, in ms since the epoch.
        pub expires_ms: u64,
    }
}

record! {
    /// An event to be sent later (MSC4140), or what became of it.
    pub struct DelayedRow v1 {
        /// Whose.
        pub user: UserNid,
        /// The device that asked for it.
        pub device: String,
        /// Where to.
        pub room: RoomNid,
        /// The event type.
        pub kind: String,
        /// The state key of a state event.
        pub state_key: Option<String>,
        /// Its content, as JSON.
        pub content: Vec<u8>,
        /// For how many ms it is to be sticky.
        pub sticky_ms: Option<u32>,
        /// The time it is to bear, in ms since the epoch; none: that of being sent.
        pub ts: Option<u64>,
        /// How long it is delayed, in ms.
        pub delay_ms: u64,
        /// Since when, in ms since the epoch.
        pub since_ms: u64,
        /// What became of it; none: it is still to come.
        pub end: Option<DelayedEnd>,
    }
}

record! {
    /// What became of a delayed event.
    pub struct DelayedEnd v1 {
        /// When, in ms since the epoch.
        pub at_ms: u64,
        /// A client asked for it; otherwise its time had come.
        pub asked: bool,
        /// The id of the event that was sent.
        pub event_id: Option<String>,
        /// Why it was not sent: Matrix error code and text.
        pub error: Option<(String, String)>,
    }
}

record! {
    /// A delayed event that the server looks after, for a member of a call.
    pub struct DelegatedRow v1 {
        /// The call server's name of the room.
        pub room: String,
        /// Its name of the member.
        pub identity: String,
        /// Since when, in ms since the epoch.
        pub since_ms: u64,
        /// The member was seen to be connected.
        pub connected: bool,
    }
}

code_enum! {
    /// What happens to a delayed event at a time.
    pub enum DelayedStep {
        /// It is sent.
        Send = 1,
        /// What became of it is forgotten.
        Forget = 2,
    }
}

table!(
    /// Sticky events by room and log position.
    Sticky: "sticky", Room, (RoomNid, Pos) => StickyRow, profile Scan
);
table!(
    /// When which of them stops being sticky, in ms since the epoch.
    StickyEnds: "sticky_end", Room, (u64, RoomNid, Pos) => (), profile Scan
);
table!(
    /// Delayed events by id.
    Delayed: "delayed", Room, String => DelayedRow, profile Point
);
table!(
    /// Ids of delayed events by what happens to them next and when, in ms since the epoch.
    DelayedDue: "delayed_due", Room, (DelayedStep, u64, String) => (), profile Scan
);
table!(
    /// The same by owner.
    DelayedOf: "delayed_of", Room, (UserNid, DelayedStep, u64, String) => (), profile Scan
);
table!(
    /// Ids of delayed state events that are still to come, by what they are to set.
    DelayedState: "delayed_state", Room, (RoomNid, StateKeyNid, String) => (), profile Scan
);

table!(
    /// Delayed events that the server looks after, by id.
    Delegated: "delegated", Room, String => DelegatedRow, profile Scan
);

tables!(
    Sticky,
    StickyEnds,
    Delayed,
    DelayedDue,
    DelayedOf,
    DelayedState,
    Delegated,
);
