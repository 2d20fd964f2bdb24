//! Forward extremities are kept few: each further one costs every later event a resolution of
//! states. Where nobody speaks for a while, the server says something in a member's name that no
//! client is shown.

use skerry_core::canonical::Object;
use skerry_core::{Membership, RoomNid};

use crate::change::Change;
use crate::draft::Draft;
use crate::{RoomError, Rooms};

/// The type of such events.
pub(crate) const DUMMY: &str = "org.matrix.dummy_event";
/// From so many forward extremities on they are brought together.
const SQUASH_FROM: usize = 10;
/// Where nobody may do it, it is tried again after so many more.
const TRY_EVERY: usize = 5;

impl Rooms {
    /// Brings the forward extremities of a room together, if they are many.
    pub(super) async fn squash_if_many(&self, room: RoomNid, ends: usize) {
        if ends < SQUASH_FROM || !(ends - SQUASH_FROM).is_multiple_of(TRY_EVERY) {
            return;
        }
        let done = self.change(room, |change| change.squash()).await;
        if let Err(error) = done {
            tracing::warn!(%error, "forward extremities could not be brought together");
        }
    }
}

impl Change<'_> {
    /// Adds an event after all forward extremities, in the name of any member of this server who
    /// may send it.
    fn squash(&mut self) -> Result<(), RoomError> {
        if self.tip.head.extremities.len() < SQUASH_FROM {
            return Ok(());
        }
        let rooms = self.rooms;
        let power = rooms.power(&self.snap, &mut self.tip)?;
        let members = rooms.members(&self.snap, self.tip.room)?.into_iter();
        for (user, _) in members.filter(|(_, member)| member.membership == Membership::Join) {
            let user_id = rooms.store().user_id(user)?;
            if rooms.is_local(&user_id) && power.may_send(&user_id, DUMMY, false) {
                let dummy = Draft::message(DUMMY, Object::new());
                return self.add(&user_id, dummy, None).map(drop);
            }
        }
        tracing::info!(
            room = &*self.tip.room_id,
            "nobody here may bring forward extremities together"
        );
        Ok(())
    }
}
