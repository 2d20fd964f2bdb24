//! What changed for one user between two places: the answer to every kind of sync, before it is
//! written in one of the formats.

use std::sync::Arc;

use skerry_account::e2e::KeyCounts;
use skerry_core::RoomNid;
use skerry_room::unread::Unread;

use crate::Token;

/// Everything new for one device.
#[derive(Debug)]
pub struct Delta {
    /// Where the client stands once it has this.
    pub next: Token,
    /// Rooms the user is in, with news.
    pub joined: Vec<RoomDelta>,
    /// Rooms the user was invited to since.
    pub invited: Vec<StrippedRoom>,
    /// Rooms the user knocked on since.
    pub knocked: Vec<StrippedRoom>,
    /// Rooms the user left or was banned from since. Their timeline ends with that event.
    pub left: Vec<RoomDelta>,
    /// Presence of users who share a room with this one.
    pub presence: Vec<Presence>,
    /// Global account data.
    pub account_data: Vec<AccountEvent>,
    /// Messages to this device, each a JSON object, oldest first.
    pub to_device: Vec<String>,
    /// Whose devices changed, and whose need no longer be followed.
    pub device_lists: DeviceLists,
    /// What the server still holds of this device's keys; told every time, since some clients
    /// take a missing count for "nothing to do".
    pub key_counts: KeyCounts,
    /// Whether those counts are news.
    pub keys_changed: bool,
}

/// Users by what happened to their lists of devices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceLists {
    /// Their devices or keys changed, or they share a room with the user now.
    pub changed: Vec<Arc<str>>,
    /// They share no room with the user any more.
    pub left: Vec<Arc<str>>,
}

/// News of one room.
#[derive(Debug)]
pub struct RoomDelta {
    /// The room.
    pub room: RoomNid,
    /// Its id.
    pub room_id: Arc<str>,
    /// New events.
    pub timeline: Timeline,
    /// Changes of state that the timeline does not show, or all of them.
    pub state: StateSection,
    /// The user's data of this room.
    pub account_data: Vec<AccountEvent>,
    /// Receipts and typing, each a JSON object.
    pub ephemeral: Vec<Vec<u8>>,
    /// Sticky events that the timeline does not show (MSC4354).
    pub sticky: EventList,
    /// Unread counts; `None` for a room that was left.
    pub unread: Option<Unread>,
    /// What a client needs to name the room.
    pub summary: Summary,
}

/// A run of new events of a room, oldest first.
#[derive(Debug)]
pub struct Timeline {
    /// The events, as this reader sees them.
    pub events: EventList,
    /// Whether there are more between these and where the client stood.
    pub limited: bool,
    /// The place before the first of them, for paging back.
    pub prev_batch: String,
}

/// Rendered events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventList {
    /// A JSON array.
    pub json: Vec<u8>,
    /// How many events are in it.
    pub count: usize,
}

/// State events, to be applied before the timeline, or instead of what the timeline does to state.
#[derive(Debug)]
pub enum StateSection {
    /// Up to the start of the timeline (`state`).
    Start(EventList),
    /// Up to its end (`state_after`).
    End(EventList),
}

/// A room known only by the state that came with an invite or a knock.
#[derive(Debug)]
pub struct StrippedRoom {
    /// Its id.
    pub room_id: Arc<str>,
    /// A JSON array of stripped state events.
    pub state: Vec<u8>,
}

/// One piece of account data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountEvent {
    /// Its type.
    pub kind: String,
    /// Its content, as JSON.
    pub content: String,
}

/// Somebody's presence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presence {
    /// Whose.
    pub user_id: Arc<str>,
    /// The content of the event, as JSON.
    pub content: String,
}

/// How a client may name a room and count its members. Absent parts have not changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Users to name the room after, where it has no name of its own.
    pub heroes: Option<Vec<Arc<str>>>,
    /// How many are joined.
    pub joined: Option<u64>,
    /// How many are invited.
    pub invited: Option<u64>,
}

impl Delta {
    /// An answer with no news.
    #[must_use]
    pub fn new(next: Token, key_counts: KeyCounts) -> Delta {
        Delta {
            next,
            joined: Vec::new(),
            invited: Vec::new(),
            knocked: Vec::new(),
            left: Vec::new(),
            presence: Vec::new(),
            account_data: Vec::new(),
            to_device: Vec::new(),
            device_lists: DeviceLists::default(),
            key_counts,
            keys_changed: false,
        }
    }

    /// Whether there is nothing that a waiting client should be woken for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.joined.is_empty()
            && self.invited.is_empty()
            && self.knocked.is_empty()
            && self.left.is_empty()
            && self.presence.is_empty()
            && self.account_data.is_empty()
            && self.to_device.is_empty()
            && self.device_lists.changed.is_empty()
            && self.device_lists.left.is_empty()
            && !self.keys_changed
    }
}

impl EventList {
    /// No events.
    #[must_use]
    pub fn empty() -> EventList {
        EventList {
            json: b"[]".to_vec(),
            count: 0,
        }
    }
}

impl StateSection {
    /// The events, whichever way they are meant.
    #[must_use]
    pub fn events(&self) -> &EventList {
        match self {
            StateSection::Start(events) | StateSection::End(events) => events,
        }
    }
}

impl RoomDelta {
    /// Whether there is nothing to tell. Unread counts come along with other news only.
    pub(crate) fn is_empty(&self) -> bool {
        self.timeline.events.count == 0
            && !self.timeline.limited
            && self.state.events().count == 0
            && self.account_data.is_empty()
            && self.ephemeral.is_empty()
            && self.sticky.count == 0
            && self.summary.is_empty()
    }
}

impl Summary {
    /// Whether nothing in it has changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.heroes.is_none() && self.joined.is_none() && self.invited.is_none()
    }
}
