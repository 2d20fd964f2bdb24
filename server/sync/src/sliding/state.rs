//! The state of a room that a client lacks, of what it wants.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value;
use skerry_core::{EventNid, RoomNid, StateId, StateKeyNid, StateMap, UserNid};
use skerry_room::Recent;
use skerry_store::StoreError;

use super::Slide;
use super::answer::Hero;
use super::connections::Sent;
use super::memory::whole_state;
use super::required::{Keys, Required};
use crate::compute::summary::HEROES_MAX;

const MEMBER: &str = "m.room.member";

/// Between which states a room is told.
pub(super) struct Span<'a> {
    /// What the client has; `None`: nothing.
    pub known: Option<StateId>,
    /// What the room has.
    pub end: StateId,
    /// What the client has wanted so far; `None`: nothing.
    pub before: Option<&'a Arc<Required>>,
    /// What it wants now.
    pub wanted: &'a Arc<Required>,
    /// The timeline told along with it.
    pub timeline: Option<&'a Recent>,
}

/// What of the state is news.
#[derive(Default)]
pub(super) struct News {
    /// The events to tell.
    pub events: Vec<EventNid>,
    /// The client had nothing of the room.
    pub all: bool,
    /// The room's name.
    pub name: bool,
    /// The room's picture.
    pub avatar: bool,
    /// Members.
    pub members: bool,
}

/// A change of state.
struct Change {
    kind: Arc<str>,
    key: Arc<str>,
    /// Nothing where state resolution took it away, for which no form of sync has a word; but
    /// what is told beside the state follows it.
    event: Option<EventNid>,
}

