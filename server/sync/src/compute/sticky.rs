//! Sticky events (MSC4354) that an answer brings beside the timelines.

use std::collections::BTreeMap;
use std::sync::Arc;

use skerry_core::{Membership, Pos, RoomNid};
use skerry_room::{MemberOf, Placed, Viewer};
use skerry_store::StoreError;

use super::changes::RoomHint;
use super::{Mine, Query};
use crate::delta::Delta;

/// Most sticky events of one answer; the rest follows with the next.
const STICKY_MAX: usize = 100;

/// Sticky events by room, oldest first.
pub(super) type StickyRooms = BTreeMap<RoomNid, Vec<Arc<Placed>>>;

impl Query<'_> {
    /// The sticky events to tell, those included that timelines will show too. Their rooms are
    /// added to those to visit.
    pub(super) fn sticky(
        &self,
        visit: &mut BTreeMap<RoomNid, RoomHint>,
        mine: &mut Mine,
        delta: &mut Delta,
    ) -> Result<StickyRooms, StoreError> {
        let mut ask = Vec::new();
        if self.req.since.is_some_and(|token| token.sticky < token.pos) {
            for (room, member) in self.mine(mine)?.iter() {
                ask.extend(self.sticky_after(member).map(|after| (*room, after)));
            }
        } else {
            for room in visit.iter().filter(|(_, hint)| hint.timeline) {
                let member = self.member_of(*room.0)?;
                let after = member.and_then(|member| self.sticky_after(&member));
                ask.extend(after.map(|after| (*room.0, after)));
            }
        }
        let viewer = Viewer {
            user: self.req.user,
            user_id: Arc::clone(&self.req.user_id),
            device: Arc::clone(&self.req.device),
        };
        let page = self
            .sync
            .rooms
            .sticky(self.snap, &viewer, &ask, STICKY_MAX)?;
        delta.next.sticky = page.upto.unwrap_or(delta.next.pos);
        for (room, _) in &page.rooms {
            visit.entry(*room).or_default();
        }
        Ok(page.rooms.into_iter().collect())
    }

    /// From where on sticky events of a room are told; all of one that the user has just entered.
    fn sticky_after(&self, member: &MemberOf) -> Option<Pos> {
        let known = self.req.since.filter(|since| member.since <= since.pos);
        let after = known.map_or(Pos::ZERO, |since| since.sticky);
        (member.membership == Membership::Join).then_some(after)
    }
}
