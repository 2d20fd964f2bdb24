//! Tables of third-party ids: the e-mail addresses of accounts, their validation, and what
//! identity servers were told.
//!
//! Owned by `skerry-account`. Addresses are kept in the form in which they are compared
//! (client-server API, "Adding Account Administrative Contact Information").

use skerry_core::{Pos, UserNid};

use crate::{code_enum, record, table, tables};

record! {
    /// An address of an account.
    pub struct Address v1 {
        /// When its owner showed that it is theirs, in ms since the epoch.
        pub validated_ms: u64,
        /// When it was added, in ms since the epoch.
        pub added_ms: u64,
        /// The newest change of this row.
        pub pos: Pos,
    }
}

code_enum! {
    /// What a validated address is good for.
    pub enum Purpose {
        /// Making an account.
        Register = 1,
        /// A new password for one that was forgotten.
        Password = 2,
        /// One more address of an account.
        Add = 3,
    }
}

record! {
    /// A validation of an e-mail address under way. The token in the mail is not kept: it is
    /// made from the server's secret and `salt`.
    pub struct Validation v1 {
        /// What for.
        pub purpose: Purpose,
        /// The address.
        pub email: String,
        /// Keyed hash of the client's secret.
        pub secret: [u8; 32],
        /// What the token is made from.
        pub salt: [u8; 16],
        /// The newest attempt for which a mail was queued.
        pub attempt: u64,
        /// Where the client wants the person to be sent afterwards.
        pub next_link: Option<String>,
        /// When it ends, in ms since the epoch.
        pub expires_ms: u64,
        /// When the link in the mail was opened, in ms since the epoch.
        pub validated_ms: Option<u64>,
        /// The newest change of this row.
        pub pos: Pos,
    }
}

table!(
    /// Addresses by owner, medium and address.
    Addresses: "address", Account, (UserNid, String, String) => Address, profile Scan
);
table!(
    /// Owners by medium and address.
    AddressOwners: "address_owner", Account, (String, String) => UserNid, profile Point
);
table!(
    /// Which identity servers tell of which addresses, by owner, medium, address, server.
    AddressBindings: "address_binding", Account, (UserNid, String, String, String) => Pos,
    profile Scan
);
table!(
    /// Validations by session id.
    Validations: "validation", Account, String => Validation, profile Point
);

tables!(Addresses, AddressOwners, AddressBindings, Validations,);
