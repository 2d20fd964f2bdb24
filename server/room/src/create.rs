//! Making rooms.

mod plan;

use std::sync::Arc;

use skerry_core::auth;
use skerry_core::build::{self, Place};
use skerry_core::canonical::Object;
use skerry_core::keys::random_name;
use skerry_core::{Membership, RoomNid, RoomVersion, StoredEvent, UserNid, names};
use skerry_store::schema::room as t;
use skerry_store::schema::room::{AliasRow, DirectoryRow, RoomRow};
use skerry_store::{StoreError, blocking};

use crate::change::{Change, Outcome};
use crate::draft::{Draft, object};
use crate::send::checked_user;
use crate::tip::Tip;
use crate::{RoomError, Rooms, Who, alias};

use plan::{Creator, Plan, plan};

/// How often a room id that exists already is made anew. In version 12 the id follows from the
/// create event, so a user who makes two equal rooms within a millisecond gets the same one.
const ATTEMPTS: u64 = 64;
/// Most invites, and most events of state, that a room begins with: all of it is one commit.
const LIST_MAX: usize = 1_000;

/// What a new room is to be like (client-server API, `POST /createRoom`).
#[derive(Clone, Debug, Default)]
pub struct CreateRoom {
    /// The room version; none: the server's default.
    pub version: Option<String>,
    /// What the room begins with; none: as `public` says.
    pub preset: Option<Preset>,
    /// List it in the directory.
    pub public: bool,
    /// The local part of its first alias.
    pub alias: Option<String>,
    /// Its name.
    pub name: Option<String>,
    /// What it is about.
    pub topic: Option<String>,
    /// Whom to invite, by user id. Those of other servers are not invited here, since their
    /// servers have to be asked once the room is there; a preset may make them equals all the
    /// same.
    pub invite: Vec<String>,
    /// The room is for talking with the people invited: noted in their invites.
    pub is_direct: bool,
    /// Further content of the create event, as JSON.
    pub creation_content: Option<String>,
    /// State to begin with.
    pub initial_state: Vec<InitialState>,
    /// Power levels to put on top of those of the preset, as JSON.
    pub power_levels: Option<String>,
    /// Why the people are invited, as their invites say (MSC4491).
    pub invite_reason: Option<String>,
    /// The room is the one in which the server itself speaks to this user.
    pub notices_for: Option<UserNid>,
}

/// A state event that a new room begins with.
#[derive(Clone, Debug)]
pub struct InitialState {
    /// The event type.
    pub kind: String,
    /// The state key.
    pub state_key: String,
    /// The content, as JSON.
    pub content: String,
}

/// Sets of state that rooms begin with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Preset {
    /// By invite only.
    PrivateChat,
    /// By invite only, and all who are invited are equals of the creator.
    TrustedPrivateChat,
    /// Open to all.
    PublicChat,
}

/// A room about to be made: everything that was decided without its lane.
struct Beginning {
    room: RoomNid,
    create: Arc<StoredEvent>,
    plan: Plan,
    alias: Option<String>,
    now_ms: u64,
}

impl Rooms {
    /// Makes a room; gives its id.
    ///
    /// # Errors
    /// `GuestForbidden`, `UnsupportedVersion`, `AliasInUse`, `InvalidState` where what the room
    /// is to begin with contradicts the rules, `InvalidParam`, `BadJson`, `TooLarge`, or the
    /// store's.
    pub async fn create(&self, who: Who, request: CreateRoom) -> Result<String, RoomError> {
        let request = Arc::new(request);
        for attempt in 0..ATTEMPTS {
            let (this, asker, asked) = (self.clone(), who.clone(), request.clone());
            let beginning = blocking(move || this.begin(&asker, &asked, attempt)).await??;
            let lane = self.inner.lanes.lock(beginning.room).await;
            let (who, request) = (who.clone(), request.clone());
            let made = self
                .write(lane, move |this| this.create_now(&who, &request, beginning))
                .await;
            match made.map_err(alias::taken)? {
                Some(room_id) => return Ok(room_id),
                None => continue,
            }
        }
        Err(RoomError::InvalidParam(
            "too many equal rooms at once".into(),
        ))
    }

    /// Reads the request and makes the create event, and with it the room's id.
    fn begin(&self, who: &Who, request: &CreateRoom, attempt: u64) -> Result<Beginning, RoomError> {
        if who.guest {
            return Err(RoomError::GuestForbidden(
                "Guests may not make rooms".into(),
            ));
        }
        let version = match request.version.as_deref() {
            None => self.default_version(),
            Some(id) => RoomVersion::parse(id)
                .ok_or_else(|| RoomError::UnsupportedVersion(id.to_owned()))?,
        };
        if request.invite.len() > LIST_MAX || request.initial_state.len() > LIST_MAX {
            let text = "A room begins with at most 1,000 invites and 1,000 events of state";
            return Err(RoomError::InvalidParam(text.into()));
        }
        for user_id in &request.invite {
            checked_user(user_id)?;
        }
        let snap = self.newest();
        let alias = match request.alias.as_deref() {
            Some(localpart) => {
                let alias = names::new_room_alias(localpart, self.server_name())
                    .map_err(|error| RoomError::InvalidParam(error.to_string()))?;
                self.check_alias_owner(who, &alias)?;
                if self.alias(&snap, &alias)?.is_some() {
                    return Err(alias::in_use(&alias));
                }
                Some(alias)
            }
            None => None,
        };
        let creator = Creator {
            user_id: &who.user_id,
            profile: self.profile(&snap, &who.user_id)?,
        };
        let mut plan = plan(request, version, creator, alias.as_deref())?;
        let now_ms = self.inner.clock.now_ms() + attempt;
        let content = std::mem::take(&mut plan.create);
        let room_id = self.chosen_room_id(version);
        let create = self.create_event(&who.user_id, version, room_id, content, now_ms)?;
        let room = self.store().intern_room(create.room_id())?;
        Ok(Beginning {
            room,
            create,
            plan,
            alias,
            now_ms,
        })
    }

