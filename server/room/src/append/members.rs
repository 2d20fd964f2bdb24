//! Members come and go: rows by room and by user, counts, servers.

use skerry_core::{EventNid, Membership, StateDelta, StateKeyNid, StoredEvent, UserNid, names};
use skerry_store::Change;
use skerry_store::schema::federation::{PduOut, PduOutRow};
use skerry_store::schema::room as t;
use skerry_store::schema::room::{Member, MemberOf};
use skerry_store::{Snapshot, StoreError, Write};

use super::Newcomer;
use crate::tip::Tip;
use crate::{RoomError, Rooms, stripped};

const MEMBER: &str = "m.room.member";

impl Rooms {
    /// What a change of the current state means for members.
    pub(super) fn change_members(
        &self,
        w: &mut Write,
        snap: &Snapshot,
        tip: &mut Tip,
        new: Newcomer<'_>,
        change: &StateDelta,
    ) -> Result<(), RoomError> {
        for (key, by) in &change.set {
            if Some(*key) == new.key {
                if new.event.event_type() != MEMBER {
                    continue;
                }
            } else if *self.store().state_key(*key)?.0 != *MEMBER {
                continue;
            }
            if *by == new.nid {
                self.change_member(w, snap, tip, *by, new.event)?;
                self.redact_removed(w, snap, tip, *by, new.event)?;
            } else {
                let event = self.ruled(snap, tip, *by)?;
                self.change_member(w, snap, tip, *by, event.event())?;
            }
        }
        for key in &change.removed {
            self.drop_member(w, snap, tip, *key)?;
        }
        Ok(())
    }

    /// A member event moves a user: rows by room and by user, counts, the user's stripped state.
    fn change_member(
        &self,
        w: &mut Write,
        snap: &Snapshot,
        tip: &mut Tip,
        nid: EventNid,
        event: &StoredEvent,
    ) -> Result<(), RoomError> {
        let (Some(user_id), Some(now)) = (event.state_key(), event.membership()) else {
            return Ok(());
        };
        let was = self.move_member(w, snap, tip, user_id, (now, nid))?;
        if matches!(now, Membership::Invite | Membership::Knock) {
            let stripped = self.stripped_now(snap, tip, event)?;
            w.put::<t::Stripped>(&(self.user(user_id)?, tip.room), &stripped);
        } else if matches!(was, Some(Membership::Invite | Membership::Knock)) {
            w.delete::<t::Stripped>(&(self.user(user_id)?, tip.room));
        }
        Ok(())
    }

    /// Nothing in the current state says any more what a user is: they are out.
    fn drop_member(
        &self,
        w: &mut Write,
        snap: &Snapshot,
        tip: &mut Tip,
        key: StateKeyNid,
    ) -> Result<(), RoomError> {
        let (kind, user_id) = self.store().state_key(key)?;
        let Some(user) = self
            .store()
            .user_nid(&user_id)?
            .filter(|_| *kind == *MEMBER)
        else {
            return Ok(());
        };
        let of = match tip.fresh.members.get(&user) {
            Some(of) => Some(of.event),
            None => self.member(snap, tip.room, user)?.map(|row| row.event),
        };
        if let Some(event) = of {
            self.move_member(w, snap, tip, &user_id, (Membership::Leave, event))?;
            w.delete::<t::Stripped>(&(user, tip.room));
        }
        Ok(())
    }

    /// Sets a user's membership; gives what it was.
    fn move_member(
        &self,
        w: &mut Write,
        snap: &Snapshot,
        tip: &mut Tip,
        user_id: &str,
        (now, event): (Membership, EventNid),
    ) -> Result<Option<Membership>, RoomError> {
        let user = self.user(user_id)?;
        let pos = w.log(Change::Member {
            room: tip.room,
            user,
            membership: now,
        });
        let was = self.membership_before(snap, tip, user)?;
        let row = Member {
            membership: now,
            event,
            pos,
            forgotten: false,
        };
        w.put::<t::MemberTable>(&(tip.room, user), &row);
        let since = match was {
            Some(was) if was == now => {
                let of = match tip.fresh.members.get(&user) {
                    Some(of) => Some(of.clone()),
                    None => self.member_of(snap, user, tip.room)?,
                };
                of.filter(|of| of.membership == now)
                    .map_or(pos, |of| of.since)
            }
            _ => pos,
        };
        let row = MemberOf {
            membership: now,
            event,
            pos,
            since,
        };
        w.put::<t::MemberOfTable>(&(user, tip.room), &row);
        tip.fresh.members.insert(user, row);
        self.count(w, snap, tip, user_id, was, now)?;
        Ok(was)
    }

