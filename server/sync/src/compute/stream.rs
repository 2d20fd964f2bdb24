//! The deprecated stream of events: what happened, one thing after another, in all rooms of a
//! user or in one that they look into.

use std::sync::Arc;

use skerry_core::{Membership, Order, Pos, RoomNid};
use skerry_room::{Cut, Form, MemberOf, PageAsk, Placed, Standing, View, Viewer};

use super::Query;
use super::changes::Changes;
use super::ephemeral;
use crate::delta::{AccountEvent, Delta, Presence};
use crate::{SyncError, Token};

/// Something that happened.
#[derive(Debug)]
pub enum Happening {
    /// An event of a room, with the room's id in it.
    Event(Vec<u8>),
    /// Typing or receipts of a room: the room's id, and an event without it.
    Ephemeral(Arc<str>, Vec<u8>),
    /// Data of the user's own, of a room or in general.
    Data(Option<Arc<str>>, AccountEvent),
    /// Somebody's presence.
    Presence(Presence),
}

/// What happened after a place.
#[derive(Debug)]
pub(crate) struct Part {
    /// What, oldest first.
    pub happenings: Vec<Happening>,
    /// Where it ends.
    pub end: Token,
    /// Whether it is known that more is waiting.
    pub more: bool,
}

/// Events of rooms after a place, and up to where they are complete.
struct Events {
    /// With the views that they are written by.
    events: Vec<(usize, Arc<Placed>)>,
    views: Vec<View>,
    /// Not all is there beyond this; `None`: everything is there.
    upto: Option<Pos>,
}

impl Query<'_> {
    /// What happened after a place in the user's rooms.
    pub(crate) fn stream(&self, since: Token, limit: usize) -> Result<Part, SyncError> {
        let mut rooms = Vec::new();
        for (room, member) in self.sync.rooms.rooms_of(self.snap, self.req.user)? {
            let own = (member.pos > since.pos).then_some(member.event);
            if own.is_some() && self.is_unwanted(&member)? {
                continue;
            }
            let joined = member.membership == Membership::Join;
            if own.is_some() || (joined && self.sync.rooms.last_pos(room) > since.pos) {
                let mut view = self.view_of(room)?;
                let own = own.map(|own| self.sync.rooms.placed(self.snap, room, own));
                let own = own.transpose()?.flatten();
                rooms.push(self.happened(&mut view, since.pos, limit, own)?.with(view));
            }
        }
        let (mut happenings, upto) = write(rooms, limit)?;
        let Some(upto) = upto else {
            // The rest is told once the rooms are.
            let delta = self.run()?;
            happenings.extend(beside(delta));
            return Ok(self.part(happenings, since));
        };
        let end = Token { pos: upto, ..since };
        Ok(Part {
            happenings,
            end,
            more: true,
        })
    }

    /// Whether all there is of a room is an invite that the user does not want to see, or its end.
    pub(super) fn is_unwanted(&self, member: &MemberOf) -> Result<bool, SyncError> {
        let (rooms, user) = (&self.sync.rooms, self.req.user);
        Ok(match member.membership {
            Membership::Invite => rooms.is_invite_hidden(self.snap, user, member.event)?,
            Membership::Leave => rooms.ended_hidden_invite(self.snap, user, member.event)?,
            _ => false,
        })
    }

    /// What happened after a place in one room, which the user may look into.
    pub(crate) fn stream_of(
        &self,
        room: RoomNid,
        since: Token,
        limit: usize,
    ) -> Result<Part, SyncError> {
        let mut view = self.view_of(room)?;
        let room_id = Arc::clone(view.room_id());
        let mut last = self.ephemeral_of(&view, since)?;
        let found = self.happened(&mut view, since.pos, limit, None)?;
        let (mut happenings, upto) = write(vec![found.with(view)], limit)?;
        if let Some(upto) = upto {
            let end = Token { pos: upto, ..since };
            return Ok(Part {
                happenings,
                end,
                more: true,
            });
        }
        let ephemeral = last.0.drain(..);
        happenings.extend(ephemeral.map(|json| Happening::Ephemeral(Arc::clone(&room_id), json)));
        happenings.extend(last.1.into_iter().map(Happening::Presence));
        Ok(self.part(happenings, since))
    }

    /// Everything up to the snapshot.
    fn part(&self, happenings: Vec<Happening>, since: Token) -> Part {
        Part {
            happenings,
            end: Token {
                // Such a client is told nothing that was sent to its device.
                to_device: since.to_device,
                ..self.next()
            },
            more: false,
        }
    }

    /// Whether the user may listen to a room: in it, or everybody may look into it.
    pub(crate) fn may_listen(&self, room: RoomNid) -> Result<bool, SyncError> {
        let view = self.view_of(room)?;
        Ok(view.standing() == Standing::Joined || view.is_world_readable()?)
    }

    pub(super) fn view_of(&self, room: RoomNid) -> Result<View, SyncError> {
        let viewer = Viewer {
            user: self.req.user,
            user_id: Arc::clone(&self.req.user_id),
            device: Arc::clone(&self.req.device),
        };
        Ok(self.sync.rooms.view(self.snap, &viewer, room)?)
    }

    /// The events of one room after a place, with the user's own new membership.
    fn happened(
        &self,
        view: &mut View,
        since: Pos,
        limit: usize,
        own: Option<Arc<Placed>>,
    ) -> Result<Found, SyncError> {
        let head = Cut::at(self.snap.head());
        let page = view.page(PageAsk {
            from: Cut::at(since),
            to: Some(head),
            back: false,
            limit,
            filter: None,
        })?;
        let upto = page.end.filter(|_| page.more).map(Cut::pos);
        let mut events = page.events;
        // Also where it is all that the user may see of the room.
        let is_there = |own: &Placed| events.iter().any(|event| event.nid == own.nid);
        if let Some(own) = own.filter(|own| !is_there(own)) {
            events.push(own);
        }
        Ok(Found { events, upto })
    }

    /// Receipts and typing of a room, and the presence of those in it, that changed since.
    fn ephemeral_of(
        &self,
        view: &View,
        since: Token,
    ) -> Result<(Vec<Vec<u8>>, Vec<Presence>), SyncError> {
        let mut events = view.receipt_events(Some(since.pos))?;
        events.extend(self.typing_in(view.room(), since)?);
        let boot = self.sync.accounts.ephemeral().boot();
        let seen = since.presence_in(boot).unwrap_or(0);
        let board = self.sync.accounts.presence();
        let mut presence = Vec::new();
        for person in board.changed_since(skerry_account::EphemeralPos(seen)) {
            let rooms = &self.sync.rooms;
            if rooms.is_joined(self.snap, view.room(), person.user)? {
                presence.push(Presence {
                    user_id: rooms.store().user_id(person.user)?,
                    content: ephemeral::content(&person),
                });
            }
        }
        Ok((events, presence))
    }

    /// Who types in a room, if that changed.
    fn typing_in(&self, room: RoomNid, since: Token) -> Result<Option<Vec<u8>>, SyncError> {
        let boot = self.sync.accounts.ephemeral().boot();
        let seen = since.typing_in(boot).unwrap_or(0);
        let Some(users) = self.sync.rooms.typing().since(room, seen) else {
            return Ok(None);
        };
        let ids = users
            .iter()
            .map(|user| self.sync.rooms.store().user_id(*user));
        let ids = ids.collect::<Result<Vec<_>, _>>()?;
        Ok(ephemeral::typing_event(&ids))
    }

    /// Whether nothing that a listener to one room is told of changed after a place. What is not
    /// known counts as a change.
    pub(crate) fn is_quiet_in(&self, room: RoomNid, since: Token) -> Result<bool, SyncError> {
        let Some(facts) = self
            .sync
            .notifier
            .facts(self.snap, since.pos, self.sync.facts_max)?
        else {
            return Ok(false);
        };
        let changes = Changes::from_facts(&facts, self.req.user);
        let hint = changes.rooms.get(&room);
        let quiet = hint.is_none_or(|hint| !hint.timeline && !hint.receipts);
        let ephemeral = self.sync.accounts.ephemeral();
        let boot = ephemeral.boot();
        Ok(quiet
            && since.typing_in(boot) == Some(self.sync.rooms.typing().pos())
            && since.presence_in(boot) == Some(ephemeral.current().0))
    }
}

