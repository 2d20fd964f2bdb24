//! Moving people in and out of rooms: invite, join, leave, kick, ban, unban, knock, forget.

use skerry_core::canonical::{Object, Value};
use skerry_core::{EventNid, Membership, UserNid};
use skerry_store::schema::room as t;
use skerry_store::{Scan, StoreError};

use crate::change::Change;
use crate::draft::Draft;
use crate::send::checked_user;
use crate::{RoomError, Rooms, Who};

/// How often a join is planned anew that conflicts with a change of the user's settings.
pub(crate) const ATTEMPTS: usize = 8;

/// A membership asked for by a client.
#[derive(Clone, Debug, Default)]
pub struct Move {
    /// Why, in the words of whoever asks.
    pub reason: Option<String>,
    /// Further content of the member event, as JSON; only for joins and removals.
    pub content: Option<Vec<u8>>,
}

impl Rooms {
    /// Joins a room; gives its id. Joining where one is joined changes nothing.
    ///
    /// # Errors
    /// `NotFound` for a room this server does not know, `Forbidden`, `GuestForbidden`,
    /// `UnableToAuthoriseJoin`, or the store's.
    pub async fn join(&self, who: Who, room_id: &str, how: Move) -> Result<String, RoomError> {
        let room = self.known(room_id)?;
        let mut attempt = 0;
        loop {
            attempt += 1;
            let (who, how) = (who.clone(), how.clone());
            let joined = self.change(room, move |change| {
                change.goes_on_here()?;
                let content = change.extra(how)?;
                change.join(&who, content)?;
                Ok(change.tip.room_id.to_string())
            });
            match joined.await {
                Err(RoomError::Store(StoreError::Conflict { .. })) if attempt < ATTEMPTS => {}
                done => return done,
            }
        }
    }

    /// Leaves a room, declines an invite, or takes a knock back. Once out, changes nothing.
    ///
    /// # Errors
    /// `Forbidden` for who never was there, `NoticeRoom` for an invite by the server itself, or
    /// the store's.
    pub async fn leave(&self, who: Who, room_id: &str, how: Move) -> Result<(), RoomError> {
        let room = self.inside(room_id)?;
        if self.waits_apart(&who, room).await? {
            return self.left_elsewhere(who, room_id, None, how.reason).await;
        }
        self.change(room, move |change| {
            let was = change.membership(&who.user_id)?;
            match was {
                Some(Membership::Leave) => return Ok(()),
                None | Some(Membership::Ban) => {
                    return Err(RoomError::Forbidden("You are not in this room".into()));
                }
                Some(Membership::Invite) => change.may_decline(who.user)?,
                Some(_) => {}
            }
            change.goes_on_here()?;
            let content = change.extra(how)?;
            change.shift(&who.user_id, &who.user_id, Membership::Leave, content)?;
            Ok(())
        })
        .await
    }

    /// Asks to be let in; gives the room's id.
    ///
    /// # Errors
    /// `NotFound` for a room this server does not know, `Forbidden`, or the store's.
    pub async fn knock(&self, who: Who, room_id: &str, how: Move) -> Result<String, RoomError> {
        who.not_a_guest()?;
        let room = self.known(room_id)?;
        self.change(room, move |change| {
            change.goes_on_here()?;
            let mut content = change.profile_of(&who.user_id)?;
            merge(&mut content, change.extra(how)?);
            change.shift(&who.user_id, &who.user_id, Membership::Knock, content)?;
            Ok(change.tip.room_id.to_string())
        })
        .await
    }

    /// Invites a user of this server.
    ///
    /// # Errors
    /// `Forbidden`, `InvalidParam` for what is no user id, `NotFound` for a user of a server that
    /// cannot be reached, or the store's.
    pub async fn invite(
        &self,
        who: Who,
        room_id: &str,
        user_id: &str,
        how: Move,
    ) -> Result<(), RoomError> {
        who.not_a_guest()?;
        checked_user(user_id)?;
        let (room, target) = (self.inside(room_id)?, user_id.to_owned());
        self.change(room, move |change| {
            let content = change.extra(how)?;
            change.invite(&who, &target, content)
        })
        .await
    }

    /// Removes a user from a room, or takes an invite back.
    ///
    /// # Errors
    /// `Forbidden`, also for a user who is not there; `InvalidParam`, or the store's.
    pub async fn kick(
        &self,
        who: Who,
        room_id: &str,
        user_id: &str,
        how: Move,
    ) -> Result<(), RoomError> {
        checked_user(user_id)?;
        let (room, target) = (self.inside(room_id)?, user_id.to_owned());
        self.change(room, move |change| {
            // First, so that a stranger does not learn from the answer who is in the room.
            if change.membership(&who.user_id)? != Some(Membership::Join) {
                return Err(RoomError::Forbidden("You are not in this room".into()));
            }
            let was = change.membership(&target)?;
            if matches!(was, None | Some(Membership::Leave | Membership::Ban)) {
                return Err(RoomError::Forbidden("The user is not in this room".into()));
            }
            let content = change.extra(how)?;
            change.shift(&who.user_id, &target, Membership::Leave, content)
        })
        .await
    }

