//! How long what was said is kept (MSC1763): as the room's `m.room.retention` says, or else as
//! the operator does, and only where the operator wants messages to end at all.
//!
//! What has expired is shown to nobody from then on ([`crate::View::may_see`]); the purge takes
//! it away later, in small pieces. State events stay, and so does whatever the room's next event
//! is built on. Of what is purged its place in the graph stays, without the event.

use std::collections::HashMap;

use skerry_core::canonical::{Object, Value};
use skerry_core::{EventNid, Order, RoomNid};
use skerry_store::schema::room as t;
use skerry_store::schema::room::RelKind;
use skerry_store::schema::room_read::{Parents, RedactedAt};
use skerry_store::schema::room_redact::{Original, OriginalAt};
use skerry_store::{Scan, Snapshot, StoreError};

use crate::change::Change;
use crate::draft::Draft;
use crate::{RoomError, Rooms, search};

/// The type of the state event that says how long a room keeps what is said.
const RETENTION: &str = "m.room.retention";
/// Events purged in one write.
const STEP: usize = 256;
/// Events looked at together.
const CHUNK: usize = 64;
/// So many events that are to be kept end the look at a room: what follows is younger. One alone
/// may have been dated in the future.
const KEPT_MAX: usize = 32;
/// All kinds of relations.
const KINDS: [RelKind; 5] = [
    RelKind::Annotation,
    RelKind::Replace,
    RelKind::Thread,
    RelKind::Reference,
    RelKind::Other,
];

/// How long messages are kept, as the operator chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// In rooms that say nothing, in ms; none: for ever.
    pub default_ms: Option<u64>,
    /// No room can have it shorter, in ms.
    pub shortest_ms: u64,
    /// No room can have it longer, in ms.
    pub longest_ms: u64,
}

/// Where the purge has come to in the rooms; what lies before was looked at already. In memory
/// only: without it everything is looked at again.
#[derive(Debug, Default)]
pub struct Purge {
    reached: HashMap<RoomNid, Order>,
}

/// Expired events of a room, and where to look next.
struct Expired {
    events: Vec<EventNid>,
    reached: Order,
    more: bool,
}

impl Rooms {
    /// For how long a room keeps messages, in ms; `None`: for ever.
    ///
    /// # Errors
    /// The store's.
    pub fn lifetime_ms(&self, snap: &Snapshot, room: RoomNid) -> Result<Option<u64>, StoreError> {
        let Some(chosen) = self.inner.config.retention else {
            return Ok(None);
        };
        let event = self.current_event(snap, room, RETENTION, "")?;
        let content = event.and_then(|held| held.event.content_object().ok());
        let own = content
            .as_ref()
            .and_then(|content| lifetime(content, "max_lifetime"));
        let bounded = own.map(|ms| ms.max(chosen.shortest_ms).min(chosen.longest_ms));
        Ok(bounded.or(chosen.default_ms))
    }

    /// Messages of a room from before this time, in ms since the epoch, have expired; 0: none.
    pub(crate) fn expired_before(&self, snap: &Snapshot, room: RoomNid) -> Result<u64, StoreError> {
        let lifetime = self.lifetime_ms(snap, room)?;
        let now_ms = self.inner.clock.now_ms();
        Ok(lifetime.map_or(0, |lifetime| now_ms.saturating_sub(lifetime)))
    }

    /// Takes away what has expired in all rooms; gives how many events that were.
    ///
    /// # Errors
    /// The store's; the next call goes on from there.
    pub async fn purge_expired(&self, purge: &mut Purge) -> Result<usize, RoomError> {
        if self.inner.config.retention.is_none() {
            return Ok(0);
        }
        let rooms = self.query(|_, snap| {
            let rows = snap.scan::<t::Room>(Scan::all());
            Ok(rows
                .map(|row| row.map(|row| row.0))
                .collect::<Result<Vec<_>, _>>()?)
        });
        let mut purged = 0;
        for room in rooms.await? {
            loop {
                let from = purge.reached.get(&room).copied().unwrap_or(Order::MIN);
                let found = self.query(move |this, snap| Ok(this.expired(snap, room, from)?));
                let Expired {
                    events,
                    reached,
                    more,
                } = found.await?;
                if !events.is_empty() {
                    purged += self
                        .change(room, move |change| change.purge(events))
                        .await?;
                }
                purge.reached.insert(room, reached);
                if !more {
                    break;
                }
            }
        }
        Ok(purged)
    }

