//! Numbers that stand for names inside the store, and positions in its log.
//!
//! Each kind is a type of its own, so that a room can never be handed in where a user is meant.
//! Zero is never given out: it is free to mean "none" in packed rows.

use std::fmt;

macro_rules! nid {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    };
}

nid!(
    /// A room id, as a number of this store.
    RoomNid
);
nid!(
    /// A user id, local or remote, as a number of this store.
    UserNid
);
nid!(
    /// An event id, as a number of this store; later events get larger numbers.
    EventNid
);
nid!(
    /// A pair of event type and state key, as a number of this store.
    StateKeyNid
);
nid!(
    /// A server name, as a number of this store.
    ServerNid
);
nid!(
    /// One version of a room's state, as a number of this store.
    StateId
);

/// A position in the server's one log of changes. Position 0 is before everything.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Pos(pub u64);

impl Pos {
    /// Before the first change.
    pub const ZERO: Pos = Pos(0);
    /// Positions from here up are placeholders that a commit replaces by real ones.
    pub const STAMP_BASE: u64 = 0xFFFF_FF00_0000_0000;

    /// Whether this is a placeholder handed out by a write that is not committed yet.
    #[must_use]
    pub const fn is_stamp(self) -> bool {
        self.0 >= Self::STAMP_BASE
    }
}

impl fmt::Debug for Pos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pos({})", self.0)
    }
}

/// An event's place in the timeline of its room.
///
/// A live event stands at (its log position, 0). An event fetched to fill a hole stands at the
/// position of the event after the hole, with `n` counting down from -1, so that every hole fills
/// in its place and pagination tokens stay good.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Order {
    /// Log position of the event itself, or of the live event that follows the hole.
    pub anchor: Pos,
    /// 0 for a live event; negative for one that fills a hole.
    pub n: i64,
}

impl Order {
    /// Before every event of a room.
    pub const MIN: Order = Order {
        anchor: Pos(0),
        n: i64::MIN,
    };
    /// After every event of a room.
    pub const MAX: Order = Order {
        anchor: Pos(Pos::STAMP_BASE - 1),
        n: i64::MAX,
    };

    /// The place of a live event committed at `pos`.
    #[must_use]
    pub const fn live(pos: Pos) -> Order {
        Order { anchor: pos, n: 0 }
    }
}
