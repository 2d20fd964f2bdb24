//! Walking through a space: its rooms, depth first (client-server API, `GET
//! /rooms/{roomId}/hierarchy`).
//!
//! A page ends with a token for the rest of the walk, which is kept in memory: bounded in number,
//! size and time, and tied to who asked for what. A token may be used again, so that a page that
//! got lost can be fetched once more.

mod children;
mod walks;

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::value::RawValue;
use skerry_core::RoomNid;
use skerry_core::keys::random_name;
use skerry_store::{Snapshot, StoreError};

use crate::{PublicRoom, RoomError, Rooms, Who};

pub(crate) use children::{Child, stripped as stripped_children};
pub(crate) use walks::Walks;
pub use walks::{Step, Walk};

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

/// What stopped a part of a walk before it was full.
#[derive(Debug)]
pub struct Stopped {
    /// Where the walk stands.
    pub walk: Walk,
    /// What it met so far.
    pub rooms: Vec<HierarchyRoom>,
    /// The room that comes next and that this server cannot speak for; none: the part is full, or
    /// the walk is over.
    pub elsewhere: Option<Step>,
}

impl Rooms {
    /// Begins a walk, or finds the one that a token stands for.
    ///
    /// # Errors
    /// `InvalidParam` for a token that is not known (any more) or was given for another question.
    pub fn walk(&self, who: &Who, root: &str, ask: &HierarchyAsk) -> Result<Walk, RoomError> {
        let Some(token) = &ask.from else {
            return Ok(Walk::begin(who.user, root, ask));
        };
        let walk = self
            .inner
            .lookups
            .walks
            .get(token, self.inner.clock.now_ms());
        walk.filter(|walk| walk.fits(who.user, root, ask))
            .ok_or_else(|| RoomError::InvalidParam("`from` is not known (any more)".into()))
    }

    /// Goes on with a walk as far as this server can speak for the rooms, adding what the user may
    /// see to the rooms at hand.
    ///
    /// # Errors
    /// `Forbidden` for a space that they may not see; the store's.
    pub async fn walk_on(
        &self,
        who: Who,
        mut walk: Walk,
        mut rooms: Vec<HierarchyRoom>,
        ask: HierarchyAsk,
    ) -> Result<Stopped, RoomError> {
        self.query(move |this, snap| {
            let mut elsewhere = None;
            while rooms.len() < ask.limit.clamp(1, HIERARCHY_MAX) {
                let Some(step) = walk.next() else { break };
                let room = match this.store().room_nid(&step.room_id)? {
                    Some(room) if this.is_here(snap, room)? => room,
                    _ => {
                        elsewhere = Some(step);
                        break;
                    }
                };
                match this.on_the_way(snap, &who, room, ask.suggested_only)? {
                    Some((shown, children)) => rooms.push(walk.meet(&step, shown, &children)),
                    None if step.depth == 0 => {
                        return Err(RoomError::Forbidden("You may not see this room".into()));
                    }
                    None => {}
                }
            }
            Ok(Stopped {
                walk,
                rooms,
                elsewhere,
            })
        })
        .await
    }

    /// What another server shows of a room on the way: for the walk, if the user may see it.
    ///
    /// # Errors
    /// The store's.
    pub async fn met_elsewhere(
        &self,
        who: &Who,
        mut stopped: Stopped,
        shown: PublicRoom,
        children: &[Box<RawValue>],
    ) -> Result<Stopped, RoomError> {
        let Some(step) = stopped.elsewhere.take() else {
            return Ok(stopped);
        };
        let (user, asked) = (who.user, shown.clone());
        let may = self.query(move |this, snap| Ok(this.may_preview_shown(snap, &asked, user)?));
        if may.await? {
            let children = children::read(children);
            let only = stopped.walk.suggested_only();
            let wanted: Vec<Child> = children
                .into_iter()
                .filter(|child| child.suggested || !only)
                .collect();
            let met = stopped.walk.meet(&step, shown, &wanted);
            stopped.rooms.push(met);
        }
        Ok(stopped)
    }

    /// The token for the rest of a walk, if there is a rest.
    #[must_use]
    pub fn keep_walk(&self, walk: Walk) -> Option<String> {
        if walk.is_over() {
            return None;
        }
        let token = random_name(&mut *self.inner.dice.dice(), 24);
        let now_ms = self.inner.clock.now_ms();
        self.inner.lookups.walks.put(token.clone(), walk, now_ms);
        Some(token)
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
struct Met(HashSet<Arc<str>>);

impl Met {
    /// Whether the room is met for the first time, and there is room for it.
    fn first(&mut self, room_id: &Arc<str>) -> bool {
        self.0.len() < MAX_MET && self.0.insert(Arc::clone(room_id))
    }
}
