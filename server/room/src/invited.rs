//! Which invites reach a user: by their own rules, and by whom they ignore.

use skerry_account::{InviteRule, invite_rule};
use skerry_core::{EventNid, Membership, UserNid};
use skerry_store::{Snapshot, StoreError};

use crate::change::Change;
use crate::{RoomError, Rooms};

impl Rooms {
    /// Whether an invite (its member event) is hidden from the user it is for: they ignore whoever
    /// sent it, or block or ignore such invites.
    ///
    /// # Errors
    /// The store's.
    pub fn is_invite_hidden(
        &self,
        snap: &Snapshot,
        user: UserNid,
        invite: EventNid,
    ) -> Result<bool, StoreError> {
        let Some(meta) = self.meta(snap, invite)? else {
            return Ok(false);
        };
        if self
            .inner
            .accounts
            .ignored(snap, user)?
            .contains(&meta.sender)
        {
            return Ok(true);
        }
        let inviter = self.store().user_id(meta.sender)?;
        if self.speaks_for_server(&inviter) {
            return Ok(false);
        }
        Ok(invite_rule(snap, user, &inviter)? != InviteRule::Allow)
    }

    /// Whether a member event only ended an invite that was hidden from the user: nothing that
    /// they are to learn of.
    ///
    /// # Errors
    /// The store's.
    pub fn ended_hidden_invite(
        &self,
        snap: &Snapshot,
        user: UserNid,
        end: EventNid,
    ) -> Result<bool, StoreError> {
        let replaced = self.meta(snap, end)?.and_then(|meta| meta.replaces);
        let Some(invite) = replaced else {
            return Ok(false);
        };
        let held = self.event(snap, invite)?;
        let was_invite =
            held.is_some_and(|held| held.event.membership() == Some(Membership::Invite));
        Ok(was_invite && self.is_invite_hidden(snap, user, invite)?)
    }
}

impl Change<'_> {
    /// A user can be invited only if their server can be told, and if they want to be by this
    /// user (client-server API, "Invite permission").
    pub(crate) fn vet_invite(&self, inviter: &str, target: &str) -> Result<(), RoomError> {
        if !self.rooms.is_local(target) {
            let server = skerry_core::names::server_of(target).unwrap_or_default();
            return Err(RoomError::NotFound(format!(
                "Cannot reach the server {server}"
            )));
        }
        let Some(user) = self.rooms.store().user_nid(target)? else {
            return Ok(());
        };
        if !self.rooms.speaks_for_server(inviter)
            && invite_rule(&self.snap, user, inviter)? == InviteRule::Block
        {
            let text = "The user does not want this invite";
            return Err(RoomError::InviteBlocked(text.into()));
        }
        Ok(())
    }
}