    /// Keeps a user out.
    ///
    /// # Errors
    /// `Forbidden`, `InvalidParam`, or the store's.
    pub async fn ban(
        &self,
        who: Who,
        room_id: &str,
        user_id: &str,
        how: Move,
    ) -> Result<(), RoomError> {
        checked_user(user_id)?;
        let (room, target) = (self.inside(room_id)?, user_id.to_owned());
        self.change(room, move |change| {
            let content = change.extra(how)?;
            change.shift(&who.user_id, &target, Membership::Ban, content)
        })
        .await
    }

    /// Lifts a ban. The user is not in the room then, but may come back.
    ///
    /// # Errors
    /// `Forbidden`, `BadState` for a user who is not banned, `InvalidParam`, or the store's.
    pub async fn unban(
        &self,
        who: Who,
        room_id: &str,
        user_id: &str,
        how: Move,
    ) -> Result<(), RoomError> {
        checked_user(user_id)?;
        let (room, target) = (self.inside(room_id)?, user_id.to_owned());
        self.change(room, move |change| {
            if change.membership(&who.user_id)? != Some(Membership::Join) {
                return Err(RoomError::Forbidden("You are not in this room".into()));
            }
            if change.membership(&target)? != Some(Membership::Ban) {
                return Err(RoomError::BadState("The user is not banned".into()));
            }
            let content = change.extra(how)?;
            change.shift(&who.user_id, &target, Membership::Leave, content)
        })
        .await
    }

    /// Forgets a room one has left: it vanishes from what one is shown. Once forgotten, or never
    /// known, nothing changes.
    ///
    /// # Errors
    /// `BadState` for a user who is still there, or the store's.
    pub async fn forget(&self, who: Who, room_id: &str) -> Result<(), RoomError> {
        let room = self.known(room_id)?;
        if self.forget_outside(&who, room).await? {
            return Ok(());
        }
        self.change(room, move |change| {
            let key = (room, who.user);
            let Some(mut row) = change.snap.get::<t::MemberTable>(&key)? else {
                return Err(RoomError::NotFound("You were never in this room".into()));
            };
            if !matches!(row.membership, Membership::Leave | Membership::Ban) {
                return Err(RoomError::BadState("You are still in this room".into()));
            }
            if row.forgotten {
                return Ok(());
            }
            row.forgotten = true;
            change.w.put::<t::MemberTable>(&key, &row);
            change.w.delete::<t::MemberOfTable>(&(who.user, room));
            Ok(())
        })
        .await
    }
}

