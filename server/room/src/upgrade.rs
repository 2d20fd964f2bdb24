//! Replacing a room by one of another version (client-server API, "Room upgrades").

mod levels;
mod links;

use std::sync::Arc;

use skerry_core::canonical::{Object, Value};
use skerry_core::{Membership, RoomNid, RoomVersion, StoredEvent};
use skerry_store::schema::directory::{SpaceLinks, SpaceLinksTodo};
use skerry_store::schema::room as t;
use skerry_store::schema::room::{AliasRow, DirectoryRow};
use skerry_store::{Scan, StoreError};

use crate::change::{Change, Done, Outcome};
use crate::create::contradiction;
use crate::draft::{Draft, object};
use crate::policy::Approvals;
use crate::send::checked_user;
use crate::tip::Tip;
use crate::{RoomError, Rooms, Who, membership};

use levels::Levels;

/// State with the empty key that the new room takes over.
const CARRIED: [&str; 8] = [
    "m.room.join_rules",
    "m.room.history_visibility",
    "m.room.guest_access",
    "m.room.server_acl",
    "m.room.encryption",
    "m.room.name",
    "m.room.topic",
    "m.room.avatar",
];
/// How often a room id that exists already is made anew.
const ATTEMPTS: u64 = 64;
/// The most people that can be made creators beside whoever upgrades.
const MAX_ADDITIONAL_CREATORS: usize = 1_000;

impl Rooms {
    /// Replaces a room by a new one of a version; gives the new room's id.
    ///
    /// # Errors
    /// `UnsupportedVersion`, `NotFound` for an unknown room, `Forbidden` for who may not close
    /// it, or the store's.
    pub async fn upgrade(
        &self,
        who: Who,
        room_id: &str,
        version: &str,
        additional_creators: Vec<String>,
    ) -> Result<String, RoomError> {
        who.not_a_guest()?;
        let version = RoomVersion::parse(version)
            .ok_or_else(|| RoomError::UnsupportedVersion(version.to_owned()))?;
        if additional_creators.len() > MAX_ADDITIONAL_CREATORS {
            return Err(RoomError::InvalidParam(
                "too many additional creators".into(),
            ));
        }
        if version.creators_are_privileged() {
            for user_id in &additional_creators {
                checked_user(user_id)?;
            }
        }
        let old = self.known(room_id)?;
        let upgrade = Arc::new(Upgrade {
            who,
            version,
            additional_creators,
            chosen: self.chosen_room_id(version),
        });
        let mut attempt = 0;
        loop {
            attempt += 1;
            let done = self.approving(|given| {
                let upgrade = upgrade.clone();
                async move {
                    let lane = self.inner.lanes.lock(old).await;
                    let work = move |this: &Rooms| upgrade.start(this, old, given);
                    self.write(lane, work).await
                }
            });
            match done.await {
                Err(RoomError::Store(StoreError::Conflict { .. }))
                    if attempt < membership::ATTEMPTS => {}
                Ok(new) => {
                    // The upgrade is done; what is left of this is done at the next start.
                    if let Err(error) = self.move_links().await {
                        tracing::warn!(%error, "links to a replaced room are not moved yet");
                    }
                    return Ok(new);
                }
                done => return done,
            }
        }
    }
}

/// An upgrade that was asked for.
struct Upgrade {
    who: Who,
    version: RoomVersion,
    additional_creators: Vec<String>,
    /// The new room's id, where one chooses it.
    chosen: Option<String>,
}

impl Upgrade {
    fn start(
        &self,
        rooms: &Rooms,
        old: RoomNid,
        approvals: Approvals,
    ) -> Result<Outcome<Done<String>>, StoreError> {
        let snap = rooms.newest();
        let Some(tip) = rooms.tip(&snap, old)? else {
            let unknown = RoomError::NotFound("Unknown room".into());
            return Ok((Err(unknown), rooms.store().barrier()));
        };
        let now_ms = approvals.now_ms;
        let now_ms = now_ms.unwrap_or_else(|| rooms.inner.clock.now_ms());
        let mut change = Change::new(rooms, snap, tip, now_ms);
        change.approvals = approvals;
        self.run(change)
    }

    /// Inside the lane of the old room: both rooms change in one commit. Nobody can know the
    /// new room's id before that, so its lane is free.
    fn run(&self, mut old: Change<'_>) -> Result<Outcome<Done<String>>, StoreError> {
        let rooms = old.rooms;
        match self.plan(&mut old) {
            Ok(_) if !old.unapproved.is_empty() => {
                let lacks = Done::Lacks(old.unapproved, old.now_ms);
                Ok((Ok(lacks), rooms.store().barrier()))
            }
            Ok(new) => {
                let new_id = new.room_id.to_string();
                let Change { w, tip, .. } = old;
                let applied = rooms.commit(w, vec![tip, new])?;
                Ok((Ok(Done::Made(new_id)), applied))
            }
            Err(RoomError::Store(error)) => Err(error),
            Err(refusal) => Ok((Err(refusal), rooms.store().barrier())),
        }
    }

