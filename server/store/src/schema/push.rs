//! Tables of push: who wants to be notified, where, and how.
//!
//! Owned by `skerry-account`, which reads and writes them; everybody else calls its query
//! functions.

use skerry_core::{Pos, UserNid};

use crate::{code_enum, record, table, tables};

code_enum! {
    /// How a pusher is reached.
    pub enum PusherKind {
        /// By way of a push gateway.
        Http = 1,
        /// Directly, by the push service of the client's system (MSC4174).
        WebPush = 2,
    }
}

record! {
    /// One application on one device that wants to be notified.
    pub struct Pusher v1 {
        /// How it is reached.
        pub kind: PusherKind,
        /// The application, as people know it.
        pub app_display_name: String,
        /// The device, as its owner knows it.
        pub device_display_name: String,
        /// Which set of rules it follows; unused by the server, shown as given.
        pub profile_tag: Option<String>,
        /// The language of its owner.
        pub lang: String,
        /// What else is to be known of it, as a JSON object; `url` is where it is reached.
        pub data: String,
        /// The device that set it; it goes with the device.
        pub device: String,
        /// Switched off, it stays but is not used (MSC3881).
        pub enabled: bool,
        /// When key or data were last set, in ms since the epoch.
        pub set_ms: u64,
        /// It proved to be reached; always true of the kind `Http`.
        pub activated: bool,
        /// What it has to send back to prove that.
        pub ack: Option<String>,
        /// When `ack` stops being good, in ms since the epoch.
        pub ack_until_ms: u64,
        /// The newest change of this row.
        pub pos: Pos,
    }
}

table!(
    /// Pushers by owner, application and key.
    Pushers: "pusher", Account, (UserNid, String, String) => Pusher, profile Scan
);
table!(
    /// Owners of pushers by application and key.
    PushersByKey: "pusher_by_key", Account, (String, String, UserNid) => (), profile Scan
);

tables!(Pushers, PushersByKey);