impl Change<'_> {
    /// The room goes on through this server; else nothing is to be added to what it has of it.
    fn goes_on_here(&self) -> Result<(), RoomError> {
        if crate::federated::takes_part(&self.tip.head) {
            return Ok(());
        }
        let text = "Nobody of this server is in the room";
        Err(RoomError::NotFound(text.into()))
    }

    /// A user's membership at the room's end.
    pub(crate) fn membership(&self, user_id: &str) -> Result<Option<Membership>, StoreError> {
        self.rooms.tip_membership(&self.snap, &self.tip, user_id)
    }

    /// What a user's profile puts into a member event.
    pub(crate) fn profile_of(&self, user_id: &str) -> Result<Object, StoreError> {
        self.rooms.profile(&self.snap, user_id)
    }

    /// Content that a client gave for a member event.
    pub(crate) fn extra(&self, how: Move) -> Result<Object, RoomError> {
        let mut content = match how.content {
            Some(text) => crate::draft::parse(&text, self.tip.version.json_mode())?,
            None => Object::new(),
        };
        if let Some(reason) = how.reason {
            content.insert("reason", reason);
        }
        Ok(content)
    }

    /// A member event of whatever kind, for a target other than in special cases: the rules of
    /// the room decide.
    pub(crate) fn shift(
        &mut self,
        user_id: &str,
        target: &str,
        membership: Membership,
        content: Object,
    ) -> Result<(), RoomError> {
        let draft = Draft::member(target, membership, content);
        if self.same(user_id, &draft)?.is_some() {
            return Ok(());
        }
        self.add(user_id, draft, None)?;
        if matches!(membership, Membership::Leave | Membership::Ban)
            && let Some(gone) = self.rooms.store().user_nid(target)?
        {
            // Lives in memory alone; where the change fails after all, their client says it again.
            self.rooms.typing().stop(self.tip.room, gone);
        }
        Ok(())
    }

    /// Joins: profile, guest rules, for restricted rooms whoever vouches, and what the user takes
    /// along from the room before this one.
    fn join(&mut self, who: &Who, content: Object) -> Result<(), RoomError> {
        let was = self.membership(&who.user_id)?;
        if was == Some(Membership::Join) && content.is_empty() {
            return Ok(());
        }
        let mut all = self.profile_of(&who.user_id)?;
        merge(&mut all, content);
        self.admit(who, was, &mut all)?;
        self.shift(&who.user_id, &who.user_id, Membership::Join, all)?;
        if was != Some(Membership::Join) && self.is_successor()? {
            self.carry_over(who.user)?;
        }
        Ok(())
    }

    /// What has to hold, or be added, for a user of this server to join.
    fn admit(
        &mut self,
        who: &Who,
        was: Option<Membership>,
        content: &mut Object,
    ) -> Result<(), RoomError> {
        content.remove("join_authorised_via_users_server");
        if was == Some(Membership::Join) {
            return Ok(());
        }
        if was == Some(Membership::Ban) {
            return Err(RoomError::Forbidden("You are banned from this room".into()));
        }
        if who.guest && !self.guests_may_join()? {
            return Err(RoomError::GuestForbidden(
                "Guests may not join this room".into(),
            ));
        }
        if was != Some(Membership::Invite)
            && let Some(voucher) = self.voucher(who.user)?
        {
            content.insert("join_authorised_via_users_server", voucher);
        }
        Ok(())
    }

    /// The event that says whether the room is open to guests.
    pub(crate) fn guest_access(&self) -> Result<Option<EventNid>, StoreError> {
        let kind = "m.room.guest_access";
        self.rooms.in_state(&self.tip.state, kind, "")
    }

    /// Whether the room is open to guests.
    fn guests_may_join(&self) -> Result<bool, RoomError> {
        let event = self
            .rooms
            .tip_state(&self.snap, &self.tip, "m.room.guest_access", "")?;
        let content = event.and_then(|event| event.event().content_object().ok());
        Ok(content.is_some_and(|content| content.str("guest_access") == Some("can_join")))
    }

    /// Invites a user of this server.
    pub(crate) fn invite(
        &mut self,
        who: &Who,
        target: &str,
        content: Object,
    ) -> Result<(), RoomError> {
        self.vet_invite(&who.user_id, target)?;
        let mut all = self.profile_of(target)?;
        merge(&mut all, content);
        self.shift(&who.user_id, target, Membership::Invite, all)
    }

    /// A member event that a client wrote itself, through the endpoint for state.
    pub(crate) fn member_state(
        &mut self,
        who: &Who,
        target: &str,
        mut content: Object,
    ) -> Result<String, RoomError> {
        checked_user(target)?;
        let membership = content
            .str("membership")
            .and_then(Membership::parse)
            .ok_or_else(|| RoomError::BadJson("`membership` is none there is".into()))?;
        let own = *who.user_id == *target;
        match membership {
            Membership::Join if own => {
                let was = self.membership(target)?;
                if was != Some(Membership::Join) {
                    let mut all = self.profile_of(target)?;
                    merge(&mut all, content);
                    content = all;
                }
                self.admit(who, was, &mut content)?;
            }
            Membership::Invite | Membership::Knock => {
                if membership == Membership::Invite {
                    who.not_a_guest()?;
                    self.vet_invite(&who.user_id, target)?;
                }
                let mut all = self.profile_of(target)?;
                merge(&mut all, content);
                content = all;
            }
            Membership::Leave if own && self.membership(target)? == Some(Membership::Invite) => {
                self.may_decline(who.user)?;
            }
            _ => {}
        }
        let draft = Draft::member(target, membership, content);
        if let Some(event_id) = self.same(&who.user_id, &draft)? {
            return Ok(event_id);
        }
        self.add(&who.user_id, draft, None)
    }

    /// The room was closed to guests: those of this server leave (client-server API, "Guest
    /// access", server behaviour).
    pub(crate) fn remove_guests(&mut self) -> Result<(), RoomError> {
        for user in self.joined_guests()? {
            let user_id = self.rooms.store().user_id(user)?;
            let content = Object::from_fields(vec![(
                "reason".into(),
                Value::from("The room is closed to guests"),
            )]);
            self.shift(&user_id, &user_id, Membership::Leave, content)?;
        }
        Ok(())
    }

    /// The same where it was closed by another server; `before` said what held before.
    pub(crate) fn follow_guest_access(
        &mut self,
        before: Option<EventNid>,
    ) -> Result<(), RoomError> {
        if self.guest_access()? == before || self.guests_may_join()? {
            return Ok(());
        }
        match self.remove_guests() {
            // What came is taken all the same.
            Err(error) if !matches!(error, RoomError::Store(_)) => {
                tracing::info!(%error, "guests stay in a room that is closed to them");
                Ok(())
            }
            done => done,
        }
    }

    fn joined_guests(&self) -> Result<Vec<UserNid>, StoreError> {
        let mut guests = Vec::new();
        for row in self
            .snap
            .scan::<t::MemberTable>(Scan::prefix(&self.tip.room))
        {
            let ((_, user), member) = row?;
            let joined = member.membership == Membership::Join;
            if joined && skerry_account::user::is_guest(&self.snap, user)? {
                guests.push(user);
            }
        }
        Ok(guests)
    }
}

/// Puts fields on top of others.
pub(crate) fn merge(into: &mut Object, over: Object) {
    for (name, value) in over.iter() {
        into.insert(name, value.clone());
    }
}
