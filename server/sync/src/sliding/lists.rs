//! Which rooms a client asks about: those at the wanted places of its lists, those it subscribes
//! to, and those that it knows and has lost.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde_json::Value;
use skerry_core::{Membership, Pos, RoomNid, StateId};
use skerry_room::{MemberOf, Standing};
use skerry_store::StoreError;

use super::Slide;
use super::answer::SlidingList;
use super::ask::{DetailAsk, Filters, ListAsk};
use super::memory::was_sent_away;
use super::required::Required;
use crate::compute::RoomAsk;
use crate::compute::changes::RoomHint;

/// A room of the user.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub room: RoomNid,
    pub member: MemberOf,
    /// Rooms with larger ones come first.
    stamp: Pos,
}

/// A room that the client asks about.
#[derive(Debug)]
pub(super) struct Wanted {
    pub room: RoomNid,
    pub member: MemberOf,
    pub required: Arc<Required>,
    /// Timeline events at most.
    pub limit: u32,
    /// The lists it is in, by name.
    pub lists: Vec<Arc<str>>,
    /// Larger for rooms that were talked in later.
    pub bump: Pos,
}

/// All rooms that the client asks about.
#[derive(Debug, Default)]
pub(super) struct Window {
    pub rooms: Vec<Wanted>,
    /// Rooms of lists, also those at places not asked for, and of subscriptions.
    pub listed: HashSet<RoomNid>,
    pub lists: Vec<SlidingList>,
    places: HashMap<RoomNid, usize>,
}

/// What stripped state says of a room.
#[derive(Default)]
pub(super) struct Stripped {
    created: bool,
    kind: Option<String>,
    encrypted: bool,
    pub name: Option<String>,
    pub avatar: Option<String>,
    alias: Option<String>,
}

