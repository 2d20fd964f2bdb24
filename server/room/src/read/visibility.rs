//! Who may see which event: the one place where that is decided (spec: room history visibility).

use std::sync::Arc;

use serde::Deserialize;
use skerry_core::visibility::{HistoryVisibility, View as Decides};
use skerry_core::{EventNid, Membership, StateId, StateKeyNid, StateMap, UserNid};
use skerry_store::schema::room::{State, StateDelta};
use skerry_store::{Snapshot, StoreError, Table};

use crate::{Placed, Rooms, Standing};

/// Bytes an [`Access`] weighs in its cache.
const ACCESS_BYTES: usize = 96;

/// What one version of a room's state says about one user's right to read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Access {
    /// The history visibility in force.
    pub visibility: HistoryVisibility,
    /// The user's membership, if they have one.
    pub membership: Option<Membership>,
}

/// The two places in a state that decide, as numbers; none: never set anywhere.
#[derive(Clone, Copy)]
struct AccessKeys {
    visibility: Option<StateKeyNid>,
    member: Option<StateKeyNid>,
}

/// Which of the two places changed, and to what.
#[derive(Clone, Copy, Default)]
struct AccessChange {
    visibility: Option<Option<EventNid>>,
    member: Option<Option<EventNid>>,
}

impl AccessKeys {
    fn in_map(self, map: &StateMap) -> AccessChange {
        let at = |key: Option<StateKeyNid>| Some(key.and_then(|key| map.get(key)));
        AccessChange {
            visibility: at(self.visibility),
            member: at(self.member),
        }
    }

    fn in_delta(self, delta: &StateDelta) -> AccessChange {
        let at = |key: Option<StateKeyNid>| {
            let key = key?;
            if let Some((_, event)) = delta.adds.iter().find(|entry| entry.0 == key) {
                return Some(Some(*event));
            }
            delta.removes.contains(&key).then_some(None)
        };
        AccessChange {
            visibility: at(self.visibility),
            member: at(self.member),
        }
    }
}

impl Access {
    /// Of the empty state.
    const NONE: Access = Access {
        visibility: HistoryVisibility::Shared,
        membership: None,
    };
}

/// The right of one user to read one room, with what was just looked up.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) user: UserNid,
    pub(crate) user_id: Arc<str>,
    pub(crate) standing: Standing,
    /// The versions of state asked about last; consecutive events mostly share them.
    recent: [Option<(StateId, Access)>; 2],
}

impl Reader {
    pub(crate) fn new(user: UserNid, user_id: Arc<str>, standing: Standing) -> Reader {
        Reader {
            user,
            user_id,
            standing,
            recent: [None; 2],
        }
    }

    /// What a version of state says about this reader.
    pub(crate) fn access(
        &mut self,
        rooms: &Rooms,
        snap: &Snapshot,
        state: StateId,
    ) -> Result<Access, StoreError> {
        if let Some((_, access)) = self.recent.iter().flatten().find(|entry| entry.0 == state) {
            return Ok(*access);
        }
        let access = rooms.access(snap, state, self.user, &self.user_id)?;
        self.recent = [Some((state, access)), self.recent[0]];
        Ok(access)
    }

    /// Whether this reader may see an event.
    pub(crate) fn may_see(
        &mut self,
        rooms: &Rooms,
        snap: &Snapshot,
        event: &Placed,
    ) -> Result<bool, StoreError> {
        if !event.meta.is_placed() || !rooms.is_in_effect(snap, event)? {
            return Ok(false);
        }
        let joined_since = match self.standing {
            Standing::Joined => true,
            Standing::Departed { upto, .. } => event.order() <= upto,
            Standing::Outside => false,
        };
        let before = self.access(rooms, snap, event.meta.before)?;
        let mut decides = Decides::plain(before.visibility, before.membership, joined_since);
        if event.event.is("m.room.history_visibility", "") {
            let after = self.access(rooms, snap, event.meta.after)?;
            decides.visibility_after = Some(after.visibility);
        } else if event.event.is("m.room.member", &self.user_id) {
            decides.membership_after = self.access(rooms, snap, event.meta.after)?.membership;
        }
        Ok(decides.allows())
    }
}

