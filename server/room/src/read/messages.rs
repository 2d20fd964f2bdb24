//! Paging through a room, the surroundings of one event, and single events.

use std::collections::BTreeSet;
use std::sync::Arc;

use skerry_core::StateId;
use skerry_core::canonical::write_string_bytes;
use skerry_store::{Snapshot, StoreError};

use crate::{Cut, EventFilter, Form, PageAsk, Placed, RoomError, Rooms, View, Viewer};

/// When an answer has so many bytes, no more events go into it: what relates to them may be much
/// larger than they are.
const ANSWER_BYTES: usize = 12 << 20;
/// Events written between two looks at how large the answer is.
const BUNDLED_AT_ONCE: usize = 32;

/// What `/messages` is asked for.
#[derive(Clone, Debug)]
pub struct MessagesAsk {
    /// Where to begin; else at the end of the timeline, or at its start.
    pub from: Option<Cut>,
    /// Where to stop.
    pub to: Option<Cut>,
    /// Towards the past.
    pub back: bool,
    /// The most events wanted.
    pub limit: usize,
    /// Which events are wanted.
    pub filter: EventFilter,
}

/// What `/context` is asked for.
#[derive(Clone, Debug)]
pub struct ContextAsk {
    /// The event.
    pub event_id: String,
    /// How many events around it, both sides together.
    pub limit: usize,
    /// Which events around it are wanted, and which state.
    pub filter: EventFilter,
}

/// A part of a timeline as JSON, and what it lacks.
#[derive(Clone, Debug)]
pub struct Told {
    /// The answer.
    pub json: Vec<u8>,
    /// The event before which a piece of history is missing where the answer begins, or ends
    /// before it holds as much as it may.
    pub hole: Option<String>,
    /// It is where the answer ends.
    pub cut_short: bool,
}

pub(crate) fn no_event() -> RoomError {
    RoomError::NotFound("There is no such event, or you may not see it".to_owned())
}

impl Rooms {
    /// One event of a room.
    ///
    /// # Errors
    /// [`RoomError::NotFound`] if there is none or the user may not see it; the store's.
    pub fn event_json(
        &self,
        snap: &Snapshot,
        viewer: &Viewer,
        room_id: &str,
        event_id: &str,
    ) -> Result<Vec<u8>, RoomError> {
        let Some(room) = self.room_nid(snap, room_id)? else {
            return Err(no_event());
        };
        let mut view = self.view(snap, viewer, room)?;
        let event = view.event_by_id(event_id)?.ok_or_else(no_event)?;
        let mut out = Vec::new();
        view.write_one(&event, Form::EVENT, &mut out)?;
        Ok(out)
    }

    /// An event of whatever room.
    ///
    /// # Errors
    /// As [`Self::event_json`].
    pub fn event_anywhere_json(
        &self,
        snap: &Snapshot,
        viewer: &Viewer,
        event_id: &str,
    ) -> Result<Vec<u8>, RoomError> {
        let nid = self.store().event_nid(snap, event_id)?;
        let nid = nid.ok_or_else(no_event)?;
        let meta = self.meta(snap, nid)?.ok_or_else(no_event)?;
        let room_id = self.store().room_id(meta.room)?;
        self.event_json(snap, viewer, &room_id, event_id)
    }

    /// A page of a room's timeline: `{"chunk":[..],"start":..,"end":..,"state":[..]}`. A page
    /// ends where history is missing, and the next one begins there.
    ///
    /// # Errors
    /// [`RoomError::Forbidden`] to who may not look into the room; the store's.
    pub fn messages_json(
        &self,
        snap: &Snapshot,
        viewer: &Viewer,
        room_id: &str,
        ask: &MessagesAsk,
    ) -> Result<Told, RoomError> {
        let mut view = self.readable_view(snap, viewer, room_id)?;
        let edge = if ask.back {
            Cut::at(snap.head())
        } else {
            Cut::START
        };
        let from = ask.from.unwrap_or(edge);
        let filter = Some(&ask.filter);
        let wanted = ask.filter.wants_room(room_id);
        let mut page = if wanted {
            let MessagesAsk {
                to, back, limit, ..
            } = *ask;
            view.page(PageAsk {
                from,
                to,
                back,
                limit,
                filter,
            })?
        } else {
            crate::Page {
                events: Vec::new(),
                end: None,
                more: false,
            }
        };
        let mut out = Vec::with_capacity(page.events.len() * 512 + 128);
        out.extend_from_slice(b"{\"chunk\":");
        let written = view.write_bounded(&page.events, &mut out)?;
        if written < page.events.len() {
            page.events.truncate(written);
            page.end = page.events.last().map(|last| beside(last, ask.back));
        }
        write_token("start", Some(from), &mut out);
        // The live end of a room is no end: a client that asks again from there gets what came since.
        let live = page.events.last().filter(|_| !ask.back);
        let hole = match ask.back && wanted {
            true => self.hole_at(snap, view.room(), from)?,
            false => None,
        };
        let short = page.end.filter(|_| page.events.len() < ask.limit);
        let cut_short = match (&hole, short) {
            (None, Some(end)) if ask.back => self.hole_at(snap, view.room(), end)?,
            _ => None,
        };
        // There is more, whether or not somebody gives it to us.
        let beyond = hole.as_ref().filter(|_| page.events.is_empty());
        let end = page.end.or(beyond.map(|_| from));
        let end = end.or(live.map(|event| Cut::after(event.order())));
        write_token("end", end, &mut out);
        let newest = if ask.back {
            page.events.first()
        } else {
            page.events.last()
        };
        if let (true, Some(newest)) = (ask.filter.lazy_load_members, newest) {
            let members = view.senders_of(&page.events, newest.meta.after)?;
            out.extend_from_slice(b",\"state\":");
            view.write_plain(&members, Form::STATE, &mut out)?;
        }
        out.push(b'}');
        Ok(Told {
            json: out,
            cut_short: cut_short.is_some(),
            hole: hole.or(cut_short).map(|hole| hole.event_id),
        })
    }

