//! What a table is.
//!
//! All tables live in four column families of RocksDB, one per [`Profile`], and a row's key
//! starts with two bytes made from the table's name. A family costs memtables, files and a share
//! of every flush: with a family for each of fifty tables an empty database took 295 ms to make,
//! 90 ms to open again and 600 ms to flush; with four it takes 53, 28 and 70 ms (two cores,
//! default options). So a table costs nothing until it has rows, and a new one needs no change
//! to the database.

use crate::codec::{Buf, Field, Key};

/// A typed table; declared with `table!`.
pub trait Table: 'static {
    /// Its name, unique and never changed: rows are found by it.
    const NAME: &'static str;
    /// The only crate that may name it.
    const OWNER: Owner;
    /// How it is used, and so how it is kept.
    const PROFILE: Profile;
    /// Key and value type, for reports.
    const TYPES: (&'static str, &'static str);
    /// The two bytes all its keys start with.
    const ID: [u8; 2] = table_id(Self::NAME);
    /// Key of a row.
    type Key: Key;
    /// Value of a row.
    type Value: Field;
}

/// The crate that owns a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// `skerry-store`
    Store,
    /// `skerry-account`
    Account,
    /// `skerry-room`
    Room,
    /// `skerry-remote`
    Remote,
    /// `skerry-federation`
    Federation,
    /// `skerry-media`
    Media,
}

/// How a table is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Read in ranges that share the first eight bytes of the key: by room, by user.
    Scan,
    /// Read row by row.
    Point,
    /// Large values that are written once: events, blobs.
    Event,
    /// Few rows, rewritten often.
    Small,
}

impl Profile {
    /// All of them, in the order of their families.
    pub const ALL: [Profile; 4] = [Self::Scan, Self::Point, Self::Event, Self::Small];

    /// The column family of this profile.
    pub(crate) const fn family(self) -> &'static str {
        match self {
            Self::Scan => "scan",
            Self::Point => "point",
            Self::Event => "event",
            Self::Small => "small",
        }
    }
}

/// A table as data: for reports and for the test of the format.
#[derive(Debug, Clone, Copy)]
pub struct TableInfo {
    /// Its name.
    pub name: &'static str,
    /// The crate that owns it.
    pub owner: Owner,
    /// How it is used.
    pub profile: Profile,
    /// Key type, as written in the schema.
    pub key: &'static str,
    /// Value type, as written in the schema.
    pub value: &'static str,
    /// The two bytes all its keys start with.
    pub id: [u8; 2],
}

impl TableInfo {
    /// Describes `T`.
    #[must_use]
    pub const fn of<T: Table>() -> Self {
        Self {
            name: T::NAME,
            owner: T::OWNER,
            profile: T::PROFILE,
            key: T::TYPES.0,
            value: T::TYPES.1,
            id: T::ID,
        }
    }
}

/// FNV-1a of the name, folded to 16 bits. A test refuses two tables of the same id.
const fn table_id(name: &str) -> [u8; 2] {
    let bytes = name.as_bytes();
    let mut hash = 0x811c_9dc5_u32;
    let mut i = 0;
    while i < bytes.len() {
        hash = (hash ^ bytes[i] as u32).wrapping_mul(0x0100_0193);
        i += 1;
    }
    let folded = (hash >> 16) ^ (hash & 0xffff);
    [(folded >> 8) as u8, folded as u8]
}

/// The bytes under which a row lies.
pub(crate) fn row_key<T: Table>(key: &T::Key) -> Buf {
    let mut out = Buf::new();
    out.slice(&T::ID);
    key.encode(&mut out);
    out
}
