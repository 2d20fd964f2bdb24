//! State and members as one user may read them.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;
use skerry_core::canonical::write_string_bytes;
use skerry_core::{EventNid, Membership, StateId};
use skerry_store::{Snapshot, StoreError};

use crate::{Cut, Form, Placed, RoomError, Rooms, Standing, View, Viewer};

/// Which members are wanted.
#[derive(Clone, Copy, Debug, Default)]
pub struct MembersAsk {
    /// As they were at this place; else now, or at the user's departure.
    pub at: Option<Cut>,
    /// Those with this membership (or what `not_membership` allows, if both are given).
    pub membership: Option<Membership>,
    /// Those without this membership.
    pub not_membership: Option<Membership>,
}

impl MembersAsk {
    fn wants(&self, membership: Option<Membership>) -> bool {
        let is = self.membership.map(|wanted| membership == Some(wanted));
        let is_not = self.not_membership.map(|other| membership != Some(other));
        match (is, is_not) {
            (None, None) => true,
            (is, is_not) => is == Some(true) || is_not == Some(true),
        }
    }
}

impl View {
    /// All events of a version of the room's state. From memory where possible: the list never
    /// changes under the version's number and the position of the newest redaction.
    ///
    /// # Errors
    /// The store's.
    pub fn state_events(&self, state: StateId) -> Result<Arc<[Arc<Placed>]>, StoreError> {
        let redacted = self.rooms.redacted_at(&self.snap, self.room)?;
        let lists = &self.rooms.inner.reads.states;
        if let Some(list) = lists.get((state, redacted)) {
            return Ok(list);
        }
        let map = self.rooms.state_map(&self.snap, state)?;
        let nids: Vec<EventNid> = map.iter().map(|(_, nid)| nid).collect();
        let list: Arc<[Arc<Placed>]> = self.load(&nids)?.into();
        let events = list.iter().map(|event| event.event.memory_bytes() + 200);
        lists.put((state, redacted), list.clone(), events.sum());
        Ok(list)
    }

    /// One event of a version of the room's state.
    ///
    /// # Errors
    /// The store's.
    pub fn state_event(
        &self,
        state: StateId,
        kind: &str,
        key: &str,
    ) -> Result<Option<Arc<Placed>>, StoreError> {
        let map = self.rooms.state_map(&self.snap, state)?;
        match self.rooms.in_state(&map, kind, key)? {
            Some(nid) => self.rooms.placed(&self.snap, self.room, nid),
            None => Ok(None),
        }
    }

    /// The member events, in a version of the state, of these users. Unknown ones are left out.
    ///
    /// # Errors
    /// The store's.
    pub fn member_events<'a>(
        &self,
        state: StateId,
        users: impl Iterator<Item = &'a str>,
    ) -> Result<Vec<Arc<Placed>>, StoreError> {
        let map = self.rooms.state_map(&self.snap, state)?;
        let mut nids = Vec::new();
        for user in users {
            nids.extend(self.rooms.in_state(&map, "m.room.member", user)?);
        }
        self.load(&nids)
    }

    /// The version of state right after the last event before a place; `None` where there is none.
    ///
    /// # Errors
    /// [`RoomError::Forbidden`] where the user may not see that event, and so not the state it
    /// was part of; the store's.
    fn state_at(&mut self, cut: Cut) -> Result<Option<StateId>, RoomError> {
        let upto = match self.standing() {
            Standing::Departed { upto, .. } => cut.0.min(upto),
            Standing::Joined | Standing::Outside => cut.0,
        };
        let ends = (skerry_core::Order::MIN, upto);
        let last = self.rooms.stretch(&self.snap, self.room, ends, 1)?;
        let Some((_, nid)) = last.first() else {
            return Ok(None);
        };
        let Some(event) = self.rooms.placed(&self.snap, self.room, *nid)? else {
            return Ok(None);
        };
        // The state of a time is not over when what was said then is.
        if !self.reader.may_see(&self.rooms, &self.snap, &event)? {
            let text = "You may not see the members at this place";
            return Err(RoomError::Forbidden(text.to_owned()));
        }
        Ok(Some(event.meta.after))
    }
}

impl Rooms {
    /// The state of a room as a JSON array: now, or at the user's departure.
    ///
    /// # Errors
    /// [`RoomError::Forbidden`] to who may not look into the room; the store's.
    pub fn state_json(
        &self,
        snap: &Snapshot,
        viewer: &Viewer,
        room_id: &str,
    ) -> Result<Vec<u8>, RoomError> {
        let mut view = self.readable_view(snap, viewer, room_id)?;
        let mut out = Vec::new();
        match view.readable_state()? {
            Some(state) => view.write_plain(&view.state_events(state)?, Form::STATE, &mut out)?,
            None => out.extend_from_slice(b"[]"),
        }
        Ok(out)
    }