    fn plan(&self, old: &mut Change<'_>) -> Result<Tip, RoomError> {
        let who = &self.who;
        let power = old.rooms.power(&old.snap, &mut old.tip)?;
        let joined = old.membership(&who.user_id)? == Some(Membership::Join);
        if !joined || !power.may_send(&who.user_id, "m.room.tombstone", true) {
            return Err(RoomError::Forbidden("You may not upgrade this room".into()));
        }
        let chosen = self.chosen.clone();
        // Where the id is chosen, the tombstone comes first, so that the create event can name
        // it; where the id follows from the create event, that comes first and names only the
        // room.
        let tombstone = match &chosen {
            Some(room_id) => Some(self.close(old, room_id)?),
            None => None,
        };
        let create = self.create(old, chosen, tombstone.as_deref())?;
        if tombstone.is_none() {
            self.close(old, create.room_id())?;
        }
        let new = self.open(old, create)?;
        self.empty(old, &new)?;
        let links = SpaceLinks {
            to: new.room,
            by: who.user,
        };
        old.w.put::<SpaceLinksTodo>(&old.tip.room, &links);
        Ok(new)
    }

    /// The tombstone in the old room; gives its event id.
    fn close(&self, old: &mut Change<'_>, room_id: &str) -> Result<String, RoomError> {
        let content = object([
            ("body", "This room has been replaced".into()),
            ("replacement_room", room_id.into()),
        ]);
        let draft = Draft::state("m.room.tombstone", "", content);
        old.add(&self.who.user_id, draft, None)
    }

    /// The new room's create event.
    fn create(
        &self,
        old: &Change<'_>,
        chosen: Option<String>,
        tombstone: Option<&str>,
    ) -> Result<Arc<StoredEvent>, RoomError> {
        let before = old.content("m.room.create", "")?.unwrap_or_default();
        let mut predecessor = object([("room_id", (*old.tip.room_id).into())]);
        if let Some(event_id) = tombstone {
            predecessor.insert("event_id", event_id);
        }
        let mut content = object([
            ("room_version", self.version.as_str().into()),
            ("predecessor", predecessor.into()),
        ]);
        for name in ["m.federate", "type"] {
            if let Some(value) = before.get(name) {
                content.insert(name, value.clone());
            }
        }
        let who = &*self.who.user_id;
        if self.version.creator_in_content() {
            content.insert("creator", who);
        }
        if self.version.creators_are_privileged() && !self.additional_creators.is_empty() {
            let others = self
                .additional_creators
                .iter()
                .filter(|user_id| **user_id != *who);
            let others: Vec<Value> = others
                .map(|user_id| Value::from(user_id.as_str()))
                .collect();
            content.insert("additional_creators", others);
        }
        for attempt in 0..ATTEMPTS {
            let now_ms = old.now_ms + attempt;
            let create = old.rooms.create_event(
                who,
                self.version,
                chosen.clone(),
                content.clone(),
                now_ms,
            )?;
            let room = old.rooms.store().intern_room(create.room_id())?;
            if old.rooms.room_row(&old.snap, room)?.is_none() {
                return Ok(create);
            }
        }
        Err(RoomError::InvalidParam(
            "too many equal rooms at once".into(),
        ))
    }

    /// The new room, with what it takes over.
    fn open(&self, old: &mut Change<'_>, create: Arc<StoredEvent>) -> Result<Tip, RoomError> {
        let rooms = old.rooms;
        let room_id: Arc<str> = create.room_id().into();
        let room = rooms.store().intern_room(&room_id)?;
        let tip = Tip::new(room, room_id, self.version);
        let mut new = Change::new(rooms, old.snap.clone(), tip, old.now_ms);
        new.founding = true;
        // Both write into one.
        std::mem::swap(&mut new.w, &mut old.w);
        new.begin_room(&self.who, create)?;
        self.fill(old, &mut new).map_err(contradiction)?;
        old.w = new.w;
        Ok(new.tip)
    }

