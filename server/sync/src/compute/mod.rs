//! What changed for one device between its token and a snapshot.
//!
//! First it is asked what may have changed at all ([`changes`]), which costs nothing for a user
//! whom nothing concerned; then only those things are looked at. Looking at something that did
//! not change finds nothing, so a hint may be too broad but never too narrow.

pub(crate) mod changes;
pub(crate) mod devices;
pub(crate) mod ephemeral;
mod key_changes;
pub(crate) mod overview;
pub(crate) mod room;
mod state;
mod sticky;
pub(crate) mod stream;
pub(crate) mod summary;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use skerry_account::{EphemeralPos, data, e2e};
use skerry_core::{Membership, Pos, RoomNid};
use skerry_room::{MemberOf, Placed, RoomHead};
use skerry_store::{Snapshot, StoreError};

use crate::delta::{AccountEvent, Delta, StrippedRoom};
use crate::lazy::Handed;
use crate::sync::Inner;
use crate::{Request, SyncError, Token, filter};
use changes::{Changes, RoomHint};

/// One request against one snapshot.
pub(crate) struct Query<'a> {
    pub(crate) sync: &'a Inner,
    pub(crate) snap: &'a Snapshot,
    pub(crate) req: &'a Request,
    /// Presence is told up to here.
    presence_upto: EphemeralPos,
    /// Memberships of the user looked up so far.
    members: RefCell<HashMap<RoomNid, Option<MemberOf>>>,
    /// Ends of rooms looked up so far.
    heads: RefCell<HashMap<RoomNid, Option<Arc<RoomHead>>>>,
}

/// The rooms of the user with the memberships, read when first needed.
pub(crate) type Mine = Option<Arc<[(RoomNid, MemberOf)]>>;

/// A room that the user is or was in, as it is asked about.
#[derive(Clone)]
pub(crate) struct RoomAsk {
    pub room: RoomNid,
    pub room_id: Arc<str>,
    pub member: MemberOf,
    pub hint: RoomHint,
    /// The timeline is told from here; `None`: the room is new to the client.
    pub after: Option<Pos>,
    /// Where the client stands; a room it knows may still be new to it, by a later join.
    pub since: Option<Pos>,
    /// All of the state is told.
    pub full: bool,
    /// Timeline events at most.
    pub limit: usize,
    /// Sticky events to tell, unless the timeline shows them.
    pub sticky: Vec<Arc<Placed>>,
}

impl<'a> Query<'a> {
    pub(crate) fn new(sync: &'a Inner, snap: &'a Snapshot, req: &'a Request) -> Query<'a> {
        Query {
            sync,
            snap,
            req,
            presence_upto: sync.accounts.ephemeral().current(),
            members: RefCell::default(),
            heads: RefCell::default(),
        }
    }

    /// For a reader who waits: presence comes with the others', not one change at a time.
    pub(crate) fn patient(mut self) -> Query<'a> {
        let seen = self.req.since.and_then(|token| {
            let boot = self.sync.accounts.ephemeral().boot();
            token.presence_in(boot)
        });
        let told = self.sync.notifier.presence_told();
        self.presence_upto = told.max(EphemeralPos(seen.unwrap_or(0)));
        self
    }
}