/// Events found in one room.
struct Found {
    events: Vec<Arc<Placed>>,
    upto: Option<Pos>,
}

impl Found {
    fn with(self, view: View) -> (Found, View) {
        (self, view)
    }
}

/// The first events of some rooms in the order in which they came, written; and up to where they
/// are complete, where that is not the end.
fn write(
    rooms: Vec<(Found, View)>,
    limit: usize,
) -> Result<(Vec<Happening>, Option<Pos>), SyncError> {
    let mut all = Events {
        events: Vec::new(),
        views: Vec::new(),
        upto: None,
    };
    for (found, view) in rooms {
        let at = all.views.len();
        all.views.push(view);
        all.events
            .extend(found.events.into_iter().map(|event| (at, event)));
        all.upto = match (all.upto, found.upto) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }
    all.events.sort_by_key(|(_, event)| event.order());
    if let Some(upto) = all.upto {
        all.events
            .retain(|(_, event)| event.order() <= Order::live(upto));
    }
    if all.events.len() > limit {
        all.events.truncate(limit);
        all.upto = all.events.last().map(|(_, event)| event.order().anchor);
    }
    let mut happenings = Vec::with_capacity(all.events.len());
    for (at, event) in &all.events {
        if let Some(view) = all.views.get_mut(*at) {
            let mut json = Vec::with_capacity(512);
            view.write_one(event, Form::OLD, &mut json)?;
            happenings.push(Happening::Event(json));
        }
    }
    Ok((happenings, all.upto))
}

/// What a delta tells beside events.
fn beside(delta: Delta) -> Vec<Happening> {
    let mut all = Vec::new();
    for room in delta.joined {
        let id = room.room_id;
        let ephemeral = room.ephemeral.into_iter();
        all.extend(ephemeral.map(|json| Happening::Ephemeral(Arc::clone(&id), json)));
        let data = room.account_data.into_iter();
        all.extend(data.map(|data| Happening::Data(Some(Arc::clone(&id)), data)));
    }
    let data = delta.account_data.into_iter();
    all.extend(data.map(|data| Happening::Data(None, data)));
    all.extend(delta.presence.into_iter().map(Happening::Presence));
    all
}
