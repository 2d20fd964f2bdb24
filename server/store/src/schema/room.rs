//! Tables of rooms: events, their order, state, members, aliases.
//!
//! Owned by `skerry-room`, which reads and writes them; everybody else calls its query functions.

use skerry_core::{
    EventNid, Membership, Order, Pos, RoomNid, ServerNid, StateId, StateKeyNid, UserNid,
};

use crate::{code_enum, record, table, tables};

record! {
    /// One event: its bytes and what this server noted beside them.
    pub struct EventRow v1 {
        /// The redaction that took effect on it; `event` is then the redacted form.
        pub redacted_by: Option<EventNid>,
        /// Device and transaction id of the client that sent it, for its own `unsigned`.
        pub sent: Option<SentBy>,
        /// `skerry_core::StoredEvent` as bytes.
        pub event: Vec<u8>,
    }
}

record! {
    /// As it was before there were delayed events.
    pub struct SentByV1 v1 {
        /// The device.
        pub device: String,
        /// The transaction id.
        pub txn: String,
    }
}

record! {
    /// Which client call made an event.
    pub struct SentBy v2 {
        /// The device that sent it.
        pub device: String,
        /// The transaction id it used; none where it used none.
        pub txn: Option<String>,
        /// The id that the event had while it was delayed.
        pub delay_id: Option<String>,
    } from SentByV1
}

impl From<SentByV1> for SentBy {
    fn from(old: SentByV1) -> SentBy {
        SentBy {
            device: old.device,
            txn: Some(old.txn),
            delay_id: None,
        }
    }
}

record! {
    /// Where an event stands, without its content.
    pub struct EventMeta v1 {
        /// Its room.
        pub room: RoomNid,
        /// Its place in the room's timeline.
        pub order: Order,
        /// Its depth in the graph.
        pub depth: u64,
        /// Who sent it.
        pub sender: UserNid,
        /// State of the room before it.
        pub before: StateId,
        /// State of the room after it; the same for an event that is no state.
        pub after: StateId,
        /// Its type and state key, if it is a state event.
        pub state_key: Option<StateKeyNid>,
        /// The state event it replaced.
        pub replaces: Option<EventNid>,
        /// No bit is set for an event that passed all rules and stands in the timeline behind
        /// what came before it, as every local one does; else some of the constants below.
        pub flags: u8,
    }
}

impl EventMeta {
    /// The rules refuse it: by the events it names as what allows it, or by the state before it.
    pub const REJECTED: u8 = 1;
    /// The rules allow it where it stands, but not by the state that the room had when it came.
    pub const SOFT_FAILED: u8 = 2;
    /// It is here only because others rest on it: it has no place, and the state before it is
    /// not known.
    pub const OUTLIER: u8 = 4;
    /// The state before it is known in part only.
    pub const PARTIAL: u8 = 8;
    /// When it came, something right before it was not here.
    pub const AFTER_HOLE: u8 = 16;
    /// An outlier that could not be judged yet.
    pub const UNJUDGED: u8 = 32;

    /// Whether it stands in the room's timeline.
    #[must_use]
    pub const fn is_placed(&self) -> bool {
        self.flags & (Self::REJECTED | Self::SOFT_FAILED | Self::OUTLIER) == 0
    }

    /// Whether the rules refuse it.
    #[must_use]
    pub const fn is_rejected(&self) -> bool {
        self.flags & Self::REJECTED != 0
    }

    /// Whether it could not be judged yet.
    #[must_use]
    pub const fn is_unjudged(&self) -> bool {
        self.flags & Self::UNJUDGED != 0
    }

    /// Whether it is known only because others rest on it.
    #[must_use]
    pub const fn is_outlier(&self) -> bool {
        self.flags & Self::OUTLIER != 0
    }
}

record! {
    /// What never changes about a room.
    pub struct RoomRow v1 {
        /// The room version, by `RoomVersion::number`.
        pub version: u8,
        /// `m.room.create`.
        pub create: EventNid,
        /// Who sent the create event.
        pub creator: UserNid,
        /// `type` of the create event's content.
        pub room_type: Option<String>,
        /// When it was created or first joined here, in ms since the epoch.
        pub since_ms: u64,
    }
}

record! {
    /// [`RoomHead`] before it said when the room was last talked in.
    pub struct RoomHeadV1 v1 {
        /// Current state.
        pub state: StateId,
        /// Events that no other event refers to yet.
        pub extremities: Vec<EventNid>,
        /// Largest depth of them.
        pub depth: u64,
        /// Log position of the newest event.
        pub last: Pos,
        /// Log position of the newest change of state.
        pub state_pos: Pos,
        /// How many users are joined.
        pub joined: u32,
        /// How many users are invited.
        pub invited: u32,
        /// How many of the joined users are of other servers.
        pub remote: u32,
    }
}

record! {
    /// The newest end of a room: rewritten with every event.
    pub struct RoomHead v2 {
        /// Current state.
        pub state: StateId,
        /// Events that no other event refers to yet.
        pub extremities: Vec<EventNid>,
        /// Largest depth of them.
        pub depth: u64,
        /// Log position of the newest event.
        pub last: Pos,
        /// Log position of the newest change of state.
        pub state_pos: Pos,
        /// How many users are joined.
        pub joined: u32,
        /// How many users are invited.
        pub invited: u32,
        /// How many of the joined users are of other servers.
        pub remote: u32,
        /// Log position of the newest event that is talk rather than housekeeping.
        pub bump: Pos,
    } from RoomHeadV1
}