impl Slide<'_> {
    /// The state to tell, and what the client then has of it.
    pub(super) fn state_news(&self, span: &Span<'_>, sent: &mut Sent) -> Result<News, StoreError> {
        let end = self.q.sync.rooms.state_map(self.q.snap, span.end)?;
        let changes = self.state_changes(span, &end)?;
        let mut news = News {
            all: span.known.is_none(),
            ..News::default()
        };
        let mut told = BTreeSet::new();
        let mut stale = false;
        for change in &changes {
            let (kind, key) = (&*change.kind, &*change.key);
            news.name |= kind == "m.room.name";
            news.avatar |= kind == "m.room.avatar";
            news.members |= kind == MEMBER;
            if span.wanted.wants(kind, key) {
                told.extend(change.event);
            }
            // Wanted once, and changed while it was not: it is told again when wanted again.
            let unwanted = !span.wanted.wants(kind, key);
            stale |= unwanted && span.before.is_some_and(|before| before.wants(kind, key));
        }
        let before = span.before.filter(|_| span.known.is_some());
        if before.is_none_or(|before| !before.covers(span.wanted)) {
            told.extend(self.wanted_state(span, &end, before.map(|before| &**before))?);
        }
        sent.required = match before {
            Some(before) if **before == **span.wanted => Arc::clone(before),
            Some(before) if !stale => {
                let both = Required::remembered(before, span.wanted);
                if both == **before {
                    Arc::clone(before)
                } else {
                    Arc::new(both)
                }
            }
            _ => Arc::clone(span.wanted),
        };
        if span.wanted.lazy && !span.wanted.wants_members() {
            self.lazy_members(span, (&end, &changes), (&mut told, sent))?;
        }
        news.events = told.into_iter().collect();
        Ok(news)
    }

    /// What changed between what the client has and what the room has.
    fn state_changes(&self, span: &Span<'_>, end: &StateMap) -> Result<Vec<Change>, StoreError> {
        let Some(known) = span.known.filter(|known| *known != span.end) else {
            return Ok(Vec::new());
        };
        let rooms = &self.q.sync.rooms;
        let known = rooms.state_map(self.q.snap, known)?;
        let delta = known.diff(end);
        let change = |(nid, event)| {
            let (kind, key) = rooms.store().state_key(nid)?;
            Ok(Change { kind, key, event })
        };
        delta.changed().map(change).collect()
    }

    /// All that is wanted of a state, without what was wanted `before`.
    fn wanted_state(
        &self,
        span: &Span<'_>,
        end: &StateMap,
        before: Option<&Required>,
    ) -> Result<Vec<EventNid>, StoreError> {
        let (memory, rooms) = (&self.q.sync.sliding, &self.q.sync.rooms);
        let new = |kind: &str, key: &str| {
            let had = before.is_some_and(|before| before.wants(kind, key));
            !had && span.wanted.wants(kind, key)
        };
        if span.wanted.wants_members() {
            let all = whole_state(rooms, self.q.snap, span.end)?.into_iter();
            let found = all.filter(|entry| new(&entry.kind, &entry.key));
            return Ok(found.map(|entry| entry.event).collect());
        }
        let mut found = Vec::new();
        for (kind, keys) in span.wanted.types() {
            match keys {
                Keys::All => {
                    let state = memory.state(rooms, self.q.snap, span.end)?;
                    let of_kind = state.iter().filter(|entry| *entry.kind == *kind);
                    let of_kind = of_kind.filter(|entry| new(kind, &entry.key));
                    found.extend(of_kind.map(|entry| entry.event));
                }
                Keys::These(keys) => {
                    for key in keys.iter().filter(|key| new(kind, key)) {
                        found.extend(rooms.in_state(end, kind, key)?);
                    }
                }
            }
        }
        Ok(found)
    }

    /// Members told for the timeline's sake: whoever it shows, unless the client has them, and
    /// those who changed. With a gap in the timeline these are only those the client may know.
    fn lazy_members(
        &self,
        span: &Span<'_>,
        (end, changes): (&StateMap, &[Change]),
        (told, sent): (&mut BTreeSet<EventNid>, &mut Sent),
    ) -> Result<(), StoreError> {
        let store = self.q.sync.rooms.store();
        let timeline = span.timeline.map_or(&[][..], |recent| &recent.events);
        let mut new = Vec::new();
        let gap = span.known.is_none() || span.timeline.is_some_and(|recent| recent.limited);
        for change in changes.iter().filter(|change| *change.kind == *MEMBER) {
            let Some((user, event)) = store.user_nid(&change.key)?.zip(change.event) else {
                continue;
            };
            if !gap || sent.members.may_know(user) {
                new.push((user, event));
            }
        }
        if span.before.is_some_and(|before| !before.lazy) {
            // The client did not want members for a while, and may have those of before.
            new.extend(self.changed_members(end, sent)?);
        }
        let mut shown: BTreeSet<&str> = timeline.iter().map(|e| e.event.sender()).collect();
        let of_members = timeline.iter().filter(|e| e.event.event_type() == MEMBER);
        shown.extend(of_members.filter_map(|event| event.event.state_key()));
        for user_id in shown {
            let key = store.state_key_nid(MEMBER, user_id)?;
            let event = key.and_then(|key: StateKeyNid| end.get(key));
            let Some((user, event)) = store.user_nid(user_id)?.zip(event) else {
                continue;
            };
            if !sent.members.has(user, event) {
                new.push((user, event));
            }
        }
        told.extend(new.iter().map(|(_, event)| *event));
        sent.members.add(&new);
        Ok(())
    }

    /// The members that the client has of whom it has an event that does not hold any more.
    fn changed_members(
        &self,
        end: &StateMap,
        sent: &Sent,
    ) -> Result<Vec<(UserNid, EventNid)>, StoreError> {
        let store = self.q.sync.rooms.store();
        let mut changed = Vec::new();
        for (user, event) in sent.members.told.iter().flat_map(|told| told.iter()) {
            let key = store.state_key_nid(MEMBER, &store.user_id(*user)?)?;
            let now = key.and_then(|key| end.get(key));
            changed.extend(now.filter(|now| now != event).map(|now| (*user, now)));
        }
        Ok(changed)
    }

    /// A non-empty text in the content of a state event.
    pub(super) fn text_of(
        &self,
        room: RoomNid,
        state: &StateMap,
        (kind, field): (&str, &str),
    ) -> Result<Option<String>, StoreError> {
        let Some(event) = self.q.sync.rooms.in_state(state, kind, "")? else {
            return Ok(None);
        };
        let content = self.content(room, event)?;
        Ok(text(&content, field))
    }

    /// Whom to name a room after.
    pub(super) fn heroes(
        &self,
        room: RoomNid,
        state_id: StateId,
        state: &StateMap,
    ) -> Result<Vec<Hero>, StoreError> {
        let (store, me) = (self.q.sync.rooms.store(), self.q.req.user);
        let users = self.q.heroes(room, state_id)?;
        let others = users.iter().filter(|user: &&UserNid| **user != me);
        let mut heroes = Vec::new();
        for user in others.take(HEROES_MAX) {
            let user_id = store.user_id(*user)?;
            let member = match self.q.sync.rooms.in_state(state, MEMBER, &user_id)? {
                Some(event) => self.content(room, event)?,
                None => Value::Null,
            };
            heroes.push(Hero {
                user_id,
                name: text(&member, "displayname"),
                avatar: text(&member, "avatar_url"),
            });
        }
        Ok(heroes)
    }
}

fn text(content: &Value, field: &str) -> Option<String> {
    let text = content.get(field).and_then(Value::as_str);
    text.filter(|text| !text.is_empty()).map(str::to_owned)
}