    /// The next expired events of a room.
    fn expired(&self, snap: &Snapshot, room: RoomNid, from: Order) -> Result<Expired, StoreError> {
        let mut found = Expired {
            events: Vec::new(),
            reached: from,
            more: false,
        };
        let before_ms = self.expired_before(snap, room)?;
        let Some(head) = self.head(snap, room)?.filter(|_| before_ms > 0) else {
            return Ok(found);
        };
        let mut rows = snap.scan::<t::Timeline>(Scan::prefix(&room).after(&(room, from)));
        let mut kept = 0;
        loop {
            let chunk: Vec<_> = rows.by_ref().take(CHUNK).collect::<Result<_, _>>()?;
            let nids: Vec<EventNid> = chunk.iter().map(|row| row.1).collect();
            for (((_, order), nid), held) in chunk.iter().zip(self.events(snap, &nids)?) {
                let state = held.as_ref().is_some_and(|held| held.event.is_state());
                let young = |held: &crate::Held| held.event.origin_server_ts() >= before_ms;
                if !state
                    && (held.is_none_or(|held| young(&held)) || head.extremities.contains(nid))
                {
                    kept += 1;
                } else if !state {
                    found.events.push(*nid);
                }
                if kept == 0 {
                    found.reached = *order;
                }
                if found.events.len() == STEP || kept == KEPT_MAX {
                    // Where some are kept, it is looked from there again another time.
                    found.more = kept == 0;
                    return Ok(found);
                }
            }
            if chunk.len() < CHUNK {
                return Ok(found);
            }
        }
    }
}

impl Change<'_> {
    /// Takes events away: from the timeline, from what they relate to, from the search index, with
    /// what was kept of them when they were redacted. Gives how many were there.
    fn purge(&mut self, events: Vec<EventNid>) -> Result<usize, RoomError> {
        let (rooms, room) = (self.rooms, self.tip.room);
        let mut purged = 0;
        for nid in events {
            let Some(target) = rooms.target(&self.snap, nid)? else {
                continue;
            };
            if self.tip.head.extremities.contains(&nid) || target.meta.room != room {
                continue;
            }
            let event = &target.held.event;
            if let Some((kind, parent)) = rooms.relation(&self.snap, &self.tip, event)? {
                self.w
                    .delete::<t::Relations>(&(parent, kind, target.meta.order));
            }
            search::forget(&mut self.w, event, room, target.meta.order);
            if let Some(original) = self.snap.get::<Original>(&(room, nid))? {
                self.w.delete::<Original>(&(room, nid));
                self.w.delete::<OriginalAt>(&(original.at_ms, nid));
            }
            self.w.delete_range::<t::Relations>(nid);
            for kind in KINDS {
                self.w.delete::<Parents>(&(room, kind, nid));
            }
            self.w.delete::<t::Timeline>(&(room, target.meta.order));
            self.w.delete::<t::Event>(&nid);
            rooms.inner.reads.events.remove((nid, false));
            rooms.inner.reads.events.remove((nid, true));
            purged += 1;
        }
        if purged > 0 {
            // What was made of events before is made anew.
            let pos = self.w.stamp();
            self.w.put::<RedactedAt>(&room, &pos);
        }
        Ok(purged)
    }
}

/// What clients may say about retention: whole numbers of ms, the least not above the most.
pub(crate) fn vet(draft: &Draft) -> Result<(), RoomError> {
    let refuse = |text: &str| Err(RoomError::BadJson(text.to_owned()));
    if draft.state_key.is_none() {
        return refuse("m.room.retention is a state event");
    }
    for name in ["min_lifetime", "max_lifetime"] {
        let given = draft.content.get(name);
        if given.is_some_and(|value| *value != Value::Null)
            && lifetime(&draft.content, name).is_none()
        {
            return refuse("min_lifetime and max_lifetime are whole numbers of ms");
        }
    }
    let least = lifetime(&draft.content, "min_lifetime");
    let most = lifetime(&draft.content, "max_lifetime");
    if least.zip(most).is_some_and(|(least, most)| least > most) {
        return refuse("min_lifetime cannot be greater than max_lifetime");
    }
    Ok(())
}

fn lifetime(content: &Object, name: &str) -> Option<u64> {
    match content.get(name) {
        Some(Value::Int(ms)) => u64::try_from(*ms).ok(),
        _ => None,
    }
}