impl From<RoomHeadV1> for RoomHead {
    fn from(old: RoomHeadV1) -> RoomHead {
        RoomHead {
            state: old.state,
            extremities: old.extremities,
            depth: old.depth,
            last: old.last,
            state_pos: old.state_pos,
            joined: old.joined,
            invited: old.invited,
            remote: old.remote,
            bump: old.last,
        }
    }
}

record! {
    /// A version of a room's state, as what differs from an earlier one.
    pub struct StateDelta v1 {
        /// The earlier version; none: from the empty state.
        pub parent: Option<StateId>,
        /// How many changes lie before this one in its line; decides which parent the next takes.
        pub seq: u64,
        /// Keys that are new or point to another event.
        pub adds: Vec<(StateKeyNid, EventNid)>,
        /// Keys that are gone (only after state resolution).
        pub removes: Vec<StateKeyNid>,
    }
}

record! {
    /// A user's membership in a room, by room.
    pub struct Member v1 {
        /// What it is now.
        pub membership: Membership,
        /// The event that made it so.
        pub event: EventNid,
        /// When it became so.
        pub pos: Pos,
        /// The user has forgotten the room since leaving.
        pub forgotten: bool,
    }
}

record! {
    /// A user's membership in a room, by user. A forgotten room has no such row.
    pub struct MemberOf v1 {
        /// What it is now.
        pub membership: Membership,
        /// The event that made it so.
        pub event: EventNid,
        /// When it became so.
        pub pos: Pos,
        /// When `membership` last took another value (a new display name does not count).
        pub since: Pos,
    }
}

code_enum! {
    /// How an event relates to its parent.
    pub enum RelKind {
        /// `m.annotation`
        Annotation = 1,
        /// `m.replace`
        Replace = 2,
        /// `m.thread`
        Thread = 3,
        /// `m.reference`
        Reference = 4,
        /// Anything else: the event itself says.
        Other = 255,
    }
}

record! {
    /// An event that relates to another.
    pub struct Relation v1 {
        /// The event that relates.
        pub child: EventNid,
        /// Who sent it.
        pub sender: UserNid,
        /// Log position at which it came.
        pub pos: Pos,
    }
}

record! {
    /// What a room alias of this server points to.
    pub struct AliasRow v1 {
        /// The room.
        pub room: RoomNid,
        /// Who made the alias.
        pub creator: UserNid,
        /// When, in ms since the epoch.
        pub at_ms: u64,
    }
}

record! {
    /// A room listed in this server's directory.
    pub struct DirectoryRow v1 {
        /// Who listed it.
        pub by: UserNid,
        /// When, in ms since the epoch.
        pub at_ms: u64,
    }
}

table!(
    /// Events by number.
    Event: "event", Room, EventNid => EventRow, profile Event
);
table!(
    /// Where each event stands.
    Meta: "event_meta", Room, EventNid => EventMeta, profile Point
);
table!(
    /// The events of a room in order.
    Timeline: "timeline", Room, (RoomNid, Order) => EventNid, profile Scan
);
table!(
    /// What never changes about each room.
    Room: "room", Room, RoomNid => RoomRow, profile Point
);
table!(
    /// The newest end of each room.
    Head: "room_head", Room, RoomNid => RoomHead, profile Point
);
table!(
    /// Versions of rooms' states.
    State: "state_delta", Room, StateId => StateDelta, profile Point
);
table!(
    /// The current state of each room.
    StateNow: "state_now", Room, (RoomNid, StateKeyNid) => EventNid, profile Scan
);
table!(
    /// Members by room.
    MemberTable: "member", Room, (RoomNid, UserNid) => Member, profile Scan
);
table!(
    /// Rooms by member.
    MemberOfTable: "member_of", Room, (UserNid, RoomNid) => MemberOf, profile Scan
);
table!(
    /// Stripped state given with an invite or a knock: a JSON array, as bytes.
    Stripped: "stripped", Room, (UserNid, RoomNid) => Vec<u8>, profile Point
);
table!(
    /// How many members of each other server are joined to a room.
    RoomServer: "room_server", Room, (RoomNid, ServerNid) => u32, profile Scan
);
table!(
    /// Events that relate to another, oldest first within a kind.
    Relations: "relation", Room, (EventNid, RelKind, Order) => Relation, profile Scan
);
table!(
    /// A room's alias of this server.
    Alias: "alias", Room, String => AliasRow, profile Point
);
table!(
    /// Aliases of a room.
    AliasOf: "alias_of", Room, (RoomNid, String) => (), profile Scan
);
table!(
    /// Rooms listed in the directory.
    Directory: "directory", Room, RoomNid => DirectoryRow, profile Scan
);

tables!(
    Event,
    Meta,
    Timeline,
    Room,
    Head,
    State,
    StateNow,
    MemberTable,
    MemberOfTable,
    Stripped,
    RoomServer,
    Relations,
    Alias,
    AliasOf,
    Directory,
);
