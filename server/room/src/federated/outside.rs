//! Memberships of our users in rooms that this server does not take part in: they are invited,
//! have knocked, or have declined.
//!
//! Such a membership is a row by user alone, with what the room showed of itself. Rows by room
//! say what the state of the room says, and that is not known here. The event is an outlier: it
//! is in no timeline, but it has a place of its own in the log.

use std::sync::Arc;

use skerry_core::build::{self, EventRef, Place};
use skerry_core::canonical::Object;
use skerry_core::{Membership, Order, RoomNid, StateId, StoredEvent, UserNid, names};
use skerry_store::schema::federation::Unjudged;
use skerry_store::schema::room as t;
use skerry_store::schema::room::{EventMeta, EventRow, MemberOf};
use skerry_store::{Change, Snapshot, StoreError, Write};

use super::shown;
use crate::{RoomError, Rooms, Who};

/// An invite or a knock of a user in a room that this server does not take part in.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// Which of the two.
    pub membership: Membership,
    /// The member event.
    pub event: Arc<StoredEvent>,
}

/// A membership to be noted.
pub(super) struct Outside<'a> {
    pub(super) room: RoomNid,
    pub(super) user: UserNid,
    pub(super) event: &'a StoredEvent,
    /// What the room shows of itself, if that is to be kept.
    pub(super) stripped: Option<Vec<u8>>,
}

impl Rooms {
    /// The invite or knock of a user in a room, if it is no membership of a room this server
    /// takes part in.
    ///
    /// # Errors
    /// The store's.
    pub fn waiting(
        &self,
        snap: &Snapshot,
        user: UserNid,
        room_id: &str,
    ) -> Result<Option<Waiting>, StoreError> {
        let Some(room) = self.store().room_nid(room_id)? else {
            return Ok(None);
        };
        self.waiting_in(snap, user, room)
    }

    pub(crate) fn waiting_in(
        &self,
        snap: &Snapshot,
        user: UserNid,
        room: RoomNid,
    ) -> Result<Option<Waiting>, StoreError> {
        let Some(of) = self.member_of(snap, user, room)? else {
            return Ok(None);
        };
        if !matches!(of.membership, Membership::Invite | Membership::Knock) {
            return Ok(None);
        }
        // The room's own row: the event is part of its state.
        let held = self.member(snap, room, user)?;
        if held.is_some_and(|held| held.event == of.event) && self.is_here(snap, room)? {
            return Ok(None);
        }
        Ok(self.event(snap, of.event)?.map(|held| Waiting {
            membership: of.membership,
            event: Arc::new(held.event),
        }))
    }

    /// A user of ours has left a room that this server does not take part in, or declined its
    /// invite, or taken a knock back: by an event that another server of the room took, or, where
    /// none could be told, by none. Without such a membership, nothing changes.
    ///
    /// # Errors
    /// `InvalidParam` for an event that is not the user's own leave; the store's.
    pub async fn left_elsewhere(
        &self,
        who: Who,
        room_id: &str,
        event: Option<Arc<StoredEvent>>,
        reason: Option<String>,
    ) -> Result<(), RoomError> {
        if let Some(event) = &event {
            check_own(event, &who, room_id, Membership::Leave)?;
        }
        let Some(room) = self.store().room_nid(room_id)? else {
            return Ok(());
        };
        let lane = self.inner.lanes.lock(room).await;
        self.write(lane, move |this| {
            let snap = this.newest();
            let mut w = this.store().write();
            if let Some(waiting) = this.waiting_in(&snap, who.user, room)? {
                let event = match event {
                    Some(event) => event,
                    None => match this.farewell(&who, &waiting.event, reason) {
                        Ok(event) => Arc::new(event),
                        Err(RoomError::Store(error)) => return Err(error),
                        Err(refusal) => return Ok((Err(refusal), this.store().barrier())),
                    },
                };
                this.put_outside(
                    &mut w,
                    &snap,
                    Outside {
                        room,
                        user: who.user,
                        event: &event,
                        stripped: None,
                    },
                )?;
            }
            this.commit_outside(w)
        })
        .await
    }

