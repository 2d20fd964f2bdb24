//! The end of a join through another server: what it gave of the room becomes the room.
//!
//! All of the state and of what it rests on was kept as outliers before, a piece at a time. The
//! last commit is this one: the room, its state, its members, and the join. Where it does not
//! come, nothing is left but outliers, which are swept at the next start.

use std::collections::HashMap;
use std::sync::Arc;

use skerry_core::event::RuledEvent;
use skerry_core::{
    EventNid, Membership, Pos, RoomNid, RoomVersion, ServerNid, StateKeyNid, StateMap, StoredEvent,
    UserNid, names,
};
use skerry_store::schema::federation::PduOut;
use skerry_store::schema::room as t;
use skerry_store::schema::room::{Member, MemberOf, RoomRow};
use skerry_store::{Change as Fact, Scan, StoreError};

use super::Missing;
use super::outside::check_own;
use crate::append::Placing;
use crate::change::{Change, Outcome};
use crate::tip::Tip;
use crate::{RoomError, Rooms, Who};

/// Events read at once.
const CHUNK: usize = 256;

/// A join that another server took.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The room.
    pub room_id: String,
    /// Its version.
    pub version: RoomVersion,
    /// The user's join, as the other server gave it back.
    pub event: Arc<StoredEvent>,
    /// The ids of the events that make the state before it. They, and all that they and the join
    /// rest on, were given to [`Rooms::keep_outliers`].
    pub state: Vec<String>,
}

/// A member as the state of the room says.
struct Arrived {
    user: UserNid,
    membership: Membership,
    event: EventNid,
    local: bool,
}

impl Rooms {
    /// Makes a room that another server let a user into a room of this one. A room that was here
    /// before and went on without this server goes on from the new state, with a hole before it.
    /// Says whether that was done: if not, the room goes on here already, by another user of
    /// this server, and the event is to be given to [`Rooms::receive`].
    ///
    /// # Errors
    /// `InvalidParam` for a state that is none of this room or not wholly here, `Forbidden` where
    /// it does not allow the join; or the store's.
    pub async fn enter(&self, who: Who, entry: Entry) -> Result<bool, RoomError> {
        check_own(&entry.event, &who, &entry.room_id, Membership::Join)?;
        if entry.event.version() != entry.version {
            return Err(unfit("the join is of another version"));
        }
        let room = self.store().intern_room(&entry.room_id)?;
        let lane = self.inner.lanes.lock(room).await;
        self.write(lane, move |this| this.enter_now(&who, room, entry))
            .await
    }

    /// Inside the room's lane.
    fn enter_now(
        &self,
        who: &Who,
        room: RoomNid,
        entry: Entry,
    ) -> Result<Outcome<bool>, StoreError> {
        let snap = self.newest();
        let tip = self.tip(&snap, room)?;
        let held = tip.is_some();
        let tip = tip.unwrap_or_else(|| {
            let room_id: Arc<str> = entry.room_id.as_str().into();
            Tip::new(room, room_id, entry.version)
        });
        if held && Rooms::is_in(&tip) {
            return Ok((Ok(false), self.store().barrier()));
        }
        let now_ms = self.inner.clock.now_ms();
        let mut change = Change::new(self, snap, tip, now_ms);
        let answer = change.enter(who, &entry, held).map(|()| true);
        self.apply(change, answer)
    }
}