    /// What stands around an event: `{"event":..,"events_before":[..],"events_after":[..],
    /// "state":[..],"start":..,"end":..}`.
    ///
    /// # Errors
    /// [`RoomError::Forbidden`] to who may not look into the room, [`RoomError::NotFound`] if they
    /// may not see the event; the store's.
    pub fn context_json(
        &self,
        snap: &Snapshot,
        viewer: &Viewer,
        room_id: &str,
        ask: &ContextAsk,
    ) -> Result<Told, RoomError> {
        let mut view = self.readable_view(snap, viewer, room_id)?;
        let event = view.event_by_id(&ask.event_id)?.ok_or_else(no_event)?;
        let before_limit = ask.limit / 2;
        let from = Cut::before(event.order());
        let (before, start) = view.side(from, true, before_limit, &ask.filter)?;
        let hole = match before_limit {
            0 => None,
            _ => self.hole_at(snap, view.room(), from)?,
        };
        let from = Cut::after(event.order());
        let (after, end) = view.side(from, false, ask.limit - before_limit, &ask.filter)?;
        let mut out = b"{\"event\":".to_vec();
        view.write_one(&event, Form::EVENT, &mut out)?;
        out.extend_from_slice(b",\"events_before\":");
        view.write_bundled(&before, Form::EVENT, &mut out)?;
        out.extend_from_slice(b",\"events_after\":");
        view.write_bundled(&after, Form::EVENT, &mut out)?;
        let last = after.last().unwrap_or(&event).clone();
        let all: Vec<Arc<Placed>> = before.into_iter().chain([event]).chain(after).collect();
        let state = view.context_state(&all, last.meta.after, &ask.filter)?;
        out.extend_from_slice(b",\"state\":");
        view.write_plain(&state, Form::STATE, &mut out)?;
        write_token("start", Some(start), &mut out);
        write_token("end", Some(end), &mut out);
        out.push(b'}');
        Ok(Told {
            json: out,
            cut_short: false,
            hole: hole.map(|hole| hole.event_id),
        })
    }
}

/// The place next to an event, in the direction of reading.
fn beside(event: &Placed, back: bool) -> Cut {
    if back {
        Cut::before(event.order())
    } else {
        Cut::after(event.order())
    }
}

impl View {
    /// Appends a JSON array of as many of these events as go into an answer of bounded size, with
    /// what relates to them; at least one. Says how many those are.
    fn write_bounded(
        &mut self,
        events: &[Arc<Placed>],
        out: &mut Vec<u8>,
    ) -> Result<usize, StoreError> {
        out.push(b'[');
        let mut written = 0;
        for events in events.chunks(BUNDLED_AT_ONCE) {
            if out.len() > ANSWER_BYTES {
                break;
            }
            if written > 0 {
                out.push(b',');
            }
            let mut list = Vec::with_capacity(events.len() * 512);
            self.write_bundled(events, Form::EVENT, &mut list)?;
            out.extend_from_slice(list.get(1..list.len() - 1).unwrap_or_default());
            written += events.len();
        }
        out.push(b']');
        Ok(written)
    }

    /// The events on one side of a place, and the place where they end.
    fn side(
        &mut self,
        from: Cut,
        back: bool,
        limit: usize,
        filter: &EventFilter,
    ) -> Result<(Vec<Arc<Placed>>, Cut), StoreError> {
        if limit == 0 {
            return Ok((Vec::new(), from));
        }
        let page = self.page(PageAsk {
            from,
            to: None,
            back,
            limit,
            filter: Some(filter),
        })?;
        let last = page.events.last().map(|last| beside(last, back));
        let end = page.end.or(last).unwrap_or(from);
        Ok((page.events, end))
    }

    /// The member events of those who sent these events.
    pub fn senders_of(
        &self,
        events: &[Arc<Placed>],
        state: StateId,
    ) -> Result<Vec<Arc<Placed>>, StoreError> {
        let senders: BTreeSet<&str> = events.iter().map(|event| event.event.sender()).collect();
        self.member_events(state, senders.into_iter())
    }

    /// The state that goes with a context, as the filter wants it.
    fn context_state(
        &self,
        events: &[Arc<Placed>],
        state: StateId,
        filter: &EventFilter,
    ) -> Result<Vec<Arc<Placed>>, StoreError> {
        let list = self.state_events(state)?;
        let senders: BTreeSet<&str> = events.iter().map(|event| event.event.sender()).collect();
        let wanted = list.iter().filter(|event| {
            let event = &event.event;
            let member = event.event_type() == "m.room.member";
            let shown = event.state_key().is_some_and(|key| senders.contains(key));
            (!filter.lazy_load_members || !member || shown) && filter.wants_type(event.event_type())
        });
        Ok(wanted.cloned().collect())
    }
}

/// `,"name":"token"`, or nothing.
pub(crate) fn write_token(name: &str, cut: Option<Cut>, out: &mut Vec<u8>) {
    let Some(cut) = cut else { return };
    out.push(b',');
    write_string_bytes(name, out);
    out.push(b':');
    write_string_bytes(&cut.to_string(), out);
}
