//! Server notices: what the server itself says to its users, in a room for each of them
//! (client-server API, "Server Notices").

use std::sync::Arc;

use serde_json::json;
use skerry_account::{AccountError, TxnKey, data, txn};
use skerry_core::{Membership, UserNid};
use skerry_store::StoreError;
use skerry_store::schema::directory::NoticeRooms;

use crate::change::Change;
use crate::{CreateRoom, InitialState, Message, Move, Preset, RoomError, Rooms, StateEvent, Who};

/// The tag by which clients know the room.
const TAG: &str = "m.server_notice";
/// The type of account data that tags are kept in.
const TAGS: &str = "m.tag";
/// Level of the user in their room: too low to speak.
const USER_LEVEL: i64 = -10;

/// How the server speaks to its users.
#[derive(Clone, Debug)]
pub struct NoticeSettings {
    /// Localpart of the account it speaks with.
    pub localpart: String,
    /// That account's display name.
    pub display_name: Option<String>,
    /// That account's picture, an `mxc:` URI.
    pub avatar_url: Option<String>,
    /// Name of the rooms.
    pub room_name: String,
    /// What the rooms are about.
    pub room_topic: Option<String>,
    /// Picture of the rooms, an `mxc:` URI.
    pub room_avatar_url: Option<String>,
    /// Users are put into the room instead of invited.
    pub auto_join: bool,
}

/// Something to say to a user.
#[derive(Clone, Debug)]
pub struct Notice {
    /// Who is to read it: a full user id.
    pub user_id: String,
    /// The event type.
    pub kind: String,
    /// The state key, for a state event.
    pub state_key: Option<String>,
    /// The content, as JSON.
    pub content: Vec<u8>,
    /// The transaction, and its id: the same one says nothing twice.
    pub txn: Option<(TxnKey, String)>,
}

impl Rooms {
    /// Whether this is the account in whose name the server speaks.
    pub(crate) fn speaks_for_server(&self, user_id: &str) -> bool {
        let settings = self.inner.config.notices.as_ref();
        settings.is_some_and(|settings| {
            skerry_account::localpart(user_id) == settings.localpart && self.is_local(user_id)
        })
    }

    /// Says something to a user of this server; gives the event's id. Their room is made if they
    /// have none, or have left it.
    ///
    /// # Errors
    /// `InvalidParam` where notices are not set up, or the user is none of this server;
    /// `NotFound` for a user without an account; as [`Self::send`].
    pub async fn send_notice(&self, notice: Notice) -> Result<String, RoomError> {
        let settings = self.inner.config.notices.clone();
        let settings = settings.ok_or_else(|| {
            RoomError::InvalidParam("Server notices are not enabled on this server".into())
        })?;
        let target = self.notice_target(&notice.user_id).await?;
        let speaker = self.speaker(&settings).await?;
        let lane = self.inner.lookups.notices.lock(target.user).await;
        if let Some((key, _)) = notice.txn.clone() {
            let before = self.query(move |_, snap| Ok(txn::lookup(snap, &key)?));
            if let Some(before) = before.await? {
                return Ok(before.answer);
            }
        }
        let room_id = self.notice_room(&settings, &speaker, &target).await?;
        drop(lane);
        let Notice {
            kind, content, txn, ..
        } = notice;
        match notice.state_key {
            Some(key) => {
                let state = StateEvent {
                    kind,
                    key,
                    content,
                    sticky_ms: None,
                    ts: None,
                };
                self.set_state(speaker, &room_id, state).await
            }
            None => {
                let message = Message {
                    kind,
                    content,
                    txn,
                    sticky_ms: None,
                    ts: None,
                };
                self.send(speaker, &room_id, message).await
            }
        }
    }

    /// The user that is to read something.
    async fn notice_target(&self, user_id: &str) -> Result<Who, RoomError> {
        if !self.is_local(user_id) {
            let text = "Server notices can only be sent to local users";
            return Err(RoomError::InvalidParam(text.into()));
        }
        let unknown = || RoomError::NotFound("User not found".into());
        let user = self.store().user_nid(user_id)?.ok_or_else(unknown)?;
        let id: Arc<str> = user_id.into();
        self.query(
            move |_, snap| match skerry_account::user::is_active(snap, user)? {
                true => Ok(Who::inside(id, user)),
                false => Err(unknown()),
            },
        )
        .await
    }

    /// The account in whose name the server speaks.
    async fn speaker(&self, settings: &NoticeSettings) -> Result<Who, RoomError> {
        let (name, face) = (settings.display_name.clone(), settings.avatar_url.clone());
        let accounts = &self.inner.accounts;
        let user = accounts
            .service_account(&settings.localpart, name, face)
            .await
            .map_err(|error| match error {
                AccountError::Store(error) => RoomError::Store(error),
                error => RoomError::InvalidParam(error.to_string()),
            })?;
        Ok(Who::inside(self.store().user_id(user)?, user))
    }

    /// The id of the room in which the server speaks to a user.
    async fn notice_room(
        &self,
        settings: &NoticeSettings,
        speaker: &Who,
        target: &Who,
    ) -> Result<String, RoomError> {
        let user = target.user;
        let present = self
            .query(move |this, snap| {
                let Some(room) = snap.get::<NoticeRooms>(&user)? else {
                    return Ok(None);
                };
                let there = this.member(snap, room, user)?.map(|row| row.membership);
                let there = matches!(there, Some(Membership::Join | Membership::Invite));
                Ok(there.then_some(this.store().room_id(room)?))
            })
            .await?;
        let room_id = match present {
            Some(room_id) => room_id.to_string(),
            None => {
                let wanted = wanted(settings, target);
                self.create(speaker.clone(), wanted).await?
            }
        };
        if settings.auto_join {
            self.join(target.clone(), &room_id, Move::default()).await?;
        }
        Ok(room_id)
    }
}

/// The room for notices to a user.
fn wanted(settings: &NoticeSettings, target: &Who) -> CreateRoom {
    let avatar = settings.room_avatar_url.as_ref().map(|url| InitialState {
        kind: "m.room.avatar".to_owned(),
        state_key: String::new(),
        content: json!({ "url": url }).to_string(),
    });
    CreateRoom {
        preset: Some(Preset::PrivateChat),
        name: Some(settings.room_name.clone()),
        topic: settings.room_topic.clone(),
        invite: vec![target.user_id.to_string()],
        creation_content: Some(json!({ "m.federate": false }).to_string()),
        initial_state: avatar.into_iter().collect(),
        power_levels: Some(json!({ "users_default": USER_LEVEL }).to_string()),
        notices_for: Some(target.user),
        ..CreateRoom::default()
    }
}

impl Change<'_> {
    /// The room is the one in which the server speaks to a user: noted, and tagged for them.
    pub(crate) fn make_notice_room(&mut self, user: UserNid) -> Result<(), StoreError> {
        let room = self.tip.room;
        self.w.put::<NoticeRooms>(&user, &room);
        let tags = json!({ "tags": { TAG: {} } }).to_string();
        data::replace(&self.snap, &mut self.w, user, Some(room), (TAGS, tags))?;
        Ok(())
    }

    /// An invite may be declined, unless the server itself invites to its notices.
    pub(crate) fn may_decline(&self, user: UserNid) -> Result<(), RoomError> {
        if self.snap.get::<NoticeRooms>(&user)? == Some(self.tip.room) {
            let text = "You cannot decline the invite to the server's notices";
            return Err(RoomError::NoticeRoom(text.into()));
        }
        Ok(())
    }
}