impl Change<'_> {
    fn enter(&mut self, who: &Who, entry: &Entry, held: bool) -> Result<(), RoomError> {
        if held && self.tip.version != entry.version {
            return Err(unfit("the room is of another version"));
        }
        self.tip.fresh.received = true;
        let state = self.given_state(&entry.state)?;
        let create = self.created_by(&state, entry.version)?;
        self.take_state(&state)?;
        let arrived = self.arrived(&state)?;
        self.settle_members(&arrived, held)?;
        self.check_join(&entry.event)?;
        if !held {
            self.put_room(create)?;
        }
        self.place_join(&entry.event)?;
        let key = (who.user, self.tip.room);
        self.w.delete::<t::Stripped>(&key);
        if self.is_successor()? {
            self.carry_over(who.user)?;
            self.take_names(who.user)?;
        }
        Ok(())
    }

    /// The state that the other server gave. What the rules refuse is no part of it.
    fn given_state(&self, ids: &[String]) -> Result<StateMap, RoomError> {
        let (rooms, snap) = (self.rooms, &self.snap);
        let mut nids = Vec::with_capacity(ids.len());
        for id in ids {
            let nid = rooms.store().event_nid(snap, id)?;
            nids.push(nid.ok_or_else(|| unfit("an event of the state is not here"))?);
        }
        let mut entries: Vec<(StateKeyNid, EventNid)> = Vec::with_capacity(nids.len());
        for (nid, meta) in nids.iter().zip(rooms.metas(snap, &nids)?) {
            let meta = meta.filter(|meta| meta.room == self.tip.room);
            let meta = meta.ok_or_else(|| unfit("an event of the state is of another room"))?;
            if meta.is_unjudged() {
                return Err(unfit("what the state rests on is not here"));
            }
            let key = meta.state_key;
            let key = key.ok_or_else(|| unfit("an event of the state is no state"))?;
            if !meta.is_rejected() {
                entries.push((key, *nid));
            }
        }
        let state: StateMap = entries.iter().copied().collect();
        if state.len() < entries.len() {
            return Err(unfit("two events of the state are for the same key"));
        }
        Ok(state)
    }

    /// The create event of a state, and that it fits the version.
    fn created_by(
        &self,
        state: &StateMap,
        version: RoomVersion,
    ) -> Result<(EventNid, Arc<StoredEvent>), RoomError> {
        let none = || unfit("the state has no create event");
        let nid = self.rooms.in_state(state, "m.room.create", "")?;
        let nid = nid.ok_or_else(none)?;
        let create = self.rooms.ruled(&self.snap, &self.tip, nid)?;
        let create = create.event().clone();
        let content = create.content_object().map_err(|_| none())?;
        let said = content.get("room_version");
        let said = match said {
            Some(said) => said.as_str().unwrap_or_default(),
            None => RoomVersion::V1.as_str(),
        };
        if said != version.as_str() {
            return Err(unfit("the room is of another version"));
        }
        Ok((nid, create))
    }

    /// Makes a state the room's current one, and nothing its end.
    fn take_state(&mut self, state: &StateMap) -> Result<(), RoomError> {
        let (rooms, tip) = (self.rooms, &mut self.tip);
        let near = match tip.head.state.0 {
            0 => Vec::new(),
            _ => vec![tip.now()],
        };
        let version = rooms.version_for(&mut self.w, &self.snap, &mut tip.fresh, &near, state)?;
        tip.set_now(version);
        tip.head.extremities.clear();
        tip.ends.clear();
        (tip.create, tip.power, tip.interest) = (None, None, None);
        let room = tip.room;
        self.w.delete_range::<t::StateNow>(room);
        for (key, nid) in state.iter() {
            self.w.put::<t::StateNow>(&(room, key), &nid);
        }
        Ok(())
    }

    /// What a state says of everybody.
    fn arrived(&self, state: &StateMap) -> Result<Vec<Arrived>, RoomError> {
        let (rooms, store) = (self.rooms, self.rooms.store());
        let mut members = Vec::new();
        for (key, nid) in state.iter() {
            let (kind, user_id) = store.state_key(key)?;
            if &*kind == "m.room.member" && names::is_user_id(&user_id) {
                members.push((nid, user_id));
            }
        }
        let mut arrived = Vec::with_capacity(members.len());
        for chunk in members.chunks(CHUNK) {
            let nids: Vec<EventNid> = chunk.iter().map(|(nid, _)| *nid).collect();
            let events = rooms.events(&self.snap, &nids)?;
            for ((nid, user_id), held) in chunk.iter().zip(events) {
                let membership = held.and_then(|held| held.event.membership());
                let Some(membership) = membership else {
                    continue;
                };
                arrived.push(Arrived {
                    user: store.intern_user(user_id)?,
                    membership,
                    event: *nid,
                    local: rooms.is_local(user_id),
                });
            }
        }
        Ok(arrived)
    }

    /// Rows and counts of everybody.
    fn settle_members(&mut self, arrived: &[Arrived], held: bool) -> Result<(), RoomError> {
        let room = self.tip.room;
        let at = self.w.stamp();
        if held {
            self.drop_others(arrived, at)?;
        }
        let mut servers: HashMap<ServerNid, u32> = HashMap::new();
        let (mut joined, mut invited, mut remote) = (0, 0, 0);
        for one in arrived {
            joined += u32::from(one.membership == Membership::Join);
            invited += u32::from(one.membership == Membership::Invite);
            if one.membership == Membership::Join && !one.local {
                let user_id = self.rooms.store().user_id(one.user)?;
                let server = names::server_of(&user_id).unwrap_or_default();
                *servers
                    .entry(self.rooms.store().intern_server(server)?)
                    .or_default() += 1;
                remote += 1;
            }
            self.settle_member(one, at)?;
        }
        self.w.delete_range::<t::RoomServer>(room);
        for (server, count) in &servers {
            self.w.put::<t::RoomServer>(&(room, *server), count);
        }
        let tip = &mut self.tip;
        (tip.head.joined, tip.head.invited, tip.head.remote) = (joined, invited, remote);
        tip.fresh.servers = servers;
        // Nothing is to be counted anew from what is not written yet.
        tip.head.last = at;
        let joined = arrived.iter();
        let joined = joined.filter(|one| one.membership == Membership::Join);
        let joined = joined.map(|one| one.user);
        self.rooms.count_interest(&mut self.tip, joined)?;
        Ok(())
    }

    /// One user's rows. Who has known of it before is not told again.
    fn settle_member(&mut self, one: &Arrived, at: Pos) -> Result<(), RoomError> {
        let room = self.tip.room;
        let was = self.rooms.member_of(&self.snap, one.user, room)?;
        let same = was.as_ref().filter(|was| was.membership == one.membership);
        let known = same.is_some_and(|was| was.event == one.event);
        let pos = match (&was, known, one.local) {
            (Some(was), true, _) => was.pos,
            (_, _, true) => self.w.log(Fact::Member {
                room,
                user: one.user,
                membership: one.membership,
            }),
            _ => at,
        };
        let since = same.map_or(pos, |was| was.since);
        let forgotten = match known {
            true => {
                let held = self.rooms.member(&self.snap, room, one.user)?;
                held.is_some_and(|held| held.forgotten)
            }
            false => false,
        };
        let row = Member {
            membership: one.membership,
            event: one.event,
            pos,
            forgotten,
        };
        self.w.put::<t::MemberTable>(&(room, one.user), &row);
        let of = MemberOf {
            membership: one.membership,
            event: one.event,
            pos,
            since,
        };
        if !forgotten {
            self.w.put::<t::MemberOfTable>(&(one.user, room), &of);
        }
        self.tip.fresh.members.insert(one.user, of);
        Ok(())
    }

    /// Of a room that was here before: who is not in its state any more is out.
    fn drop_others(&mut self, arrived: &[Arrived], at: Pos) -> Result<(), RoomError> {
        let room = self.tip.room;
        let there: std::collections::HashSet<UserNid> =
            arrived.iter().map(|one| one.user).collect();
        let rows = self.snap.scan::<t::MemberTable>(Scan::prefix(&room));
        let gone: Vec<(UserNid, Member)> = rows
            .map(|row| row.map(|((_, user), member)| (user, member)))
            .filter(|row| row.as_ref().map_or(true, |(user, _)| !there.contains(user)))
            .collect::<Result<_, _>>()?;
        for (user, mut row) in gone {
            if matches!(row.membership, Membership::Leave) {
                continue;
            }
            (row.membership, row.pos) = (Membership::Leave, at);
            self.w.put::<t::MemberTable>(&(room, user), &row);
            let of = MemberOf {
                membership: Membership::Leave,
                event: row.event,
                pos: at,
                since: at,
            };
            if !row.forgotten {
                self.w.put::<t::MemberOfTable>(&(user, room), &of);
            }
            self.tip.fresh.members.insert(user, of);
        }
        Ok(())
    }

    /// Whether what the join names and the state allow it.
    fn check_join(&mut self, event: &Arc<StoredEvent>) -> Result<(), RoomError> {
        let rooms = self.rooms;
        let mut missing = Missing::default();
        let named = rooms.allowing(&self.snap, &self.tip.fresh, event, &mut missing)?;
        if !missing.is_empty() {
            return Err(unfit("what the join rests on is not here"));
        }
        let ruled = RuledEvent::new(event.clone(), false);
        let by_named = rooms.check_named(&ruled, &named, false);
        by_named.map_err(|refusal| RoomError::Forbidden(refusal.reason))?;
        let by_state = rooms.check_by_tip(&self.snap, &mut self.tip, &ruled)?;
        by_state.map_err(|refusal| RoomError::Forbidden(refusal.reason))
    }

    fn put_room(&mut self, (nid, create): (EventNid, Arc<StoredEvent>)) -> Result<(), RoomError> {
        let content = create.content_object().unwrap_or_default();
        let row = RoomRow {
            version: create.version().number(),
            create: nid,
            creator: self.rooms.user(create.sender())?,
            room_type: content.str("type").map(str::to_owned),
            since_ms: self.now_ms,
        };
        self.w.put::<t::Room>(&self.tip.room, &row);
        Ok(())
    }

    /// The join is the end of the room, behind a hole.
    fn place_join(&mut self, event: &Arc<StoredEvent>) -> Result<(), RoomError> {
        let rooms = self.rooms;
        let mut missing = Vec::new();
        for id in event.prev_events() {
            let nid = rooms.store().event_nid(&self.snap, &id)?;
            let meta = match nid {
                Some(nid) => rooms.meta(&self.snap, nid)?,
                None => None,
            };
            if meta.is_none_or(|meta| meta.is_outlier() || meta.room != self.tip.room) {
                missing.push(id);
            }
        }
        let placing = Placing {
            before: self.tip.now(),
            behind: Vec::new(),
            missing,
            covered: false,
            send_on: false,
            sent: None,
        };
        let (w, tip) = (&mut self.w, &mut self.tip);
        rooms.place(w, &self.snap, tip, event.clone(), placing)?;
        // The server that took it sends it to the others.
        w.delete::<PduOut>(&tip.head.last);
        Ok(())
    }
}

fn unfit(what: &str) -> RoomError {
    RoomError::InvalidParam(format!("The other server's answer does not fit: {what}"))
}
