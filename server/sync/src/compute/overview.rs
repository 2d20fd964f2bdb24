//! Rooms at one glance, as the deprecated initial syncs give them: state, the newest events, and
//! what is kept beside.

use std::collections::BTreeSet;
use std::sync::Arc;

use skerry_account::data;
use skerry_core::{Membership, RoomNid};
use skerry_room::{Cut, Form, MemberOf, Placed, Standing, View};

use super::devices::Moves;
use super::{Query, account_event, ephemeral};
use crate::delta::{AccountEvent, EventList, Presence};
use crate::{SyncError, Token};

/// When the events of all rooms together have so many bytes, further rooms come without any.
const EVENT_BYTES: usize = 32 << 20;
/// Members whose presence is told also where they are offline; of a larger room it goes without
/// saying.
const OFFLINE_MAX: usize = 200;

/// All rooms of a user.
#[derive(Debug)]
pub struct Overview {
    /// Where the client stands once it has this.
    pub end: Token,
    /// The rooms.
    pub rooms: Vec<RoomOverview>,
    /// Presence of the user and of those who share a room with them.
    pub presence: Vec<Presence>,
    /// Global account data.
    pub account_data: Vec<AccountEvent>,
}

/// One room.
#[derive(Debug)]
pub struct RoomOverview {
    /// Its id.
    pub room_id: Arc<str>,
    /// What the user is there; `None` for who only looks into it.
    pub membership: Option<Membership>,
    /// The invite, and who sent it, where the user is invited.
    pub invite: Option<(Vec<u8>, Arc<str>)>,
    /// Whether the directory lists it.
    pub public: bool,
    /// What is inside; `None` for who may not look into it yet.
    pub inside: Option<Inside>,
    /// The user's data of the room.
    pub account_data: Vec<AccountEvent>,
}

/// What a reader sees of a room.
#[derive(Debug)]
pub struct Inside {
    /// The newest events, oldest first.
    pub events: EventList,
    /// The place before the first of them.
    pub start: String,
    /// The place after the last.
    pub end: String,
    /// The state.
    pub state: EventList,
    /// Receipts, each a JSON object without the room's id.
    pub receipts: Vec<Vec<u8>>,
    /// Presence of its members, for an overview of this room alone.
    pub presence: Vec<Presence>,
}