impl Slide<'_> {
    /// The user's rooms that lists may have, unsorted.
    pub(super) fn candidates(
        &self,
        mine: &[(RoomNid, MemberOf)],
    ) -> Result<Vec<Candidate>, StoreError> {
        let mut found = Vec::with_capacity(mine.len());
        for (room, member) in mine {
            if self.is_listed(*room, member)? {
                found.push(self.candidate(*room, member.clone())?);
            }
        }
        // Left and forgotten, but the client still has it.
        for room in self.changes.rooms.keys() {
            let mine = mine.binary_search_by_key(room, |(room, _)| *room);
            if mine.is_err()
                && self.known.rooms.contains_key(room)
                && let Some(member) = self.q.standing_in(*room)?
            {
                found.push(self.candidate(*room, member)?);
            }
        }
        Ok(found)
    }

    fn candidate(&self, room: RoomNid, member: MemberOf) -> Result<Candidate, StoreError> {
        let stamp = match member.membership {
            Membership::Join => {
                let (memory, rooms) = (&self.q.sync.sliding, &self.q.sync.rooms);
                let card = memory.card(rooms, self.q.snap, room)?;
                card.map_or(member.pos, |card| card.bump)
            }
            _ => member.pos,
        };
        Ok(Candidate {
            room,
            member,
            stamp,
        })
    }

    /// Whether a room is among those that lists are made of: not if the user left it of their own
    /// will, unless that is news, nor if somebody they ignore invites them.
    fn is_listed(&self, room: RoomNid, member: &MemberOf) -> Result<bool, StoreError> {
        Ok(match member.membership {
            Membership::Join | Membership::Knock | Membership::Ban => true,
            Membership::Invite => !self.q.is_invited_by_ignored(&self.bare(room, member)?)?,
            Membership::Leave if self.since.is_some_and(|since| member.pos > since) => true,
            Membership::Leave => {
                let (memory, rooms) = (&self.q.sync.sliding, &self.q.sync.rooms);
                let sender = memory.sender(rooms, self.q.snap, member.event)?;
                was_sent_away(member.membership, sender, self.q.req.user)
            }
        })
    }

    /// A room of which nothing is asked yet.
    pub(super) fn bare(&self, room: RoomNid, member: &MemberOf) -> Result<RoomAsk, StoreError> {
        Ok(RoomAsk {
            room,
            room_id: self.q.sync.rooms.store().room_id(room)?,
            member: member.clone(),
            hint: RoomHint::ALL,
            after: None,
            since: None,
            full: true,
            limit: 0,
            sticky: Vec::new(),
        })
    }

    /// The rooms that the client asks about.
    pub(super) fn window(&self, candidates: &[Candidate]) -> Result<Window, StoreError> {
        let mut window = Window::default();
        for (name, ask) in self.ask.lists() {
            self.list(name, ask, candidates, &mut window)?;
        }
        self.subscriptions(candidates, &mut window)?;
        self.lost(candidates, &mut window);
        Ok(window)
    }

    fn list(
        &self,
        name: &str,
        ask: &ListAsk,
        candidates: &[Candidate],
        window: &mut Window,
    ) -> Result<(), StoreError> {
        let mut rooms = Vec::with_capacity(candidates.len());
        let filter = match &ask.filters {
            Some(filters) => Some(Filter::new(self, filters)?),
            None => None,
        };
        for candidate in candidates {
            let passes = match &filter {
                Some(filter) => filter.passes(self, candidate)?,
                None => true,
            };
            if passes {
                rooms.push(candidate);
            }
        }
        rooms.sort_unstable_by_key(|room| (std::cmp::Reverse(room.stamp), room.room));
        window.listed.extend(rooms.iter().map(|room| room.room));
        let all = [(0, (rooms.len() as u64).saturating_sub(1))];
        let ranges = ask.ranges().unwrap_or(&all);
        let name: Arc<str> = name.into();
        let required = Arc::new(self.required(&ask.detail));
        let store = self.q.sync.rooms.store();
        let mut told = Vec::with_capacity(ranges.len());
        for (from, to) in ranges {
            let places = usize::try_from(to.saturating_add(1).saturating_sub(*from));
            let at = usize::try_from(*from).unwrap_or(usize::MAX);
            let here = rooms.iter().skip(at).take(places.unwrap_or(usize::MAX));
            let mut ids = Vec::new();
            for room in here {
                ids.push(store.room_id(room.room)?);
                window.want(room, &required, ask.detail.limit(), Some(&name));
            }
            told.push(((*from, *to), ids));
        }
        window.lists.push(SlidingList {
            name: name.as_ref().to_owned(),
            count: rooms.len() as u64,
            ranges: told,
        });
        Ok(())
    }

    fn subscriptions(
        &self,
        candidates: &[Candidate],
        window: &mut Window,
    ) -> Result<(), StoreError> {
        let mut places: Option<HashMap<RoomNid, &Candidate>> = None;
        for (room_id, ask) in self.ask.subscriptions() {
            let Some(room) = self.q.sync.rooms.store().room_nid(room_id)? else {
                continue;
            };
            let places = places.get_or_insert_with(|| {
                let pairs = candidates.iter().map(|room| (room.room, room));
                pairs.collect()
            });
            let other;
            let candidate = match places.get(&room) {
                Some(candidate) => *candidate,
                None => {
                    // Left long ago; nothing is told of rooms the user has nothing to do with.
                    let Some(member) = self.q.member_of(room)? else {
                        continue;
                    };
                    if member.membership == Membership::Invite {
                        continue;
                    }
                    other = self.candidate(room, member)?;
                    &other
                }
            };
            window.listed.insert(room);
            window.want(candidate, &Arc::new(self.required(ask)), ask.limit(), None);
        }
        Ok(())
    }

    /// Rooms the client knows, in which the user is not any more what they were: it is told of
    /// that wherever they stand in its lists now.
    fn lost(&self, candidates: &[Candidate], window: &mut Window) {
        for candidate in candidates {
            let sent = self.known.rooms.get(&candidate.room);
            let Some(sent) = sent.filter(|sent| candidate.member.since > sent.events) else {
                continue;
            };
            if !window.places.contains_key(&candidate.room) {
                window.want(candidate, &sent.required, sent.limit, None);
            }
        }
    }

    fn required(&self, ask: &DetailAsk) -> Required {
        Required::new(&ask.required_state, &self.q.req.user_id)
    }
}

