//! What a room shows of itself to those who are not in it, and who may see that.

use std::sync::Arc;

use skerry_core::canonical::{Object, Value};
use skerry_core::fold::fold;
use skerry_core::{Membership, Pos, RoomNid, RoomVersion, StateMap, UserNid};
use skerry_store::schema::room_read::RedactedAt;
use skerry_store::{Snapshot, StoreError};

use crate::{RoomError, RoomHead, Rooms};

/// The most rooms of a join rule that are looked at.
const MAX_ALLOWED_ROOMS: usize = 500;

/// A room as directory, summaries and hierarchies show it.
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
    /// Its version.
    pub version: String,
    /// The algorithm its messages are encrypted with.
    pub encryption: Option<String>,
    /// The rooms whose members may join, if it has such a rule.
    pub allowed_rooms: Vec<String>,
}

/// What the state of a room shows; the same for every count of members.
#[derive(Debug, Default)]
pub(crate) struct Card {
    pub(crate) name: Option<String>,
    pub(crate) topic: Option<String>,
    pub(crate) avatar_url: Option<String>,
    pub(crate) canonical_alias: Option<String>,
    pub(crate) world_readable: bool,
    pub(crate) guest_can_join: bool,
    pub(crate) join_rule: Option<String>,
    pub(crate) encryption: Option<String>,
    pub(crate) allowed: Vec<String>,
    /// Name, topic and alias, folded for searching.
    pub(crate) folded: String,
}

/// The state that a card is made of, all with the empty key.
const SHOWN: [&str; 8] = [
    "m.room.name",
    "m.room.topic",
    "m.room.avatar",
    "m.room.canonical_alias",
    "m.room.history_visibility",
    "m.room.guest_access",
    "m.room.join_rules",
    "m.room.encryption",
];

impl Card {
    fn of(contents: [Object; 8]) -> Card {
        let [
            name,
            topic,
            avatar,
            alias,
            history,
            guests,
            joining,
            encryption,
        ] = contents;
        let text = |content: &Object, field: &str| {
            let text = content.str(field).filter(|text| !text.is_empty());
            text.map(str::to_owned)
        };
        let mut card = Card {
            name: text(&name, "name"),
            topic: text(&topic, "topic"),
            avatar_url: text(&avatar, "url"),
            canonical_alias: text(&alias, "alias"),
            world_readable: history.str("history_visibility") == Some("world_readable"),
            guest_can_join: guests.str("guest_access") == Some("can_join"),
            join_rule: text(&joining, "join_rule"),
            encryption: text(&encryption, "algorithm"),
            allowed: allowed(&joining),
            folded: String::new(),
        };
        let texts = [&card.name, &card.topic, &card.canonical_alias];
        for text in texts.into_iter().flatten() {
            card.folded.push_str(&fold(text));
            card.folded.push('\n');
        }
        card
    }

    fn memory_bytes(&self) -> usize {
        let allowed: usize = self.allowed.iter().map(|id| id.len() + 24).sum();
        300 + 3 * self.folded.len() + allowed
    }

    /// Whether anybody who looks may know who is in the room.
    pub(crate) fn is_open(&self) -> bool {
        self.world_readable || self.join_rule.as_deref() == Some("public")
    }
}

/// The rooms that restricted join rules name.
fn allowed(joining: &Object) -> Vec<String> {
    if !matches!(
        joining.str("join_rule"),
        Some("restricted" | "knock_restricted")
    ) {
        return Vec::new();
    }
    let allow = joining.get("allow").and_then(Value::as_array);
    let conditions = allow.unwrap_or_default().iter();
    conditions
        .filter_map(Value::as_object)
        .filter(|condition| condition.str("type") == Some("m.room_membership"))
        .filter_map(|condition| condition.str("room_id"))
        .take(MAX_ALLOWED_ROOMS)
        .map(str::to_owned)
        .collect()
}

impl Rooms {
    /// What the state of a room shows.
    pub(crate) fn card(
        &self,
        snap: &Snapshot,
        room: RoomNid,
        head: &RoomHead,
    ) -> Result<Arc<Card>, StoreError> {
        let redacted = snap.get::<RedactedAt>(&room)?.unwrap_or(Pos::ZERO);
        let cards = &self.inner.lookups.cards;
        if let Some(card) = cards.get((head.state, redacted)) {
            return Ok(card);
        }
        let state = self.state_map(snap, head.state)?;
        let mut contents: [Object; 8] = Default::default();
        for (content, kind) in contents.iter_mut().zip(SHOWN) {
            *content = self.content_in(snap, &state, kind)?;
        }
        let card = Arc::new(Card::of(contents));
        cards.put((head.state, redacted), card.clone(), card.memory_bytes());
        Ok(card)
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
        let card = self.card(snap, room, &head)?;
        let version = RoomVersion::from_number(row.version);
        Ok(Some(PublicRoom {
            room_id: self.store().room_id(room)?.to_string(),
            name: card.name.clone(),
            topic: card.topic.clone(),
            avatar_url: card.avatar_url.clone(),
            canonical_alias: card.canonical_alias.clone(),
            joined: head.joined,
            world_readable: card.world_readable,
            guest_can_join: card.guest_can_join,
            join_rule: card.join_rule.clone().unwrap_or_else(|| "invite".into()),
            room_type: row.room_type,
            version: version.map_or("", |version| version.as_str()).to_owned(),
            encryption: card.encryption.clone(),
            allowed_rooms: card.allowed.clone(),
        }))
    }

