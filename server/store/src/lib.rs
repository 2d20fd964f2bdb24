//! The store: typed tables over RocksDB, one atomic and durable commit per change, and the log
//! of what changed.
//!
//! It knows tables, rows and positions. It deliberately does not know what the rows mean: no
//! rule of Matrix is decided here, nobody is notified here, and nothing here is asynchronous
//! except waiting for the disk. No other crate names RocksDB.
//!
//! Start reading at [`Store`] (open, snapshot, commit, durable), then [`Write`] and
//! [`Snapshot`]; [`schema`] is the list of all tables, [`codec`] how they become bytes.
//!
//! The promises, and where each is kept:
//! - A commit is one batch: all of it or nothing (`commit`).
//! - What [`Store::durable`] has confirmed survives a power cut; readers never see anything
//!   that would not (`syncer`).
//! - A snapshot's head is the head of exactly its data (`snapshot`, `commit`).
//! - Torn bytes beyond the last sync are cut off at opening; damage to anything synced is
//!   reported and never cut off (`open`, `wal`, `marker`).
//! - A full disk stops writing, not reading, and passes (`commit`, `recover`).

pub mod codec;
pub mod follow;
pub mod outbox;
pub mod schema;

mod blocking;
mod cache;
mod commit;
mod crc;
mod db;
mod disk;
mod error;
mod event_id;
mod lanes;
mod log;
mod macros;
mod marker;
mod names;
mod numbers;
mod open;
mod options;
mod owner;
mod recover;
mod snapshot;
mod stats;
mod store;
mod syncer;
mod table;
mod wal;
mod write;

pub use blocking::blocking;
pub use cache::Cache;
pub use codec::{Field, Key, Malformed, Prefix, Raw};
pub use disk::{Disk, Point, RealDisk};
pub use error::StoreError;
pub use lanes::{LaneGuard, Lanes};
pub use log::Change;
pub use options::{Durability, MemoryPlan, StoreOptions};
pub use snapshot::{Rows, Scan, Snapshot};
pub use stats::{Stats, TableStats};
pub use store::{Applied, Check, Health, Store};
pub use table::{Owner, Profile, Table, TableInfo};
pub use write::{Expect, Write};
