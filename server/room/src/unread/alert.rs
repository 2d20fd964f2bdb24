//! What unread counts are made of, asked for one event: whether it notifies, and whether it was
//! read; and for all rooms together.

use std::sync::Arc;

use ruma_common::push::Action;
use skerry_core::{Membership, UserNid};
use skerry_store::{Snapshot, StoreError};

use super::MAIN;
use crate::{Placed, Rooms, View, Viewer};

/// What a user's push rules say about an event that notifies them.
#[derive(Clone, Debug)]
pub struct Alert {
    /// The actions of the rule that matched.
    pub actions: Vec<Action>,
    /// Whether it highlights.
    pub highlight: bool,
}

impl View {
    /// What the user's push rules say about an event; `None` if it does not notify them.
    ///
    /// # Errors
    /// The store's.
    pub fn alert(&self, event: &Arc<Placed>) -> Result<Option<Alert>, StoreError> {
        self.alert_by(&mut None, event)
    }

    /// The same for several events of the room in turn, with what they have in common.
    pub(super) fn alert_by(
        &self,
        judge: &mut Option<super::Judge>,
        event: &Arc<Placed>,
    ) -> Result<Option<Alert>, StoreError> {
        let verdict = self.verdict(judge, event)?;
        Ok(verdict
            .filter(|verdict| verdict.notify)
            .map(|verdict| Alert {
                actions: verdict.actions.to_vec(),
                highlight: verdict.highlight,
            }))
    }

    /// Whether the user's receipts say that they have read an event. Who is not in the room has
    /// read nothing.
    ///
    /// # Errors
    /// The store's.
    pub fn has_read(&self, event: &Arc<Placed>) -> Result<bool, StoreError> {
        let Some(marks) = self.rooms.marks(&self.snap, self.room, self.reader.user)? else {
            return Ok(false);
        };
        let thread = self.rooms.thread_of(&self.snap, event)?;
        Ok(event.order() <= marks.of(thread.as_deref().unwrap_or(MAIN)))
    }
}

impl Rooms {
    /// How much a user has not read in all rooms they are joined to, where an invite counts one.
    ///
    /// # Errors
    /// The store's.
    pub fn unread_total(&self, snap: &Snapshot, viewer: &Viewer) -> Result<u64, StoreError> {
        let mut total = 0;
        for (room, member) in self.rooms_of(snap, viewer.user)? {
            total += match member.membership {
                Membership::Join => self.view(snap, viewer, room)?.unread()?.total().notify,
                Membership::Invite if self.is_invite_hidden(snap, viewer.user, member.event)? => 0,
                Membership::Invite => 1,
                _ => 0,
            };
        }
        Ok(total)
    }

    /// Whom of these users a new event of a room may notify: those joined to it, and whom it
    /// invites.
    ///
    /// # Errors
    /// The store's.
    pub fn audience(
        &self,
        snap: &Snapshot,
        event: &Placed,
        users: &std::collections::BTreeSet<UserNid>,
    ) -> Result<Vec<UserNid>, StoreError> {
        let room = event.meta.room;
        let invited = match event.membership() {
            Some(Membership::Invite) => match event.event.state_key() {
                Some(user_id) => self.store().user_nid(user_id)?,
                None => None,
            },
            _ => None,
        };
        // Whoever does not want to see an invite is not told of it either.
        let invited = match invited {
            Some(user) if self.is_invite_hidden(snap, user, event.nid)? => None,
            invited => invited,
        };
        let mut found = Vec::new();
        if users.len() <= FEW {
            for user in users {
                let joined = self.member(snap, room, *user)?.is_some_and(|m| joined(&m));
                found.extend((joined || invited == Some(*user)).then_some(*user));
            }
        } else {
            for (user, member) in self.members(snap, room)? {
                let concerned = joined(&member) || invited == Some(user);
                found.extend((concerned && users.contains(&user)).then_some(user));
            }
        }
        found.retain(|user| *user != event.meta.sender);
        Ok(found)
    }
}

/// Up to so many users are looked up one by one; beyond it the members of the room are read.
const FEW: usize = 32;

fn joined(member: &crate::Member) -> bool {
    member.membership == Membership::Join
}