    fn fill(&self, old: &Change<'_>, new: &mut Change<'_>) -> Result<(), RoomError> {
        let who = &self.who;
        let join = new.own_join(who)?;
        new.add(&who.user_id, join, None)?;
        new.carry_over(who.user)?;
        let bans = old.bans()?;
        let before = old.content("m.room.power_levels", "")?.unwrap_or_default();
        let levels = Levels {
            version: self.version,
            who: &who.user_id,
            creators: &self.additional_creators,
            bans: !bans.is_empty(),
            from_privileged: old.tip.version.creators_are_privileged(),
        };
        let lasting = levels.carried(before);
        let first = levels.raised(&lasting);
        new.add(&who.user_id, levels_draft(first.clone()), None)?;
        for kind in CARRIED {
            // Who is kept out by silence is to be told so: the preset of a client says otherwise.
            let closed = || object([("guest_access", "forbidden".into())]);
            let silent = (kind == "m.room.guest_access").then(closed);
            if let Some(content) = old.content(kind, "")?.or(silent) {
                let content = fitting(kind, content, self.version);
                new.add(&who.user_id, Draft::state(kind, "", content), None)?;
            }
        }
        let create = old.content("m.room.create", "")?.unwrap_or_default();
        for (kind, key, content) in old.own_links(create.str("type") == Some("m.space"))? {
            new.add(&who.user_id, Draft::state(kind, &key, content), None)?;
        }
        for (user_id, content) in bans {
            new.add(
                &who.user_id,
                Draft::state("m.room.member", &user_id, content),
                None,
            )?;
        }
        if let Some(content) = old.content("m.room.canonical_alias", "")?
            && !content.is_empty()
        {
            let draft = Draft::state("m.room.canonical_alias", "", content);
            new.add(&who.user_id, draft, None)?;
        }
        if first != lasting {
            new.add(&who.user_id, levels_draft(lasting), None)?;
        }
        Ok(())
    }

    /// What the old room loses: its aliases, its place in the directory, and the power to speak
    /// of those who have none.
    fn empty(&self, old: &mut Change<'_>, new: &Tip) -> Result<(), RoomError> {
        let room = old.tip.room;
        for alias in old.rooms.aliases_of(&old.snap, room)? {
            let row = old.rooms.alias(&old.snap, &alias)?;
            let row = row.map_or(
                AliasRow {
                    room: new.room,
                    creator: self.who.user,
                    at_ms: old.now_ms,
                },
                |row| AliasRow {
                    room: new.room,
                    ..row
                },
            );
            old.w.put::<t::Alias>(&alias, &row);
            old.w.delete::<t::AliasOf>(&(room, alias.clone()));
            old.w.put::<t::AliasOf>(&(new.room, alias), &());
        }
        if old.snap.has::<t::Directory>(&room)? {
            old.w.delete::<t::Directory>(&room);
            let row = DirectoryRow {
                by: self.who.user,
                at_ms: old.now_ms,
            };
            old.w.put::<t::Directory>(&new.room, &row);
        }
        let alias = old.content("m.room.canonical_alias", "")?;
        if alias.is_some_and(|content| !content.is_empty()) {
            self.if_allowed(
                old,
                Draft::state("m.room.canonical_alias", "", Object::new()),
            )?;
        }
        let before = old.content("m.room.power_levels", "")?.unwrap_or_default();
        if let Some(content) = levels::quieted(&before) {
            self.if_allowed(old, levels_draft(content))?;
        }
        Ok(())
    }

    /// Sends what the old room would better have, where its rules let the user.
    fn if_allowed(&self, old: &mut Change<'_>, draft: Draft) -> Result<(), RoomError> {
        match old.add(&self.who.user_id, draft, None) {
            Ok(_) | Err(RoomError::Forbidden(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn levels_draft(content: Object) -> Draft {
    Draft::state("m.room.power_levels", "", content)
}

/// Join rules that the new version does not have become the closest that it has.
fn fitting(kind: &str, mut content: Object, version: RoomVersion) -> Object {
    if kind != "m.room.join_rules" {
        return content;
    }
    let lacks = match content.str("join_rule") {
        Some("knock") => !version.has_knock(),
        Some("restricted") => !version.has_restricted(),
        Some("knock_restricted") => !version.has_knock_restricted(),
        _ => false,
    };
    if lacks {
        let restricted = content.str("join_rule") == Some("knock_restricted");
        let rule = if restricted && version.has_restricted() {
            "restricted"
        } else {
            "invite"
        };
        content.insert("join_rule", rule);
    }
    content
}

impl Change<'_> {
    /// Content of a state event at the room's end.
    pub(crate) fn content(&self, kind: &str, key: &str) -> Result<Option<Object>, StoreError> {
        let event = self.rooms.tip_state(&self.snap, &self.tip, kind, key)?;
        Ok(event.and_then(|event| event.event().content_object().ok()))
    }

    /// Who is banned, and the content that says so.
    fn bans(&self) -> Result<Vec<(String, Object)>, StoreError> {
        let mut bans = Vec::new();
        for row in self
            .snap
            .scan::<t::MemberTable>(Scan::prefix(&self.tip.room))
        {
            let ((_, user), member) = row?;
            if member.membership == Membership::Ban {
                let user_id = self.rooms.store().user_id(user)?;
                let content = self.content("m.room.member", &user_id)?;
                bans.extend(content.map(|content| (user_id.to_string(), content)));
            }
        }
        Ok(bans)
    }
}
