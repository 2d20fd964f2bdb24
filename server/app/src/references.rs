//! Who needs media: rooms, invites, profiles, account data and the configuration, asked for
//! `skerry-media`, which knows none of them.

use std::collections::BTreeSet;
use std::sync::Arc;

use skerry_account::{Accounts, data, profile};
use skerry_core::{RoomNid, UserNid};
use skerry_media::find_mxc;
use skerry_media::prune::{Readable, References, RoomPeople, Spot, Tell};
use skerry_room::{Rooms, TextAt};
use skerry_store::outbox::{self, Dest};
use skerry_store::{Change, Snapshot, Store, StoreError};

/// What the house knows of media.
pub struct HouseReferences {
    store: Arc<Store>,
    accounts: Accounts,
    rooms: Rooms,
    /// Texts of the configuration.
    settings: Vec<String>,
}

impl HouseReferences {
    /// Of these facades, and of texts of the configuration that may name media.
    #[must_use]
    pub fn new(accounts: Accounts, rooms: Rooms, settings: Vec<String>) -> HouseReferences {
        HouseReferences {
            store: Arc::clone(rooms.store()),
            accounts,
            rooms,
            settings,
        }
    }

    /// Everything that one entry of the log brought; rooms whose state may have changed go into
    /// the set.
    fn of_change(
        &self,
        (old, new): (&Snapshot, &Snapshot),
        change: Change,
        rooms: &mut BTreeSet<RoomNid>,
        tell: &mut Tell<'_>,
    ) -> Result<(), StoreError> {
        match change {
            Change::Timeline { room, event, .. } => {
                rooms.insert(room);
                self.rooms.event_text(new, room, event, &mut in_rooms(tell))
            }
            Change::Member { room, user, .. } => {
                rooms.insert(room);
                self.rooms
                    .stripped_text(new, room, user, &mut in_rooms(tell))
            }
            Change::Profile { user } => {
                for (_, value) in profile::fields(new, user)? {
                    let spot = Spot::Profile { user };
                    find_mxc(&value.to_string(), &mut |server, id| tell(server, id, spot));
                }
                Ok(())
            }
            Change::AccountData { user, .. } => {
                for datum in data::changed(new, user, old.head())? {
                    let spot = Spot::AccountData { user };
                    find_mxc(&datum.json, &mut |server, id| tell(server, id, spot));
                }
                Ok(())
            }
            Change::Receipt { .. }
            | Change::ToDevice { .. }
            | Change::DeviceList { .. }
            | Change::Keys { .. }
            | Change::PrivateList { .. }
            | Change::Pusher { .. }
            | Change::Redacted { .. }
            | Change::ThreadSubscription { .. } => Ok(()),
        }
    }

    fn user_name(&self, user: UserNid) -> String {
        let name = self.store.user_id(user);
        name.map_or_else(|_| "somebody".to_owned(), |name| name.to_string())
    }

    fn room_name(&self, room: RoomNid) -> String {
        let name = self.store.room_id(room);
        name.map_or_else(|_| "a room".to_owned(), |name| name.to_string())
    }
}

/// Looks for URIs in the texts of rooms.
fn in_rooms<'a>(tell: &'a mut Tell<'_>) -> impl FnMut(TextAt, &str) + 'a {
    |at, text| {
        let spot = match at {
            TextAt::State { room, event } => Spot::State { room, event },
            TextAt::Pinned { room, event } => Spot::Pinned { room, event },
            TextAt::Stripped { room, user } => Spot::Stripped { room, user },
            TextAt::Event { room, event } => Spot::Message { room, event },
        };
        find_mxc(text, &mut |server, id| tell(server, id, spot));
    }
}

impl References for HouseReferences {
    fn all(&self, snap: &Snapshot, tell: &mut Tell<'_>) -> Result<(), StoreError> {
        for text in &self.settings {
            find_mxc(text, &mut |server, id| tell(server, id, Spot::Setting));
        }
        self.rooms.current_texts(snap, &mut in_rooms(tell))?;
        profile::each(snap, &mut |user, json| {
            let spot = Spot::Profile { user };
            find_mxc(json, &mut |server, id| tell(server, id, spot));
        })?;
        data::each(snap, &mut |user, json| {
            let spot = Spot::AccountData { user };
            find_mxc(json, &mut |server, id| tell(server, id, spot));
        })
    }

    fn since(
        &self,
        old: &Snapshot,
        new: &Snapshot,
        tell: &mut Tell<'_>,
    ) -> Result<bool, StoreError> {
        let Some(changes) = new.changes(old.head(), new.head())? else {
            return Ok(false);
        };
        let mut rooms = BTreeSet::new();
        for change in changes {
            let (_, change) = change?;
            self.of_change((old, new), change, &mut rooms, tell)?;
        }
        for room in rooms {
            let mut tell = in_rooms(tell);
            self.rooms.changed_state_texts(old, new, room, &mut tell)?;
        }
        Ok(true)
    }

    fn in_room(
        &self,
        snap: &Snapshot,
        room_id: &str,
        tell: &mut Tell<'_>,
    ) -> Result<Option<Readable>, StoreError> {
        let read = self.rooms.room_texts(snap, room_id, &mut in_rooms(tell))?;
        Ok(read.map(|read| Readable {
            events: read.events,
            unreadable: read.unreadable,
        }))
    }

    fn people(&self, snap: &Snapshot, room_id: &str) -> Result<Option<RoomPeople>, StoreError> {
        let Some(users) = self.rooms.people_ever_in(snap, room_id)? else {
            return Ok(None);
        };
        let mut people = RoomPeople {
            users,
            ..RoomPeople::default()
        };
        for user in &people.users {
            let id = self.store.user_id(*user)?;
            if let Some((_, server)) = id.split_once(':') {
                people.servers.insert(server.to_owned());
            }
        }
        Ok(Some(people))
    }

    fn user(&self, user_id: &str) -> Result<Option<UserNid>, StoreError> {
        self.accounts.store().user_nid(user_id)
    }

    fn silent_since(&self, snap: &Snapshot, server: &str) -> Result<Option<u64>, StoreError> {
        let Some(server) = self.store.server_nid(server)? else {
            return Ok(None);
        };
        let standing = outbox::standing(snap, &Dest::Server(server))?;
        Ok(standing
            .map(|standing| standing.failing_since_ms)
            .filter(|since| *since > 0))
    }

    fn describe(&self, spot: Spot) -> String {
        match spot {
            Spot::State { room, event } | Spot::Message { room, event } => {
                let snap = self.store.snapshot();
                let held = self.rooms.event(&snap, event).ok().flatten();
                let kind = held.map_or_else(
                    || "an event".to_owned(),
                    |held| held.event.event_type().to_owned(),
                );
                format!("{kind} of {}", self.room_name(room))
            }
            Spot::Pinned { room, .. } => {
                format!("a pinned message of {}", self.room_name(room))
            }
            Spot::Stripped { room, user } => format!(
                "an invite or a knock of {} at {}",
                self.user_name(user),
                self.room_name(room)
            ),
            Spot::Profile { user } => format!("the profile of {}", self.user_name(user)),
            Spot::AccountData { user } => {
                format!("account data of {}", self.user_name(user))
            }
            Spot::Setting => "the configuration".to_owned(),
        }
    }
}