impl Window {
    /// Adds a room, or what is wanted of it in addition.
    fn want(
        &mut self,
        candidate: &Candidate,
        required: &Arc<Required>,
        limit: u32,
        list: Option<&Arc<str>>,
    ) {
        let at = *self.places.entry(candidate.room).or_insert_with(|| {
            self.rooms.push(Wanted {
                room: candidate.room,
                member: candidate.member.clone(),
                required: Arc::clone(required),
                limit: 0,
                lists: Vec::new(),
                bump: candidate.stamp,
            });
            self.rooms.len() - 1
        });
        let Some(wanted) = self.rooms.get_mut(at) else {
            return;
        };
        wanted.limit = wanted.limit.max(limit);
        if !wanted.required.covers(required) {
            Arc::make_mut(&mut wanted.required).extend(required);
        }
        if let Some(list) = list.filter(|list| !wanted.lists.contains(list)) {
            wanted.lists.push(Arc::clone(list));
        }
    }
}

/// A filter, with what of it is the same for all rooms.
struct Filter<'a> {
    ask: &'a Filters,
    /// Rooms that the spaces name.
    children: Option<HashSet<Arc<str>>>,
    name: Option<String>,
}

impl<'a> Filter<'a> {
    fn new(slide: &Slide<'_>, ask: &'a Filters) -> Result<Filter<'a>, StoreError> {
        let children = match &ask.spaces {
            Some(spaces) => Some(slide.children(spaces)?),
            None => None,
        };
        let name = ask.room_name_like.as_ref().map(|name| name.to_lowercase());
        Ok(Filter {
            ask,
            children,
            name,
        })
    }

    fn passes(&self, slide: &Slide<'_>, room: &Candidate) -> Result<bool, StoreError> {
        let ask = self.ask;
        let own = |is: Option<bool>, has: bool| is.is_none_or(|is| is == has);
        let tagged = |names: &[String]| {
            let tags = slide.own.tags.get(&room.room);
            tags.is_some_and(|tags| names.iter().any(|name| tags.contains(name.as_str())))
        };
        let invited = room.member.membership == Membership::Invite;
        if !own(ask.is_dm, slide.own.direct.contains(&room.room))
            || !own(ask.is_invite, invited)
            || !ask.tags.as_deref().is_none_or(tagged)
            || ask.not_tags.as_deref().is_some_and(tagged)
        {
            return Ok(false);
        }
        if let Some(children) = &self.children {
            let id = slide.q.sync.rooms.store().room_id(room.room)?;
            if !children.contains(&id) {
                return Ok(false);
            }
        }
        self.passes_state(slide, room)
    }

    /// The part of the filter about the room's state.
    fn passes_state(&self, slide: &Slide<'_>, room: &Candidate) -> Result<bool, StoreError> {
        let ask = self.ask;
        let by_type = ask.room_types.is_some() || ask.not_room_types.is_some();
        if by_type || ask.is_encrypted.is_some() {
            let Some((kind, encrypted)) = slide.nature(room)? else {
                return Ok(false);
            };
            let named = |types: &[Option<String>]| {
                types.iter().any(|name| name.as_deref() == kind.as_deref())
            };
            if !ask.room_types.as_deref().is_none_or(named)
                || ask.not_room_types.as_deref().is_some_and(named)
                || ask.is_encrypted.is_some_and(|is| is != encrypted)
            {
                return Ok(false);
            }
        }
        let Some(like) = &self.name else {
            return Ok(true);
        };
        let names = slide.names(room)?;
        Ok(names.iter().any(|name| name.to_lowercase().contains(like)))
    }
}