impl Query<'_> {
    /// Everything new.
    pub(crate) fn run(&self) -> Result<Delta, SyncError> {
        let head = self.snap.head();
        let since = self.req.since.map(|token| token.pos);
        if since.is_some_and(|since| since > head) {
            return Err(SyncError::UnknownPos);
        }
        let counts = e2e::key_counts(self.snap, self.req.user, &self.req.device)?;
        let keys_changed = since.is_some_and(|since| counts.pos > since);
        // Positions first, what they stand for after: what comes in between is told twice.
        let mut delta = Delta::new(self.next(), counts);
        delta.keys_changed = keys_changed;
        if self.req.filter.lazy() {
            self.sync.lazy.begin(self.req.user, &self.req.device, since);
        }
        self.to_device(&mut delta)?;
        let mut mine = None;
        let changes = self.changes(&mut mine)?;
        let mut handed = Vec::new();
        self.rooms(&changes, &mut mine, &mut delta, &mut handed)?;
        self.account_data(&changes, &mut delta)?;
        let moves = self.moves(&changes)?;
        if let Some(since) = since {
            delta.device_lists = self.device_lists(&changes, &moves, &mut mine, since)?;
        }
        delta.presence = self.presence(&moves)?;
        let reader = (self.req.user, &self.req.device);
        self.sync.lazy.told(reader, since, head, &handed);
        Ok(delta)
    }

    /// Where the client will stand.
    pub(crate) fn next(&self) -> Token {
        let pos = self.snap.head();
        let ephemeral = self.sync.accounts.ephemeral();
        Token {
            pos,
            to_device: pos,
            sticky: pos,
            boot: ephemeral.boot(),
            typing: self.sync.rooms.typing().pos(),
            presence: self.presence_upto.0,
        }
    }

    /// What may have changed.
    pub(crate) fn changes(&self, mine: &mut Mine) -> Result<Changes, StoreError> {
        let (me, head) = (self.req.user, self.snap.head());
        let Some(since) = self.req.since.map(|token| token.pos) else {
            return self.everything(mine, Pos::ZERO);
        };
        if self.req.full_state {
            return self.everything(mine, since);
        }
        if since == head {
            return Ok(Changes::none());
        }
        let most = self.sync.facts_max;
        if let Some(news) = self.sync.notifier.news(self.snap, me, since, most)? {
            return Ok(Changes::from_news(&news, me));
        }
        match self.sync.notifier.facts(self.snap, since, most)? {
            Some(facts) => Ok(Changes::from_facts(&facts, me)),
            None => {
                let mine = self.mine(mine)?;
                Ok(Changes::from_positions(&self.sync.rooms, &mine, since))
            }
        }
    }

    /// Every room, and all that positions say beside.
    fn everything(&self, mine: &mut Mine, since: Pos) -> Result<Changes, StoreError> {
        let mine = self.mine(mine)?;
        let mut changes = Changes::from_positions(&self.sync.rooms, &mine, since);
        changes
            .rooms
            .values_mut()
            .for_each(|hint| *hint = RoomHint::ALL);
        Ok(changes)
    }

    /// The rooms of the user.
    pub(crate) fn mine(&self, mine: &mut Mine) -> Result<Arc<[(RoomNid, MemberOf)]>, StoreError> {
        if let Some(mine) = mine {
            return Ok(Arc::clone(mine));
        }
        let rooms: Arc<[_]> = self.sync.rooms.rooms_of(self.snap, self.req.user)?.into();
        *mine = Some(Arc::clone(&rooms));
        Ok(rooms)
    }

    /// Whether messages to the device may be waiting.
    pub(crate) fn has_messages(&self) -> Result<bool, StoreError> {
        Ok(e2e::last_message(self.snap, self.req.user, &self.req.device)?.is_some())
    }

    /// The user's membership of a room, unless they forgot it.
    pub(crate) fn member_of(&self, room: RoomNid) -> Result<Option<MemberOf>, StoreError> {
        if let Some(member) = self.members.borrow().get(&room) {
            return Ok(member.clone());
        }
        let member = self.sync.rooms.member_of(self.snap, self.req.user, room)?;
        self.members.borrow_mut().insert(room, member.clone());
        Ok(member)
    }

    /// The newest end of a room.
    pub(crate) fn head(&self, room: RoomNid) -> Result<Option<Arc<RoomHead>>, StoreError> {
        if let Some(head) = self.heads.borrow().get(&room) {
            return Ok(head.clone());
        }
        let head = self.sync.rooms.head(self.snap, room)?.map(Arc::new);
        self.heads.borrow_mut().insert(room, head.clone());
        Ok(head)
    }

    /// Messages to the device.
    fn to_device(&self, delta: &mut Delta) -> Result<(), StoreError> {
        let since = self.req.since.map_or(Pos::ZERO, |token| token.to_device);
        let (user, device) = (self.req.user, &*self.req.device);
        let waiting = e2e::waiting(self.snap, user, device, since, e2e::MESSAGES_PER_SYNC)?;
        delta.to_device = waiting.messages;
        delta.next.to_device = waiting.upto;
        Ok(())
    }

    /// Every room that may have changed, by what the user is there.
    fn rooms(
        &self,
        changes: &Changes,
        mine: &mut Mine,
        delta: &mut Delta,
        handed: &mut Vec<Handed>,
    ) -> Result<(), StoreError> {
        let mut visit = changes.rooms.clone();
        for room in self.typing_rooms() {
            visit.entry(room).or_default();
        }
        let mut sticky = self.sticky(&mut visit, mine, delta)?;
        let known: Option<BTreeMap<_, _>> = mine
            .as_ref()
            .map(|mine| mine.iter().map(|(room, m)| (*room, m.clone())).collect());
        let data = self.room_data(changes)?;
        for (room, hint) in visit {
            let member = match known.as_ref().and_then(|known| known.get(&room)) {
                Some(member) => Some(member.clone()),
                None => self.standing_in(room)?,
            };
            let Some(member) = member else { continue };
            let room_id = self.sync.rooms.store().room_id(room)?;
            if !self.req.filter.wants_room(&room_id) {
                continue;
            }
            let data = data.get(&room).map(Vec::as_slice).unwrap_or_default();
            let mut ask = self.ask(room, room_id, member, hint);
            ask.sticky = sticky.remove(&room).unwrap_or_default();
            self.room(&ask, data, delta, handed)?;
        }
        Ok(())
    }

    /// The user's membership of a room. One who left and forgot it since still has to be told
    /// on other devices, though the room is not among theirs any more.
    pub(crate) fn standing_in(&self, room: RoomNid) -> Result<Option<MemberOf>, StoreError> {
        let rooms = &self.sync.rooms;
        if let Some(member) = self.member_of(room)? {
            return Ok(Some(member));
        }
        let since = self.req.since.map_or(self.snap.head(), |token| token.pos);
        let member = rooms.member(self.snap, room, self.req.user)?;
        Ok(member
            .filter(|member| member.pos > since)
            .map(|member| MemberOf {
                membership: member.membership,
                event: member.event,
                pos: member.pos,
                since: member.pos,
            }))
    }

    fn ask(&self, room: RoomNid, room_id: Arc<str>, member: MemberOf, hint: RoomHint) -> RoomAsk {
        let since = self.req.since.map(|token| token.pos);
        let joined = member.membership == Membership::Join;
        // A room just left was known before: only what is new of it is told.
        let after = since.filter(|since| !joined || member.since <= *since);
        let full = after.is_none() || self.req.full_state;
        RoomAsk {
            room,
            room_id,
            member,
            hint,
            after,
            since,
            full,
            limit: self.req.filter.timeline_limit(),
            sticky: Vec::new(),
        }
    }

    /// One room, wherever it belongs in the answer.
    fn room(
        &self,
        ask: &RoomAsk,
        data: &[data::Datum],
        delta: &mut Delta,
        handed: &mut Vec<Handed>,
    ) -> Result<(), StoreError> {
        let since = self.req.since.map(|token| token.pos);
        let news = |pos: Pos| since.is_none_or(|since| pos > since) || self.req.full_state;
        match ask.member.membership {
            Membership::Join => {
                let (room, show) = self.joined(ask, data, handed)?;
                if show {
                    delta.joined.push(room);
                }
            }
            Membership::Invite if news(ask.member.pos) => {
                if !self.is_invited_by_ignored(ask)? {
                    delta.invited.push(self.stripped(ask)?);
                }
            }
            Membership::Knock if news(ask.member.pos) => delta.knocked.push(self.stripped(ask)?),
            Membership::Leave | Membership::Ban => {
                let recent = since.is_some_and(|since| ask.member.since > since);
                let all = self.req.filter.room.include_leave;
                let due = recent || (all && (since.is_none() || self.req.full_state));
                if due && !self.is_end_of_hidden(ask)? {
                    delta.left.push(self.left(ask, data, handed)?);
                }
            }
            Membership::Invite | Membership::Knock => {}
        }
        Ok(())
    }

    fn stripped(&self, ask: &RoomAsk) -> Result<StrippedRoom, StoreError> {
        let state = self
            .sync
            .rooms
            .stripped(self.snap, self.req.user, ask.room)?;
        let state = state.unwrap_or_else(|| b"[]".to_vec());
        Ok(StrippedRoom {
            room_id: Arc::clone(&ask.room_id),
            state,
        })
    }

    /// Whether all that ended is an invitation that the user does not want to see.
    pub(crate) fn is_end_of_hidden(&self, ask: &RoomAsk) -> Result<bool, StoreError> {
        self.sync
            .rooms
            .ended_hidden_invite(self.snap, self.req.user, ask.member.event)
    }

    /// Whether the user does not want to see the invitation.
    pub(crate) fn is_invited_by_ignored(&self, ask: &RoomAsk) -> Result<bool, StoreError> {
        self.sync
            .rooms
            .is_invite_hidden(self.snap, self.req.user, ask.member.event)
    }

    /// Global account data.
    fn account_data(&self, changes: &Changes, delta: &mut Delta) -> Result<(), SyncError> {
        if !changes.account_data {
            return Ok(());
        }
        let user = self.req.user;
        let data = match self.req.since {
            None => self.sync.accounts.global_account_data(self.snap, user)?,
            Some(token) => {
                let mut data = data::changed(self.snap, user, token.pos)?;
                data.retain(|datum| datum.room.is_none());
                data
            }
        };
        let wanted = &self.req.filter.account_data;
        let data = data.into_iter();
        let data = data.filter(|datum| filter::wants(wanted, &datum.kind, &self.req.user_id));
        delta.account_data = data.map(account_event).collect();
        Ok(())
    }

    /// Account data of rooms that changed since; of an initial sync each room reads its own.
    fn room_data(
        &self,
        changes: &Changes,
    ) -> Result<BTreeMap<RoomNid, Vec<data::Datum>>, StoreError> {
        let mut found: BTreeMap<RoomNid, Vec<data::Datum>> = BTreeMap::new();
        let Some(token) = self.req.since else {
            return Ok(found);
        };
        if changes.rooms.values().any(|hint| hint.account_data) {
            for datum in data::changed(self.snap, self.req.user, token.pos)? {
                if let Some(room) = datum.room {
                    found.entry(room).or_default().push(datum);
                }
            }
        }
        Ok(found)
    }
}

/// A piece of account data as it is told.
pub(crate) fn account_event(datum: data::Datum) -> AccountEvent {
    AccountEvent {
        kind: datum.kind,
        content: datum.json,
    }
}
