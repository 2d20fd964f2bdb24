//! What a new event refers to, and what has referred to it before it was here.

use skerry_core::{EventNid, Pos, StoredEvent, names};
use skerry_store::schema::federation::{Awaits, Waiting};
use skerry_store::schema::room as t;
use skerry_store::schema::room::{RelKind, Relation};
use skerry_store::{Scan, Snapshot, StoreError, Write};

use crate::read::notes;
use crate::redact::Target;
use crate::tip::Tip;
use crate::{Held, RoomError, Rooms};

/// Most events that are remembered to refer to one that is not here.
const WAITING_MAX: usize = 256;

/// Notes that an event refers to one that is not here.
pub(crate) fn await_event(w: &mut Write, tip: &mut Tip, id: &str, (how, nid): (Awaits, EventNid)) {
    w.put::<Waiting>(&(tip.room, id.to_owned(), how, nid), &());
    let waiting = tip.fresh.waiting.entry(id.to_owned()).or_default();
    waiting.push((how, nid));
}

impl Rooms {
    /// An event that relates to another of the room is found from there, one that redacts another
    /// takes its content away; and both are done to it that came too early for that.
    pub(crate) fn refer(
        &self,
        w: &mut Write,
        snap: &Snapshot,
        tip: &mut Tip,
        (nid, pos): (EventNid, Pos),
        event: &StoredEvent,
    ) -> Result<(), RoomError> {
        self.relate(w, snap, tip, nid, event)?;
        self.redact_target(w, snap, tip, (nid, pos), event)?;
        // Nobody can have referred to an event that is made just now.
        if !tip.fresh.received {
            return Ok(());
        }
        for (how, from) in self.waiting_for(snap, tip, event.event_id())? {
            w.delete::<Waiting>(&(tip.room, event.event_id().to_owned(), how, from));
            let other = self.held_of(snap, tip, from)?;
            let meta = self.meta_of(snap, &tip.fresh, from)?;
            let Some(other) = other.filter(|_| meta.is_some_and(|meta| meta.is_placed())) else {
                continue;
            };
            match how {
                Awaits::Prev => {
                    self.shrink_hole(w, snap, tip, (from, event.event_id(), &[]))?;
                }
                Awaits::Relation => self.relate(w, snap, tip, from, &other.event)?,
                // It takes effect now.
                Awaits::Redaction => {
                    self.redact_target(w, snap, tip, (from, pos), &other.event)?;
                }
            }
        }
        tip.fresh.waiting.remove(event.event_id());
        Ok(())
    }

    /// The events that refer to one that was not here, and how.
    pub(crate) fn waiting_for(
        &self,
        snap: &Snapshot,
        tip: &Tip,
        event_id: &str,
    ) -> Result<Vec<(Awaits, EventNid)>, StoreError> {
        let prefix = (tip.room, event_id.to_owned());
        let rows = snap.scan::<Waiting>(Scan::prefix(&prefix).limit(WAITING_MAX));
        let mut found = Vec::new();
        for row in rows {
            let ((_, _, how, nid), ()) = row?;
            found.push((how, nid));
        }
        found.extend(tip.fresh.waiting.get(event_id).into_iter().flatten());
        Ok(found)
    }

    /// An event, also one that this write adds.
    pub(crate) fn held_of(
        &self,
        snap: &Snapshot,
        tip: &Tip,
        nid: EventNid,
    ) -> Result<Option<Held>, StoreError> {
        let Some(event) = tip.fresh.events.get(&nid) else {
            return self.event(snap, nid);
        };
        Ok(Some(Held {
            nid,
            event: StoredEvent::clone(event),
            redacted_by: tip.fresh.redacted.contains(&nid).then_some(nid),
            sent: None,
        }))
    }

    /// An event and where it stands, also one that this write adds.
    pub(crate) fn target_of(
        &self,
        snap: &Snapshot,
        tip: &Tip,
        nid: EventNid,
    ) -> Result<Option<Target>, StoreError> {
        let held = self.held_of(snap, tip, nid)?;
        let meta = self.meta_of(snap, &tip.fresh, nid)?;
        Ok(held.zip(meta).map(|(held, meta)| Target { held, meta }))
    }

    /// An event that relates to another of the room is found from there.
    fn relate(
        &self,
        w: &mut Write,
        snap: &Snapshot,
        tip: &mut Tip,
        nid: EventNid,
        event: &StoredEvent,
    ) -> Result<(), StoreError> {
        let Some((kind, id)) = relates(event) else {
            return Ok(());
        };
        let Some(parent) = self.number_of(snap, &tip.fresh, &id)? else {
            await_event(w, tip, &id, (Awaits::Relation, nid));
            return Ok(());
        };
        let parent_meta = self.meta_of(snap, &tip.fresh, parent)?;
        let meta = self.meta_of(snap, &tip.fresh, nid)?;
        let (Some(parent_meta), Some(meta)) = (parent_meta, meta) else {
            return Ok(());
        };
        if parent_meta.room != tip.room {
            return Ok(());
        }
        let row = Relation {
            child: nid,
            sender: meta.sender,
            pos: meta.order.anchor,
        };
        w.put::<t::Relations>(&(parent, kind, meta.order), &row);
        notes::relation(w, tip.room, kind, parent);
        Ok(())
    }

    /// How an event relates to which known event of its room.
    pub(crate) fn relation(
        &self,
        snap: &Snapshot,
        tip: &Tip,
        event: &StoredEvent,
    ) -> Result<Option<(RelKind, EventNid)>, StoreError> {
        let Some((kind, id)) = relates(event) else {
            return Ok(None);
        };
        let Some(parent) = self.number_of(snap, &tip.fresh, &id)? else {
            return Ok(None);
        };
        let meta = self.meta_of(snap, &tip.fresh, parent)?;
        let same_room = meta.is_some_and(|meta| meta.room == tip.room);
        Ok(same_room.then_some((kind, parent)))
    }
}

/// Whether a text may be an event's id: what anybody writes is not to become a key of any size.
pub(crate) fn is_event_id(id: &str) -> bool {
    id.starts_with('$') && id.len() <= names::MAX_ID_BYTES
}

/// How an event says that it relates to which other.
fn relates(event: &StoredEvent) -> Option<(RelKind, String)> {
    // A state event does not aggregate, and most events name no relation at all.
    if event.is_state() || !event.content().contains("\"m.relates_to\"") {
        return None;
    }
    let content = event.content_object().ok()?;
    let relates = content.object("m.relates_to")?;
    let (kind, id) = (relates.str("rel_type")?, relates.str("event_id")?);
    if !is_event_id(id) {
        return None;
    }
    let kind = match kind {
        "m.annotation" => RelKind::Annotation,
        "m.replace" => RelKind::Replace,
        "m.thread" => RelKind::Thread,
        "m.reference" => RelKind::Reference,
        _ => RelKind::Other,
    };
    Some((kind, id.to_owned()))
}
