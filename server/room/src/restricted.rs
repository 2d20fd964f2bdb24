//! Joining rooms that are open to the members of certain other rooms (rooms/v8, "restricted").

use skerry_core::canonical::{Object, Value};
use skerry_core::power::{Action, Level};
use skerry_core::{Membership, UserNid};
use skerry_store::schema::room as t;
use skerry_store::{Scan, StoreError};

use crate::RoomError;
use crate::change::Change;

/// The most rooms of a join rule that are looked at.
const MAX_ALLOWED_ROOMS: usize = 500;

impl Change<'_> {
    /// Who vouches for a user who comes in by a restricted join rule; `None` where the room has
    /// no such rule.
    ///
    /// # Errors
    /// `Forbidden` for a user in none of the rooms named; `UnableToAuthoriseJoin` where nobody
    /// of this server may invite.
    pub(crate) fn voucher(&mut self, user: UserNid) -> Result<Option<String>, RoomError> {
        let Some(rule) = self.restricted_rule()? else {
            return Ok(None);
        };
        if !self.is_in_any(user, &rule)? {
            let text = "You are in none of the rooms whose members may join this one";
            return Err(RoomError::Forbidden(text.into()));
        }
        let text = "Nobody of this server may let you in";
        let unable = || RoomError::UnableToAuthoriseJoin(text.into());
        self.local_inviter()?.map(Some).ok_or_else(unable)
    }

    /// Who of this server vouches for a user of another one; as [`Self::voucher`].
    ///
    /// # Errors
    /// `UnableToAuthoriseJoin` where the user is in none of the rooms named that are known here,
    /// and there are others; `Forbidden` where there are no others; `UnableToGrantJoin` where
    /// nobody of this server may invite.
    pub(crate) fn voucher_for_remote(
        &mut self,
        user_id: &str,
    ) -> Result<Option<String>, RoomError> {
        let Some(rule) = self.restricted_rule()? else {
            return Ok(None);
        };
        let user = self.rooms.store().user_nid(user_id)?;
        let fits = match user {
            Some(user) => self.is_in_any(user, &rule)?,
            None => false,
        };
        if !fits && !self.knows_all(&rule)? {
            let text = "It is not known here who is in the rooms whose members may join this one";
            return Err(RoomError::UnableToAuthoriseJoin(text.into()));
        }
        if !fits {
            let text = "The user is in none of the rooms whose members may join this one";
            return Err(RoomError::Forbidden(text.into()));
        }
        let text = "Nobody of this server may let the user in";
        let unable = || RoomError::UnableToGrantJoin(text.into());
        self.local_inviter()?.map(Some).ok_or_else(unable)
    }

    /// A joined user of this server who may invite.
    fn local_inviter(&mut self) -> Result<Option<String>, RoomError> {
        let power = self.rooms.power(&self.snap, &mut self.tip)?;
        for (user_id, _) in power
            .users()
            .filter(|(user_id, _)| power.may(user_id, Action::Invite))
        {
            let local = self.rooms.is_local(user_id);
            if local && self.membership(user_id)? == Some(Membership::Join) {
                return Ok(Some(user_id.to_owned()));
            }
        }
        let anybody = Level::Finite(power.users_default()) >= power.action(Action::Invite);
        match anybody {
            true => Ok(self.any_local_inviter(&power)?),
            false => Ok(None),
        }
    }

    /// Content of the join rules, if they are restricted ones that the room version knows.
    fn restricted_rule(&self) -> Result<Option<Object>, RoomError> {
        let event = self
            .rooms
            .tip_state(&self.snap, &self.tip, "m.room.join_rules", "")?;
        let content = event.and_then(|event| event.event().content_object().ok());
        let version = self.tip.version;
        Ok(content.filter(|content| match content.str("join_rule") {
            Some("restricted") => version.has_restricted(),
            Some("knock_restricted") => version.has_knock_restricted(),
            _ => false,
        }))
    }

    fn is_in_any(&self, user: UserNid, rule: &Object) -> Result<bool, StoreError> {
        for room_id in allowed(rule) {
            if let Some(room) = self.rooms.store().room_nid(room_id)?
                && self.rooms.is_joined(&self.snap, room, user)?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether this server takes part in all rooms of a rule, and so knows who is in them.
    fn knows_all(&self, rule: &Object) -> Result<bool, StoreError> {
        for room_id in allowed(rule) {
            let room = self.rooms.store().room_nid(room_id)?;
            let here = match room {
                Some(room) => self.rooms.is_here(&self.snap, room)?,
                None => false,
            };
            if !here {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A joined user of this server whose level suffices to invite.
    fn any_local_inviter(
        &self,
        power: &skerry_core::power::PowerLevels,
    ) -> Result<Option<String>, StoreError> {
        for row in self
            .snap
            .scan::<t::MemberTable>(Scan::prefix(&self.tip.room))
        {
            let ((_, user), member) = row?;
            if member.membership != Membership::Join {
                continue;
            }
            let user_id = self.rooms.store().user_id(user)?;
            if self.rooms.is_local(&user_id) && power.may(&user_id, Action::Invite) {
                return Ok(Some(user_id.to_string()));
            }
        }
        Ok(None)
    }
}

/// The rooms that a join rule names.
fn allowed(rule: &Object) -> impl Iterator<Item = &str> {
    let allow = rule.get("allow").and_then(Value::as_array);
    let conditions = allow.unwrap_or_default().iter();
    conditions
        .filter_map(Value::as_object)
        .filter(|condition| condition.str("type") == Some("m.room_membership"))
        .filter_map(|condition| condition.str("room_id"))
        .take(MAX_ALLOWED_ROOMS)
}