    /// A user of ours has knocked on a room that this server does not take part in, and another
    /// server took the event. `stripped` is what that server shows of the room.
    ///
    /// # Errors
    /// `InvalidParam` for an event that is not the user's own knock; the store's.
    pub async fn knocked(
        &self,
        who: Who,
        room_id: &str,
        event: Arc<StoredEvent>,
        stripped: Vec<Object>,
    ) -> Result<(), RoomError> {
        check_own(&event, &who, room_id, Membership::Knock)?;
        let room = self.store().intern_room(room_id)?;
        let lane = self.inner.lanes.lock(room).await;
        self.write(lane, move |this| {
            let snap = this.newest();
            let mut w = this.store().write();
            let stripped = Some(shown::clean(&stripped, &event));
            let outside = Outside {
                room,
                user: who.user,
                event: &event,
                stripped,
            };
            this.put_outside(&mut w, &snap, outside)?;
            this.commit_outside(w)
        })
        .await
    }

    /// An event that ends the invite or the knock of a user of ours in a room that this server
    /// does not take part in, from a server that may: that of who invited, or one that knows the
    /// knock. Says whether it did; anything else changes nothing. The event's hash and signatures
    /// were checked by the caller; the room's rules cannot be.
    ///
    /// # Errors
    /// The store's.
    pub async fn taken_back(&self, event: Arc<StoredEvent>) -> Result<bool, RoomError> {
        let ends = matches!(
            event.membership(),
            Some(Membership::Leave | Membership::Ban)
        );
        let user_id = event.state_key().unwrap_or_default();
        let (user, room) = (
            self.store().user_nid(user_id)?,
            self.store().room_nid(event.room_id())?,
        );
        let Some((user, room)) = user.zip(room).filter(|_| ends && self.is_local(user_id)) else {
            return Ok(false);
        };
        let lane = self.inner.lanes.lock(room).await;
        self.write(lane, move |this| {
            let snap = this.newest();
            let mut w = this.store().write();
            let waiting = match this.is_here(&snap, room)? {
                true => None,
                false => this.waiting_in(&snap, user, room)?,
            };
            let ended = waiting.is_some_and(|waiting| may_end(&event, &waiting));
            if ended {
                let outside = Outside {
                    room,
                    user,
                    event: &event,
                    stripped: None,
                };
                this.put_outside(&mut w, &snap, outside)?;
            }
            let (answer, applied) = this.commit_outside(w)?;
            Ok((answer.map(|()| ended), applied))
        })
        .await
    }

    /// Whether a user waits in a room that this server takes part in by an invite that the room
    /// does not know, or knows no more.
    pub(crate) async fn waits_apart(&self, who: &Who, room: RoomNid) -> Result<bool, RoomError> {
        let user = who.user;
        self.query(move |this, snap| {
            Ok(this.is_here(snap, room)? && this.waiting_in(snap, user, room)?.is_some())
        })
        .await
    }

