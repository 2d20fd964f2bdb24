//! How a user stands to a room, and what of its state that lets them see.

use skerry_core::{EventNid, Membership, Order, RoomNid, StateId, UserNid};
use skerry_store::{Snapshot, StoreError};

use crate::Rooms;

/// How far back the chain of a user's member events is followed to find a join.
const CHAIN_MAX: usize = 64;

/// How a user stands to a room now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// In it.
    Joined,
    /// Was in it. They see what they could see then, and nothing later.
    Departed {
        /// Place of the event that ended it.
        upto: Order,
        /// State right after that event.
        state: StateId,
    },
    /// Never was in it, or has forgotten it.
    Outside,
}

impl Rooms {
    /// How a user stands to a room, with the event and value of their membership, if they have
    /// one.
    ///
    /// # Errors
    /// The store's.
    pub fn standing(
        &self,
        snap: &Snapshot,
        room: RoomNid,
        user: UserNid,
    ) -> Result<(Standing, Option<Membership>), StoreError> {
        let Some(member) = self.member(snap, room, user)? else {
            return Ok((Standing::Outside, None));
        };
        let membership = Some(member.membership);
        if member.membership == Membership::Join {
            return Ok((Standing::Joined, membership));
        }
        if member.forgotten {
            return Ok((Standing::Outside, membership));
        }
        Ok((self.departure(snap, room, member.event)?, membership))
    }

    /// Follows a user's member events back to the one that ended a join.
    fn departure(
        &self,
        snap: &Snapshot,
        room: RoomNid,
        newest: EventNid,
    ) -> Result<Standing, StoreError> {
        let mut next = self.placed(snap, room, newest)?;
        for _ in 0..CHAIN_MAX {
            let Some(event) = next else { break };
            let Some(before) = event.meta.replaces else {
                break;
            };
            let Some(before) = self.placed(snap, room, before)? else {
                break;
            };
            if before.membership() == Some(Membership::Join) {
                return Ok(Standing::Departed {
                    upto: event.order(),
                    state: event.meta.after,
                });
            }
            next = Some(before);
        }
        Ok(Standing::Outside)
    }
}
