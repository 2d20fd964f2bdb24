//! The rooms that two users share (client-server API, "Mutual Rooms").

use skerry_core::{Membership, RoomNid, names};
use skerry_store::{Snapshot, StoreError};

use crate::{RoomError, Rooms, Who};

/// Rooms in one answer.
const PAGE: usize = 100;

/// A part of the rooms that two users share.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MutualRooms {
    /// Ids of rooms that both are joined to.
    pub joined: Vec<String>,
    /// How many there are in all.
    pub count: usize,
    /// After which room the next part begins, if there is more.
    pub next: Option<RoomNid>,
}

impl Rooms {
    /// The rooms that somebody shares with another user, from the first after `from`. None for a
    /// user that this server does not know.
    ///
    /// # Errors
    /// `InvalidParam` for what is no user id and for one's own; the store's.
    pub async fn mutual(
        &self,
        who: Who,
        other: &str,
        from: Option<RoomNid>,
    ) -> Result<MutualRooms, RoomError> {
        if !names::is_user_id(other) {
            return Err(RoomError::InvalidParam(format!(
                "{other:?} is not a user id"
            )));
        }
        if *who.user_id == *other {
            let text = "These would be all of your own rooms";
            return Err(RoomError::InvalidParam(text.into()));
        }
        let Some(other) = self.store().user_nid(other)? else {
            return Ok(MutualRooms::default());
        };
        self.query(move |this, snap| {
            let shared = this.shared(snap, &who, other)?;
            let first = from.map_or(0, |from| shared.partition_point(|room| *room <= from));
            let end = shared.len().min(first + PAGE);
            let page = shared.get(first..end).unwrap_or_default();
            let joined = page
                .iter()
                .map(|room| this.store().room_id(*room).map(|id| id.to_string()));
            Ok(MutualRooms {
                joined: joined.collect::<Result<_, _>>()?,
                count: shared.len(),
                next: page.last().copied().filter(|_| end < shared.len()),
            })
        })
        .await
    }

    /// In the order of their numbers.
    fn shared(
        &self,
        snap: &Snapshot,
        who: &Who,
        other: skerry_core::UserNid,
    ) -> Result<Vec<RoomNid>, StoreError> {
        let mut shared = Vec::new();
        for (room, member) in self.rooms_of(snap, who.user)? {
            if member.membership == Membership::Join && self.is_joined(snap, room, other)? {
                shared.push(room);
            }
        }
        Ok(shared)
    }
}