    /// The membership that a user has had so far.
    fn membership_before(
        &self,
        snap: &Snapshot,
        tip: &Tip,
        user: UserNid,
    ) -> Result<Option<Membership>, StoreError> {
        match tip.fresh.members.get(&user) {
            Some(of) => Ok(Some(of.membership)),
            None => Ok(self.member(snap, tip.room, user)?.map(|row| row.membership)),
        }
    }

    /// Keeps the counts of members.
    fn count(
        &self,
        w: &mut Write,
        snap: &Snapshot,
        tip: &mut Tip,
        user_id: &str,
        was: Option<Membership>,
        now: Membership,
    ) -> Result<(), RoomError> {
        if was == Some(now) {
            return Ok(());
        }
        Rooms::move_interest(tip, user_id, was, now);
        let head = &mut tip.head;
        match was {
            Some(Membership::Join) => head.joined = head.joined.saturating_sub(1),
            Some(Membership::Invite) => head.invited = head.invited.saturating_sub(1),
            _ => {}
        }
        match now {
            Membership::Join => head.joined += 1,
            Membership::Invite => head.invited += 1,
            _ => {}
        }
        let joined = i32::from(now == Membership::Join) - i32::from(was == Some(Membership::Join));
        if joined == 0 || self.is_local(user_id) {
            return Ok(());
        }
        let Some(server) = names::server_of(user_id) else {
            return Ok(());
        };
        let server = self.store().intern_server(server)?;
        let key = (tip.room, server);
        let before = match tip.fresh.servers.get(&server) {
            Some(count) => *count,
            None => snap.get::<t::RoomServer>(&key)?.unwrap_or(0),
        };
        let after = before.saturating_add_signed(joined);
        tip.head.remote = tip.head.remote.saturating_add_signed(joined);
        tip.fresh.servers.insert(server, after);
        if after == 0 {
            tip.fresh.emptied.push(server);
            w.delete::<t::RoomServer>(&key);
        } else {
            w.put::<t::RoomServer>(&key, &after);
        }
        Ok(())
    }

    /// What an invited or knocking user may know of the room, the event itself included.
    fn stripped_now(
        &self,
        snap: &Snapshot,
        tip: &Tip,
        event: &StoredEvent,
    ) -> Result<Vec<u8>, StoreError> {
        let mut events = Vec::new();
        for kind in stripped::KINDS {
            events.extend(self.tip_state(snap, tip, kind, "")?);
        }
        if event.state_key() != Some(event.sender()) {
            events.extend(self.tip_state(snap, tip, MEMBER, event.sender())?);
        }
        let all = events.iter().map(|ruled| &**ruled.event()).chain([event]);
        Ok(stripped::list(all))
    }

    /// Queues an event for the other servers of its room, if it is one that this server sends:
    /// a user's of its own, or one that is to be sent on. `remote` is how many members of other
    /// servers there were before it.
    pub(super) fn tell_servers(
        &self,
        w: &mut Write,
        snap: &Snapshot,
        tip: &mut Tip,
        new: Newcomer<'_>,
        (remote, send_on): (u32, bool),
    ) -> Result<(), StoreError> {
        let mut also = std::mem::take(&mut tip.fresh.emptied);
        if !send_on && !self.is_local(new.event.sender()) {
            return Ok(());
        }
        let target = new.event.state_key();
        let target = target.filter(|key| new.event.event_type() == MEMBER && !self.is_local(key));
        // Who is invited has signed the invite, and so has it.
        let target = target.filter(|_| new.event.membership() != Some(Membership::Invite));
        if let Some(server) = target.and_then(names::server_of) {
            let server = self.store().intern_server(server)?;
            let members = match tip.fresh.servers.get(&server) {
                Some(count) => *count,
                None => {
                    let row = snap.get::<t::RoomServer>(&(tip.room, server))?;
                    row.unwrap_or(0)
                }
            };
            if members == 0 && !also.contains(&server) {
                also.push(server);
            }
        }
        if remote == 0 && tip.head.remote == 0 && also.is_empty() {
            return Ok(());
        }
        let row = PduOutRow {
            room: tip.room,
            event: new.nid,
            also,
        };
        w.put::<PduOut>(&new.pos, &row);
        Ok(())
    }
}
