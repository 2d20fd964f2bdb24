//! What sliding sync answers, before it is written as JSON.

use std::collections::BTreeMap;
use std::sync::Arc;

use skerry_core::Membership;
use skerry_room::{Count, ThreadChanges};

use crate::KeyCounts;
use crate::delta::{AccountEvent, DeviceLists, EventList};

/// One answer.
#[derive(Debug, Default)]
pub struct SlidingAnswer {
    /// Where the client stands once it has this.
    pub pos: String,
    /// The lists asked for.
    pub lists: Vec<SlidingList>,
    /// Rooms with news, or new to the client.
    pub rooms: Vec<SlidingRoom>,
    /// What was asked for beside rooms.
    pub extensions: Extensions,
    /// Whether a list has become longer or shorter.
    pub(super) resized: bool,
}

/// A list as it is now.
#[derive(Debug)]
pub struct SlidingList {
    /// Its name.
    pub name: String,
    /// How many rooms it has in all.
    pub count: u64,
    /// The places asked for.
    pub ranges: Vec<SlidingRange>,
}

/// The rooms at some places of a list.
#[derive(Debug)]
pub struct SlidingRange {
    /// The first place.
    pub from: u64,
    /// The last place.
    pub to: u64,
    /// The rooms there, by id.
    pub rooms: Vec<Arc<str>>,
}

/// What is told of a room.
#[derive(Debug)]
pub struct SlidingRoom {
    /// Its id.
    pub room_id: Arc<str>,
    /// What the user is there.
    pub membership: Membership,
    /// The lists it is in.
    pub lists: Vec<Arc<str>>,
    /// All is told anew: what the client knew of the room does not count.
    pub initial: bool,
    /// Named in `m.direct`.
    pub is_dm: bool,
    /// Its name, where it has one, and that is news.
    pub name: Option<String>,
    /// Its picture, where that is news; `None` within: it has none any more.
    pub avatar: Option<Option<String>>,
    /// Whom to name it after.
    pub heroes: Option<Vec<Hero>>,
    /// State.
    pub required_state: EventList,
    /// The newest events, unless none were asked for.
    pub timeline: Option<SlidingTimeline>,
    /// Stripped state, a JSON array, of a room the user is invited to or knocked on.
    pub stripped: Option<Vec<u8>>,
    /// How many are joined, where that may be news.
    pub joined: Option<u64>,
    /// How many are invited, where that may be news.
    pub invited: Option<u64>,
    /// Unread events.
    pub unread: Count,
    /// Larger for rooms that were talked in later.
    pub bump_stamp: u64,
}

/// The newest events of a room.
#[derive(Debug)]
pub struct SlidingTimeline {
    /// The events, oldest first.
    pub events: EventList,
    /// There are more between these and what the client has, or before them.
    pub limited: bool,
    /// It reaches further back than what the client has, since more is asked for now.
    pub expanded: bool,
    /// The place before the first, for paging back.
    pub prev_batch: String,
    /// How many of them came since the client's last answer.
    pub live: u64,
}

/// A member to name a room after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hero {
    /// Who.
    pub user_id: Arc<str>,
    /// Their name in the room.
    pub name: Option<String>,
    /// Their picture in the room.
    pub avatar: Option<String>,
}

/// What is told beside rooms; `None` for what was not asked for.
#[derive(Debug, Default)]
pub struct Extensions {
    /// Messages to the device.
    pub to_device: Option<ToDevice>,
    /// Keys of the device, and whose devices changed.
    pub e2ee: Option<E2ee>,
    /// Account data.
    pub account_data: Option<AccountData>,
    /// Receipts, by room: each an `m.receipt` event.
    pub receipts: Option<BTreeMap<Arc<str>, Vec<u8>>>,
    /// Who types, by room: each an `m.typing` event.
    pub typing: Option<BTreeMap<Arc<str>, Vec<u8>>>,
    /// Subscriptions to threads (MSC4308).
    pub threads: Option<ThreadChanges>,
    /// Sticky events (MSC4354).
    pub sticky: Option<Sticky>,
}

/// Messages to the device.
#[derive(Debug)]
pub struct ToDevice {
    /// Each a JSON object, oldest first.
    pub events: Vec<String>,
    /// What to ask from next.
    pub next_batch: String,
}

/// Keys of the device, and whose devices changed.
#[derive(Debug)]
pub struct E2ee {
    /// Since the last answer; `None` in the first one.
    pub lists: Option<DeviceLists>,
    /// What is left of the device's keys.
    pub counts: KeyCounts,
    /// Whether that is news.
    pub changed: bool,
}

/// Account data.
#[derive(Debug, Default)]
pub struct AccountData {
    /// Of no room.
    pub global: Vec<AccountEvent>,
    /// By room.
    pub rooms: BTreeMap<Arc<str>, Vec<AccountEvent>>,
}

/// Sticky events.
#[derive(Debug, Default)]
pub struct Sticky {
    /// By room, oldest first.
    pub rooms: Vec<(Arc<str>, EventList)>,
    /// What to ask from next.
    pub next_batch: String,
}

impl SlidingAnswer {
    /// Whether there is nothing that a waiting client should be woken for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rooms.is_empty() && !self.resized && self.extensions.is_empty()
    }
}

impl Extensions {
    fn is_empty(&self) -> bool {
        fn none<T>(part: Option<&T>, empty: impl FnOnce(&T) -> bool) -> bool {
            part.is_none_or(empty)
        }
        none(self.to_device.as_ref(), |part| part.events.is_empty())
            && none(self.e2ee.as_ref(), E2ee::is_empty)
            && none(self.account_data.as_ref(), |part| {
                part.global.is_empty() && part.rooms.is_empty()
            })
            && none(self.receipts.as_ref(), BTreeMap::is_empty)
            && none(self.typing.as_ref(), BTreeMap::is_empty)
            && none(self.threads.as_ref(), |part| part.changes.is_empty())
            && none(self.sticky.as_ref(), |part| part.rooms.is_empty())
    }
}

impl E2ee {
    fn is_empty(&self) -> bool {
        let lists = self.lists.as_ref();
        !self.changed && lists.is_none_or(|lists| lists.changed.is_empty() && lists.left.is_empty())
    }
}
