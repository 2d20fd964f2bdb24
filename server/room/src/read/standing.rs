//! How a user stands to a room, and what of its state that lets them see.

use std::sync::Arc;

use skerry_core::{Membership, Order, Pos, RoomNid, StateId, UserNid};
use skerry_store::{Snapshot, StoreError};

use crate::{Placed, Rooms};

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
        let event = self.placed(snap, room, member.event)?;
        let Some(event) = event.filter(|event| event.meta.is_placed()) else {
            return Ok((
                self.departure_at(snap, (room, user), member.pos)?,
                membership,
            ));
        };
        if event.membership() != membership {
            return Ok((
                self.departure_at(snap, (room, user), member.pos)?,
                membership,
            ));
        }
        Ok((self.departure(snap, room, event)?, membership))
    }

    /// How a user stands to a room whose leaving is no event of the timeline: the room's state
    /// became another one at a position.
    fn departure_at(
        &self,
        snap: &Snapshot,
        (room, user): (RoomNid, UserNid),
        pos: Pos,
    ) -> Result<Standing, StoreError> {
        let user_id = self.store().user_id(user)?;
        let states = (
            self.state_id_before(snap, room, pos)?,
            self.state_id_at(snap, room, pos)?,
        );
        let (Some(before), Some(state)) = states else {
            return Ok(Standing::Outside);
        };
        let map = self.state_map(snap, before)?;
        let event = match self.in_state(&map, "m.room.member", &user_id)? {
            Some(event) => self.placed(snap, room, event)?,
            None => None,
        };
        if event.and_then(|event| event.membership()) != Some(Membership::Join) {
            return Ok(Standing::Outside);
        }
        Ok(Standing::Departed {
            upto: Order::live(pos),
            state,
        })
    }

    /// The state of a room before the event after which something became so at a position: the
    /// event itself stands right before it.
    fn state_id_before(
        &self,
        snap: &Snapshot,
        room: RoomNid,
        pos: Pos,
    ) -> Result<Option<StateId>, StoreError> {
        let last = self.stretch(snap, room, (Order::MIN, Order::live(pos)), 1)?;
        let Some((order, _)) = last.first() else {
            return Ok(None);
        };
        self.state_id_at(snap, room, Pos(order.anchor.0.saturating_sub(1)))
    }

    /// Follows a user's member events back to the one that ended a join.
    fn departure(
        &self,
        snap: &Snapshot,
        room: RoomNid,
        newest: Arc<Placed>,
    ) -> Result<Standing, StoreError> {
        let mut next = Some(newest);
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