    /// Whether somebody (or, without a user, anybody) may know what a room shows of itself: they
    /// are in it or may come in, or it is open to readers (client-server API, `GET
    /// /rooms/{roomId}/hierarchy`).
    pub(crate) fn may_preview(
        &self,
        snap: &Snapshot,
        room: RoomNid,
        user: Option<UserNid>,
    ) -> Result<bool, StoreError> {
        let (Some(facts), Some(head)) = (self.facts(snap, room)?, self.head(snap, room)?) else {
            return Ok(false);
        };
        let card = self.card(snap, room, &head)?;
        let member = match user {
            Some(user) => self.member(snap, room, user)?.map(|row| row.membership),
            None => None,
        };
        if card.world_readable || matches!(member, Some(Membership::Join | Membership::Invite)) {
            return Ok(true);
        }
        if member == Some(Membership::Ban) {
            return Ok(false);
        }
        let version = facts.version;
        let restricted = match card.join_rule.as_deref() {
            Some("public") => return Ok(true),
            Some("knock") => return Ok(version.has_knock()),
            Some("knock_restricted") if version.has_knock_restricted() => return Ok(true),
            Some("restricted") => version.has_restricted(),
            _ => false,
        };
        match user {
            Some(user) if restricted => self.is_in_any(snap, user, &card.allowed),
            _ => Ok(false),
        }
    }

    /// Whether a user may know what another server shows of a room: anybody may come in or read
    /// it, or they are in a room whose members may, or they are invited.
    pub(crate) fn may_preview_shown(
        &self,
        snap: &Snapshot,
        shown: &PublicRoom,
        user: UserNid,
    ) -> Result<bool, StoreError> {
        let open = matches!(
            shown.join_rule.as_str(),
            "public" | "knock" | "knock_restricted"
        );
        if open || shown.world_readable || self.is_in_any(snap, user, &shown.allowed_rooms)? {
            return Ok(true);
        }
        let Some(room) = self.store().room_nid(&shown.room_id)? else {
            return Ok(false);
        };
        let row = self.member_of(snap, user, room)?;
        Ok(row.is_some_and(|row| matches!(row.membership, Membership::Join | Membership::Invite)))
    }

    fn is_in_any(
        &self,
        snap: &Snapshot,
        user: UserNid,
        rooms: &[String],
    ) -> Result<bool, StoreError> {
        for room_id in rooms {
            if let Some(room) = self.store().room_nid(room_id)?
                && self.is_joined(snap, room, user)?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A room as its summary shows it, and what the asking user is in it (client-server API,
    /// `GET /room_summary/{roomIdOrAlias}`).
    ///
    /// # Errors
    /// `NotFound` for a room that there is not or that they may not know of; the store's.
    pub async fn summary(
        &self,
        user: Option<UserNid>,
        room_id: &str,
    ) -> Result<(PublicRoom, Option<Membership>), RoomError> {
        let unknown = || RoomError::NotFound("There is no such room, or it is not open".into());
        let room = self.store().room_nid(room_id)?.ok_or_else(unknown)?;
        self.query(move |this, snap| {
            if !this.may_preview(snap, room, user)? {
                return Err(unknown());
            }
            let shown = this.public_room(snap, room)?.ok_or_else(unknown)?;
            let membership = match user {
                Some(user) => this.member(snap, room, user)?.map(|row| row.membership),
                None => None,
            };
            Ok((shown, membership))
        })
        .await
    }

    /// The same of a room as another server shows it.
    ///
    /// # Errors
    /// `NotFound` for a room that the user may not know of; the store's.
    pub async fn summary_elsewhere(
        &self,
        user: UserNid,
        shown: PublicRoom,
    ) -> Result<(PublicRoom, Option<Membership>), RoomError> {
        self.query(move |this, snap| {
            if !this.may_preview_shown(snap, &shown, user)? {
                let text = "There is no such room, or it is not open";
                return Err(RoomError::NotFound(text.into()));
            }
            let row = match this.store().room_nid(&shown.room_id)? {
                Some(room) => this.member_of(snap, user, room)?,
                None => None,
            };
            Ok((shown, row.map(|row| row.membership)))
        })
        .await
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