impl Query<'_> {
    /// All rooms of the user.
    pub(crate) fn overview(&self, limit: usize, archived: bool) -> Result<Overview, SyncError> {
        let (mut rooms, mut bytes) = (Vec::new(), 0);
        for (room, member) in self.sync.rooms.rooms_of(self.snap, self.req.user)? {
            let wanted = match member.membership {
                Membership::Join | Membership::Invite => true,
                Membership::Leave | Membership::Ban => archived,
                Membership::Knock => false,
            };
            if wanted && !self.is_unwanted(&member)? {
                let limit = if bytes > EVENT_BYTES { 0 } else { limit };
                let found = self.glance(room, &member, limit)?;
                let inside = found.inside.as_ref();
                bytes += inside.map_or(0, |inside| inside.events.json.len());
                rooms.push(found);
            }
        }
        let mut data = self
            .sync
            .accounts
            .global_account_data(self.snap, self.req.user)?;
        // Such clients ask for push rules by themselves.
        data.retain(|datum| datum.kind != "m.push_rules");
        let mut presence = self.presence(&Moves::default())?;
        if presence
            .iter()
            .all(|person| person.user_id != self.req.user_id)
        {
            presence.extend(self.presence_of(&BTreeSet::from([self.req.user]))?);
        }
        Ok(Overview {
            end: self.place_after(),
            rooms,
            presence,
            account_data: data.into_iter().map(account_event).collect(),
        })
    }

    /// One room, which the user may look into.
    pub(crate) fn one_room(&self, room: RoomNid, limit: usize) -> Result<RoomOverview, SyncError> {
        let mut view = self.view_of(room)?;
        view.check_readable()?;
        let membership = view.membership();
        let mut inside = self.inside(&mut view, limit)?;
        if !matches!(view.standing(), Standing::Departed { .. }) {
            let members = self.sync.rooms.joined_users(self.snap, room)?;
            inside.presence = self.presence_of(&members.into_iter().collect())?;
        }
        self.room_overview(&view, membership, Some(inside))
    }

    /// One of the user's rooms.
    fn glance(
        &self,
        room: RoomNid,
        member: &MemberOf,
        limit: usize,
    ) -> Result<RoomOverview, SyncError> {
        let mut view = self.view_of(room)?;
        let invited = member.membership == Membership::Invite;
        let outside = invited || view.standing() == Standing::Outside;
        let inside = (!outside).then(|| self.inside(&mut view, limit));
        let inside = inside.transpose()?;
        let mut found = self.room_overview(&view, Some(member.membership), inside)?;
        if invited && let Some(event) = self.own(room, member)? {
            let mut json = Vec::new();
            view.write_one(&event, Form::OLD, &mut json)?;
            found.invite = Some((json, event.event.sender().into()));
        }
        Ok(found)
    }

    fn own(&self, room: RoomNid, member: &MemberOf) -> Result<Option<Arc<Placed>>, SyncError> {
        Ok(self.sync.rooms.placed(self.snap, room, member.event)?)
    }

    fn room_overview(
        &self,
        view: &View,
        membership: Option<Membership>,
        inside: Option<Inside>,
    ) -> Result<RoomOverview, SyncError> {
        let room = view.room();
        let data = data::all(self.snap, self.req.user, Some(room))?;
        Ok(RoomOverview {
            room_id: Arc::clone(view.room_id()),
            membership,
            invite: None,
            public: self.sync.rooms.is_in_directory(self.snap, room)?,
            inside,
            account_data: data.into_iter().map(account_event).collect(),
        })
    }

    /// State and newest events: as they are, or as they were when the user left.
    fn inside(&self, view: &mut View, limit: usize) -> Result<Inside, SyncError> {
        let departed = match view.standing() {
            Standing::Departed { upto, .. } => Some(Cut::after(upto)),
            Standing::Joined | Standing::Outside => None,
        };
        let upto = departed.unwrap_or(Cut::at(self.snap.head()));
        let recent = view.recent(Cut::START, upto, limit, None)?;
        let mut events = Vec::with_capacity(64 + recent.events.len() * 512);
        view.write_bundled(&recent.events, Form::OLD, &mut events)?;
        let mut state = b"[]".to_vec();
        let mut count = 0;
        if let Some(id) = view.readable_state()? {
            let list = view.state_events(id)?;
            state.clear();
            count = list.len();
            view.write_plain(&list, Form::OLD_STATE, &mut state)?;
        }
        let receipts = match departed {
            Some(_) => Vec::new(),
            None => view.receipt_events(None)?,
        };
        Ok(Inside {
            events: EventList {
                json: events,
                count: recent.events.len(),
            },
            start: recent.prev_batch.to_string(),
            end: departed.map_or_else(|| self.place_after().to_string(), |cut| cut.to_string()),
            state: EventList { json: state, count },
            receipts,
            presence: Vec::new(),
        })
    }

    /// Where a client stands that was told everything but what was sent to its device.
    fn place_after(&self) -> Token {
        Token {
            to_device: skerry_core::Pos::ZERO,
            ..self.next()
        }
    }

    /// The presence of some people; of many, only where they are not offline.
    fn presence_of(
        &self,
        users: &BTreeSet<skerry_core::UserNid>,
    ) -> Result<Vec<Presence>, SyncError> {
        let board = self.sync.accounts.presence();
        let ignored = self.sync.accounts.ignored(self.snap, self.req.user)?;
        let mut told = Vec::new();
        for user in users.iter().filter(|user| !ignored.contains(user)) {
            let view = board.of(*user);
            let offline = view.state == skerry_account::PresenceState::Offline;
            if offline && users.len() > OFFLINE_MAX {
                continue;
            }
            told.push(Presence {
                user_id: self.sync.rooms.store().user_id(*user)?,
                content: ephemeral::content(&view),
            });
        }
        Ok(told)
    }
}
