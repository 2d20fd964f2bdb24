//! Tables of people: accounts, devices, tokens, profiles, account data, transactions.
//!
//! Owned by `skerry-account`, which reads and writes them; everybody else calls its query
//! functions.

use skerry_core::{Pos, RoomNid, UserNid};

use crate::{code_enum, record, table, tables};

record! {
    /// A local account. The row stays after deactivation, so that a name is never given out twice.
    pub struct Account v1 {
        /// PHC string of the password (argon2id); none: nobody can log in by password.
        pub password: Option<String>,
        /// May use the admin API.
        pub admin: bool,
        /// Made by guest registration.
        pub guest: bool,
        /// Closed for good: no log-in, no tokens.
        pub deactivated: bool,
        /// The owner asked for their messages to be hidden from new readers.
        pub erased: bool,
        /// When it was made, in ms since the epoch.
        pub created_ms: u64,
        /// Version of the terms its owner agreed to at registration.
        pub terms: Option<String>,
        /// The newest change of this row.
        pub pos: Pos,
    }
}

record! {
    /// One profile field of a local user.
    pub struct ProfileField v1 {
        /// The field's value, as JSON.
        pub json: String,
        /// When it last changed.
        pub pos: Pos,
    }
}

record! {
    /// A change of a display name or avatar that the member events of rooms do not show yet.
    pub struct FaceChange v1 {
        /// It is to be shown in all rooms.
        pub everywhere: bool,
        /// Otherwise: in rooms that show one of these values, or (none) no value.
        pub before: Vec<Option<String>>,
    }
}

code_enum! {
    /// Work that a change of an account leaves for its rooms.
    pub enum RoomJob {
        /// Show the new display name and avatar in the member events of joined rooms.
        Profile = 1,
        /// Leave all rooms, reject all invites: the account was deactivated.
        Leave = 2,
    }
}

record! {
    /// A logged-in device.
    pub struct Device v1 {
        /// What its owner calls it.
        pub display_name: Option<String>,
        /// When it logged in first, in ms since the epoch.
        pub created_ms: u64,
        /// When it was last seen, in ms since the epoch; written rarely, memory knows better.
        pub seen_ms: u64,
        /// The address it was last seen from.
        pub seen_ip: Option<String>,
        /// Hash of its access token.
        pub access: Option<[u8; 32]>,
        /// Hash of its refresh token.
        pub refresh: Option<[u8; 32]>,
        /// Hash of the refresh token before, good until one of the new tokens is used.
        pub previous: Option<[u8; 32]>,
        /// Hash of the access token before, good for as long.
        pub previous_access: Option<[u8; 32]>,
        /// The newest change of name or tokens.
        pub pos: Pos,
    }
}

code_enum! {
    /// What a token is good for.
    pub enum TokenKind {
        /// Requests.
        Access = 1,
        /// Getting the next pair of tokens.
        Refresh = 2,
    }
}

record! {
    /// A token, found by its keyed hash; the token itself is never stored.
    pub struct Token v1 {
        /// Whose.
        pub user: UserNid,
        /// Which device.
        pub device: String,
        /// What it is good for.
        pub kind: TokenKind,
        /// When it stops being good, in ms since the epoch.
        pub expires_ms: Option<u64>,
    }
}

record! {
    /// What an administrator has put on an account; no row: nothing.
    pub struct Hold v1 {
        /// Nothing but logging out.
        pub locked: bool,
        /// Reading and tidying up only.
        pub suspended: bool,
        /// The newest change of this row.
        pub pos: Pos,
    }
}

record! {
    /// One piece of account data.
    pub struct AccountDatum v1 {
        /// Its content, as JSON.
        pub json: String,
        /// When it last changed.
        pub pos: Pos,
    }
}

record! {
    /// Which piece of account data changed; `room` 0 is global.
    pub struct AccountDatumKey v1 {
        /// The room, or 0.
        pub room: RoomNid,
        /// The type.
        pub kind: String,
    }
}

record! {
    /// A registration token's limits and how often it was used.
    pub struct RegistrationToken v1 {
        /// How many accounts it is good for; none: any number.
        pub uses_allowed: Option<u64>,
        /// How many accounts were made with it.
        pub completed: u64,
        /// When it stops being good, in ms since the epoch.
        pub expires_ms: Option<u64>,
        /// When it was made, in ms since the epoch.
        pub created_ms: u64,
        /// The newest change of this row.
        pub pos: Pos,
    }
}

record! {
    /// What a client's transaction was answered with.
    pub struct Txn v1 {
        /// HTTP status.
        pub status: u16,
        /// Body.
        pub answer: String,
        /// When, in ms since the epoch.
        pub at_ms: u64,
    }
}

table!(
    /// Local accounts.
    Accounts: "user", Account, UserNid => Account, profile Point
);
table!(
    /// Profile fields of local users.
    Profiles: "profile", Account, (UserNid, String) => ProfileField, profile Scan
);
table!(
    /// What an account's change still has to do in rooms, with the newest such change.
    RoomJobs: "room_job", Account, (UserNid, RoomJob) => Pos, profile Point
);
table!(
    /// What of a user's profile is still to be shown in their rooms, by field.
    FaceChanges: "face_change", Account, (UserNid, String) => FaceChange, profile Scan
);
table!(
    /// Devices by owner.
    Devices: "device", Account, (UserNid, String) => Device, profile Scan
);
table!(
    /// Tokens by keyed hash.
    Tokens: "token", Account, [u8; 32] => Token, profile Point
);
table!(
    /// What the clients of devices said of themselves when they were last seen.
    DeviceAgents: "device_agent", Account, (UserNid, String) => String, profile Point
);
table!(
    /// Locks and suspensions.
    Holds: "hold", Account, UserNid => Hold, profile Point
);
table!(
    /// Account data; room 0 is global.
    AccountData: "account_data", Account, (UserNid, RoomNid, String) => AccountDatum, profile Scan
);
table!(
    /// Account data by when it changed. A row whose datum has another position is out of date
    /// and is skipped.
    AccountDataAt: "account_data_at", Account, (UserNid, Pos) => AccountDatumKey, profile Scan
);
table!(
    /// Filters by owner and a number made from their content.
    Filters: "filter", Account, (UserNid, u64) => String, profile Scan
);
table!(
    /// Registration tokens.
    RegistrationTokens: "registration", Account, String => RegistrationToken, profile Point
);
table!(
    /// Answers to transactions, by user, device, hash of method and path, transaction id.
    Txns: "txn", Account, (UserNid, String, [u8; 16], String) => Txn, profile Point
);

tables!(
    Accounts,
    Profiles,
    RoomJobs,
    FaceChanges,
    Devices,
    Tokens,
    DeviceAgents,
    Holds,
    AccountData,
    AccountDataAt,
    Filters,
    RegistrationTokens,
    Txns,
);
