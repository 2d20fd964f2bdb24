//! What another server may read of a room: the one place where that is decided.

use std::collections::HashMap;
use std::sync::Arc;

use skerry_core::visibility::HistoryVisibility;
use skerry_core::{EventNid, Membership, RoomNid, StateId, StateKeyNid, names};
use skerry_store::{Snapshot, StoreError};

use crate::read::visibility::visibility_of;
use crate::{Placed, RoomError, Rooms};

/// One server's view of one room on one snapshot.
pub(super) struct ServerReader<'a> {
    rooms: &'a Rooms,
    snap: &'a Snapshot,
    pub(super) room: RoomNid,
    server: &'a str,
    /// The server's users with a membership, as keys of state; read when first needed.
    users: Option<Vec<StateKeyNid>>,
    states: HashMap<StateId, Access>,
}

/// What a version of state says about a server's right to read.
#[derive(Clone, Copy)]
struct Access {
    visibility: HistoryVisibility,
    /// The server had a user who was joined, or at least one who was invited.
    joined: bool,
    invited: bool,
}

impl Rooms {
    /// The view of a server of a room given by id.
    ///
    /// # Errors
    /// `NotFound` for a room that this server does not take part in; `Forbidden` for a server
    /// that the room keeps out, or that has nobody in it; the store's.
    pub(super) fn server_reader<'a>(
        &'a self,
        snap: &'a Snapshot,
        room_id: &str,
        server: &'a str,
    ) -> Result<ServerReader<'a>, RoomError> {
        let unknown = || RoomError::NotFound("Nobody here is in the room".into());
        let room = self.store().room_nid(room_id)?.ok_or_else(unknown)?;
        let head = self.head(snap, room)?.ok_or_else(unknown)?;
        if head.joined <= head.remote {
            return Err(unknown());
        }
        if !self.acl_allows(snap, room, server)? {
            return Err(super::kept_out());
        }
        if !self.has_server(snap, room, server)? {
            let text = "Nobody of your server is in the room";
            return Err(RoomError::Forbidden(text.into()));
        }
        Ok(ServerReader {
            rooms: self,
            snap,
            room,
            server,
            users: None,
            states: HashMap::new(),
        })
    }
}

impl ServerReader<'_> {
    /// An event of the room by id, that the rules allow.
    pub(super) fn event(&self, event_id: &str) -> Result<Option<Arc<Placed>>, StoreError> {
        let Some(nid) = self.rooms.store().event_nid(self.snap, event_id)? else {
            return Ok(None);
        };
        let found = self.rooms.placed(self.snap, self.room, nid)?;
        Ok(found.filter(|event| !event.meta.is_rejected()))
    }

    /// The event as the server gets it: redacted where it may not see it, so that it can go on
    /// from there to what it may, and where its sender asked to be forgotten.
    pub(super) fn pdu(&mut self, event: &Placed) -> Result<String, StoreError> {
        let erased = || skerry_account::user::is_erased(self.snap, event.meta.sender);
        let whole = if event.event.is_state() {
            self.may_see(event)?
        } else {
            !erased()? && self.may_see(event)?
        };
        if whole {
            return Ok(event.event.json().to_owned());
        }
        let redacted = event.event.redacted();
        let redacted = redacted.map_err(|_| StoreError::missing("event", event.nid))?;
        Ok(redacted.json().to_owned())
    }

    /// Whether the history visibility of the room lets the server see an event.
    pub(super) fn may_see(&mut self, event: &Placed) -> Result<bool, StoreError> {
        let before = self.at(event.meta.before)?;
        let turns = matches!(
            event.event.event_type(),
            "m.room.history_visibility" | "m.room.member"
        );
        let after = match turns && event.event.is_state() {
            true => self.at(event.meta.after)?,
            false => before,
        };
        let joined = before.joined || after.joined;
        let invited = joined || before.invited || after.invited;
        let seen = |access: Access| match access.visibility {
            // Somebody of the server is in the room now.
            HistoryVisibility::WorldReadable | HistoryVisibility::Shared => true,
            HistoryVisibility::Invited => invited,
            HistoryVisibility::Joined => joined,
        };
        Ok(seen(before) || seen(after))
    }

    /// What a version of state says.
    fn at(&mut self, state: StateId) -> Result<Access, StoreError> {
        if let Some(access) = self.states.get(&state) {
            return Ok(*access);
        }
        let mut access = Access {
            visibility: HistoryVisibility::Shared,
            joined: false,
            invited: false,
        };
        if state != StateId(0) {
            let map = self.rooms.state_map(self.snap, state)?;
            let event = self.rooms.in_state(&map, "m.room.history_visibility", "")?;
            if let Some(event) = self.placed(event)? {
                access.visibility = visibility_of(&event.event);
            }
            let wanted = match access.visibility {
                HistoryVisibility::WorldReadable | HistoryVisibility::Shared => Vec::new(),
                _ => self.users()?.to_vec(),
            };
            for key in wanted {
                let event = self.placed(map.get(key))?;
                match event.and_then(|event| event.membership()) {
                    Some(Membership::Join) => access.joined = true,
                    Some(Membership::Invite) => access.invited = true,
                    _ => {}
                }
                if access.joined {
                    break;
                }
            }
        }
        self.states.insert(state, access);
        Ok(access)
    }

    fn placed(&self, event: Option<EventNid>) -> Result<Option<Arc<Placed>>, StoreError> {
        match event {
            Some(event) => self.rooms.placed(self.snap, self.room, event),
            None => Ok(None),
        }
    }

    fn users(&mut self) -> Result<&[StateKeyNid], StoreError> {
        let users = match self.users.take() {
            Some(users) => users,
            None => {
                let mut users = Vec::new();
                for (user, _) in self.rooms.members(self.snap, self.room)? {
                    let user_id = self.rooms.store().user_id(user)?;
                    if names::server_of(&user_id) == Some(self.server) {
                        let key = self
                            .rooms
                            .store()
                            .state_key_nid("m.room.member", &user_id)?;
                        users.extend(key);
                    }
                }
                users
            }
        };
        Ok(self.users.insert(users))
    }
}
