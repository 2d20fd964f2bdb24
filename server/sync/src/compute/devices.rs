//! Who has come and gone, and so whose lists of devices a client has to look at again or need not
//! follow any more.
//!
//! Users count as sharing a room whether or not it is encrypted: a client that follows nobody of a
//! plain room passes over them. Only when the user joins a room are its members named just if the
//! room is encrypted, so that joining a large public room does not name thousands; or if the user
//! comes back to it, for what the devices of other servers' users did meanwhile was not told here.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use skerry_account::e2e;
use skerry_core::{EventNid, Membership, Pos, RoomNid, StateId, UserNid};
use skerry_store::StoreError;

use super::changes::{Changes, Lists};
use super::{Mine, Query};
use crate::delta::DeviceLists;

const MEMBER: &str = "m.room.member";
const ENCRYPTION: &str = "m.room.encryption";

/// Whether a user shares a room with the asking one, asked once per user.
pub(crate) type Sharing = HashMap<UserNid, bool>;

/// Who has come and gone since a position, and where.
#[derive(Debug, Default)]
pub(crate) struct Moves {
    /// Others who joined or were invited, or are joined no more, in rooms the user is in.
    pub others: Vec<(UserNid, Membership)>,
    /// Rooms the user joined.
    pub joined: Vec<RoomNid>,
    /// Those of them that the user was in before, when the client last looked.
    pub again: Vec<RoomNid>,
    /// Rooms the user left.
    pub left: Vec<RoomNid>,
    /// Rooms the user is in that became encrypted.
    pub encrypted: Vec<RoomNid>,
}