    /// The create event of a new room, checked by the rules.
    pub(crate) fn create_event(
        &self,
        user_id: &str,
        version: RoomVersion,
        room_id: Option<String>,
        content: Object,
        now_ms: u64,
    ) -> Result<Arc<StoredEvent>, RoomError> {
        let draft = build::Draft {
            room_id,
            sender: user_id.to_owned(),
            event_type: "m.room.create".to_owned(),
            state_key: Some(String::new()),
            content,
            redacts: None,
            sticky_ms: None,
        };
        let place = Place {
            version,
            prev: &[],
            auth: &[],
            origin_server_ts: now_ms,
        };
        let create = Arc::new(self.sign(draft, place)?);
        auth::check_auth_events(&create, |_| None)
            .map_err(|refusal| RoomError::InvalidState(refusal.reason))?;
        Ok(create)
    }

    /// The id of a new room, where the version lets one choose.
    pub(crate) fn chosen_room_id(&self, version: RoomVersion) -> Option<String> {
        let mut dice = self.inner.dice.dice();
        let chosen = !version.room_id_is_create_event_id();
        chosen.then(|| format!("!{}:{}", random_name(&mut *dice, 18), self.server_name()))
    }

    /// Inside the lane of the new room: all its events in one commit. `None` if the id is taken.
    fn create_now(
        &self,
        who: &Who,
        request: &CreateRoom,
        beginning: Beginning,
    ) -> Result<Outcome<Option<String>>, StoreError> {
        let Beginning {
            room,
            create,
            plan,
            alias,
            now_ms,
        } = beginning;
        let snap = self.newest();
        if self.room_row(&snap, room)?.is_some() {
            return Ok((Ok(None), self.store().barrier()));
        }
        let room_id: Arc<str> = create.room_id().into();
        let mut tip = Tip::new(room, room_id.clone(), create.version());
        tip.fresh.alias = alias.clone();
        let mut change = Change::new(self, snap, tip, now_ms);
        change.founding = true;
        let made = change.begin_room(who, create).and_then(|()| {
            change.fill_room(who, request, plan)?;
            if let Some(alias) = &alias {
                let row = AliasRow {
                    room,
                    creator: who.user,
                    at_ms: now_ms,
                };
                alias::put_alias(&mut change.w, alias, &row);
            }
            if request.public {
                let row = DirectoryRow {
                    by: who.user,
                    at_ms: now_ms,
                };
                change.w.put::<t::Directory>(&room, &row);
            }
            if let Some(user) = request.notices_for {
                change.make_notice_room(user)?;
            }
            Ok(Some(room_id.to_string()))
        });
        self.apply(change, made)
    }
}

impl Change<'_> {
    /// The room's own row and its create event.
    pub(crate) fn begin_room(
        &mut self,
        who: &Who,
        create: Arc<StoredEvent>,
    ) -> Result<(), RoomError> {
        let content = create
            .content_object()
            .map_err(|error| RoomError::BadJson(error.to_string()))?;
        let version = create.version().number();
        let (rooms, room) = (self.rooms, self.tip.room);
        let nid = rooms.append(&mut self.w, &self.snap, &mut self.tip, create, None)?;
        let row = RoomRow {
            version,
            create: nid,
            creator: who.user,
            room_type: content.str("type").map(str::to_owned),
            since_ms: self.now_ms,
        };
        self.w.put::<t::Room>(&room, &row);
        Ok(())
    }

    /// The events after the create event.
    fn fill_room(&mut self, who: &Who, request: &CreateRoom, plan: Plan) -> Result<(), RoomError> {
        for draft in plan.events {
            self.add(&who.user_id, draft, None).map_err(contradiction)?;
        }
        let here = request.invite.iter().filter(|id| self.rooms.is_local(id));
        for invited in here {
            let mut content = object([]);
            if request.is_direct {
                content.insert("is_direct", true);
            }
            if let Some(reason) = &request.invite_reason {
                content.insert("reason", reason.as_str());
            }
            self.invite(who, invited, content).map_err(contradiction)?;
        }
        Ok(())
    }

    /// A draft of the creator's own join.
    pub(crate) fn own_join(&self, who: &Who) -> Result<Draft, StoreError> {
        Ok(Draft::member(
            &who.user_id,
            Membership::Join,
            self.profile_of(&who.user_id)?,
        ))
    }
}

/// A refusal while a room is being made means that its parts do not fit together.
pub(crate) fn contradiction(error: RoomError) -> RoomError {
    match error {
        RoomError::Forbidden(reason) => RoomError::InvalidState(reason),
        other => other,
    }
}
