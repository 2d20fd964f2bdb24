//! Tables of application services: registrations made at run time, their users, what is on its
//! way to them.
//!
//! Owned by `skerry-account`; everybody else calls its query functions.

use skerry_core::{Pos, UserNid};

use crate::{record, table, tables};

record! {
    /// A registration made at run time.
    pub struct Appservice v1 {
        /// The registration as it was given, as JSON.
        pub source: String,
        /// When it was made or last replaced, in ms since the epoch.
        pub at_ms: u64,
        /// The newest change of this row.
        pub pos: Pos,
    }
}

record! {
    /// How far the sending to an application service has come.
    pub struct Progress v1 {
        /// The number of the newest transaction.
        pub number: u64,
        /// The last item of the queue that is in it.
        pub upto: Pos,
        /// The newest transaction's body, as JSON, until it has arrived.
        pub body: Option<Vec<u8>>,
    }
}

table!(
    /// Registrations made at run time, by id.
    Appservices: "appservice", Account, String => Appservice, profile Small
);
table!(
    /// Accounts that an application service has made, with its id.
    Users: "appservice_user", Account, UserNid => String, profile Point
);
table!(
    /// How far the sending to each application service has come, by id.
    Sending: "appservice_sending", Account, String => Progress, profile Small
);

tables!(Appservices, Users, Sending);