impl Slide<'_> {
    /// The rooms named by spaces that the user is joined to.
    fn children(&self, spaces: &[String]) -> Result<HashSet<Arc<str>>, StoreError> {
        let (memory, rooms) = (&self.q.sync.sliding, &self.q.sync.rooms);
        let mut children = HashSet::new();
        for space in spaces {
            let Some(space) = rooms.store().room_nid(space)? else {
                continue;
            };
            if !rooms.is_joined(self.q.snap, space, self.q.req.user)? {
                continue;
            }
            let Some(head) = self.q.head(space)? else {
                continue;
            };
            for entry in memory.state(rooms, self.q.snap, head.state)?.iter() {
                if *entry.kind != *"m.space.child" || children.contains(&entry.key) {
                    continue;
                }
                let content = self.content(space, entry.event)?;
                // Without servers to join by it is a child no more.
                if content.get("via").and_then(Value::as_array).is_some() {
                    children.insert(Arc::clone(&entry.key));
                }
            }
        }
        Ok(children)
    }

    /// The content of an event; null if there is no such event.
    pub(super) fn content(
        &self,
        room: RoomNid,
        event: skerry_core::EventNid,
    ) -> Result<Value, StoreError> {
        let event = self.q.sync.rooms.placed(self.q.snap, room, event)?;
        Ok(event
            .and_then(|event| event.event.content_as().ok())
            .unwrap_or_default())
    }

    /// A room's type and whether it is encrypted, as the user may know it; `None` where the
    /// user does not know the room's create event.
    fn nature(&self, room: &Candidate) -> Result<Option<(Option<Arc<str>>, bool)>, StoreError> {
        let (memory, rooms) = (&self.q.sync.sliding, &self.q.sync.rooms);
        match room.member.membership {
            Membership::Join => {
                let card = memory.card(rooms, self.q.snap, room.room)?;
                Ok(card.map(|card| (card.kind, card.encrypted)))
            }
            Membership::Invite | Membership::Knock => {
                let told = self.stripped(room.room)?;
                let kind = told.kind.map(Arc::from);
                Ok(told.created.then_some((kind, told.encrypted)))
            }
            Membership::Leave | Membership::Ban => {
                let Some(state) = self.last_state(room)? else {
                    return Ok(None);
                };
                let state = rooms.state_map(self.q.snap, state)?;
                let encrypted = rooms.in_state(&state, "m.room.encryption", "")?.is_some();
                let row = rooms.room_row(self.q.snap, room.room)?;
                Ok(row.map(|row| (row.room_type.map(Arc::from), encrypted)))
            }
        }
    }

    /// The state in which the user left a room, if they ever were in it.
    fn last_state(&self, room: &Candidate) -> Result<Option<StateId>, StoreError> {
        let rooms = &self.q.sync.rooms;
        Ok(
            match rooms.standing(self.q.snap, room.room, self.q.req.user)?.0 {
                Standing::Departed { state, .. } => Some(state),
                _ => None,
            },
        )
    }

    /// What a room is called: by its name, else its alias, else by who is in it.
    fn names(&self, room: &Candidate) -> Result<Vec<String>, StoreError> {
        let state = match room.member.membership {
            Membership::Join => self.q.head(room.room)?.map(|head| head.state),
            Membership::Leave | Membership::Ban => self.last_state(room)?,
            Membership::Invite | Membership::Knock => {
                let told = self.stripped(room.room)?;
                return Ok(told.name.or(told.alias).into_iter().collect());
            }
        };
        let Some(state) = state else {
            return Ok(Vec::new());
        };
        let map = self.q.sync.rooms.state_map(self.q.snap, state)?;
        for (kind, field) in [("m.room.name", "name"), ("m.room.canonical_alias", "alias")] {
            if let Some(name) = self.text_of(room.room, &map, (kind, field))? {
                return Ok(vec![name]);
            }
        }
        if room.member.membership != Membership::Join {
            // Who is in it now is not for those to know who left.
            return Ok(Vec::new());
        }
        let heroes = self.heroes(room.room, state, &map)?.into_iter();
        Ok(heroes
            .map(|hero| hero.name.unwrap_or_else(|| hero.user_id.to_string()))
            .collect())
    }

    /// What stripped state says of a room.
    fn stripped(&self, room: RoomNid) -> Result<Stripped, StoreError> {
        let rooms = &self.q.sync.rooms;
        let json = rooms.stripped(self.q.snap, self.q.req.user, room)?;
        Ok(Stripped::read(&json.unwrap_or_default()))
    }
}

impl Stripped {
    pub(super) fn read(json: &[u8]) -> Stripped {
        #[derive(serde::Deserialize)]
        struct Event {
            #[serde(rename = "type")]
            kind: String,
            #[serde(default)]
            state_key: String,
            #[serde(default)]
            content: Value,
        }
        let mut told = Stripped::default();
        let events: Vec<Event> = serde_json::from_slice(json).unwrap_or_default();
        for event in events.iter().filter(|event| event.state_key.is_empty()) {
            let text = |field: &str| {
                let text = event.content.get(field).and_then(Value::as_str);
                text.filter(|text| !text.is_empty()).map(str::to_owned)
            };
            match event.kind.as_str() {
                "m.room.create" => (told.created, told.kind) = (true, text("type")),
                "m.room.encryption" => told.encrypted = true,
                "m.room.name" => told.name = text("name"),
                "m.room.avatar" => told.avatar = text("url"),
                "m.room.canonical_alias" => told.alias = text("alias"),
                _ => {}
            }
        }
        told
    }
}
