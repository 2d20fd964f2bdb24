//! What `skerry-sync` asks of rooms, beyond what every reader asks.

use skerry_core::{EventNid, Membership, Order, Pos, RoomNid, StateId, UserNid};
use skerry_store::schema::room::{self as t};
use skerry_store::{Scan, Snapshot, StoreError};

use crate::Rooms;

impl Rooms {
    /// The newest events of a room after one place and up to and including another, newest first.
    ///
    /// # Errors
    /// The store's.
    pub fn stretch(
        &self,
        snap: &Snapshot,
        room: RoomNid,
        (after, upto): (Order, Order),
        limit: usize,
    ) -> Result<Vec<(Order, EventNid)>, StoreError> {
        let end = Order { anchor: upto.anchor, n: upto.n.saturating_add(1) };
        let scan = Scan::prefix(&room).after(&(room, after)).to(&(room, end)).rev().limit(limit);
        let rows = snap.scan::<t::Timeline>(scan);
        rows.map(|row| row.map(|((_, order), event)| (order, event))).collect()
    }

    /// The state that a room had for somebody who has seen the log up to `pos`; `None` if there
    /// was no event in it yet.
    ///
    /// # Errors
    /// The store's.
    pub fn state_id_at(
        &self,
        snap: &Snapshot,
        room: RoomNid,
        pos: Pos,
    ) -> Result<Option<StateId>, StoreError> {
        let last = self.stretch(snap, room, (Order::MIN, Order::live(pos)), 1)?;
        let Some((_, event)) = last.first() else { return Ok(None) };
        Ok(self.meta(snap, *event)?.map(|meta| meta.after))
    }

    /// The users joined to a room.
    ///
    /// # Errors
    /// The store's.
    pub fn joined_users(
        &self,
        snap: &Snapshot,
        room: RoomNid,
    ) -> Result<Vec<UserNid>, StoreError> {
        let members = self.members(snap, room)?.into_iter();
        let joined = members.filter(|(_, member)| member.membership == Membership::Join);
        Ok(joined.map(|(user, _)| user).collect())
    }
}
