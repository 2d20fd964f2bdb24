//! Tables of end-to-end encryption: keys of devices and users, messages to devices, key backups.
//!
//! Owned by `skerry-account` (its module `e2e`); everybody else calls its query functions.
//! The server understands none of the cryptography: it keeps what devices publish, hands one-time
//! keys out once each, and passes ciphertext on.

use skerry_core::{Order, Pos, UserNid};

use crate::{code_enum, record, table, tables};

record! {
    /// Identity keys of a device, as it uploaded them.
    pub struct DeviceKeyRow v1 {
        /// The uploaded JSON object without `unsigned`.
        pub json: String,
        /// When these keys were uploaded.
        pub pos: Pos,
    }
}

record! {
    /// A one-time key waiting to be claimed.
    pub struct OneTimeKeyRow v1 {
        /// The part after the colon of `<algorithm>:<key_id>`.
        pub key_id: String,
        /// The key: a JSON string or object.
        pub json: String,
    }
}

record! {
    /// What became of a one-time key id. Outlives the key, so that an upload repeated after the
    /// key was claimed does not offer it a second time.
    pub struct OneTimeIdRow v1 {
        /// blake3 of the key's canonical JSON.
        pub digest: [u8; 32],
        /// Whether it was handed out.
        pub claimed: bool,
    }
}

record! {
    /// The fallback key of a device for one algorithm.
    pub struct FallbackKeyRow v1 {
        /// The part after the colon of `<algorithm>:<key_id>`.
        pub key_id: String,
        /// The key: a JSON string or object.
        pub json: String,
        /// Whether it was handed out since it was uploaded.
        pub used: bool,
    }
}

record! {
    /// What `/sync` says about the keys of a device, kept ready so that saying it costs one read.
    pub struct KeyCountsRow v1 {
        /// Unclaimed one-time keys by algorithm.
        pub one_time: Vec<OneTimeQueue>,
        /// Algorithms whose fallback key was not handed out yet, sorted.
        pub unused_fallback: Vec<String>,
        /// When this last changed.
        pub pos: Pos,
    }
}

record! {
    /// One queue of one-time keys.
    pub struct OneTimeQueue v1 {
        /// The algorithm.
        pub algorithm: String,
        /// How many keys are waiting.
        pub count: u32,
        /// The place of the key that was claimed last: the next one lies behind it. It saves the
        /// walk over what was deleted in front.
        pub after: Order,
    }
}

code_enum! {
    /// What a cross-signing key is for.
    pub enum CrossKind {
        /// `master`
        Master = 1,
        /// `self_signing`
        SelfSigning = 2,
        /// `user_signing`
        UserSigning = 3,
    }
}

record! {
    /// A cross-signing key of a user.
    pub struct CrossKeyRow v1 {
        /// The public key in unpadded base64, as the key object names it.
        pub public: String,
        /// The uploaded JSON object without `unsigned`.
        pub json: String,
    }
}

record! {
    /// A message waiting for a device.
    pub struct ToDeviceRow v1 {
        /// `{"content": .., "sender": .., "type": ..}`, ready for `/sync`.
        pub json: String,
    }
}

record! {
    /// One version of a user's key backup. A deleted one stays as a mark, so that its number is
    /// not given out again.
    pub struct BackupRow v1 {
        /// How the keys are encrypted.
        pub algorithm: String,
        /// JSON that only clients understand.
        pub auth_data: String,
        /// Counts the changes of the stored keys.
        pub etag: u64,
        /// How many keys are stored.
        pub count: u64,
        /// Whether it was deleted.
        pub deleted: bool,
    }
}

record! {
    /// One session's key in a backup.
    pub struct BackupKeyRow v1 {
        /// The first message that the key decrypts.
        pub first_message_index: u64,
        /// How often it was passed on between devices.
        pub forwarded_count: u64,
        /// Whether it came from a device that was verified.
        pub is_verified: bool,
        /// JSON that only clients understand.
        pub session_data: String,
    }
}

record! {
    /// The dehydrated device of a user (MSC3814).
    pub struct DehydratedRow v1 {
        /// Its id.
        pub device: String,
        /// Its secrets, encrypted: JSON that only clients understand.
        pub data: String,
    }
}

table!(
    /// Identity keys by user and device.
    DeviceKeyTable: "device_key", Account, (UserNid, String) => DeviceKeyRow, profile Scan
);
table!(
    /// One-time keys by user, device and algorithm, in the order of upload.
    OneTimeKeyTable: "one_time_key", Account, (UserNid, String, String, Order) => OneTimeKeyRow,
    profile Scan
);
table!(
    /// One-time keys by user, device and full key id (`<algorithm>:<key_id>`).
    OneTimeIdTable: "one_time_id", Account, (UserNid, String, String) => OneTimeIdRow, profile Scan
);
table!(
    /// Fallback keys by user, device and algorithm.
    FallbackKeyTable: "fallback_key", Account, (UserNid, String, String) => FallbackKeyRow,
    profile Scan
);
table!(
    /// What `/sync` tells a device about its keys.
    KeyCountsTable: "key_counts", Account, (UserNid, String) => KeyCountsRow, profile Point
);
table!(
    /// Cross-signing keys of a user.
    CrossKeyTable: "cross_key", Account, (UserNid, CrossKind) => CrossKeyRow, profile Point
);
table!(
    /// Signatures added to keys after their upload: (owner of the signed key, who signed, device
    /// id or public key that is signed, id of the signing key) to the signature.
    KeySignatureTable: "key_signature", Account, (UserNid, UserNid, String, String) => String,
    profile Scan
);
table!(
    /// Messages waiting for a device, in order of arrival.
    ToDeviceTable: "to_device", Account, (UserNid, String, Pos) => ToDeviceRow, profile Scan
);
table!(
    /// When a message last arrived for a device.
    ToDeviceLast: "to_device_last", Account, (UserNid, String) => Pos, profile Point
);
table!(
    /// When the devices or public keys of a user last changed.
    DeviceListTable: "device_list", Account, UserNid => Pos, profile Point
);
table!(
    /// Changes of keys that only one user may see: (who sees it, whose keys) to when. Under
    /// user 0 stands when there last was any for that viewer.
    PrivateListTable: "private_list", Account, (UserNid, UserNid) => Pos, profile Scan
);
table!(
    /// Versions of a user's key backup.
    BackupTable: "backup", Account, (UserNid, u64) => BackupRow, profile Scan
);
table!(
    /// Keys in a backup: (user, version, room id, session id).
    BackupKeyTable: "backup_key", Account, (UserNid, u64, String, String) => BackupKeyRow,
    profile Scan
);

table!(
    /// Dehydrated devices by owner.
    DehydratedTable: "dehydrated", Account, UserNid => DehydratedRow, profile Point
);

tables!(
    DeviceKeyTable,
    OneTimeKeyTable,
    OneTimeIdTable,
    FallbackKeyTable,
    KeyCountsTable,
    CrossKeyTable,
    KeySignatureTable,
    ToDeviceTable,
    ToDeviceLast,
    DeviceListTable,
    PrivateListTable,
    BackupTable,
    BackupKeyTable,
    DehydratedTable,
);
