//! What relates to an event, and the threads of a room.

use std::collections::HashSet;
use std::sync::Arc;

use skerry_core::{EventNid, Order};
use skerry_store::schema::room::{RelKind, Relations};
use skerry_store::schema::room_read::Parents;
use skerry_store::{Scan, Snapshot, StoreError};

use crate::read::messages::write_token;
use crate::read::view::pruned;
use crate::{Cut, Form, Placed, RoomError, Rooms, View, Viewer, rel_kind};

/// How many steps children of children are followed.
const DEPTH_MAX: u32 = 3;
/// The most children that are considered for one answer.
const CHILDREN_MAX: usize = 10_000;
/// The most threads of a room that are considered for one answer.
const THREADS_MAX: usize = 20_000;
/// Events loaded at once.
const CHUNK: usize = 64;

/// What `/relations` is asked for.
#[derive(Clone, Debug)]
pub struct RelationsAsk {
    /// The parent.
    pub event_id: String,
    /// Only children that relate in this way.
    pub rel_type: Option<String>,
    /// Only children of this type.
    pub event_type: Option<String>,
    /// Where to begin.
    pub from: Option<Cut>,
    /// Where to stop.
    pub to: Option<Cut>,
    /// Newest first.
    pub back: bool,
    /// The most events wanted.
    pub limit: usize,
    /// Children of children too.
    pub recurse: bool,
}

/// What `/threads` is asked for.
#[derive(Clone, Copy, Debug)]
pub struct ThreadsAsk {
    /// Only threads in which the user took part.
    pub participated: bool,
    /// Where to begin.
    pub from: Option<Cut>,
    /// The most threads wanted.
    pub limit: usize,
}

impl Rooms {
    /// Children of an event: `{"chunk":[..],"next_batch":..,"prev_batch":..}`.
    ///
    /// # Errors
    /// [`RoomError::NotFound`] if the user may not see the parent; the store's.
    pub fn relations_json(
        &self,
        snap: &Snapshot,
        viewer: &Viewer,
        room_id: &str,
        ask: &RelationsAsk,
    ) -> Result<Vec<u8>, RoomError> {
        let missing = || RoomError::NotFound("There is no such event to relate to".to_owned());
        let Some(room) = self.room_nid(snap, room_id)? else {
            return Err(missing());
        };
        let mut view = self.view(snap, viewer, room)?;
        let parent = view.event_by_id(&ask.event_id)?.ok_or_else(missing)?;
        let mut rows = view.descendants(parent.nid, ask)?;
        let (low, high) = if ask.back {
            (ask.to, ask.from)
        } else {
            (ask.from, ask.to)
        };
        rows.retain(|(order, _)| {
            low.is_none_or(|cut| *order > cut.0) && high.is_none_or(|cut| *order <= cut.0)
        });
        rows.sort_unstable();
        if ask.back {
            rows.reverse();
        }
        let (events, next) = view.take_children(&rows, ask)?;
        let mut out = b"{\"chunk\":".to_vec();
        view.write_bundled(&events, Form::EVENT, &mut out)?;
        write_token("next_batch", next, &mut out);
        write_token("prev_batch", ask.from, &mut out);
        if ask.recurse {
            out.extend_from_slice(format!(",\"recursion_depth\":{DEPTH_MAX}").as_bytes());
        }
        out.push(b'}');
        Ok(out)
    }

    /// The threads of a room, the one with the newest event first:
    /// `{"chunk":[..],"next_batch":..}`.
    ///
    /// # Errors
    /// [`RoomError::Forbidden`] to who may not look into the room; the store's.
    pub fn threads_json(
        &self,
        snap: &Snapshot,
        viewer: &Viewer,
        room_id: &str,
        ask: &ThreadsAsk,
    ) -> Result<Vec<u8>, RoomError> {
        let mut view = self.readable_view(snap, viewer, room_id)?;
        let threads = view.threads()?;
        let mut roots: Vec<Arc<Placed>> = Vec::new();
        let (mut next, mut last) = (None, None);
        for (order, root) in threads {
            if ask.from.is_some_and(|cut| order > cut.0) {
                continue;
            }
            if roots.len() == ask.limit {
                next = last;
                break;
            }
            last = Some(Cut::before(order));
            let Some(root) = view.thread_root(root)? else {
                continue;
            };
            if !ask.participated || view.took_part(&root)? {
                roots.push(root);
            }
        }
        let mut out = b"{\"chunk\":".to_vec();
        view.write_bundled(&roots, Form::EVENT, &mut out)?;
        write_token("next_batch", next, &mut out);
        out.push(b'}');
        Ok(out)
    }
}