#[derive(Deserialize)]
struct VisibilityContent {
    history_visibility: String,
}

/// What the content of an `m.room.history_visibility` event says.
#[must_use]
pub fn visibility_of(event: &skerry_core::StoredEvent) -> HistoryVisibility {
    let content = event.content_as::<VisibilityContent>();
    content.map_or(HistoryVisibility::default(), |content| {
        HistoryVisibility::parse(&content.history_visibility)
    })
}

impl Rooms {
    /// Whether an event is for clients at all. From version 3 on a redaction is only once it has
    /// taken effect: until then it may name an event that is not here, is of another room, or of
    /// somebody else (rooms/v3, "Handling redactions").
    fn is_in_effect(&self, snap: &Snapshot, placed: &Placed) -> Result<bool, StoreError> {
        let event = &placed.event;
        if event.event_type() != "m.room.redaction"
            || event.is_state()
            || event.version().references_have_hashes()
        {
            return Ok(true);
        }
        let Some(target) = event.redacts() else {
            return Ok(false);
        };
        let Some(nid) = self.store().event_nid(snap, target)? else {
            return Ok(false);
        };
        let meta = self.meta(snap, nid)?;
        let held = self.event(snap, nid)?;
        Ok(meta.is_some_and(|meta| meta.room == placed.meta.room)
            && held.is_some_and(|held| held.redacted_by.is_some()))
    }

    /// What a version of state says about a user's right to read.
    ///
    /// # Errors
    /// The store's.
    pub(crate) fn access(
        &self,
        snap: &Snapshot,
        state: StateId,
        user: UserNid,
        user_id: &str,
    ) -> Result<Access, StoreError> {
        // That of an event of which only is known that others rest on it.
        if state == StateId(0) {
            return Ok(Access::NONE);
        }
        if let Some(access) = self.inner.reads.access.get((state, user)) {
            return Ok(access);
        }
        let keys = AccessKeys {
            visibility: self
                .store()
                .state_key_nid("m.room.history_visibility", "")?,
            member: self.store().state_key_nid("m.room.member", user_id)?,
        };
        let (mut access, mut path, mut next) = (Access::NONE, Vec::new(), Some(state));
        while let Some(at) = next {
            if let Some(known) = self.inner.reads.access.get((at, user)) {
                access = known;
                break;
            }
            if let Some(map) = self.inner.states.get(at) {
                let whole = keys.in_map(&map);
                access = self.access_after(snap, access, whole)?;
                break;
            }
            let delta = snap
                .get::<State>(&at)?
                .ok_or_else(|| StoreError::missing(State::NAME, at))?;
            path.push((at, keys.in_delta(&delta)));
            next = delta.parent;
        }
        for (at, change) in path.into_iter().rev() {
            access = self.access_after(snap, access, change)?;
            self.inner
                .reads
                .access
                .put((at, user), access, ACCESS_BYTES);
        }
        Ok(access)
    }

    /// What becomes of an access when some of the state it is made from changes.
    fn access_after(
        &self,
        snap: &Snapshot,
        mut access: Access,
        change: AccessChange,
    ) -> Result<Access, StoreError> {
        if let Some(event) = change.visibility {
            let event = event
                .map(|nid| self.placed_raw(snap, nid))
                .transpose()?
                .flatten();
            let found = event.map(|placed| visibility_of(&placed.event));
            access.visibility = found.unwrap_or_default();
        }
        if let Some(event) = change.member {
            let event = event
                .map(|nid| self.placed_raw(snap, nid))
                .transpose()?
                .flatten();
            let found = event.and_then(|placed| placed.membership());
            access.membership = found;
        }
        Ok(access)
    }

    /// The history visibility of a room now; `None` if this server does not know the room.
    ///
    /// # Errors
    /// The store's.
    pub fn history_visibility(
        &self,
        snap: &Snapshot,
        room: skerry_core::RoomNid,
    ) -> Result<Option<HistoryVisibility>, StoreError> {
        if self.room_row(snap, room)?.is_none() {
            return Ok(None);
        }
        let event = self.current_event(snap, room, "m.room.history_visibility", "")?;
        let visibility = event.map(|held| visibility_of(&held.event));
        Ok(Some(visibility.unwrap_or_default()))
    }
}
