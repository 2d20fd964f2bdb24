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
        /// Whether it may be fetched without a token as long as the old endpoints are served: it
        /// was uploaded while they were open (content repository, 1.11's freeze).
        pub unauthenticated: bool,
    }
}

record! {
    /// Media that was deleted and can still be brought back.
    pub struct Trashed v1 {
        /// What its `mxc://` named.
        pub media: Media,
        /// When it was last looked at, in ms since the epoch, if that is known.
        pub used_ms: Option<u64>,
        /// When it was deleted, in ms since the epoch.
        pub trashed_ms: u64,
    }
}

record! {
    /// What is known of a thumbnail without reading it.
    pub struct ThumbUse v1 {
        /// Length in bytes.
        pub bytes: u64,
        /// When it was made, in ms since the epoch.
        pub made_ms: u64,
        /// When it was last looked at, in ms since the epoch.
        pub used_ms: u64,
    }
}

record! {
    /// A media id that was given out before its content (asynchronous upload, 1.7).
    pub struct PendingMedia v1 {
        /// Who may upload the content.
        pub uploader: UserNid,
        /// Until when, in ms since the epoch.
        pub expires_ms: u64,
    }
}

record! {
    /// What was found behind a link, for previews.
    pub struct KeptPreview v1 {
        /// The preview as it is answered; none: the link could not be fetched.
        pub json: Option<Vec<u8>>,
        /// The media id of its picture.
        pub picture: Option<String>,
        /// When, in ms since the epoch.
        pub made_ms: u64,
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
    /// (hash, width, height, form) => (content type, bytes) of a thumbnail that was made; what its
    /// forms are, and what stands without bytes or without a type, is media's matter.
    Thumb: "thumb", Media, ([u8; 32], u32, u32, u8) => (String, Vec<u8>), profile Event
);
table!(
    /// The same key => its size and times.
    ThumbUses: "thumb_use", Media, ([u8; 32], u32, u32, u8) => ThumbUse, profile Point
);
table!(
    /// (server name, media id) => when it was last looked at, in ms since the epoch; written in
    /// batches, and no more often than every hour.
    Accessed: "media_accessed", Media, (String, String) => u64, profile Point
);
table!(
    /// (server name, media id) => what can be brought back. Its `blob_ref` stays as long.
    Trash: "media_trash", Media, (String, String) => Trashed, profile Point
);
table!(
    /// BLAKE3 hash => when, in ms since the epoch, its file was found not to have it.
    CorruptBlob: "media_corrupt", Media, [u8; 32] => u64, profile Small
);
table!(
    /// Media id => who may still upload its content.
    Pending: "media_pending", Media, String => PendingMedia, profile Small
);
table!(
    /// (uploader, expires_ms, media id) => (): the same by uploader, oldest first.
    PendingOf: "media_pending_of", Media, (UserNid, u64, String) => (), profile Small
);

table!(
    /// Uploader => bytes of all they uploaded, each `mxc://` counted.
    Usage: "upload_total", Media, UserNid => u64, profile Small
);
table!(
    /// BLAKE3 hash => since when, in ms since the epoch, its bytes are not given out and not taken.
    BlockedBlob: "media_blocked_blob", Media, [u8; 32] => u64, profile Small
);
table!(
    /// (server name, media id) => since when, in ms since the epoch, it is not given out.
    BlockedMedia: "media_blocked", Media, (String, String) => u64, profile Small
);
table!(
    /// (server name, media id) => (): it is given out whatever is blocked.
    ProtectedMedia: "media_protected", Media, (String, String) => (), profile Small
);
table!(
    /// BLAKE3 hash of a URL => its preview.
    Preview: "preview", Media, [u8; 32] => KeptPreview, profile Point
);
table!(
    /// (made_ms, hash of the URL) => (): the same, oldest first.
    PreviewAge: "preview_age", Media, (u64, [u8; 32]) => (), profile Small
);

tables!(
    MediaTable,
    Blob,
    BlobRef,
    Thumb,
    ThumbUses,
    Accessed,
    Trash,
    CorruptBlob,
    Pending,
    PendingOf,
    Usage,
    Preview,
    PreviewAge,
    BlockedBlob,
    BlockedMedia,
    ProtectedMedia
);
