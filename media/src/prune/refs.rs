//! Who names media: the one question that this crate has to ask others.

use std::collections::{BTreeSet, HashSet};

use skerry_core::{EventNid, RoomNid, UserNid};
use skerry_store::{Snapshot, StoreError};

/// Where an `mxc://` is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spot {
    /// In a current state event of a room.
    State {
        /// The room.
        room: RoomNid,
        /// The event.
        event: EventNid,
    },
    /// In a pinned event.
    Pinned {
        /// The room.
        room: RoomNid,
        /// The event.
        event: EventNid,
    },
    /// In the stripped state of an invite or a knock.
    Stripped {
        /// The room.
        room: RoomNid,
        /// Whose.
        user: UserNid,
    },
    /// In a user's profile.
    Profile {
        /// Whose.
        user: UserNid,
    },
    /// In account data.
    AccountData {
        /// Whose.
        user: UserNid,
    },
    /// In an event that was just sent.
    Message {
        /// The room.
        room: RoomNid,
        /// The event.
        event: EventNid,
    },
    /// In the configuration.
    Setting,
}

/// Whoever is told of an `mxc://`: server name, media id, and where it is named.
pub type Tell<'a> = dyn FnMut(&str, &str, Spot) + 'a;

/// How much of a room could be read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Readable {
    /// Events whose content is plain.
    pub events: u64,
    /// Events that are encrypted.
    pub unreadable: u64,
}

/// Who is or was in a room.
#[derive(Debug, Clone, Default)]
pub struct RoomPeople {
    /// Everybody.
    pub users: BTreeSet<UserNid>,
    /// The names of their servers.
    pub servers: HashSet<String>,
}

/// What knows where media is named. Answers are about the snapshot that is given.
pub trait References: Send + Sync {
    /// Tells of everything that is named where it counts: current state of rooms, invites and
    /// knocks, profiles, account data, pinned events, the configuration. Found in values, not by
    /// types of events.
    ///
    /// # Errors
    /// The store's.
    fn all(&self, snap: &Snapshot, tell: &mut Tell<'_>) -> Result<(), StoreError>;

    /// Tells of everything that came to be named after `old`, up to `new`, also in messages. More
    /// is right, less is not. False where that cannot be known any more.
    ///
    /// # Errors
    /// The store's.
    fn since(
        &self,
        old: &Snapshot,
        new: &Snapshot,
        tell: &mut Tell<'_>,
    ) -> Result<bool, StoreError>;

    /// Tells of everything that the events of a room name; none for an unknown room.
    ///
    /// # Errors
    /// The store's.
    fn in_room(
        &self,
        snap: &Snapshot,
        room_id: &str,
        tell: &mut Tell<'_>,
    ) -> Result<Option<Readable>, StoreError>;

    /// Who is or was in a room; none for an unknown room.
    ///
    /// # Errors
    /// The store's.
    fn people(&self, snap: &Snapshot, room_id: &str) -> Result<Option<RoomPeople>, StoreError>;

    /// A user's number; none for one that was never heard of.
    ///
    /// # Errors
    /// The store's.
    fn user(&self, user_id: &str) -> Result<Option<UserNid>, StoreError>;

    /// Since when another server has not answered, in ms since the epoch; none if it does, or if
    /// nothing was asked of it.
    ///
    /// # Errors
    /// The store's.
    fn silent_since(&self, snap: &Snapshot, server: &str) -> Result<Option<u64>, StoreError>;

    /// A place in words.
    fn describe(&self, spot: Spot) -> String;
}
