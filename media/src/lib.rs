//! Media: every distinct file is stored once, under the BLAKE3 hash of its bytes, and is found by
//! the `mxc://` URIs that name it.
//!
//! It deliberately knows no room, no account and no message: who may upload is decided by the
//! request shell, and what refers to an `mxc://` is somebody else's knowledge, which is asked for
//! through [`prune::References`]. Files come before
//! rows: a blob is whole, synced and in its place before the batch that names it is committed, so
//! that a crash leaves at most a file that nobody names, which the next start removes.
//!
//! Start reading at [`Blobs`], then `storage.rs` (where blobs lie) and `routes.rs`. [`Previews`] is
//! the one part that asks other machines; [`prune`] is the one part that deletes.

mod blobs;
mod block;
mod files;
mod mime;
mod mxc;
mod pending;
mod picture;
mod preview;
pub mod prune;
mod quota;
mod remote;
mod routes;
mod s3;
mod spool;
mod storage;
mod thumbnail;
mod thumbs;
mod uses;
mod worker;

pub use blobs::{Blobs, Found, MediaError, Settings, Unauthenticated, Upload, UploadInfo};
pub use files::Swept;
pub use mxc::{MediaId, find_mxc, parse_hash, parse_mxc};
pub use preview::{Hosts, PREVIEW_ROUTES, PreviewError, Previews};
pub use remote::{FetchError, RemoteMedia, serve::FEDERATION_ROUTES};
pub use routes::{MediaDoor, ROUTES};
pub use s3::{S3, S3Settings};
pub use storage::Content;
pub use thumbnail::{Bounds, Method, Thumbnail, Wanted};
pub use thumbs::Served;
pub use worker::{WorkerSettings, child::serve as serve_worker};

#[cfg(test)]
mod tests;
