//! What a redacted event said, for those who keep order in the room (MSC2815).

use std::sync::Arc;

use skerry_core::StoredEvent;
use skerry_core::power::{Action, CreateFacts, PowerLevels};
use skerry_store::schema::room_redact::Original;
use skerry_store::{Snapshot, StoreError};

use crate::read::messages::no_event;
use crate::{Form, Held, Placed, RoomError, Rooms, Standing, View, Viewer};

impl Rooms {
    /// One event of a room as it was before it was redacted; one that was not as it is.
    ///
    /// # Errors
    /// [`RoomError::NotFound`] if there is none or the user may not see it,
    /// [`RoomError::Forbidden`] to who is neither an administrator of this server nor allowed to
    /// redact in the room, [`RoomError::OriginalGone`] where it was not kept; the store's.
    pub fn original_json(
        &self,
        snap: &Snapshot,
        viewer: &Viewer,
        admin: bool,
        (room_id, event_id): (&str, &str),
    ) -> Result<Vec<u8>, RoomError> {
        let room = self.room_nid(snap, room_id)?.ok_or_else(no_event)?;
        let mut view = self.view(snap, viewer, room)?;
        if !admin && !view.keeps_order()? {
            let text = "You may not see what was redacted in this room";
            return Err(RoomError::Forbidden(text.to_owned()));
        }
        let event = view.event_by_id(event_id)?.ok_or_else(no_event)?;
        let event = if event.redacted_by.is_some() {
            let gone = || RoomError::OriginalGone {
                keep_ms: self.inner.config.redacted_keep_ms,
            };
            view.original(&event)?.ok_or_else(gone)?
        } else {
            event
        };
        let mut out = Vec::new();
        view.write_one(&event, Form::EVENT, &mut out)?;
        Ok(out)
    }
}

impl View {
    /// Whether the user is in the room and may redact what others send.
    fn keeps_order(&self) -> Result<bool, StoreError> {
        if self.standing() != Standing::Joined {
            return Ok(false);
        }
        let state = |kind| {
            self.rooms
                .current_event(&self.snap, self.room, kind, "")
                .map(|held| held.map(|held| held.event))
        };
        let (create, levels) = (state("m.room.create")?, state("m.room.power_levels")?);
        let power = create.as_ref().and_then(CreateFacts::of);
        let power = power.and_then(|facts| PowerLevels::of(&facts, levels.as_ref()).ok());
        Ok(power.is_some_and(|power| power.may(&self.reader.user_id, Action::Redact)))
    }

    /// A redacted event as it was, if that was kept.
    fn original(&self, event: &Placed) -> Result<Option<Arc<Placed>>, StoreError> {
        if skerry_account::user::is_erased(&self.snap, event.meta.sender)? {
            return Ok(None);
        }
        let key = (self.room, event.nid);
        let Some(row) = self.snap.get::<Original>(&key)? else {
            return Ok(None);
        };
        let whole = StoredEvent::decode(&row.event)
            .map_err(|error| crate::base::damaged::<Original>(key, &error.to_string()))?;
        let held = Held {
            nid: event.nid,
            event: whole,
            redacted_by: event.redacted_by,
            sent: event.sent.clone(),
        };
        Ok(Some(Arc::new(Placed::new(held, event.meta.clone()))))
    }
}
