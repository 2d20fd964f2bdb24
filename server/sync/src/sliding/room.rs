//! What is told of one room.

use std::sync::Arc;

use skerry_core::{EventNid, Membership, Order, Pos};
use skerry_room::{Count, Form, Placed, Recent, View};
use skerry_store::StoreError;

use super::Slide;
use super::answer::{SlidingRoom, SlidingTimeline};
use super::connections::Sent;
use super::filters::Stripped;
use super::lists::Wanted;
use super::required::Required;
use super::state::{News, Span};
use crate::compute::RoomAsk;
use crate::delta::EventList;

/// A room, as the client will know it.
pub(super) struct Told {
    /// What is told; nothing if there is no news.
    pub room: Option<SlidingRoom>,
    pub sent: Sent,
    /// The events of the timeline.
    pub shown: Vec<EventNid>,
    /// Where the timeline begins.
    pub first: Option<Pos>,
    /// The timeline does not just go on where the client's ends.
    pub anew: bool,
}

/// How a room is told.
struct How<'a> {
    wanted: &'a Wanted,
    /// What the client has of it.
    sent: Option<&'a Sent>,
    /// All of it is told anew.
    fresh: bool,
    /// The timeline is to reach further back than before.
    expanded: bool,
}

impl Slide<'_> {
    /// One room that the client asks about.
    pub(super) fn tell(&self, wanted: &Wanted) -> Result<Told, StoreError> {
        let sent = self.known.rooms.get(&wanted.room);
        let joined = wanted.member.membership == Membership::Join;
        let renewed = sent.is_some_and(|sent| joined && wanted.member.since > sent.events);
        let fresh = sent.is_none() || renewed;
        let how = How {
            wanted,
            sent,
            fresh,
            expanded: !fresh && sent.is_some_and(|sent| sent.limit < wanted.limit),
        };
        if !self.is_news(&how)? {
            return Ok(self.nothing(&how));
        }
        match wanted.member.membership {
            Membership::Join => self.joined(&how),
            Membership::Invite | Membership::Knock => self.outside(&how),
            Membership::Leave | Membership::Ban => self.departed(&how),
        }
    }

    /// Whether there may be something to tell.
    fn is_news(&self, how: &How<'_>) -> Result<bool, StoreError> {
        let Some(sent) = how.sent.filter(|_| !how.fresh) else {
            return Ok(true);
        };
        let wanted = how.wanted;
        let grown = how.expanded || !self.has_all(&sent.required, &wanted.required);
        let rooms = &self.q.sync.rooms;
        Ok(match wanted.member.membership {
            Membership::Join => {
                // What happened since a live room was told is known; else it is looked for.
                let hint = self.changes.rooms.get(&wanted.room).copied();
                let hint = hint.unwrap_or_default();
                let (events, receipts) = match self.is_live(sent.events) {
                    true => (hint.timeline, hint.receipts),
                    false => (rooms.last_pos(wanted.room) > sent.events, true),
                };
                let read = || self.has_read(wanted, sent.events);
                grown || events || (receipts && read()?)
            }
            Membership::Invite | Membership::Knock => wanted.member.pos > sent.events,
            Membership::Leave | Membership::Ban => grown || wanted.member.pos > sent.events,
        })
    }

    /// Whether all that is wanted was wanted before; found out once for all rooms of a list.
    fn has_all(&self, before: &Arc<Required>, wanted: &Arc<Required>) -> bool {
        let pair = (Arc::as_ptr(before), Arc::as_ptr(wanted));
        let mut covered = self.covered.borrow_mut();
        *covered.entry(pair).or_insert_with(|| before.covers(wanted))
    }

    /// Whether a receipt of the user's own moved, which changes what is unread.
    fn has_read(&self, wanted: &Wanted, since: Pos) -> Result<bool, StoreError> {
        let (rooms, user) = (&self.q.sync.rooms, self.q.req.user);
        rooms.has_read_since(self.q.snap, wanted.room, user, since)
    }

    /// A room of which nothing is told.
    fn nothing(&self, how: &How<'_>) -> Told {
        Told {
            room: None,
            sent: self.sent(how, None),
            shown: Vec::new(),
            first: None,
            anew: false,
        }
    }

    /// What the client will have of a room.
    fn sent(&self, how: &How<'_>, recent: Option<&Recent>) -> Sent {
        let wanted = how.wanted.limit;
        let before = how.sent.filter(|_| !how.fresh);
        // With a gap, nothing before it counts any more. Without a timeline, anything new is one.
        let gap = match recent {
            Some(recent) => recent.limited,
            None => {
                before.is_some_and(|sent| self.q.sync.rooms.last_pos(how.wanted.room) > sent.events)
            }
        };
        let limit = match before {
            Some(sent) if !gap => sent.limit.max(wanted),
            _ => wanted,
        };
        Sent {
            events: self.head,
            // Where the timeline is told anew, so are the receipts, now or when they are asked for.
            receipts: before
                .filter(|_| !how.expanded)
                .and_then(|sent| sent.receipts),
            data: how.sent.and_then(|sent| sent.data),
            limit,
            required: before.map_or_else(Arc::default, |sent| Arc::clone(&sent.required)),
            members: before.map(|sent| sent.members.clone()).unwrap_or_default(),
        }
    }

    /// The room as the shared questions about rooms take it.
    fn asked(&self, how: &How<'_>) -> Result<RoomAsk, StoreError> {
        let since = how.sent.map(|sent| sent.events);
        let mut ask = self.bare(how.wanted.room, &how.wanted.member)?;
        ask.after = since.filter(|_| !how.fresh);
        ask.since = since;
        ask.full = how.fresh;
        ask.limit = how.wanted.limit as usize;
        Ok(ask)
    }

    /// The same, for a timeline that may reach back before what the client has.
    fn for_timeline(&self, how: &How<'_>, ask: &RoomAsk) -> RoomAsk {
        let mut ask = ask.clone();
        if how.expanded {
            ask.after = None;
        }
        ask
    }

    /// A room the user is in.
    fn joined(&self, how: &How<'_>) -> Result<Told, StoreError> {
        let ask = self.asked(how)?;
        let mut view = self.q.view(&ask)?;
        let Some(head) = self.q.head(ask.room)? else {
            return Ok(self.nothing(how));
        };
        let recent = match ask.limit {
            0 => None,
            _ => {
                let ask = self.for_timeline(how, &ask);
                Some(self.q.recent(&mut view, &ask, Order::MAX)?)
            }
        };
        let known = self.q.known_state(&ask, head.state, head.state_pos)?;
        let mut sent = self.sent(how, recent.as_ref());
        let span = Span {
            known,
            end: head.state,
            before: how.sent.filter(|_| !how.fresh).map(|sent| &sent.required),
            wanted: &how.wanted.required,
            timeline: recent.as_ref(),
        };
        let news = self.state_news(&span, &mut sent)?;
        let mut room = self.blank(how, &ask);
        self.describe(&ask, head.state, &news, &mut room)?;
        if how.fresh || news.members {
            room.joined = Some(u64::from(head.joined));
            room.invited = Some(u64::from(head.invited));
        }
        room.bump_stamp = head.bump.0;
        room.unread = view.unread()?.total();
        let read = match how.sent {
            Some(sent) => self.has_read(how.wanted, sent.events)?,
            None => true,
        };
        room.required_state = self.render_state(&mut view, &ask, &news.events)?;
        self.finish(how, &mut view, room, sent, recent, read)
    }

    /// A room the user is invited to or knocked on.
    fn outside(&self, how: &How<'_>) -> Result<Told, StoreError> {
        let ask = self.asked(how)?;
        let (rooms, user) = (&self.q.sync.rooms, self.q.req.user);
        let state = rooms.stripped(self.q.snap, user, ask.room)?;
        let state = state.unwrap_or_else(|| b"[]".to_vec());
        let mut room = self.blank(how, &ask);
        let told = Stripped::read(&state);
        (room.name, room.avatar) = (told.name, told.avatar.map(Some));
        room.stripped = Some(state);
        Ok(Told {
            room: Some(room),
            sent: self.sent(how, None),
            shown: Vec::new(),
            first: None,
            anew: false,
        })
    }

    /// A room the user has left: up to the event that ended it, and nothing after.
    fn departed(&self, how: &How<'_>) -> Result<Told, StoreError> {
        let ask = self.asked(how)?;
        let mut view = self.q.view(&ask)?;
        let timeline = self.for_timeline(how, &ask);
        let mut departure = self.q.departure(&mut view, &timeline)?;
        let mut sent = self.sent(how, Some(&departure.recent));
        let mut room = self.blank(how, &ask);
        let mut state = Vec::new();
        if let Some((end, _)) = departure.ended {
            let known = match ask.after {
                // Who was not in the room then knows nothing of it.
                Some(since) => {
                    let known = self
                        .q
                        .sync
                        .rooms
                        .state_id_at(self.q.snap, ask.room, since)?;
                    let past = departure.news(&ask).is_none().then_some(end);
                    past.or(self.q.was_joined(&ask, known)?)
                }
                None => None,
            };
            let span = Span {
                known,
                end,
                before: how.sent.filter(|_| !how.fresh).map(|sent| &sent.required),
                wanted: &how.wanted.required,
                timeline: Some(&departure.recent),
            };
            let news = self.state_news(&span, &mut sent)?;
            self.describe(&ask, end, &news, &mut room)?;
            state = news.events;
        }
        // Clients take a room for joined unless its state says otherwise.
        if let Some(own) = &departure.own {
            self.replace_own(&ask, own, &mut state)?;
        }
        room.required_state = self.render_state(&mut view, &ask, &state)?;
        if let Some(own) = departure.apart(&ask)
            && departure.recent.events.len() < ask.limit
        {
            departure.recent.events.push(own);
        }
        let recent = (ask.limit > 0).then_some(departure.recent);
        self.finish(how, &mut view, room, sent, recent, true)
    }

    /// Puts the event that says what the user is now in the place of an earlier one.
    fn replace_own(
        &self,
        ask: &RoomAsk,
        own: &Placed,
        state: &mut Vec<EventNid>,
    ) -> Result<(), StoreError> {
        let events = self
            .q
            .sync
            .rooms
            .placed_many(self.q.snap, ask.room, state)?;
        let earlier = |event: &Placed| event.meta.state_key == own.meta.state_key;
        let earlier: Vec<EventNid> = events
            .iter()
            .flatten()
            .filter(|event| earlier(event))
            .map(|event| event.nid)
            .collect();
        state.retain(|event| !earlier.contains(event));
        state.push(own.nid);
        Ok(())
    }

    /// Writes the timeline, and sees whether there is anything to tell.
    fn finish(
        &self,
        how: &How<'_>,
        view: &mut View,
        mut room: SlidingRoom,
        sent: Sent,
        recent: Option<Recent>,
        always: bool,
    ) -> Result<Told, StoreError> {
        let events = recent.as_ref().map_or(&[][..], |recent| &recent.events);
        let shown: Vec<EventNid> = events.iter().map(|event| event.nid).collect();
        let first = events.first().map(|event| event.order().anchor);
        if let Some(recent) = recent {
            room.timeline = Some(self.timeline(how, view, &recent)?);
        }
        let told = always || how.fresh || how.expanded || !is_empty(&room);
        Ok(Told {
            room: told.then_some(room),
            sent,
            shown,
            first,
            anew: how.fresh || how.expanded,
        })
    }

    fn timeline(
        &self,
        how: &How<'_>,
        view: &mut View,
        recent: &Recent,
    ) -> Result<SlidingTimeline, StoreError> {
        let bundled = recent.limited || how.expanded;
        let is_new =
            |event: &&Arc<Placed>| self.since.is_some_and(|since| event.order().anchor > since);
        Ok(SlidingTimeline {
            events: self.q.render(view, &recent.events, Form::SYNC, bundled)?,
            limited: recent.limited,
            expanded: how.expanded,
            prev_batch: recent.prev_batch.to_string(),
            live: recent.events.iter().rev().take_while(is_new).count() as u64,
        })
    }

    /// A room of which nothing is told yet.
    fn blank(&self, how: &How<'_>, ask: &RoomAsk) -> SlidingRoom {
        SlidingRoom {
            room_id: Arc::clone(&ask.room_id),
            membership: how.wanted.member.membership,
            lists: how.wanted.lists.clone(),
            initial: how.fresh,
            is_dm: self.own.direct.contains(&ask.room),
            name: None,
            avatar: None,
            heroes: None,
            required_state: EventList::empty(),
            timeline: None,
            stripped: None,
            joined: None,
            invited: None,
            unread: Count::default(),
            bump_stamp: how.wanted.bump.0,
        }
    }

    /// Name, picture, and whom to name the room after, where they may be news.
    fn describe(
        &self,
        ask: &RoomAsk,
        end: skerry_core::StateId,
        news: &News,
        room: &mut SlidingRoom,
    ) -> Result<(), StoreError> {
        let state = self.q.sync.rooms.state_map(self.q.snap, end)?;
        if news.all || news.name || news.members {
            let name = self.text_of(ask.room, &state, ("m.room.name", "name"))?;
            let joined = room.membership == Membership::Join;
            if name.is_none() && joined {
                room.heroes = Some(self.heroes(ask.room, end, &state)?);
            }
            room.name = name.filter(|_| news.all || news.name);
        }
        if news.all || news.avatar {
            let avatar = self.text_of(ask.room, &state, ("m.room.avatar", "url"))?;
            // There is nothing to take back from a client that knows nothing yet.
            room.avatar = Some(avatar).filter(|avatar| !news.all || avatar.is_some());
        }
        Ok(())
    }

    fn render_state(
        &self,
        view: &mut View,
        ask: &RoomAsk,
        events: &[EventNid],
    ) -> Result<EventList, StoreError> {
        let found = self
            .q
            .sync
            .rooms
            .placed_many(self.q.snap, ask.room, events)?;
        let found: Vec<Arc<Placed>> = found.into_iter().flatten().collect();
        self.q.render(view, &found, Form::SYNC_STATE, false)
    }
}

/// Whether a room the client has is told with nothing in it.
fn is_empty(room: &SlidingRoom) -> bool {
    let timeline = room.timeline.as_ref();
    room.required_state.count == 0
        && timeline.is_none_or(|timeline| timeline.events.count == 0 && !timeline.limited)
        && room.name.is_none()
        && room.avatar.is_none()
        && room.heroes.is_none()
        && room.joined.is_none()
}
