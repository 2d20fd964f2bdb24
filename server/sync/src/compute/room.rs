//! News of one room that the user is in, or has just left.

use std::collections::HashSet;
use std::sync::Arc;

use skerry_account::data;
use skerry_core::{EventNid, Membership, Order, StateId};
use skerry_room::unread::Unread;
use skerry_room::{
    Cut, EventFilter, EventMeta, Facts, Form, Placed, Recent, RoomHead, Standing, View, Viewer,
};
use skerry_store::StoreError;

use super::state::{Between, Shown};
use super::{Query, RoomAsk, account_event};
use crate::delta::{AccountEvent, EventList, RoomDelta, StateSection, Summary, Timeline};
use crate::filter;
use crate::lazy::Handed;
use crate::project;

/// What there is to tell of a room that the user has left.
pub(crate) struct Departure {
    /// The event that says what the user is there now.
    pub own: Option<Arc<Placed>>,
    /// State and place of the event that ended the user's being in the room, if they ever were.
    pub ended: Option<(StateId, Order)>,
    /// The newest events up to then.
    pub recent: Recent,
}

impl Departure {
    /// The state in which the user left, if that is news to the client.
    pub(crate) fn news(&self, ask: &RoomAsk) -> Option<StateId> {
        let (state, upto) = self.ended?;
        is_news(ask, upto).then_some(state)
    }

    /// The user's own event, where it is news and seen by nothing but that it is about them: an
    /// invite taken back, a ban from outside.
    pub(crate) fn apart(&self, ask: &RoomAsk) -> Option<Arc<Placed>> {
        let own = self.own.as_ref()?;
        let outside = self.ended.is_none_or(|(_, upto)| own.order() > upto);
        let shown = self.recent.events.iter().any(|event| event.nid == own.nid);
        (outside && is_news(ask, own.order()) && !shown).then(|| Arc::clone(own))
    }
}

/// Whether a place lies after where the client stands.
fn is_news(ask: &RoomAsk, upto: Order) -> bool {
    ask.full || ask.since.is_some_and(|since| upto.anchor > since)
}

