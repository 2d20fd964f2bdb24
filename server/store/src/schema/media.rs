//! Tables of media: what each `mxc://` names, and which blobs exist.
//!
//! Owned by `skerry-media`, which reads and writes them; everybody else calls its functions.

use skerry_core::UserNid;

use crate::{record, table, tables};

record! {
    /// What an `mxc://` URI names.
    pub struct Media v1 {
        /// BLAKE3 hash of the bytes: the blob's address.
        pub hash: [u8; 32],
        /// Length in bytes.
        pub size: u64,
        /// The type the uploader gave; empty: none.
        pub content_type: String,
        /// The file name the uploader gave.
        pub name: Option<String>,
        /// Who uploaded it.
        pub uploader: UserNid,
        /// When, in ms since the epoch.
        pub created_ms: u64,
    }
}

table!(
    /// (server name, media id) => what it names.
    MediaTable: "media", Media, (String, String) => Media, profile Point
);
table!(
    /// BLAKE3 hash => length in bytes of the blob's file.
    Blob: "blob", Media, [u8; 32] => u64, profile Point
);
table!(
    /// (hash, server name, media id) => (): who refers to a blob. Rows instead of a counter, so
    /// that writing one twice is harmless.
    BlobRef: "blob_ref", Media, ([u8; 32], String, String) => (), profile Scan
);
table!(
    /// (hash, width, height, crop) => (content type, bytes) of a thumbnail that was made.
    Thumb: "thumb", Media, ([u8; 32], u32, u32, bool) => (String, Vec<u8>), profile Event
);

tables!(MediaTable, Blob, BlobRef, Thumb);
