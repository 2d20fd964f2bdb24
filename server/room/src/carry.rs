//! What a user takes along into the room that replaces one they are in.

use skerry_account::{AccountError, Replaced};
use skerry_core::{Membership, UserNid};
use skerry_store::StoreError;

use crate::change::Change;

impl Change<'_> {
    /// Whether the room that this one says it replaces says so too. Anybody can name any room as
    /// the one before; what people keep for that room is not to follow them into a stranger's.
    pub(crate) fn is_successor(&self) -> Result<bool, StoreError> {
        let create = self.content("m.room.create", "")?.unwrap_or_default();
        let predecessor = create.object("predecessor");
        let Some(old) = predecessor.and_then(|predecessor| predecessor.str("room_id")) else {
            return Ok(false);
        };
        let Some(old) = self.rooms.store().room_nid(old)? else {
            return Ok(false);
        };
        let kind = "m.room.tombstone";
        let tombstone = self.rooms.current_event(&self.snap, old, kind, "")?;
        let content = tombstone.and_then(|held| held.event.content_object().ok());
        let named = content
            .as_ref()
            .and_then(|content| content.str("replacement_room"));
        Ok(named == Some(&*self.tip.room_id))
    }

    /// Adds the user's settings for the room before this one to the batch in which they join
    /// it, if they are in that room too (spec, module room upgrades, server behaviour).
    pub(crate) fn carry_over(&mut self, user: UserNid) -> Result<(), StoreError> {
        let create = self.content("m.room.create", "")?.unwrap_or_default();
        let predecessor = create.object("predecessor");
        let Some(old) = predecessor.and_then(|predecessor| predecessor.str("room_id")) else {
            return Ok(());
        };
        let Some(from) = self.rooms.store().room_nid(old)? else {
            return Ok(());
        };
        let there = self.rooms.member_of(&self.snap, user, from)?;
        if there.is_none_or(|member| member.membership != Membership::Join) {
            return Ok(());
        }
        let rooms = Replaced {
            from,
            to: self.tip.room,
        };
        let accounts = &self.rooms.inner.accounts;
        match accounts.carry_over(&self.snap, &mut self.w, user, rooms) {
            Err(AccountError::Store(error)) => Err(error),
            Err(error) => {
                tracing::info!(%error, "a user's settings are not carried over");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }
}