impl Query<'_> {
    /// A room the user is in, and whether there is anything to tell of it.
    pub(super) fn joined(
        &self,
        ask: &RoomAsk,
        data: &[data::Datum],
        handed: &mut Vec<Handed>,
    ) -> Result<(RoomDelta, bool), StoreError> {
        let mut view = self.view(ask)?;
        let mut room = self.blank(ask);
        let mut sticky = ask.sticky.clone();
        if ask.full || ask.hint.timeline {
            let recent = match self.head(ask.room)? {
                Some(head) => self.told(&mut view, ask, &head, &mut room, handed)?,
                None => self.recent(&mut view, ask, Order::MAX)?,
            };
            sticky.retain(|event| recent.events.iter().all(|shown| shown.nid != event.nid));
            room.timeline = self.timeline(&mut view, &recent)?;
        }
        room.sticky = self.render(&mut view, &sticky, Form::SYNC, false)?;
        room.account_data = self.data_of(ask, data)?;
        let read = self.ephemeral(ask, &view, &mut room)?;
        let show = ask.full || read || !room.is_empty();
        if show {
            room.unread = Some(self.unread(&view)?);
        }
        Ok((room, show))
    }

    /// Timeline, state and summary of a room that this server knows.
    fn told(
        &self,
        view: &mut View,
        ask: &RoomAsk,
        head: &RoomHead,
        room: &mut RoomDelta,
        handed: &mut Vec<Handed>,
    ) -> Result<Recent, StoreError> {
        if ask.after.is_none() {
            view.show_state(self.sync.rooms.state_map(self.snap, head.state)?);
            let (user, device) = (self.req.user, &self.req.device);
            self.sync.lazy.forget(user, device, ask.room);
        }
        let mut recent = self.recent(view, ask, Order::MAX)?;
        let known = self.known_state(ask, head.state, head.state_pos)?;
        if known != Some(head.state) {
            room.summary = self.new_summary(ask, head, known)?;
        }
        let before = self.state_before(ask)?;
        self.cut_overtaken(&mut recent, head.state)?;
        // The room was there before: what is told does not follow what was known.
        recent.limited |= before.is_some() && ask.after.is_none();
        let shown = Shown {
            timeline: &recent.events,
            heroes: room.summary.heroes.as_deref().unwrap_or_default(),
        };
        let end = head.state;
        let before = self.was_joined(ask, before)?;
        let between = Between { known, before, end };
        let state = self.state(ask, between, &shown, handed)?;
        room.state = self.section(self.render(view, &state, Form::SYNC_STATE, false)?);
        Ok(recent)
    }

    /// A room the user has left: up to the event that ended it, and nothing after.
    pub(super) fn left(
        &self,
        ask: &RoomAsk,
        data: &[data::Datum],
        handed: &mut Vec<Handed>,
    ) -> Result<RoomDelta, StoreError> {
        let mut view = self.view(ask)?;
        let mut room = self.blank(ask);
        let mut departure = self.departure(&mut view, ask)?;
        if let Some(end) = departure.news(ask) {
            self.cut_overtaken(&mut departure.recent, end)?;
            let state = self.state_left(ask, end, &departure.recent.events, handed)?;
            room.state = self.section(self.render(&mut view, &state, Form::SYNC_STATE, false)?);
        }
        let own = departure.apart(ask);
        let recent = &mut departure.recent;
        if let Some(own) = own {
            let wanted = &self.req.filter.room.timeline;
            let in_timeline = wanted.wants_room(&ask.room_id) && self.passes(wanted, &own);
            if in_timeline && ask.limit > recent.events.len() {
                recent.events.push(own);
            } else if departure.ended.is_none() {
                let own = self.render(&mut view, &[own], Form::SYNC_STATE, false)?;
                room.state = self.section(own);
            }
        }
        room.timeline = self.timeline(&mut view, &departure.recent)?;
        room.account_data = self.data_of(ask, data)?;
        Ok(room)
    }

    /// What there is to tell of a room that the user has left.
    pub(crate) fn departure(
        &self,
        view: &mut View,
        ask: &RoomAsk,
    ) -> Result<Departure, StoreError> {
        let own = self
            .sync
            .rooms
            .placed(self.snap, ask.room, ask.member.event)?;
        let upto = own.as_ref().map_or(Order::MIN, |own| own.order());
        let ended = match view.standing() {
            Standing::Departed { state, upto } => Some((state, upto)),
            _ => None,
        };
        if let Some((state, _)) = ended {
            view.show_state(self.sync.rooms.state_map(self.snap, state)?);
        }
        let recent = self.recent(view, ask, upto)?;
        Ok(Departure { own, ended, recent })
    }

    /// The state that a client lacks of a room that the user has left, whose state then was `end`.
    fn state_left(
        &self,
        ask: &RoomAsk,
        end: StateId,
        timeline: &[Arc<Placed>],
        handed: &mut Vec<Handed>,
    ) -> Result<Vec<Arc<Placed>>, StoreError> {
        let known = match ask.after.filter(|_| !ask.full) {
            // Who was not in the room then knows nothing of it.
            Some(since) => {
                let known = self.sync.rooms.state_id_at(self.snap, ask.room, since)?;
                self.was_joined(ask, known)?
            }
            None => None,
        };
        let (shown, between) = (
            Shown {
                timeline,
                heroes: &[],
            },
            Between {
                known,
                before: None,
                end,
            },
        );
        self.state(ask, between, &shown, handed)
    }

    pub(crate) fn view(&self, ask: &RoomAsk) -> Result<View, StoreError> {
        let viewer = Viewer {
            user: self.req.user,
            user_id: Arc::clone(&self.req.user_id),
            device: Arc::clone(&self.req.device),
        };
        self.sync.rooms.view(self.snap, &viewer, ask.room)
    }

    /// A room of which nothing is told.
    fn blank(&self, ask: &RoomAsk) -> RoomDelta {
        RoomDelta {
            room: ask.room,
            room_id: Arc::clone(&ask.room_id),
            timeline: Timeline {
                events: EventList::empty(),
                limited: false,
                prev_batch: Cut::at(self.snap.head()).to_string(),
            },
            state: self.section(EventList::empty()),
            account_data: Vec::new(),
            ephemeral: Vec::new(),
            sticky: EventList::empty(),
            unread: None,
            summary: Summary::default(),
        }
    }

    fn section(&self, events: EventList) -> StateSection {
        if self.req.state_after {
            StateSection::End(events)
        } else {
            StateSection::Start(events)
        }
    }

    /// The newest events of the room that the user wants and may see.
    pub(crate) fn recent(
        &self,
        view: &mut View,
        ask: &RoomAsk,
        upto: Order,
    ) -> Result<Recent, StoreError> {
        let since = ask.after.map_or(Cut::START, Cut::at);
        let upto = Cut::after(upto).min(Cut::at(self.snap.head()));
        let wanted = &self.req.filter.room.timeline;
        if !wanted.wants_room(&ask.room_id) {
            return Ok(Recent {
                events: Vec::new(),
                limited: false,
                prev_batch: upto,
            });
        }
        if let Some(recent) = self.shared(view, ask)? {
            return Ok(recent);
        }
        view.recent(since, upto, ask.limit, Some(wanted))
    }

    /// The same from the events in memory that readers of the room share, where those reach back
    /// far enough.
    fn shared(&self, view: &mut View, ask: &RoomAsk) -> Result<Option<Recent>, StoreError> {
        let (rooms, filter) = (&self.sync.rooms, &self.req.filter);
        let wanted = &filter.room.timeline;
        let joined = ask.member.membership == Membership::Join && !wanted.by_relation();
        let Some((since, head)) = ask.after.filter(|_| joined).zip(self.head(ask.room)?) else {
            return Ok(None);
        };
        let span = (since, head.last);
        let Some(events) = self.sync.tails.events(rooms, self.snap, ask.room, span)? else {
            return Ok(None);
        };
        let prev_batch = Cut::at(self.snap.head());
        let mut recent = Recent {
            events: Vec::new(),
            limited: false,
            prev_batch,
        };
        for event in events.iter().rev() {
            if self.passes(wanted, event)
                && let Some(event) = view.admit(event)?
            {
                if recent.events.len() == ask.limit {
                    recent.limited = true;
                    break;
                }
                recent.prev_batch = Cut::before(event.order());
                recent.events.push(event);
            }
            // What lies before it came later, or is still to be fetched.
            if event.meta.flags & EventMeta::AFTER_HOLE != 0 {
                recent.limited = true;
                recent.prev_batch = Cut::before(event.order());
                break;
            }
        }
        recent.events.reverse();
        Ok(Some(recent))
    }

    /// Whether an event passes a filter, by what it is.
    pub(super) fn passes(&self, filter: &EventFilter, event: &Placed) -> bool {
        let relates = || event.relates().map(|relates| &*relates.rel_type);
        let facts = Facts {
            kind: event.event.event_type(),
            sender: event.event.sender(),
            has_url: filter.contains_url.map(|_| event.has_url()),
        };
        filter.wants(facts) && (!filter.looks_at_relations() || filter.wants_relation(relates()))
    }

    /// Where the timeline does not end with what a state is now, because the user may not see the
    /// later change, the filter drops it, or another server's change won over it without being
    /// the later one, a client that applies the timeline would end with something else. The
    /// timeline then begins after that.
    fn cut_overtaken(&self, recent: &mut Recent, end: StateId) -> Result<(), StoreError> {
        if self.req.state_after || recent.events.iter().all(|e| e.meta.state_key.is_none()) {
            return Ok(());
        }
        let end = self.sync.rooms.state_map(self.snap, end)?;
        let mut after: HashSet<EventNid> = HashSet::new();
        let mut overtaken = |event: &Arc<Placed>| {
            let Some(key) = event.meta.state_key else {
                return false;
            };
            let now = end.get(key);
            let last = now == Some(event.nid) || now.is_some_and(|now| after.contains(&now));
            after.insert(event.nid);
            !last
        };
        if let Some(last) = recent.events.iter().rposition(&mut overtaken) {
            let cut = recent.events.drain(..=last).next_back();
            recent.prev_batch = cut.map_or(recent.prev_batch, |cut| Cut::after(cut.order()));
            recent.limited = true;
        }
        Ok(())
    }

    fn timeline(&self, view: &mut View, recent: &Recent) -> Result<Timeline, StoreError> {
        Ok(Timeline {
            events: self.render(view, &recent.events, Form::SYNC, recent.limited)?,
            limited: recent.limited,
            prev_batch: recent.prev_batch.to_string(),
        })
    }

    /// The state that the client has of the room; the current one where nothing changed.
    pub(crate) fn known_state(
        &self,
        ask: &RoomAsk,
        now: StateId,
        changed: skerry_core::Pos,
    ) -> Result<Option<StateId>, StoreError> {
        match ask.after.filter(|_| !ask.full) {
            None => Ok(None),
            Some(since) if changed <= since => Ok(Some(now)),
            Some(since) => self.sync.rooms.state_id_at(self.snap, ask.room, since),
        }
    }

    /// Where all of the state is told: the state that the room had at the client's token.
    fn state_before(&self, ask: &RoomAsk) -> Result<Option<StateId>, StoreError> {
        match ask.since.filter(|_| ask.full) {
            Some(since) => self.sync.rooms.state_id_at(self.snap, ask.room, since),
            None => Ok(None),
        }
    }

    /// A state, if the user was joined in it: then the client knew it.
    pub(crate) fn was_joined(
        &self,
        ask: &RoomAsk,
        state: Option<StateId>,
    ) -> Result<Option<StateId>, StoreError> {
        let joined = self.was_in(ask.room, state)?;
        Ok(state.filter(|_| joined))
    }

    /// The summary, if something changed that it is made from.
    fn new_summary(
        &self,
        ask: &RoomAsk,
        head: &RoomHead,
        known: Option<StateId>,
    ) -> Result<Summary, StoreError> {
        let rooms = &self.sync.rooms;
        let now = rooms.state_map(self.snap, head.state)?;
        if let Some(known) = known {
            let mut concerns = false;
            let known = rooms.state_map(self.snap, known)?;
            for (key, event) in known.diff(&now).changed() {
                concerns |= match &*rooms.store().state_key(key)?.0 {
                    "m.room.name" | "m.room.canonical_alias" => true,
                    // A new name of a member concerns neither counts nor heroes.
                    "m.room.member" => {
                        self.membership(ask.room, known.get(key))?
                            != self.membership(ask.room, event)?
                    }
                    _ => false,
                };
            }
            if !concerns {
                return Ok(Summary::default());
            }
        }
        self.summary(ask.room, head, &now)
    }

    /// The user's data of the room: all where the room is new to the client.
    fn data_of(
        &self,
        ask: &RoomAsk,
        changed: &[data::Datum],
    ) -> Result<Vec<AccountEvent>, StoreError> {
        let wanted = &self.req.filter.room.account_data;
        if !wanted.wants_room(&ask.room_id) {
            return Ok(Vec::new());
        }
        let data = match ask.after {
            None => data::all(self.snap, self.req.user, Some(ask.room))?,
            Some(_) => changed.to_vec(),
        };
        let data = data.into_iter();
        let data = data.filter(|datum| filter::wants(wanted, &datum.kind, &self.req.user_id));
        Ok(data.map(account_event).collect())
    }

    /// Events in the form that the filter asks for.
    pub(crate) fn render(
        &self,
        view: &mut View,
        events: &[Arc<Placed>],
        form: Form,
        bundled: bool,
    ) -> Result<EventList, StoreError> {
        let mut json = Vec::with_capacity(64 + events.len() * 512);
        if self.req.filter.federation_format {
            view.write_federation(events, &mut json);
        } else if bundled {
            view.write_bundled(events, form, &mut json)?;
        } else {
            view.write_plain(events, form, &mut json)?;
        }
        if let Some(fields) = &self.req.filter.event_fields {
            json = project::events(&json, fields);
        }
        Ok(EventList {
            json,
            count: events.len(),
        })
    }

    /// Unread counts as the client wants them.
    fn unread(&self, view: &View) -> Result<Unread, StoreError> {
        let unread = view.unread()?;
        if self.req.filter.by_thread() {
            return Ok(unread);
        }
        Ok(Unread {
            main: unread.total(),
            threads: Vec::new(),
        })
    }
}
