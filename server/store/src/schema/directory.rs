//! Tables of what is looked up across rooms: people by name, reports, rooms for notices, links
//! between spaces that an upgrade leaves to be moved.
//!
//! Owned by `skerry-room`, which reads and writes them; everybody else calls its query functions.

use skerry_core::{Pos, RoomNid, UserNid};

use crate::{code_enum, record, table, tables};

record! {
    /// A person as the user directory shows and finds them.
    pub struct Person v1 {
        /// What they call themselves.
        pub display_name: Option<String>,
        /// Their picture, an `mxc:` URI.
        pub avatar_url: Option<String>,
        /// The folded words under which they are found: rows of `person_word`.
        pub words: Vec<String>,
    }
}

code_enum! {
    /// What was reported.
    pub enum ReportKind {
        /// A room.
        Room = 1,
        /// An event.
        Event = 2,
        /// A user.
        User = 3,
    }
}

record! {
    /// Something that a user reported to the operator.
    pub struct Report v1 {
        /// What kind of thing it is about.
        pub kind: ReportKind,
        /// Who reported it.
        pub by: UserNid,
        /// The room; none for a user.
        pub room: Option<RoomNid>,
        /// The event's id.
        pub event: Option<String>,
        /// The reported user, or who sent the reported event.
        pub user: Option<UserNid>,
        /// Why, in the words of whoever reported it.
        pub reason: Option<String>,
        /// How bad they found it, from -100 (worst) to 0.
        pub score: Option<i64>,
        /// When, in ms since the epoch.
        pub at_ms: u64,
    }
}

record! {
    /// Links between spaces and a room that was replaced, to be made for its successor.
    pub struct SpaceLinks v1 {
        /// The successor.
        pub to: RoomNid,
        /// Who replaced the room; the links are made in their name.
        pub by: UserNid,
    }
}

table!(
    /// People: users of this server, and those of others who share a room with one.
    People: "person", Room, UserNid => Person, profile Point
);
table!(
    /// People by the words of their names.
    PersonWords: "person_word", Room, (String, UserNid) => (), profile Scan
);
table!(
    /// Rooms listed by application services, by the instance id of the network.
    NetworkDirectory: "network_directory", Room, (String, RoomNid) => (), profile Scan
);
table!(
    /// Reports, by when they came.
    Reports: "report", Room, Pos => Report, profile Scan
);
table!(
    /// Reports by who made them.
    ReportsBy: "report_by", Room, (UserNid, Pos) => (), profile Scan
);
table!(
    /// The room in which the server speaks to a user.
    NoticeRooms: "notice_room", Room, UserNid => RoomNid, profile Point
);
table!(
    /// Links between spaces that still have to be moved, by the room that was replaced.
    SpaceLinksTodo: "space_links", Room, RoomNid => SpaceLinks, profile Point
);

tables!(
    People,
    PersonWords,
    NetworkDirectory,
    Reports,
    ReportsBy,
    NoticeRooms,
    SpaceLinksTodo,
);