impl Query<'_> {
    /// Who has come and gone in the rooms that may have changed.
    pub(crate) fn moves(&self, changes: &Changes) -> Result<Moves, StoreError> {
        let mut moves = Moves::default();
        let Some(since) = self.req.since.map(|token| token.pos) else {
            return Ok(moves);
        };
        for (room, _) in changes.rooms.iter().filter(|(_, hint)| hint.timeline) {
            let Some(own) = self.member_of(*room)? else {
                continue;
            };
            match own.membership {
                Membership::Join if own.since > since => {
                    moves.joined.push(*room);
                    let before = self.sync.rooms.state_id_at(self.snap, *room, since)?;
                    if self.was_in(*room, before)? {
                        moves.again.push(*room);
                    }
                }
                Membership::Join => {
                    let Some(head) = self.head(*room)? else {
                        continue;
                    };
                    if head.state_pos > since {
                        self.moves_in(*room, since, head.state, &mut moves)?;
                    }
                }
                Membership::Leave | Membership::Ban if own.since > since => moves.left.push(*room),
                _ => {}
            }
        }
        Ok(moves)
    }

    /// Others whose membership of a room the user is in is not what it was.
    fn moves_in(
        &self,
        room: RoomNid,
        since: Pos,
        now: StateId,
        moves: &mut Moves,
    ) -> Result<(), StoreError> {
        let rooms = &self.sync.rooms;
        let Some(before) = rooms.state_id_at(self.snap, room, since)? else {
            return Ok(());
        };
        if before == now {
            return Ok(());
        }
        let (before, now) = (
            rooms.state_map(self.snap, before)?,
            rooms.state_map(self.snap, now)?,
        );
        for (key, event) in before.diff(&now).changed() {
            let (kind, state_key) = rooms.store().state_key(key)?;
            if *kind == *ENCRYPTION && state_key.is_empty() && before.get(key).is_none() {
                moves.encrypted.push(room);
            }
            if *kind != *MEMBER || *state_key == *self.req.user_id {
                continue;
            }
            let was = self.membership(room, before.get(key))?;
            let is = match event {
                Some(event) => self.membership(room, Some(event))?,
                None => Some(Membership::Leave),
            };
            // Who was invited and declined was never shared with. Who is invited may be given
            // what is said meanwhile.
            let joined = [was, is].contains(&Some(Membership::Join));
            let concerned = joined || is == Some(Membership::Invite);
            if let Some(is) = is.filter(|_| concerned)
                && let Some(user) = rooms.store().user_nid(&state_key)?
                && (was != Some(is) || self.came_back(room, user, since)?)
            {
                moves.others.push((user, is));
            }
        }
        Ok(())
    }

    /// Whether a user, joined then and now, was out of the room in between: what their devices
    /// did meanwhile was told to nobody.
    fn came_back(&self, room: RoomNid, user: UserNid, since: Pos) -> Result<bool, StoreError> {
        let of = self.sync.rooms.member_of(self.snap, user, room)?;
        Ok(of.is_some_and(|of| of.membership == Membership::Join && of.since > since))
    }

    /// Whether the user was joined in a state of a room.
    pub(super) fn was_in(&self, room: RoomNid, state: Option<StateId>) -> Result<bool, StoreError> {
        let rooms = &self.sync.rooms;
        let Some(state) = state else {
            return Ok(false);
        };
        let map = rooms.state_map(self.snap, state)?;
        let own = rooms.in_state(&map, MEMBER, &self.req.user_id)?;
        Ok(self.membership(room, own)? == Some(Membership::Join))
    }

    /// The membership that an event sets.
    pub(crate) fn membership(
        &self,
        room: RoomNid,
        event: Option<EventNid>,
    ) -> Result<Option<Membership>, StoreError> {
        let Some(event) = event else { return Ok(None) };
        Ok(self
            .sync
            .rooms
            .placed(self.snap, room, event)?
            .and_then(|event| event.membership()))
    }

    /// Changed and left users since a position.
    pub(crate) fn device_lists(
        &self,
        changes: &Changes,
        moves: &Moves,
        mine: &mut Mine,
        since: Pos,
    ) -> Result<DeviceLists, StoreError> {
        let rooms = &self.sync.rooms;
        let mut sharing = Sharing::from([(self.req.user, true)]);
        let (mut changed, mut left) = (BTreeSet::new(), BTreeSet::new());
        if changes.private_lists {
            changed.extend(e2e::private_changes(self.snap, self.req.user, since)?);
        }
        let candidates: Vec<UserNid> = match &changes.lists {
            Lists::These(users) => users.iter().copied().collect(),
            Lists::Any => self.everybody(mine)?,
        };
        for user in e2e::lists_changed(self.snap, &candidates, since)? {
            if self.shares(user, &mut sharing)? {
                changed.insert(user);
            }
        }
        for room in &moves.joined {
            if rooms.current(self.snap, *room, ENCRYPTION, "")?.is_some() {
                changed.extend(self.others_in(*room)?);
            }
        }
        for room in moves.encrypted.iter().chain(&moves.again) {
            changed.extend(self.others_in(*room)?);
        }
        let mut gone: Vec<UserNid> = Vec::new();
        for room in &moves.left {
            gone.extend(self.left_behind(*room)?);
        }
        for (user, membership) in &moves.others {
            match membership {
                Membership::Join | Membership::Invite => drop(changed.insert(*user)),
                _ => gone.push(*user),
            }
        }
        for user in gone {
            if !self.shares(user, &mut sharing)? {
                changed.remove(&user);
                left.insert(user);
            }
        }
        Ok(DeviceLists {
            changed: self.names(changed)?,
            left: self.names(left)?,
        })
    }

    /// Who is in a room that the user left, and was there before that: who came later was never
    /// shared with, and is not for the user to know.
    fn left_behind(&self, room: RoomNid) -> Result<Vec<UserNid>, StoreError> {
        let rooms = &self.sync.rooms;
        let Some(own) = self.member_of(room)? else {
            return Ok(Vec::new());
        };
        let mut behind = Vec::new();
        for user in rooms.joined_users(self.snap, room)? {
            let there = rooms.member_of(self.snap, user, room)?;
            if there.is_some_and(|there| there.since < own.since) {
                behind.push(user);
            }
        }
        Ok(behind)
    }

    /// The others who are joined to a room.
    fn others_in(&self, room: RoomNid) -> Result<Vec<UserNid>, StoreError> {
        let mut users = self.sync.rooms.joined_users(self.snap, room)?;
        users.retain(|user| *user != self.req.user);
        Ok(users)
    }

    fn names(&self, users: BTreeSet<UserNid>) -> Result<Vec<Arc<str>>, StoreError> {
        users
            .into_iter()
            .map(|user| self.sync.rooms.store().user_id(user))
            .collect()
    }

    /// Whether a user shares a joined room with the asking one; the user does with themselves.
    pub(crate) fn shares(&self, other: UserNid, sharing: &mut Sharing) -> Result<bool, StoreError> {
        if let Some(shares) = sharing.get(&other) {
            return Ok(*shares);
        }
        let mut shares = false;
        for (room, member) in self.sync.rooms.rooms_of(self.snap, other)? {
            if member.membership == Membership::Join
                && self.sync.rooms.is_joined(self.snap, room, self.req.user)?
            {
                shares = true;
                break;
            }
        }
        sharing.insert(other, shares);
        Ok(shares)
    }

    /// Everybody who shares a room with the user, and the user.
    fn everybody(&self, mine: &mut Mine) -> Result<Vec<UserNid>, StoreError> {
        let mut users = BTreeSet::from([self.req.user]);
        for (room, member) in self.mine(mine)?.iter() {
            if member.membership == Membership::Join {
                users.extend(self.sync.rooms.joined_users(self.snap, *room)?);
            }
        }
        Ok(users.into_iter().collect())
    }
}
