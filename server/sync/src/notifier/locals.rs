//! The joined users of this server, room by room.

use std::collections::HashMap;
use std::sync::Arc;

use skerry_core::{Membership, RoomNid, UserNid};
use skerry_room::Rooms;
use skerry_store::{Snapshot, StoreError};

/// Memberships held over all rooms; beyond this everything is read anew.
const MEMBERS_MAX: usize = 500_000;

/// Friends held over all users; beyond this they are found anew.
const FRIENDS_MAX: usize = 2_000_000;

/// Local members by room; read from the store when first asked for, kept up to date by facts.
///
/// A room may be read from a snapshot ahead of the facts noted so far. Noting those again can
/// bring somebody back for a moment, until the later fact comes that the snapshot held already.
#[derive(Default)]
pub(super) struct Locals {
    rooms: HashMap<RoomNid, Members>,
    held: usize,
    /// Who shares a room with whom; only of rooms that are held too.
    friends: HashMap<UserNid, Members>,
    held_friends: usize,
    /// The same of users of other servers.
    fans: HashMap<UserNid, Members>,
    held_fans: usize,
}

/// Users, sorted.
pub(super) type Members = Arc<Vec<UserNid>>;

impl Locals {
    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        *self = Locals::default();
    }

    /// A user joined a room, or is not joined any more.
    ///
    /// # Errors
    /// The store's.
    pub(super) fn note(
        &mut self,
        rooms: &Rooms,
        room: RoomNid,
        user: UserNid,
        joined: bool,
    ) -> Result<(), StoreError> {
        if !rooms.is_local(&rooms.store().user_id(user)?) {
            self.fans.remove(&user);
            return Ok(());
        }
        self.friends.remove(&user);
        // Of which users of other servers they are one of is not known.
        (self.fans, self.held_fans) = (HashMap::new(), 0);
        let Some(members) = self.rooms.get_mut(&room) else {
            return Ok(());
        };
        match (members.binary_search(&user), joined) {
            (Err(at), true) => Arc::make_mut(members).insert(at, user),
            (Ok(at), false) => {
                Arc::make_mut(members).remove(at);
            }
            _ => return Ok(()),
        }
        for member in members.iter() {
            self.friends.remove(member);
        }
        Ok(())
    }

    /// The local users who share a room with a user, and the user if they are one, sorted; nobody
    /// for a user without rooms.
    pub(super) fn friends(
        &mut self,
        rooms: &Rooms,
        snap: &Snapshot,
        user: UserNid,
    ) -> Result<Members, StoreError> {
        let known = self.friends.get(&user).or_else(|| self.fans.get(&user));
        if let Some(friends) = known {
            return Ok(Arc::clone(friends));
        }
        let mut lists = Vec::new();
        for (room, member) in rooms.rooms_of(snap, user)? {
            if member.membership == Membership::Join {
                lists.push(self.of(rooms, snap, room)?);
            }
        }
        let friends = union(lists);
        if !rooms.is_local(&rooms.store().user_id(user)?) {
            if self.held_fans + friends.len() > FRIENDS_MAX {
                (self.fans, self.held_fans) = (HashMap::new(), 0);
            }
            self.held_fans += friends.len() + 1;
            self.fans.insert(user, Arc::clone(&friends));
            return Ok(friends);
        }
        if self.held_friends + friends.len() > FRIENDS_MAX {
            (self.friends, self.held_friends) = (HashMap::new(), 0);
        }
        self.held_friends += friends.len();
        self.friends.insert(user, Arc::clone(&friends));
        Ok(friends)
    }

    /// The local users joined to a room, sorted.
    pub(super) fn of(
        &mut self,
        rooms: &Rooms,
        snap: &Snapshot,
        room: RoomNid,
    ) -> Result<Members, StoreError> {
        if let Some(members) = self.rooms.get(&room) {
            return Ok(Arc::clone(members));
        }
        let mut members = Vec::new();
        for (user, member) in rooms.members(snap, room)? {
            if member.membership == Membership::Join
                && rooms.is_local(&rooms.store().user_id(user)?)
            {
                members.push(user);
            }
        }
        members.sort_unstable();
        if self.held + members.len() > MEMBERS_MAX {
            self.clear();
        }
        self.held += members.len();
        let members = Arc::new(members);
        self.rooms.insert(room, Arc::clone(&members));
        Ok(members)
    }
}

/// Everybody who is in any of the lists.
fn union(lists: Vec<Members>) -> Members {
    let Some(largest) = lists.iter().max_by_key(|list| list.len()).cloned() else {
        return Arc::default();
    };
    let others = lists.iter().flat_map(|list| list.iter());
    let mut more: Vec<UserNid> = others
        .filter(|user| largest.binary_search(user).is_err())
        .copied()
        .collect();
    // Mostly one room holds everybody.
    if more.is_empty() {
        return largest;
    }
    more.extend_from_slice(&largest);
    more.sort_unstable();
    more.dedup();
    Arc::new(more)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn everybody_is_named_once() {
        let list = |users: &[u64]| Arc::new(users.iter().map(|n| UserNid(*n)).collect::<Vec<_>>());
        let all = list(&[1, 2, 3, 4]);
        let same = union(vec![list(&[1, 2]), all.clone(), list(&[4])]);
        assert!(Arc::ptr_eq(&same, &all));
        assert_eq!(union(vec![list(&[3, 9]), list(&[1, 3])]), list(&[1, 3, 9]));
        assert!(union(Vec::new()).is_empty());
    }
}