    /// One state event of a room, now or at the user's departure: the whole event, or its content.
    ///
    /// # Errors
    /// [`RoomError::Forbidden`] to who may not look into the room, [`RoomError::NotFound`] if the
    /// state has no such event; the store's.
    pub fn state_event_json(
        &self,
        snap: &Snapshot,
        viewer: &Viewer,
        room_id: &str,
        (kind, key): (&str, &str),
        whole: bool,
    ) -> Result<Vec<u8>, RoomError> {
        let mut view = self.readable_view(snap, viewer, room_id)?;
        let event = match view.readable_state()? {
            Some(state) => view.state_event(state, kind, key)?,
            None => None,
        };
        let missing = || RoomError::NotFound("The room has no such state".to_owned());
        let event = event.ok_or_else(missing)?;
        if !whole {
            return Ok(event.event.content().as_bytes().to_vec());
        }
        let mut out = Vec::new();
        view.write_one(&event, Form::EVENT, &mut out)?;
        Ok(out)
    }

    /// The member events of a room: `{"chunk":[..]}`.
    ///
    /// # Errors
    /// [`RoomError::Forbidden`] to who may not look into the room, or may not see it as it was at
    /// the place asked for; the store's.
    pub fn members_json(
        &self,
        snap: &Snapshot,
        viewer: &Viewer,
        room_id: &str,
        ask: MembersAsk,
    ) -> Result<Vec<u8>, RoomError> {
        let mut view = self.readable_view(snap, viewer, room_id)?;
        let state = match ask.at {
            Some(cut) => view.state_at(cut)?,
            None => view.readable_state()?,
        };
        let mut members = Vec::new();
        if let Some(state) = state {
            let events = view.state_events(state)?;
            let wanted = events.iter().filter(|event| {
                event.event.event_type() == "m.room.member" && ask.wants(event.membership())
            });
            members.extend(wanted.cloned());
        }
        let mut out = b"{\"chunk\":".to_vec();
        view.write_plain(&members, Form::STATE, &mut out)?;
        out.push(b'}');
        Ok(out)
    }

    /// The users joined to a room, with their names and pictures there: `{"joined":{..}}`.
    ///
    /// # Errors
    /// [`RoomError::Forbidden`] to who is not in the room; the store's.
    pub fn joined_members_json(
        &self,
        snap: &Snapshot,
        viewer: &Viewer,
        room_id: &str,
    ) -> Result<Vec<u8>, RoomError> {
        let view = self.readable_view(snap, viewer, room_id)?;
        if view.standing() != Standing::Joined {
            return Err(RoomError::Forbidden("You are not in this room".to_owned()));
        }
        let events = match view.readable_state()? {
            Some(state) => view.state_events(state)?,
            None => Arc::from(Vec::new()),
        };
        let joined = events
            .iter()
            .filter(|event| event.membership() == Some(Membership::Join));
        let mut out = b"{\"joined\":{".to_vec();
        for (at, event) in joined.enumerate() {
            if at > 0 {
                out.push(b',');
            }
            write_string_bytes(event.event.state_key().unwrap_or_default(), &mut out);
            out.push(b':');
            write_person(event, &mut out);
        }
        out.extend_from_slice(b"}}");
        Ok(out)
    }

    /// The rooms a user is in: `{"joined_rooms":[..]}`.
    ///
    /// # Errors
    /// The store's.
    pub fn joined_rooms_json(
        &self,
        snap: &Snapshot,
        user: skerry_core::UserNid,
    ) -> Result<Vec<u8>, RoomError> {
        let mut out = b"{\"joined_rooms\":[".to_vec();
        let rooms = self.rooms_of(snap, user)?.into_iter();
        let joined = rooms.filter(|(_, member)| member.membership == Membership::Join);
        for (at, (room, _)) in joined.enumerate() {
            if at > 0 {
                out.push(b',');
            }
            write_string_bytes(&self.store().room_id(room)?, &mut out);
        }
        out.extend_from_slice(b"]}");
        Ok(out)
    }
}

#[derive(Deserialize)]
struct Person<'a> {
    #[serde(borrow, default)]
    displayname: Option<&'a RawValue>,
    #[serde(borrow, default)]
    avatar_url: Option<&'a RawValue>,
}

/// `{"avatar_url":..,"display_name":..}`; what is no string is `null`.
fn write_person(event: &Placed, out: &mut Vec<u8>) {
    let person = serde_json::from_str::<Person<'_>>(event.event.content());
    let (avatar, name) = person.map_or((None, None), |p| (p.avatar_url, p.displayname));
    let text = |value: Option<&'_ RawValue>, out: &mut Vec<u8>| {
        let text = value.map(RawValue::get).filter(|raw| raw.starts_with('"'));
        out.extend_from_slice(text.unwrap_or("null").as_bytes());
    };
    out.extend_from_slice(b"{\"avatar_url\":");
    text(avatar, out);
    out.extend_from_slice(b",\"display_name\":");
    text(name, out);
    out.push(b'}');
}