impl View {
    /// Children of an event, and with `recurse` theirs, in no particular order.
    fn descendants(
        &self,
        parent: EventNid,
        ask: &RelationsAsk,
    ) -> Result<Vec<(Order, EventNid)>, StoreError> {
        let kind = ask.rel_type.as_deref().map(rel_kind);
        let depth = if ask.recurse { DEPTH_MAX } else { 1 };
        let (mut found, mut seen) = (Vec::new(), HashSet::from([parent]));
        let mut level = vec![parent];
        for _ in 0..depth {
            let mut children = Vec::new();
            for parent in level {
                let scan = match kind {
                    Some(kind) => Scan::prefix(&(parent, kind)),
                    None => Scan::prefix(&parent),
                };
                let left = CHILDREN_MAX.saturating_sub(found.len());
                for row in self.snap.scan::<Relations>(scan.limit(left)) {
                    let ((_, _, order), relation) = row?;
                    if seen.insert(relation.child) {
                        found.push((order, relation.child));
                        children.push(relation.child);
                    }
                }
            }
            level = children;
        }
        Ok(found)
    }

    /// The first children that the ask and the user's rights let through.
    fn take_children(
        &mut self,
        rows: &[(Order, EventNid)],
        ask: &RelationsAsk,
    ) -> Result<(Vec<Arc<Placed>>, Option<Cut>), StoreError> {
        let (mut taken, mut last) = (Vec::new(), None);
        for chunk in rows.chunks(CHUNK) {
            let nids: Vec<EventNid> = chunk.iter().map(|row| row.1).collect();
            for child in self.load(&nids)? {
                if taken.len() == ask.limit {
                    return Ok((taken, last));
                }
                let order = child.order();
                last = Some(if ask.back {
                    Cut::before(order)
                } else {
                    Cut::after(order)
                });
                if fits(&child, ask) {
                    taken.extend(self.admit(&child)?);
                }
            }
        }
        Ok((taken, None))
    }

    /// Roots of the room's threads with the place of each one's newest event; newest first.
    fn threads(&mut self) -> Result<Vec<(Order, EventNid)>, StoreError> {
        let scan = Scan::prefix(&(self.room, RelKind::Thread)).limit(THREADS_MAX);
        let roots: Result<Vec<_>, _> = self.snap.clone().scan::<Parents>(scan).collect();
        let mut threads = Vec::new();
        for ((_, _, root), ()) in roots? {
            if let Some(latest) = self.latest_in_thread(root)? {
                threads.push((latest.order(), root));
            }
        }
        threads.sort_unstable_by(|a, b| b.cmp(a));
        Ok(threads)
    }

    /// The root of a thread, redacted where the user ignores its sender; `None` if they may not
    /// see it.
    fn thread_root(&mut self, root: EventNid) -> Result<Option<Arc<Placed>>, StoreError> {
        let Some(root) = self.rooms.placed(&self.snap, self.room, root)? else {
            return Ok(None);
        };
        if self.is_ignored(&root) && self.may_see(&root)? {
            return pruned(&root).map(|root| Some(Arc::new(root)));
        }
        self.admit(&root)
    }

    /// Whether the user began a thread or wrote in it.
    fn took_part(&self, root: &Placed) -> Result<bool, StoreError> {
        let user = self.reader.user;
        Ok(root.meta.sender == user || self.thread_sum(root.nid)?.has(user))
    }
}

/// Whether a child is of the kinds asked for. A redacted one relates to nothing any more.
fn fits(child: &Placed, ask: &RelationsAsk) -> bool {
    let Some(relates) = child.relates() else {
        return false;
    };
    ask.rel_type
        .as_ref()
        .is_none_or(|rel_type| *rel_type == relates.rel_type)
        && ask
            .event_type
            .as_ref()
            .is_none_or(|kind| kind == child.event.event_type())
}
