//! Which rooms a client asks about: those at the wanted places of its lists, those it subscribes
//! to, and those that it knows and has lost.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use skerry_core::{Membership, Pos, RoomNid};
use skerry_room::MemberOf;
use skerry_store::StoreError;

use super::Slide;
use super::answer::{SlidingList, SlidingRange};
use super::ask::{DetailAsk, ListAsk};
use super::filters::Filter;
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
            Membership::Leave if self.since.is_some_and(|since| member.pos > since) => {
                !self.q.is_end_of_hidden(&self.bare(room, member)?)?
            }
            Membership::Leave => {
                let (memory, rooms) = (&self.q.sync.sliding, &self.q.sync.rooms);
                let sender = memory.sender(rooms, self.q.snap, member.event)?;
                was_sent_away(member.membership, sender, self.q.req.user)
                    && !self.q.is_end_of_hidden(&self.bare(room, member)?)?
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
            told.push(SlidingRange {
                from: *from,
                to: *to,
                rooms: ids,
            });
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
        let mut last: Option<(&DetailAsk, Arc<Required>)> = None;
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
            // Mostly the same is asked of all.
            let required = match &last {
                Some((same, required)) if same.required_state == ask.required_state => {
                    Arc::clone(required)
                }
                _ => Arc::new(self.required(ask)),
            };
            window.want(candidate, &required, ask.limit(), None);
            last = Some((ask, required));
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
        let same = Arc::ptr_eq(&wanted.required, required);
        if !same && !wanted.required.covers(required) {
            Arc::make_mut(&mut wanted.required).extend(required);
        }
        if let Some(list) = list.filter(|list| !wanted.lists.contains(list)) {
            wanted.lists.push(Arc::clone(list));
        }
    }
}
