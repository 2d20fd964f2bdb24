//! The only place where tables are declared. One file per owner; each ends with the list of its
//! tables, and [`all`] is all of them.

pub mod account;
pub mod address;
pub mod appservice;
pub mod directory;
pub mod e2e;
pub mod e2e_remote;
pub mod federation;
pub mod inbox;
pub mod media;
pub mod push;
pub mod remote;
pub mod room;
pub mod room_read;
pub mod room_redact;
pub mod room_timed;
pub mod search;
pub mod store;

use crate::TableInfo;

/// Every table there is.
pub fn all() -> impl Iterator<Item = &'static TableInfo> {
    [
        store::TABLES,
        account::TABLES,
        address::TABLES,
        appservice::TABLES,
        directory::TABLES,
        e2e::TABLES,
        e2e_remote::TABLES,
        inbox::TABLES,
        push::TABLES,
        remote::TABLES,
        room::TABLES,
        room_read::TABLES,
        room_redact::TABLES,
        room_timed::TABLES,
        federation::TABLES,
        search::TABLES,
        media::TABLES,
    ]
    .into_iter()
    .flatten()
}
