//! Invites of our users by those of other servers (server-server API, "Inviting to a room").

use std::sync::Arc;

use skerry_account::{InviteRule, invite_rule};
use skerry_core::build::{self, Signer};
use skerry_core::canonical::Object;
use skerry_core::{Membership, RoomNid, StoredEvent, UserNid, names};
use skerry_store::{Snapshot, StoreError};

use super::acl::takes_part;
use super::outside::Outside;
use super::shown;
use crate::change::Outcome;
use crate::compose::misshapen;
use crate::{RoomError, Rooms};

impl Rooms {
    /// Takes an invite of a user of this server from the server of who invites (`origin`), and
    /// gives it back with our signature. Its hash and signatures were checked by the caller, and
    /// those of `stripped`, what the room shows of itself, where they have any. If this server
    /// takes part in the room, nothing changes: the event comes to it a second time, with all
    /// that happens in the room.
    ///
    /// # Errors
    /// `InvalidParam` for what is not such an event; `NotFound` for a user there is not;
    /// `InviteBlocked`; `Forbidden` by the room's access list, or for a user who is in the room
    /// or banned from it; or the store's.
    pub async fn take_invite(
        &self,
        origin: &str,
        event: Arc<StoredEvent>,
        stripped: Vec<Object>,
    ) -> Result<Arc<StoredEvent>, RoomError> {
        let (room_id, from) = (event.room_id().to_owned(), origin.to_owned());
        self.query(move |this, snap| this.lets_in(snap, &room_id, &from))
            .await?;
        let invited = self.check_invite(&event, origin)?.to_owned();
        shown::check(event.version(), event.room_id(), &stripped)?;
        let nobody = || RoomError::NotFound("There is no such user here".into());
        let user = self.store().user_nid(&invited)?.ok_or_else(nobody)?;
        let stands = self.query(move |_, snap| Ok(skerry_account::user::is_active(snap, user)?));
        if !stands.await? {
            return Err(nobody());
        }
        let room = self.store().intern_room(event.room_id())?;
        let lane = self.inner.lanes.lock(room).await;
        self.write(lane, move |this| {
            this.invite_now((room, user), event, &stripped)
        })
        .await
    }

    /// Inside the room's lane.
    fn invite_now(
        &self,
        (room, user): (RoomNid, UserNid),
        event: Arc<StoredEvent>,
        stripped: &[Object],
    ) -> Result<Outcome<Arc<StoredEvent>>, StoreError> {
        let snap = self.newest();
        let refused = match self.vet_remote_invite(&snap, (room, user), &event) {
            Ok(()) => None,
            Err(RoomError::Store(error)) => return Err(error),
            Err(refusal) => Some(refusal),
        };
        if let Some(refusal) = refused {
            return Ok((Err(refusal), self.store().barrier()));
        }
        let signed = match self.countersigned(&event) {
            Ok(signed) => Arc::new(signed),
            Err(refusal) => return Ok((Err(refusal), self.store().barrier())),
        };
        let waiting = self.waiting_in(&snap, user, room)?;
        let again = waiting.is_some_and(|held| held.event.event_id() == signed.event_id());
        let mut w = self.store().write();
        if !again && !self.is_here_with_users(&snap, room)? {
            let outside = Outside {
                room,
                user,
                event: &signed,
                stripped: Some(shown::clean(stripped, &signed)),
            };
            self.put_outside(&mut w, &snap, outside)?;
        }
        let (answer, applied) = self.commit_outside(w)?;
        Ok((answer.map(|()| signed), applied))
    }

    /// Whether the room goes on through this server, and its users hear of what happens there.
    fn is_here_with_users(&self, snap: &Snapshot, room: RoomNid) -> Result<bool, StoreError> {
        let head = self.head(snap, room)?;
        Ok(head.is_some_and(|head| head.joined > head.remote))
    }

    /// Whether the access list of a room that goes on through this server, if it does, lets
    /// another server in. Asked before all else: who is kept out learns nothing.
    fn lets_in(&self, snap: &Snapshot, room_id: &str, origin: &str) -> Result<(), RoomError> {
        let Some(room) = self.store().room_nid(room_id)? else {
            return Ok(());
        };
        let here = self.head(snap, room)?.filter(takes_part).is_some();
        match here && !self.acl_allows(snap, room, origin)? {
            true => Err(super::kept_out()),
            false => Ok(()),
        }
    }

    /// Whether the user can be invited to the room.
    fn vet_remote_invite(
        &self,
        snap: &Snapshot,
        (room, user): (RoomNid, UserNid),
        event: &StoredEvent,
    ) -> Result<(), RoomError> {
        if invite_rule(snap, user, event.sender())? == InviteRule::Block {
            let text = "The user does not want this invite";
            return Err(RoomError::InviteBlocked(text.into()));
        }
        let Some(head) = self.head(snap, room)?.filter(takes_part) else {
            return Ok(());
        };
        let facts = self.facts(snap, room)?;
        if facts.is_some_and(|facts| facts.version != event.version()) {
            let text = "The event is of another version than the room";
            return Err(RoomError::InvalidParam(text.into()));
        }
        if head.remote == 0 {
            let text = "Nobody of another server is in this room";
            return Err(RoomError::Forbidden(text.into()));
        }
        match self.member(snap, room, user)?.map(|row| row.membership) {
            Some(Membership::Join) => Err(RoomError::Forbidden("The user is in the room".into())),
            Some(Membership::Ban) => Err(RoomError::Forbidden(
                "The user is banned from the room".into(),
            )),
            _ => Ok(()),
        }
    }

    /// Whether it is an invite of a user of this server by one of another; gives who is invited.
    fn check_invite<'a>(&self, event: &'a StoredEvent, origin: &str) -> Result<&'a str, RoomError> {
        let wrong = |text: &str| Err(RoomError::InvalidParam(text.to_owned()));
        if event.membership() != Some(Membership::Invite) {
            return wrong("This is no invite");
        }
        if names::server_of(event.sender()) != Some(origin) {
            return wrong("The event's sender is not of the server that sends it");
        }
        match event.state_key() {
            Some(user_id) if names::is_user_id(user_id) && self.is_local(user_id) => Ok(user_id),
            _ => wrong("Who is invited is not of this server"),
        }
    }

    /// An event of another server with our signature.
    pub(super) fn countersigned(&self, event: &StoredEvent) -> Result<StoredEvent, RoomError> {
        let config = &self.inner.config;
        let signer = Signer {
            server: &config.server_name,
            key: &config.key,
        };
        build::countersign(event, signer).map_err(misshapen)
    }
}
