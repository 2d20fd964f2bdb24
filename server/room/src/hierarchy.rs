//! Walking through a space: its rooms, depth first (client-server API, `GET
//! /rooms/{roomId}/hierarchy`).
//!
//! A page ends with a token for the rest of the walk, which is kept in memory: bounded in number,
//! size and time, and tied to who asked for what. A token may be used again, so that a page that
//! got lost can be fetched once more.

mod children;
mod walks;

use std::collections::HashSet;

use skerry_core::RoomNid;
use skerry_core::keys::random_name;
use skerry_store::{Snapshot, StoreError};

use crate::{PublicRoom, RoomError, Rooms, Who};

pub(crate) use children::{Child, stripped as stripped_children};
use walks::Walk;
pub(crate) use walks::Walks;

/// Rooms in one answer at most, and where the client does not say.
pub const HIERARCHY_MAX: usize = 100;
/// How deep a walk goes where the client does not say, and at most.
const MAX_DEPTH: u32 = 50;
/// The most rooms one walk meets; the rest is left out.
const MAX_MET: usize = 20_000;
/// The kind of room that has children.
const SPACE: &str = "m.space";

/// Which part of a space is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HierarchyAsk {
    /// Only rooms that the space suggests.
    pub suggested_only: bool,
    /// How far down; 0 is the space itself. None: all.
    pub max_depth: Option<u32>,
    /// The most rooms to give.
    pub limit: usize,
    /// The token of the page before.
    pub from: Option<String>,
}

/// A room of a space.
#[derive(Clone, Debug)]
pub struct HierarchyRoom {
    /// What it shows.
    pub room: PublicRoom,
    /// Its own children's events, stripped and with their times: a JSON array.
    pub children: Vec<u8>,
}

/// A part of a space.
#[derive(Clone, Debug)]
pub struct HierarchyPage {
    /// Its rooms, depth first.
    pub rooms: Vec<HierarchyRoom>,
    /// The token for the rest, if there is more.
    pub next: Option<String>,
}

impl Rooms {
    /// A part of a space, as far as the user may see it.
    ///
    /// # Errors
    /// `Forbidden` for a room that they may not see or that there is not; `InvalidParam` for a
    /// token that is not known (any more) or was given for another question; the store's.
    pub async fn hierarchy(
        &self,
        who: Who,
        room_id: &str,
        ask: HierarchyAsk,
    ) -> Result<HierarchyPage, RoomError> {
        let closed = || RoomError::Forbidden("You may not see this room".into());
        let root = self.store().room_nid(room_id)?.ok_or_else(closed)?;
        self.query(move |this, snap| {
            if !this.may_preview(snap, root, Some(who.user))? {
                return Err(closed());
            }
            this.walk(snap, &who, root, &ask)
        })
        .await
    }

    fn walk(
        &self,
        snap: &Snapshot,
        who: &Who,
        root: RoomNid,
        ask: &HierarchyAsk,
    ) -> Result<HierarchyPage, RoomError> {
        let now_ms = self.inner.clock.now_ms();
        let walks = &self.inner.lookups.walks;
        let mut walk = match &ask.from {
            None => Walk::begin(who.user, root, ask),
            Some(token) => walks
                .get(token, now_ms)
                .filter(|walk| walk.fits(who.user, root, ask))
                .ok_or_else(|| RoomError::InvalidParam("`from` is not known (any more)".into()))?,
        };
        let deepest = ask.max_depth.unwrap_or(MAX_DEPTH).min(MAX_DEPTH);
        let mut rooms = Vec::new();
        while rooms.len() < ask.limit.clamp(1, HIERARCHY_MAX) {
            let Some((room, depth)) = walk.next() else {
                break;
            };
            let Some(found) = self.on_the_way(snap, who, room, ask.suggested_only)? else {
                continue;
            };
            let (shown, children) = found;
            if depth < deepest {
                // The first child comes next: it goes onto the stack last.
                for child in children.iter().rev() {
                    if let Some(room) = self.store().room_nid(&child.room_id)? {
                        walk.push(room, depth + 1);
                    }
                }
            }
            rooms.push(HierarchyRoom {
                room: shown,
                children: stripped_children(&children),
            });
        }
        let next = match walk.is_over() {
            true => None,
            false => {
                let token = random_name(&mut *self.inner.dice.dice(), 24);
                walks.put(token.clone(), walk, now_ms);
                Some(token)
            }
        };
        Ok(HierarchyPage { rooms, next })
    }

    /// A room of the walk, if the user may see it, and its children.
    fn on_the_way(
        &self,
        snap: &Snapshot,
        who: &Who,
        room: RoomNid,
        suggested_only: bool,
    ) -> Result<Option<(PublicRoom, Vec<Child>)>, StoreError> {
        if !self.may_preview(snap, room, Some(who.user))? {
            return Ok(None);
        }
        let Some(shown) = self.public_room(snap, room)? else {
            return Ok(None);
        };
        let children = self.suggested_children(snap, room, suggested_only)?;
        Ok(Some((shown, children)))
    }

    /// The children of a room if it is a space, or those of them that it suggests.
    pub(crate) fn suggested_children(
        &self,
        snap: &Snapshot,
        room: RoomNid,
        suggested_only: bool,
    ) -> Result<Vec<Child>, StoreError> {
        let row = self.room_row(snap, room)?;
        if row.and_then(|row| row.room_type).as_deref() != Some(SPACE) {
            return Ok(Vec::new());
        }
        let all = self.children(snap, room)?;
        let wanted = all
            .iter()
            .filter(|child| child.suggested || !suggested_only);
        Ok(wanted.cloned().collect())
    }
}

/// Rooms met on a walk, each once: this is what ends in spite of cycles.
#[derive(Clone, Debug, Default)]
struct Met(HashSet<RoomNid>);

impl Met {
    /// Whether the room is met for the first time, and there is room for it.
    fn first(&mut self, room: RoomNid) -> bool {
        self.0.len() < MAX_MET && self.0.insert(room)
    }
}
