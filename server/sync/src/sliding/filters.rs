//! Which rooms a list has: the filters, and what they look at.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::Value;
use skerry_core::{EventNid, Membership, RoomNid, StateId};
use skerry_room::Standing;
use skerry_store::StoreError;

use super::Slide;
use super::ask::Filters;
use super::lists::Candidate;

/// What of a room never changes, or nearly so.
struct Nature {
    /// The room's type.
    kind: Option<Arc<str>>,
    encrypted: bool,
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

/// A filter, with what of it is the same for all rooms.
pub(super) struct Filter<'a> {
    ask: &'a Filters,
    /// Rooms that the spaces name.
    children: Option<HashSet<Arc<str>>>,
    name: Option<String>,
}

impl<'a> Filter<'a> {
    pub(super) fn new(slide: &Slide<'_>, ask: &'a Filters) -> Result<Filter<'a>, StoreError> {
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

    pub(super) fn passes(&self, slide: &Slide<'_>, room: &Candidate) -> Result<bool, StoreError> {
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
            let Some(Nature { kind, encrypted }) = slide.nature(room)? else {
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
    pub(super) fn content(&self, room: RoomNid, event: EventNid) -> Result<Value, StoreError> {
        let event = self.q.sync.rooms.placed(self.q.snap, room, event)?;
        Ok(event
            .and_then(|event| event.event.content_as().ok())
            .unwrap_or_default())
    }

    /// A room's type and whether it is encrypted, as the user may know it; `None` where the
    /// user does not know the room's create event.
    fn nature(&self, room: &Candidate) -> Result<Option<Nature>, StoreError> {
        let (memory, rooms) = (&self.q.sync.sliding, &self.q.sync.rooms);
        match room.member.membership {
            Membership::Join => {
                let card = memory.card(rooms, self.q.snap, room.room)?;
                Ok(card.map(|card| Nature {
                    kind: card.kind,
                    encrypted: card.encrypted,
                }))
            }
            Membership::Invite | Membership::Knock => {
                let told = self.stripped(room.room)?;
                let kind = told.kind.map(Arc::from);
                let encrypted = told.encrypted;
                Ok(told.created.then_some(Nature { kind, encrypted }))
            }
            Membership::Leave | Membership::Ban => {
                let Some(state) = self.last_state(room)? else {
                    return Ok(None);
                };
                let state = rooms.state_map(self.q.snap, state)?;
                let encrypted = rooms.in_state(&state, "m.room.encryption", "")?.is_some();
                let row = rooms.room_row(self.q.snap, room.room)?;
                Ok(row.map(|row| Nature {
                    kind: row.room_type.map(Arc::from),
                    encrypted,
                }))
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
