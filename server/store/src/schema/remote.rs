//! Tables of what is known of other servers.
//!
//! Owned by `skerry-remote`, which reads and writes them; everybody else calls its query
//! functions.

use skerry_core::{EventNid, Pos, RoomNid, ServerNid};

use crate::{record, table, tables};

record! {
    /// A server's signing key.
    pub struct ServerKey v1 {
        /// The public key (Ed25519).
        pub public: [u8; 32],
        /// Until when it is good, in ms since the epoch.
        pub valid_until_ms: u64,
        /// The server uses it no more: it was good until then, whatever the room version.
        pub retired: bool,
    }
}

record! {
    /// What a server last said about its keys.
    pub struct KeyAnswer v1 {
        /// As it signed it.
        pub json: String,
        /// When it was asked, in ms since the epoch.
        pub fetched_ms: u64,
        /// Until when it is good, in ms since the epoch.
        pub valid_until_ms: u64,
    }
}

record! {
    /// That a server has missed events of a room, and is told how the room stands when it is
    /// reached again.
    pub struct Owed v1 {
        /// Where the first of them stands.
        pub since: Pos,
        /// An event that it is to get although it has no joined member in the room (any more).
        pub alone: Option<EventNid>,
    }
}

table!(
    /// Keys of servers, also those that they use no more: old events are signed with them.
    ServerKeys: "server_key", Remote, (ServerNid, String) => ServerKey, profile Scan
);
table!(
    /// What each server last said about its keys, for others who ask us.
    KeyAnswers: "key_answer", Remote, ServerNid => KeyAnswer, profile Point
);
table!(
    /// What a server said before, newest first, where that names keys which it names no more.
    OlderKeyAnswers: "key_answer_old", Remote, ServerNid => Vec<KeyAnswer>, profile Point
);

table!(
    /// One row: up to where outgoing events have been given to the queues of servers.
    SendSeen: "send_seen", Remote, () => Pos, profile Small
);
table!(
    /// The first outgoing event that a server has not got, of those that have not got all.
    SendBehind: "send_behind", Remote, ServerNid => Pos, profile Small
);
table!(
    /// The rooms of which a server has missed too much for it to be sent one by one.
    SendOwed: "send_owed", Remote, (ServerNid, RoomNid) => Owed, profile Scan
);

tables!(
    ServerKeys,
    KeyAnswers,
    OlderKeyAnswers,
    SendSeen,
    SendBehind,
    SendOwed
);
