//! Invites of other servers' users: made and signed here, and to be signed by the server of who
//! is invited before they take their place in the room.

use std::sync::Arc;

use skerry_core::canonical::Object;
use skerry_core::policy::PolicyServer;
use skerry_core::{Membership, RoomVersion, StoredEvent, names};

use crate::change::Change;
use crate::compose::Author;
use crate::draft::Draft;
use crate::send::checked_user;
use crate::{Move, RoomError, Rooms, Who};

/// An invite without a place.
#[derive(Clone, Debug)]
pub struct DraftedInvite {
    /// The room's version.
    pub version: RoomVersion,
    /// The event, signed by this server. Once the other server has signed it too, it is to be
    /// given to [`Rooms::receive`], to be sent on.
    pub event: Arc<StoredEvent>,
    /// What the room shows of itself: PDUs.
    pub stripped: Vec<String>,
}

impl Rooms {
    /// Makes the invite of another server's user. Nothing is written.
    ///
    /// # Errors
    /// `Forbidden` by the rules or the access list of the room, `Policy` where its policy server
    /// refuses, `GuestForbidden`, `InvalidParam`
    /// for what is no user id or one of this server, `BadJson`, `TooLarge`, or the store's.
    pub async fn draft_invite(
        &self,
        who: Who,
        room_id: &str,
        user_id: &str,
        how: Move,
    ) -> Result<DraftedInvite, RoomError> {
        who.not_a_guest()?;
        checked_user(user_id)?;
        if self.is_local(user_id) {
            let text = "The user is one of this server";
            return Err(RoomError::InvalidParam(text.into()));
        }
        let (room, target) = (self.inside(room_id)?, user_id.to_owned());
        let drafted = self.change(room, move |change| {
            let content = change.extra(how)?;
            change.drafted_invite(&who.user_id, &target, content)
        });
        self.with_approval(drafted.await?).await
    }

    /// An invite that the room's policy server has signed, where it has to.
    async fn with_approval(
        &self,
        (mut drafted, policy): (DraftedInvite, Option<Arc<PolicyServer>>),
    ) -> Result<DraftedInvite, RoomError> {
        if let Some(server) = policy {
            drafted.event = self.approved(server, drafted.event).await?;
        }
        Ok(drafted)
    }

    /// Makes the invite that a third-party invite becomes, asked for by the server (`origin`) of
    /// the user who turned out to own the address. Nothing is written.
    ///
    /// # Errors
    /// `InvalidParam` for what is not such an event; `NotFound` where nothing waits under its
    /// token, or this server does not take part in the room; `Forbidden` by the rules or the
    /// access list of the room; or the store's.
    pub async fn draft_exchanged(
        &self,
        origin: &str,
        room_id: &str,
        asked: &Object,
    ) -> Result<DraftedInvite, RoomError> {
        let wrong = |text: &str| RoomError::InvalidParam(text.to_owned());
        let content = asked.object("content");
        let third = content.and_then(|content| content.object("third_party_invite"));
        let signed = third.and_then(|third| third.object("signed")).cloned();
        let signed = signed.ok_or_else(|| wrong("This is no third-party invite"))?;
        let membership = content.and_then(|content| content.str("membership"));
        if asked.str("type") != Some("m.room.member")
            || asked.str("room_id").is_some_and(|id| id != room_id)
            || membership != Some("invite")
        {
            return Err(wrong("This is no invite to the room"));
        }
        let (sender, target) = (asked.str("sender"), asked.str("state_key"));
        let sender = sender.filter(|sender| self.is_local(sender));
        let sender = sender.ok_or_else(|| wrong("Who invited is not of this server"))?;
        let target = target.filter(|user_id| names::is_user_id(user_id));
        let target = target.filter(|user_id| names::server_of(user_id) == Some(origin));
        let target = target.ok_or_else(|| wrong("The user is not one of the server that asks"))?;
        let (origin, sender) = (origin.to_owned(), sender.to_owned());
        let (room, target) = (self.known(room_id)?, target.to_owned());
        let drafted = self.change(room, move |change| {
            change.open_to(&origin)?;
            match change.membership(&target)? {
                Some(Membership::Join | Membership::Invite) => {
                    Err(RoomError::Forbidden("The user is in the room".into()))
                }
                _ => {
                    let content = change.taken_up(&sender, &target, signed)?;
                    change.drafted_invite(&sender, &target, content)
                }
            }
        });
        self.with_approval(drafted.await?).await
    }
}

impl Change<'_> {
    fn drafted_invite(
        &mut self,
        sender: &str,
        target: &str,
        content: Object,
    ) -> Result<(DraftedInvite, Option<Arc<PolicyServer>>), RoomError> {
        let (rooms, room) = (self.rooms, self.tip.room);
        let server = names::server_of(target).unwrap_or_default();
        if !rooms.acl_allows(&self.snap, room, server)? {
            let text = format!("The room keeps the server {server} out");
            return Err(RoomError::Forbidden(text));
        }
        let draft = Draft::member(target, Membership::Invite, content);
        let author = Author {
            user_id: sender,
            now_ms: self.now_ms,
        };
        let event = Arc::new(rooms.build(&self.snap, &self.tip, author, draft)?);
        rooms.check(&self.snap, &mut self.tip, &event)?;
        let policy = self.wants_approval(&event)?;
        let drafted = DraftedInvite {
            version: self.tip.version,
            event,
            stripped: rooms.pdus_shown(&self.snap, &self.tip.state, Some(sender))?,
        };
        Ok((drafted, policy))
    }
}
