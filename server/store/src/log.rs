//! The log: one small fact for everything that anybody may want to be told.

use skerry_core::{EventNid, Membership, Pos, RoomNid, UserNid};

use crate::codec::{Buf, Cur, Field, Malformed};
use crate::schema::store::{Facts, Log};
use crate::{Rows, Scan, Snapshot, StoreError};

/// A fact in the log. It names what changed; what it is now is read from the tables.
///
/// The log is a shortcut: whatever it says can also be found from the last positions that the
/// owners of the tables keep in rows of their own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Change {
    /// An event took its place in a room's timeline.
    Timeline {
        /// The room.
        room: RoomNid,
        /// The event.
        event: EventNid,
        /// Its sender.
        sender: UserNid,
    },
    /// A user's membership of a room, or the event that carries it, changed.
    Member {
        /// The room.
        room: RoomNid,
        /// Whose membership.
        user: UserNid,
        /// What it is now.
        membership: Membership,
    },
    /// A receipt moved.
    Receipt {
        /// The room.
        room: RoomNid,
        /// Whose receipt.
        user: UserNid,
        /// Only its owner may see it.
        private: bool,
    },
    /// Account data was set or removed.
    AccountData {
        /// Whose.
        user: UserNid,
        /// The room it is about, if any.
        room: Option<RoomNid>,
    },
    /// A message was put into a device's queue.
    ToDevice {
        /// Owner of the device.
        user: UserNid,
        /// The device.
        device: String,
    },
    /// The devices or identity keys of a user changed.
    DeviceList {
        /// Whose.
        user: UserNid,
    },
    /// The number of one-time keys, or the unused fallback keys, of a device changed.
    Keys {
        /// Owner of the device.
        user: UserNid,
        /// The device.
        device: String,
    },
    /// Something about other users' keys changed that only this user may see.
    PrivateList {
        /// Who sees it.
        viewer: UserNid,
    },
    /// The pushers of a user changed.
    Pusher {
        /// Whose.
        user: UserNid,
    },
    /// The profile of a user changed.
    Profile {
        /// Whose.
        user: UserNid,
    },
    /// An event was redacted by something that is no redaction of it alone: the removal of its
    /// sender (MSC4293). Others are found through the redaction in the timeline.
    Redacted {
        /// The room.
        room: RoomNid,
        /// The redacted event.
        event: EventNid,
    },
    /// A user subscribed to a thread, or ended that.
    ThreadSubscription {
        /// Who.
        user: UserNid,
    },
}

impl Field for Change {
    fn put(&self, out: &mut Buf) {
        match self {
            Self::Timeline {
                room,
                event,
                sender,
            } => (1u8, *room, (*event, *sender)).put(out),
            Self::Member {
                room,
                user,
                membership,
            } => (2u8, *room, *user, *membership).put(out),
            Self::Receipt {
                room,
                user,
                private,
            } => (3u8, *room, *user, *private).put(out),
            Self::AccountData { user, room } => (4u8, *user, *room).put(out),
            Self::ToDevice { user, device } => {
                (5u8, *user).put(out);
                device.put(out);
            }
            Self::DeviceList { user } => (6u8, *user).put(out),
            Self::Keys { user, device } => {
                (7u8, *user).put(out);
                device.put(out);
            }
            Self::Pusher { user } => (8u8, *user).put(out),
            Self::Profile { user } => (9u8, *user).put(out),
            Self::PrivateList { viewer } => (10u8, *viewer).put(out),
            Self::ThreadSubscription { user } => (11u8, *user).put(out),
            Self::Redacted { room, event } => (12u8, *room, *event).put(out),
        }
    }

    fn take(cur: &mut Cur<'_>) -> Result<Self, Malformed> {
        let kind = cur.byte()?;
        Ok(match kind {
            1 => Self::Timeline {
                room: Field::take(cur)?,
                event: Field::take(cur)?,
                sender: Field::take(cur)?,
            },
            2 => Self::Member {
                room: Field::take(cur)?,
                user: Field::take(cur)?,
                membership: Field::take(cur)?,
            },
            3 => Self::Receipt {
                room: Field::take(cur)?,
                user: Field::take(cur)?,
                private: Field::take(cur)?,
            },
            4 => Self::AccountData {
                user: Field::take(cur)?,
                room: Field::take(cur)?,
            },
            5 => Self::ToDevice {
                user: Field::take(cur)?,
                device: Field::take(cur)?,
            },
            6 => Self::DeviceList {
                user: Field::take(cur)?,
            },
            7 => Self::Keys {
                user: Field::take(cur)?,
                device: Field::take(cur)?,
            },
            8 => Self::Pusher {
                user: Field::take(cur)?,
            },
            9 => Self::Profile {
                user: Field::take(cur)?,
            },
            10 => Self::PrivateList {
                viewer: Field::take(cur)?,
            },
            11 => Self::ThreadSubscription {
                user: Field::take(cur)?,
            },
            12 => Self::Redacted {
                room: Field::take(cur)?,
                event: Field::take(cur)?,
            },
            _ => return Err(Malformed),
        })
    }
}

/// The name of the row in `meta` that says where the log begins.
pub(crate) const FLOOR: &str = "log_floor";

impl Snapshot {
    /// Everything up to here has been cut off the log; 0 when nothing has.
    ///
    /// # Errors
    /// Reading failed.
    pub fn log_floor(&self) -> Result<Pos, StoreError> {
        Ok(Pos(self.get::<Facts>(&FLOOR.to_owned())?.unwrap_or(0)))
    }

    /// What changed after `since` and up to and including `upto`, oldest first. `None` when the
    /// log does not reach back that far: the caller then compares last positions instead.
    ///
    /// # Errors
    /// Reading failed; each item may fail too.
    pub fn changes(&self, since: Pos, upto: Pos) -> Result<Option<Rows<'_, Log>>, StoreError> {
        if since < self.log_floor()? {
            return Ok(None);
        }
        let range = Scan::<Pos>::all()
            .after(&since)
            .to(&Pos(upto.0.saturating_add(1)));
        Ok(Some(self.scan::<Log>(range)))
    }
}
