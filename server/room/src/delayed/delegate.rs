//! Delayed events that are handed over to the server (MSC4195): it restarts them while a member
//! of a call is connected, and sends them when the member is gone. Who is connected is known to
//! whoever speaks with the call's server; here stands what was handed over.

use skerry_core::UserNid;
use skerry_store::schema::room_timed::{self as t, DelayedStep, DelegatedRow};
use skerry_store::{Scan, Snapshot, StoreError, Write};

use super::{DelayedAction, due_ms, unknown};
use crate::{RoomError, Rooms};

/// A delayed event that was handed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delegation {
    /// The call server's name of the room.
    pub room: String,
    /// Its name of the member.
    pub identity: String,
    /// The delayed event.
    pub delay_id: String,
}

/// One of them, as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delegated {
    /// What was handed over.
    pub what: Delegation,
    /// When, in ms since the epoch.
    pub since_ms: u64,
    /// Whether the member was seen to be connected.
    pub connected: bool,
    /// When the event is sent otherwise, in ms since the epoch.
    pub due_ms: u64,
    /// How long it is delayed, in ms.
    pub delay_ms: u64,
}

impl Rooms {
    /// Whether a user is joined to a room, both by id.
    ///
    /// # Errors
    /// The store's.
    pub async fn is_member(&self, user_id: &str, room_id: &str) -> Result<bool, RoomError> {
        let (user_id, room_id) = (user_id.to_owned(), room_id.to_owned());
        self.query(move |this, snap| {
            let store = this.store();
            let found = store.user_nid(&user_id)?.zip(store.room_nid(&room_id)?);
            match found {
                Some((user, room)) => Ok(this.is_joined(snap, room, user)?),
                None => Ok(false),
            }
        })
        .await
    }

    /// Whether somebody of another server is in a room that is given by its id.
    ///
    /// # Errors
    /// The store's.
    pub async fn server_is_there(&self, room_id: &str, server: &str) -> Result<bool, RoomError> {
        let (server, room_id) = (server.to_owned(), room_id.to_owned());
        self.query(move |this, snap| {
            let store = this.store();
            let found = store.room_nid(&room_id)?.zip(store.server_nid(&server)?);
            match found {
                Some((room, server)) => Ok(this.is_server_in(snap, room, server)?),
                None => Ok(false),
            }
        })
        .await
    }

    /// Takes over a delayed event of a user for a room, delayed by at least `least_ms`; what was
    /// handed over for the same member before is let go.
    ///
    /// # Errors
    /// `InvalidParam` for an event that is not theirs, not for this room, over, or delayed by
    /// less; the store's.
    pub async fn delegate(
        &self,
        user: UserNid,
        room_id: &str,
        delegation: Delegation,
        least_ms: u64,
    ) -> Result<(), RoomError> {
        const WRONG: &str = "This delayed event cannot be handed over";
        let wrong = || RoomError::InvalidParam(WRONG.into());
        let room = self.store().room_nid(room_id)?.ok_or_else(wrong)?;
        let id = delegation.delay_id.clone();
        let lane = self.inner.delay_lanes.lock(user).await;
        let this = self.clone();
        let edit = this.edit_delayed(room, id, move |this, snap, w, id, row| {
            if row.user != user || row.room != room || row.end.is_some() || row.delay_ms < least_ms
            {
                return Err(wrong());
            }
            this.release_others(snap, w, user, &delegation)?;
            let row = DelegatedRow {
                room: delegation.room,
                identity: delegation.identity,
                since_ms: this.inner.clock.now_ms(),
                connected: false,
            };
            w.put::<t::Delegated>(&id.to_owned(), &row);
            Ok(())
        });
        let done = edit.await;
        drop(lane);
        match done {
            Err(RoomError::NotFound(_)) => Err(wrong()),
            done => done,
        }
    }

    fn release_others(
        &self,
        snap: &Snapshot,
        w: &mut Write,
        user: UserNid,
        delegation: &Delegation,
    ) -> Result<(), StoreError> {
        for row in snap.scan::<t::DelayedOf>(Scan::prefix(&(user, DelayedStep::Send))) {
            let ((.., id), ()) = row?;
            let other = snap.get::<t::Delegated>(&id)?;
            if other.is_some_and(|other| {
                other.room == delegation.room && other.identity == delegation.identity
            }) {
                w.delete::<t::Delegated>(&id);
            }
        }
        Ok(())
    }

    /// Everything that was handed over.
    ///
    /// # Errors
    /// The store's.
    pub async fn delegated(&self) -> Result<Vec<Delegated>, RoomError> {
        self.query(|_, snap| {
            let mut all = Vec::new();
            for row in snap.scan::<t::Delegated>(Scan::all()) {
                let (delay_id, row) = row?;
                let Some(delayed) = snap.get::<t::Delayed>(&delay_id)? else {
                    continue;
                };
                all.push(Delegated {
                    what: Delegation {
                        room: row.room,
                        identity: row.identity,
                        delay_id,
                    },
                    since_ms: row.since_ms,
                    connected: row.connected,
                    due_ms: due_ms(&delayed),
                    delay_ms: delayed.delay_ms,
                });
            }
            Ok(all)
        })
        .await
    }

    /// Notes that the member of a delegation was seen to be connected (`true`), or lets the
    /// delegation go.
    ///
    /// # Errors
    /// The store's.
    pub async fn settle_delegated(&self, delay_id: &str, connected: bool) -> Result<(), RoomError> {
        let id = delay_id.to_owned();
        let asked = id.clone();
        let row = self
            .query(move |_, snap| Ok(snap.get::<t::Delayed>(&asked)?))
            .await?;
        let room = row.ok_or_else(unknown)?.room;
        self.edit_delayed(room, id, move |_, snap, w, id, _| {
            let id = id.to_owned();
            match snap.get::<t::Delegated>(&id)? {
                Some(mut row) if connected => {
                    row.connected = true;
                    w.put::<t::Delegated>(&id, &row);
                }
                _ => w.delete::<t::Delegated>(&id),
            }
            Ok(())
        })
        .await
    }

    /// A member has hung up: what they handed over is sent.
    ///
    /// # Errors
    /// As [`Rooms::update_delayed`].
    pub async fn hung_up(&self, room: &str, identity: &str) -> Result<(), RoomError> {
        for one in self.delegated().await? {
            if one.what.room == room && one.what.identity == identity {
                self.update_delayed(&one.what.delay_id, DelayedAction::Send)
                    .await?;
            }
        }
        Ok(())
    }
}
