//! One user's view of one room on one snapshot: everything that is read goes through it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use skerry_core::visibility::HistoryVisibility;
use skerry_core::{EventNid, Membership, RoomNid, StateId, UserNid};
use skerry_store::{Snapshot, StoreError};

use crate::federated::DUMMY;
use crate::read::visibility::Reader;
use crate::{Cut, Held, Placed, RoomError, Rooms, Standing, StateMap};

/// Who reads.
#[derive(Clone, Debug)]
pub struct Viewer {
    /// The user's number.
    pub user: UserNid,
    /// The full user id.
    pub user_id: Arc<str>,
    /// The device; empty for none. Only it is shown the transaction ids it used.
    pub device: Arc<str>,
}

/// One user's view of one room on one snapshot. Decides what they may see, and writes it.
pub struct View {
    pub(crate) rooms: Rooms,
    pub(crate) snap: Snapshot,
    pub(crate) room: RoomNid,
    pub(crate) room_id: Arc<str>,
    pub(crate) reader: Reader,
    pub(crate) device: Arc<str>,
    /// Users whose messages this one does not want to see.
    pub(crate) ignored: Arc<HashSet<UserNid>>,
    /// For the age of events, in ms since the epoch.
    pub(crate) now_ms: u64,
    membership: Option<Membership>,
    /// Messages from before this have expired, in ms since the epoch.
    expired_before: u64,
    /// State that holds for the user now.
    holding: StateMap,
    /// Senders met, and whether they asked to be forgotten.
    erased: HashMap<UserNid, bool>,
}

impl Rooms {
    /// A user's view of a room, whatever they may see there; ask [`View::check_readable`].
    ///
    /// # Errors
    /// The store's.
    pub fn view(
        &self,
        snap: &Snapshot,
        viewer: &Viewer,
        room: RoomNid,
    ) -> Result<View, StoreError> {
        let (standing, membership) = self.standing(snap, room, viewer.user)?;
        Ok(View {
            rooms: self.clone(),
            snap: snap.clone(),
            room,
            room_id: self.store().room_id(room)?,
            reader: Reader::new(viewer.user, viewer.user_id.clone(), standing),
            device: viewer.device.clone(),
            ignored: self.inner.accounts.ignored(snap, viewer.user)?,
            now_ms: self.inner.clock.now_ms(),
            membership,
            expired_before: self.expired_before(snap, room)?,
            holding: StateMap::new(),
            erased: HashMap::new(),
        })
    }

    /// A user's view of a room given by id, which they may read.
    ///
    /// # Errors
    /// [`RoomError::Forbidden`] if there is no such room or they may not look into it (which is
    /// the same to them); the store's.
    pub fn readable_view(
        &self,
        snap: &Snapshot,
        viewer: &Viewer,
        room_id: &str,
    ) -> Result<View, RoomError> {
        let Some(room) = self.room_nid(snap, room_id)? else {
            return Err(not_in_room());
        };
        let mut view = self.view(snap, viewer, room)?;
        view.check_readable()?;
        Ok(view)
    }
}

fn not_in_room() -> RoomError {
    RoomError::Forbidden("You are not in this room, and it is not open to readers".to_owned())
}

impl View {
    /// The room.
    #[must_use]
    pub fn room(&self) -> RoomNid {
        self.room
    }

    /// The room's id.
    #[must_use]
    pub fn room_id(&self) -> &Arc<str> {
        &self.room_id
    }

