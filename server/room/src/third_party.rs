//! Invites to people known by an address only (client-server API, "Third-party invites"): the
//! event that waits for them, and the invite that comes of it once an identity server says who
//! they are.
//!
//! What identity servers say is fetched and checked above this crate; the rules of the room check
//! the signature once more.

use skerry_core::Membership;
use skerry_core::canonical::{Object, Value};
use skerry_core::power::Action;

use crate::change::Change;
use crate::draft::Draft;
use crate::membership::merge;
use crate::send::checked_user;
use crate::{RoomError, Rooms, Who};

/// The type of the event that waits.
pub const THIRD_PARTY_INVITE: &str = "m.room.third_party_invite";

/// What the person who is invited by mail is told of a room and of who invites them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InviteCard {
    /// The room's name.
    pub name: Option<String>,
    /// Its avatar, as an `mxc:` URI.
    pub avatar_url: Option<String>,
    /// Its main alias.
    pub alias: Option<String>,
    /// Who may join.
    pub join_rule: Option<String>,
    /// What kind of room it is.
    pub kind: Option<String>,
    /// The display name of who invites.
    pub sender_name: Option<String>,
    /// Their avatar, as an `mxc:` URI.
    pub sender_avatar: Option<String>,
}

/// An event that waits for somebody to turn out to own an address.
#[derive(Clone, Debug)]
pub struct WaitingInvite {
    /// Who invited.
    pub sender: String,
    /// Its content.
    pub content: Object,
}

impl Rooms {
    /// Whether a user may invite into a room, before an identity server is asked about anybody;
    /// gives what the room is called.
    ///
    /// # Errors
    /// `Forbidden`, `GuestForbidden`, `Suspended`, or the store's.
    pub async fn may_invite(&self, who: Who, room_id: &str) -> Result<InviteCard, RoomError> {
        who.not_a_guest()?;
        who.not_suspended()?;
        let room = self.inside(room_id)?;
        self.change(room, move |change| {
            if change.membership(&who.user_id)? != Some(Membership::Join) {
                return Err(RoomError::Forbidden("You are not in this room".into()));
            }
            let power = change.rooms.power(&change.snap, &mut change.tip)?;
            if !power.may(&who.user_id, Action::Invite) {
                return Err(RoomError::Forbidden("You may not invite here".into()));
            }
            change.invite_card(&who.user_id)
        })
        .await
    }

    /// The event that waits under a token, if there is one that was not taken back.
    ///
    /// # Errors
    /// `Forbidden` for a room this server does not know, or the store's.
    pub async fn waiting_invite(
        &self,
        room_id: &str,
        token: &str,
    ) -> Result<Option<WaitingInvite>, RoomError> {
        let (room, token) = (self.inside(room_id)?, token.to_owned());
        self.change(room, move |change| change.waiting_invite(&token))
            .await
    }

    /// Invites the user who turned out to own the address, in the name of who invited: `signed`
    /// is what the identity server says of them. Who is in the room already stays as they are.
    ///
    /// # Errors
    /// `Forbidden`, also to whom somebody removed since; `NotFound` where nothing waits under the
    /// token, or who invited is not of this server; `InviteBlocked`, or the store's.
    pub async fn take_up_invite(
        &self,
        room_id: &str,
        sender: &str,
        target: &str,
        signed: Object,
    ) -> Result<(), RoomError> {
        checked_user(target)?;
        if !self.is_local(sender) {
            let text = "Who invited is of another server";
            return Err(RoomError::NotFound(text.into()));
        }
        let (room, sender, target) = (self.inside(room_id)?, sender.to_owned(), target.to_owned());
        self.change(room, move |change| {
            match change.membership(&target)? {
                Some(Membership::Join | Membership::Invite) => return Ok(()),
                Some(Membership::Ban) => {
                    return Err(RoomError::Forbidden("You are banned from this room".into()));
                }
                _ => {}
            }
            let third = change.taken_up(&sender, &target, signed)?;
            change.vet_invite(&sender, &target)?;
            let mut content = change.profile_of(&target)?;
            merge(&mut content, third);
            let draft = Draft::member(&target, Membership::Invite, content);
            change.add(&sender, draft, None)?;
            Ok(())
        })
        .await
    }
}

