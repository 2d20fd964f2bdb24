//! The directory: rooms that this server shows to everybody who looks.

use std::cmp::Reverse;

use skerry_core::canonical::Object;
use skerry_core::{RoomNid, StateMap};
use skerry_store::schema::room as t;
use skerry_store::schema::room::DirectoryRow;
use skerry_store::{Scan, Snapshot, StoreError};

use crate::{RoomError, Rooms, Who};

/// A room as the directory shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublicRoom {
    /// Its id.
    pub room_id: String,
    /// Its name.
    pub name: Option<String>,
    /// What it is about.
    pub topic: Option<String>,
    /// Its picture.
    pub avatar_url: Option<String>,
    /// Its main alias.
    pub canonical_alias: Option<String>,
    /// How many are in it.
    pub joined: u32,
    /// Anybody may read it.
    pub world_readable: bool,
    /// Guests may join.
    pub guest_can_join: bool,
    /// How one gets in.
    pub join_rule: String,
    /// What kind of room it is.
    pub room_type: Option<String>,
}

/// Which rooms of the directory are wanted.
#[derive(Clone, Debug, Default)]
pub struct DirectoryAsk {
    /// Words that have to occur in name, topic or alias.
    pub term: Option<String>,
    /// Kinds of rooms wanted; `None` in the list is a room without a kind. None: all.
    pub room_types: Option<Vec<Option<String>>>,
    /// The first room to give, counted from 0.
    pub offset: usize,
    /// The most rooms to give.
    pub limit: usize,
}

/// A part of the directory.
#[derive(Clone, Debug, Default)]
pub struct DirectoryPage {
    /// The rooms, those with most members first.
    pub rooms: Vec<PublicRoom>,
    /// How many rooms there are in all.
    pub total: usize,
    /// Where the next part begins, if there is more.
    pub next: Option<usize>,
}

impl Rooms {
    /// Whether a room is listed.
    ///
    /// # Errors
    /// `NotFound`, or the store's.
    pub async fn is_listed(&self, room_id: &str) -> Result<bool, RoomError> {
        let room = self.known(room_id)?;
        self.query(move |this, snap| {
            if this.room_row(snap, room)?.is_none() {
                return Err(RoomError::NotFound("Unknown room".into()));
            }
            Ok(snap.has::<t::Directory>(&room)?)
        })
        .await
    }

    /// Lists a room, or takes it out; for those who may set its canonical alias, and admins.
    ///
    /// # Errors
    /// `NotFound`, `Forbidden`, or the store's.
    pub async fn list(&self, who: Who, room_id: &str, listed: bool) -> Result<(), RoomError> {
        who.not_a_guest()?;
        let room = self.known(room_id)?;
        self.change(room, move |change| {
            let power = change.rooms.power(&change.snap, &mut change.tip)?;
            let in_it = change.rooms.is_joined(&change.snap, room, who.user)?;
            let may = in_it && power.may_send(&who.user_id, "m.room.canonical_alias", true);
            if !may && !who.admin {
                let text = "You may not change whether this room is listed";
                return Err(RoomError::Forbidden(text.into()));
            }
            if listed {
                let row = DirectoryRow {
                    by: who.user,
                    at_ms: change.now_ms,
                };
                change.w.put::<t::Directory>(&room, &row);
            } else {
                change.w.delete::<t::Directory>(&room);
            }
            Ok(())
        })
        .await
    }

    /// A part of the directory.
    ///
    /// # Errors
    /// The store's.
    pub async fn public_rooms(&self, ask: DirectoryAsk) -> Result<DirectoryPage, RoomError> {
        self.query(move |this, snap| {
            let mut rooms = Vec::new();
            for row in snap.scan::<t::Directory>(Scan::all()) {
                let (room, _) = row?;
                if let Some(public) = this.public_room(snap, room)?
                    && ask.wants(&public)
                {
                    rooms.push(public);
                }
            }
            rooms.sort_by(|a, b| {
                (Reverse(a.joined), &a.room_id).cmp(&(Reverse(b.joined), &b.room_id))
            });
            let total = rooms.len();
            let end = ask.offset.saturating_add(ask.limit);
            let rooms = rooms.into_iter().skip(ask.offset).take(ask.limit).collect();
            Ok(DirectoryPage {
                rooms,
                total,
                next: (end < total).then_some(end),
            })
        })
        .await
    }

    /// A room as the directory shows it; `None` if this server does not know it.
    ///
    /// # Errors
    /// The store's.
    pub fn public_room(
        &self,
        snap: &Snapshot,
        room: RoomNid,
    ) -> Result<Option<PublicRoom>, StoreError> {
        let (Some(row), Some(head)) = (self.room_row(snap, room)?, self.head(snap, room)?) else {
            return Ok(None);
        };
        let state = self.state_map(snap, head.state)?;
        let text = |kind: &str, field: &str| -> Result<Option<String>, StoreError> {
            let content = self.content_in(snap, &state, kind)?;
            Ok(content
                .str(field)
                .filter(|text| !text.is_empty())
                .map(str::to_owned))
        };
        let history = text("m.room.history_visibility", "history_visibility")?;
        let guests = text("m.room.guest_access", "guest_access")?;
        Ok(Some(PublicRoom {
            room_id: self.store().room_id(room)?.to_string(),
            name: text("m.room.name", "name")?,
            topic: text("m.room.topic", "topic")?,
            avatar_url: text("m.room.avatar", "url")?,
            canonical_alias: text("m.room.canonical_alias", "alias")?,
            joined: head.joined,
            world_readable: history.as_deref() == Some("world_readable"),
            guest_can_join: guests.as_deref() == Some("can_join"),
            join_rule: text("m.room.join_rules", "join_rule")?.unwrap_or_else(|| "invite".into()),
            room_type: row.room_type,
        }))
    }

    /// Content of the state event of a type with the empty key; empty where there is none.
    pub(crate) fn content_in(
        &self,
        snap: &Snapshot,
        state: &StateMap,
        kind: &str,
    ) -> Result<Object, StoreError> {
        let Some(nid) = self.in_state(state, kind, "")? else {
            return Ok(Object::new());
        };
        let held = self.event(snap, nid)?;
        Ok(held
            .and_then(|held| held.event.content_object().ok())
            .unwrap_or_default())
    }
}

impl DirectoryAsk {
    fn wants(&self, room: &PublicRoom) -> bool {
        let kind = self
            .room_types
            .as_ref()
            .is_none_or(|kinds| kinds.contains(&room.room_type));
        let term = self.term.as_deref().unwrap_or_default().to_lowercase();
        let texts = [&room.name, &room.topic, &room.canonical_alias];
        let mut texts = texts.into_iter().flatten();
        kind && (term.is_empty() || texts.any(|text| text.to_lowercase().contains(&term)))
    }
}
