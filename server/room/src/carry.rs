//! What a user takes along into the room that replaces one they are in, and what the room takes over
//! that was replaced on another server.

use skerry_account::{AccountError, Replaced};
use skerry_core::{Membership, RoomNid, UserNid};
use skerry_store::schema::room as t;
use skerry_store::schema::room::{AliasRow, DirectoryRow};
use skerry_store::{Expect, StoreError};

use crate::change::Change;

impl Change<'_> {
    /// Whether the room that this one says it replaces says so too. Anybody can name any room as
    /// the one before; what people keep for that room is not to follow them into a stranger's.
    pub(crate) fn is_successor(&self) -> Result<bool, StoreError> {
        let Some(old) = self.predecessor()? else {
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

    /// The room that this one says it replaces, if it is known here.
    fn predecessor(&self) -> Result<Option<RoomNid>, StoreError> {
        let create = self.content("m.room.create", "")?.unwrap_or_default();
        let predecessor = create.object("predecessor");
        match predecessor.and_then(|predecessor| predecessor.str("room_id")) {
            Some(old) => self.rooms.store().room_nid(old),
            None => Ok(None),
        }
    }

    /// The aliases of this server and the place in its directory that the room before this one had
    /// become this room's. Whoever replaced it did that on their own server alone.
    pub(crate) fn take_names(&mut self, by: UserNid) -> Result<(), StoreError> {
        let Some(old) = self.predecessor()? else {
            return Ok(());
        };
        for alias in self.rooms.aliases_of(&self.snap, old)? {
            let Some(row) = self.rooms.alias(&self.snap, &alias)? else {
                continue;
            };
            // The room's lane is not held, nor that of the other: who changes it meanwhile wins.
            self.w.expect::<t::Alias>(&alias, Expect::Is(&row));
            let row = AliasRow {
                room: self.tip.room,
                ..row
            };
            self.w.put::<t::Alias>(&alias, &row);
            self.w.delete::<t::AliasOf>(&(old, alias.clone()));
            self.w.put::<t::AliasOf>(&(self.tip.room, alias), &());
        }
        if let Some(row) = self.snap.get::<t::Directory>(&old)? {
            self.w.expect::<t::Directory>(&old, Expect::Is(&row));
            self.w.delete::<t::Directory>(&old);
            let row = DirectoryRow {
                by,
                at_ms: self.now_ms,
            };
            self.w.put::<t::Directory>(&self.tip.room, &row);
        }
        Ok(())
    }

    /// Adds the user's settings for the room before this one to the batch in which they join
    /// it, if they are in that room too (spec, module room upgrades, server behaviour).
    pub(crate) fn carry_over(&mut self, user: UserNid) -> Result<(), StoreError> {
        let Some(from) = self.predecessor()? else {
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