impl Change<'_> {
    /// What the invite says that a third-party invite becomes.
    ///
    /// # Errors
    /// `NotFound` where nothing by this sender waits under the token that is `signed`;
    /// `Forbidden` for who was removed since; the store's.
    pub(crate) fn taken_up(
        &self,
        sender: &str,
        target: &str,
        signed: Object,
    ) -> Result<Object, RoomError> {
        let token = signed.str("token").unwrap_or_default();
        let waiting = self.waiting_invite(token)?;
        let waiting = waiting.filter(|waiting| waiting.sender == sender);
        let gone = || RoomError::NotFound("There is no such invite".into());
        let waiting = waiting.ok_or_else(gone)?;
        if self.was_removed_since(target, token)? {
            let text = "You were removed from this room after the invite";
            return Err(RoomError::Forbidden(text.into()));
        }
        let mut third = Object::new();
        let name = waiting.content.str("display_name").unwrap_or_default();
        third.insert("display_name", name);
        third.insert("signed", signed);
        Ok(Object::from_fields(vec![(
            "third_party_invite".to_owned(),
            Value::from(third),
        )]))
    }

    fn waiting_invite(&self, token: &str) -> Result<Option<WaitingInvite>, RoomError> {
        let kind = THIRD_PARTY_INVITE;
        let event = self.rooms.tip_state(&self.snap, &self.tip, kind, token)?;
        Ok(event.and_then(|event| {
            let content = event.event().content_object().ok()?;
            // An invite is taken back by emptying it.
            content.get("public_key")?;
            Some(WaitingInvite {
                sender: event.event().sender().to_owned(),
                content,
            })
        }))
    }

    /// Whether somebody else took a user out of the room after an event began to wait. What an
    /// identity server signed does not grow old, and must not undo that.
    fn was_removed_since(&self, user_id: &str, token: &str) -> Result<bool, RoomError> {
        let (rooms, snap, room) = (self.rooms, &self.snap, self.tip.room);
        let waiting = rooms.in_state(&self.tip.state, THIRD_PARTY_INVITE, token)?;
        let member = match rooms.store().user_nid(user_id)? {
            Some(user) => rooms.member(snap, room, user)?.map(|member| (user, member)),
            None => None,
        };
        let Some((waiting, (user, member))) = waiting.zip(member) else {
            return Ok(false);
        };
        let ends = rooms
            .meta(snap, member.event)?
            .zip(rooms.meta(snap, waiting)?);
        let out = member.membership == Membership::Leave;
        Ok(
            ends.is_some_and(|(left, asked)| {
                out && left.sender != user && left.order > asked.order
            }),
        )
    }

    fn invite_card(&self, sender: &str) -> Result<InviteCard, RoomError> {
        let text = |kind: &str, key: &str, field: &str| {
            let event = self.rooms.tip_state(&self.snap, &self.tip, kind, key)?;
            let content = event.and_then(|event| event.event().content_object().ok());
            Ok::<_, RoomError>(content.and_then(|content| content.str(field).map(str::to_owned)))
        };
        Ok(InviteCard {
            name: text("m.room.name", "", "name")?,
            avatar_url: text("m.room.avatar", "", "url")?,
            alias: text("m.room.canonical_alias", "", "alias")?,
            join_rule: text("m.room.join_rules", "", "join_rule")?,
            kind: text("m.room.create", "", "type")?,
            sender_name: text("m.room.member", sender, "displayname")?,
            sender_avatar: text("m.room.member", sender, "avatar_url")?,
        })
    }
}