    /// Forgets a room that a user has left and that this server does not take part in. Says
    /// whether it is one.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn forget_outside(&self, who: &Who, room: RoomNid) -> Result<bool, RoomError> {
        let (lane, user) = (self.inner.lanes.lock(room).await, who.user);
        self.write(lane, move |this| {
            let snap = this.newest();
            let mut w = this.store().write();
            let of = this.member_of(&snap, user, room)?;
            let left =
                of.is_some_and(|of| matches!(of.membership, Membership::Leave | Membership::Ban));
            if left && !this.is_here(&snap, room)? {
                w.delete::<t::MemberOfTable>(&(user, room));
                if let Some(mut row) = this.member(&snap, room, user)? {
                    row.forgotten = true;
                    w.put::<t::MemberTable>(&(room, user), &row);
                }
            }
            let done = !w.is_empty();
            let (answer, applied) = this.commit_outside(w)?;
            Ok((answer.map(|()| done), applied))
        })
        .await
    }

    /// Our own leave after an invite or a knock, for ourselves alone.
    fn farewell(
        &self,
        who: &Who,
        after: &StoredEvent,
        reason: Option<String>,
    ) -> Result<StoredEvent, RoomError> {
        let mut content = Object::new();
        content.insert("membership", Membership::Leave.as_str());
        if let Some(reason) = reason {
            content.insert("reason", reason);
        }
        let draft = build::Draft {
            room_id: Some(after.room_id().to_owned()),
            sender: who.user_id.to_string(),
            event_type: "m.room.member".to_owned(),
            state_key: Some(who.user_id.to_string()),
            content,
            redacts: None,
            sticky_ms: None,
        };
        let last = [EventRef::of(after)];
        let place = Place {
            version: after.version(),
            prev: &last,
            auth: &last,
            origin_server_ts: self.inner.clock.now_ms(),
        };
        self.sign(draft, place)
    }

    /// Notes a membership. Inside the room's lane.
    pub(super) fn put_outside(
        &self,
        w: &mut Write,
        snap: &Snapshot,
        outside: Outside<'_>,
    ) -> Result<(), StoreError> {
        let Outside {
            room,
            user,
            event,
            stripped,
        } = outside;
        let Some(membership) = event.membership() else {
            return Ok(());
        };
        let was = self.member_of(snap, user, room)?;
        let known = self.store().event_nid(snap, event.event_id())?;
        let nid = known.unwrap_or_else(|| w.new_event(event.event_id()));
        let sender = self.user(event.sender())?;
        let at = w.log(Change::Timeline {
            room,
            event: nid,
            sender,
        });
        let meta = match known {
            Some(nid) => self.meta(snap, nid)?,
            None => None,
        };
        if meta.is_none_or(|meta| meta.flags & EventMeta::OUTLIER != 0) {
            let meta = EventMeta {
                room,
                order: Order::live(at),
                depth: event.depth(),
                sender,
                before: StateId(0),
                after: StateId(0),
                state_key: Some(
                    self.store()
                        .intern_state_key("m.room.member", event.state_key().unwrap_or_default())?,
                ),
                replaces: was.as_ref().map(|was| was.event),
                // It can be judged once the room is known.
                flags: EventMeta::OUTLIER | EventMeta::UNJUDGED,
            };
            w.put::<t::Meta>(&nid, &meta);
            w.put::<Unjudged>(&(room, nid), &());
            let row = EventRow {
                redacted_by: None,
                sent: None,
                event: event.encode(),
            };
            w.put::<t::Event>(&nid, &row);
        }
        let pos = w.log(Change::Member {
            room,
            user,
            membership,
        });
        let since = was
            .filter(|was| was.membership == membership)
            .map_or(pos, |was| was.since);
        let row = MemberOf {
            membership,
            event: nid,
            pos,
            since,
        };
        w.put::<t::MemberOfTable>(&(user, room), &row);
        match stripped {
            Some(stripped) => w.put::<t::Stripped>(&(user, room), &stripped),
            None => w.delete::<t::Stripped>(&(user, room)),
        }
        self.tell_appservices_outside(w, event);
        Ok(())
    }

    /// Commits what [`Self::put_outside`] wrote: no room moved.
    pub(super) fn commit_outside(
        &self,
        w: Write,
    ) -> Result<crate::change::Outcome<()>, StoreError> {
        if w.is_empty() {
            return Ok((Ok(()), self.store().barrier()));
        }
        Ok((Ok(()), self.commit(w, Vec::new())?))
    }
}

/// Whether an event of another server ends a membership that this server cannot judge.
fn may_end(event: &StoredEvent, waiting: &Waiting) -> bool {
    if event.version() != waiting.event.version() {
        return false;
    }
    match waiting.membership {
        Membership::Invite => {
            names::server_of(event.sender()) == names::server_of(waiting.event.sender())
        }
        // Only servers in the room know the event of the knock.
        _ => event
            .auth_events()
            .iter()
            .any(|id| id == waiting.event.event_id()),
    }
}

/// Whether it is an event by which a user moves themselves.
pub(super) fn check_own(
    event: &StoredEvent,
    who: &Who,
    room_id: &str,
    to: Membership,
) -> Result<(), RoomError> {
    let own = event.is("m.room.member", &who.user_id) && *event.sender() == *who.user_id;
    if own && event.room_id() == room_id && event.membership() == Some(to) {
        return Ok(());
    }
    Err(RoomError::InvalidParam(format!(
        "This is no {to} of the user in the room"
    )))
}