    /// How the user stands to the room.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.reader.standing
    }

    /// The user's membership now, if they have one.
    #[must_use]
    pub fn membership(&self) -> Option<Membership> {
        self.membership
    }

    /// Makes sure that the user may look into the room at all: in it now, once in it and not banned
    /// from it, or open to anybody. (What came up to a ban is told by sync.)
    ///
    /// # Errors
    /// [`RoomError::Forbidden`]; the store's.
    pub fn check_readable(&mut self) -> Result<(), RoomError> {
        let banned = self.membership == Some(Membership::Ban);
        if self.reader.standing != Standing::Outside && !banned || self.is_world_readable()? {
            return Ok(());
        }
        Err(not_in_room())
    }

    /// Whether anybody may read the room now.
    ///
    /// # Errors
    /// The store's.
    pub fn is_world_readable(&self) -> Result<bool, StoreError> {
        let visibility = self.rooms.history_visibility(&self.snap, self.room)?;
        Ok(visibility == Some(HistoryVisibility::WorldReadable))
    }

    /// The version of state that the user may read: the current one, or that of their departure.
    /// `None` if there is none.
    ///
    /// # Errors
    /// The store's.
    pub fn readable_state(&self) -> Result<Option<StateId>, StoreError> {
        if let Standing::Departed { state, .. } = self.reader.standing {
            return Ok(Some(state));
        }
        Ok(self
            .rooms
            .head(&self.snap, self.room)?
            .map(|head| head.state))
    }

    /// Where the timeline ends for the user: at their departure, or not at all.
    ///
    /// # Errors
    /// The store's.
    pub fn end(&self) -> Result<Cut, StoreError> {
        match self.reader.standing {
            Standing::Departed { upto, .. } if !self.is_world_readable()? => Ok(Cut::after(upto)),
            _ => Ok(Cut::END),
        }
    }

    /// Lets the events of a state the user may read be seen in the timeline too, also those that
    /// were made while the user might not look: what changed meanwhile is not to be missed.
    pub fn show_state(&mut self, holding: StateMap) {
        self.holding = holding;
    }

    /// Whether an event is part of the state that [`Self::show_state`] was given.
    fn holds(&self, event: &Placed) -> bool {
        let key = event.meta.state_key;
        key.is_some_and(|key| self.holding.get(key) == Some(event.nid))
    }

    /// Whether the user may see an event by the history visibility of the room, and it has not
    /// expired.
    ///
    /// # Errors
    /// The store's.
    pub fn may_see(&mut self, event: &Placed) -> Result<bool, StoreError> {
        Ok(!self.is_expired(event) && self.reader.may_see(&self.rooms, &self.snap, event)?)
    }

    /// Whether the room keeps an event no longer; state is kept.
    pub(crate) fn is_expired(&self, event: &Placed) -> bool {
        event.event.origin_server_ts() < self.expired_before && !event.event.is_state()
    }

    /// The event as the user is to get it: nothing where they may not see it or ignore its
    /// sender (state events are shown all the same), redacted where its sender asked to be
    /// erased and the user was not there when it was sent.
    ///
    /// # Errors
    /// The store's.
    pub fn admit(&mut self, event: &Arc<Placed>) -> Result<Option<Arc<Placed>>, StoreError> {
        let inside = event.event.event_type() == DUMMY && !event.event.is_state();
        if inside || self.is_ignored(event) || !(self.holds(event) || self.may_see(event)?) {
            return Ok(None);
        }
        if event.event.is_state() || !self.is_erased(event.meta.sender)? {
            return Ok(Some(event.clone()));
        }
        let access = self
            .reader
            .access(&self.rooms, &self.snap, event.meta.before)?;
        if access.membership == Some(Membership::Join) {
            return Ok(Some(event.clone()));
        }
        pruned(event).map(|event| Some(Arc::new(event)))
    }

    /// Whether the event is hidden because the user ignores its sender.
    #[must_use]
    pub fn is_ignored(&self, event: &Placed) -> bool {
        !event.event.is_state() && self.ignored.contains(&event.meta.sender)
    }

    /// Whether a sender asked to be forgotten.
    fn is_erased(&mut self, sender: UserNid) -> Result<bool, StoreError> {
        if let Some(erased) = self.erased.get(&sender) {
            return Ok(*erased);
        }
        let erased = skerry_account::user::is_erased(&self.snap, sender)?;
        self.erased.insert(sender, erased);
        Ok(erased)
    }

    /// The user's membership right after an event; as in its `unsigned`.
    ///
    /// # Errors
    /// The store's.
    pub fn membership_at(&mut self, event: &Placed) -> Result<Membership, StoreError> {
        let access = self
            .reader
            .access(&self.rooms, &self.snap, event.meta.after)?;
        Ok(access.membership.unwrap_or(Membership::Leave))
    }

    /// An event of the room by id, if the user may see it.
    ///
    /// # Errors
    /// The store's.
    pub fn event_by_id(&mut self, event_id: &str) -> Result<Option<Arc<Placed>>, StoreError> {
        let Some(nid) = self.rooms.store().event_nid(&self.snap, event_id)? else {
            return Ok(None);
        };
        let Some(event) = self.rooms.placed(&self.snap, self.room, nid)? else {
            return Ok(None);
        };
        self.admit(&event)
    }

    /// Events by number, without those the room does not have.
    pub(crate) fn load(&self, nids: &[EventNid]) -> Result<Vec<Arc<Placed>>, StoreError> {
        let found = self.rooms.placed_many(&self.snap, self.room, nids)?;
        Ok(found.into_iter().flatten().collect())
    }
}

/// An event in its redacted form, although nobody redacted it.
pub(crate) fn pruned(event: &Placed) -> Result<Placed, StoreError> {
    let redacted = event
        .event
        .redacted()
        .map_err(|_| StoreError::missing("event", event.nid))?;
    let held = Held {
        nid: event.nid,
        event: redacted,
        redacted_by: event.redacted_by,
        sent: event.sent.clone(),
    };
    Ok(Placed::new(held, event.meta.clone()))
}
