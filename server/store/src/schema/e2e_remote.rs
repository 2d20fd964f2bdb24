//! Tables of end-to-end encryption across servers: the device lists of users of other servers as
//! far as they are followed here, and what other servers were told of our users' devices.
//!
//! Owned by `skerry-account` (its module `e2e`); everybody else calls its functions.

use skerry_core::{Pos, ServerNid, UserNid};

use crate::{record, table, tables};

record! {
    /// The device list of a user of another server, which that server keeps us told of.
    pub struct RemoteList v1 {
        /// The update that it was brought up to; updates name the one before them.
        pub stream: u64,
        /// An update is missing: the list is to be fetched.
        pub stale: bool,
        /// Counts the updates that could not be applied. A list fetched while this moved may be
        /// too old.
        pub missed: u64,
        /// When the list was fetched, in ms since the epoch; 0: never.
        pub fetched_ms: u64,
    }
}

record! {
    /// A device of a user of another server.
    pub struct RemoteDevice v1 {
        /// Its identity keys: a JSON object without `unsigned`.
        pub keys: String,
        /// Its name, if that server tells it.
        pub name: Option<String>,
    }
}

record! {
    /// When the device list of a user of another server is fetched next.
    pub struct StaleList v1 {
        /// How often that failed.
        pub failures: u32,
        /// Not before this, in ms since the epoch.
        pub next_ms: u64,
    }
}

record! {
    /// What another server was told of the devices of one of our users.
    pub struct ListSent v1 {
        /// The newest change that it was told of.
        pub upto: Pos,
        /// The newest change of a device among them: the next update names it. Zero if it missed
        /// some of which nothing is known any more: the next update makes it fetch the list.
        pub stream: Pos,
    }
}

table!(
    /// Device lists of users of other servers that are followed.
    RemoteListTable: "remote_list", Account, UserNid => RemoteList, profile Point
);
table!(
    /// Devices with identity keys of users of other servers.
    RemoteDeviceTable: "remote_device", Account, (UserNid, String) => RemoteDevice, profile Scan
);
table!(
    /// Lists to be fetched.
    StaleListTable: "remote_list_stale", Account, UserNid => StaleList, profile Small
);
table!(
    /// When each device of a local user last changed; under the empty id, when the user's own
    /// public keys did. Rows of deleted devices stay, the latest of them: others have to be told.
    DeviceChangeTable: "device_change", Account, (UserNid, String) => Pos, profile Scan
);
table!(
    /// What other servers were told of the devices of a local user.
    ListSentTable: "list_sent", Account, (UserNid, ServerNid) => ListSent, profile Scan
);
table!(
    /// Servers that could not be told of the devices of local users while they were unreachable.
    ListLateTable: "list_late", Account, (ServerNid, UserNid) => (), profile Small
);
table!(
    /// Messages to devices that other servers sent, by a hash of the server's name and the
    /// message's id, to when they came, in ms since the epoch.
    DirectSeenTable: "direct_seen", Account, [u8; 32] => u64, profile Point
);
table!(
    /// The same by time, for forgetting them.
    DirectSeenAtTable: "direct_seen_at", Account, (u64, [u8; 32]) => (), profile Small
);

tables!(
    RemoteListTable,
    RemoteDeviceTable,
    StaleListTable,
    DeviceChangeTable,
    ListSentTable,
    ListLateTable,
    DirectSeenTable,
    DirectSeenAtTable,
);
