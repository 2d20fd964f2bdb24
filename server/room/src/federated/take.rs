//! Taking the member events of other servers' users: `send_join`, `send_leave`, `send_knock`.

use std::sync::Arc;

use skerry_core::canonical::Object;
use skerry_core::hash::signable_text;
use skerry_core::keys::add_signature;
use skerry_core::{EventNid, Membership, RoomNid, RoomVersion, StateMap, StoredEvent, names};
use skerry_store::Snapshot;

use super::{Arrival, Verdict};
use crate::change::Change;
use crate::{RoomError, Rooms};

/// What a server is told whose user has come in, or has knocked.
#[derive(Clone, Debug)]
pub struct Entered {
    /// The event as it is in the room: with our signature where we vouch for a restricted join.
    pub event: Arc<StoredEvent>,
    /// The state of the room before it, as events that are held here; see [`Rooms::write_pdus`].
    pub state: Vec<EventNid>,
    /// All that the event and `state` rest on.
    pub auth_chain: Vec<EventNid>,
    /// Most member events are left out of `state`, and all of `state` out of `auth_chain`.
    pub members_omitted: bool,
    /// The servers that had users in the room before it, this one included.
    pub servers: Vec<Arc<str>>,
    /// Of a knock: what the user may know of the room, as PDUs.
    pub stripped: Vec<String>,
}

impl Rooms {
    /// Takes a user's own member event from their server (`origin`). Its hash and signatures
    /// were checked by the caller; but that of this server, under a restricted join that this
    /// server vouches for, is missing still and added here. An event that is here already gets
    /// the same answer again. `omit_members` asks for a state without most members.
    ///
    /// # Errors
    /// `InvalidParam` for what is not such an event, `NotFound` for a room that this server does
    /// not take part in, `Forbidden` by the rules and the access list of the room, the errors of
    /// restricted joins, or the store's.
    pub async fn take_member(
        &self,
        origin: &str,
        room_id: &str,
        event: Arc<StoredEvent>,
        to: Membership,
        omit_members: bool,
    ) -> Result<Entered, RoomError> {
        check_own(&event, origin, room_id, to)?;
        let room = self.known(room_id)?;
        let (asker, asked) = (origin.to_owned(), event);
        let event = self
            .change(room, move |change| {
                change.open_to(&asker)?;
                if change.tip.version != asked.version() {
                    let text = "The event is of another version than the room";
                    return Err(RoomError::InvalidParam(text.into()));
                }
                change.vouched(asked)
            })
            .await?;
        let arrival = Arrival {
            send_on: true,
            ..Arrival::default()
        };
        match self.receive(room_id, event.clone(), arrival).await? {
            Verdict::Accepted | Verdict::Known => {}
            Verdict::Rejected(reason) | Verdict::SoftFailed(reason) => {
                return Err(RoomError::Forbidden(reason));
            }
            Verdict::Missing(_) => {
                let text = "The event names others that are not known here";
                return Err(RoomError::InvalidParam(text.into()));
            }
            Verdict::NotHere => return Err(RoomError::NotFound("Nobody here is in it".into())),
        }
        self.query(move |this, snap| this.entered(snap, room, &event, omit_members))
            .await
    }

    /// The answer to an event that was taken.
    fn entered(
        &self,
        snap: &Snapshot,
        room: RoomNid,
        event: &Arc<StoredEvent>,
        omit_members: bool,
    ) -> Result<Entered, RoomError> {
        let gone = || RoomError::Forbidden("The event was not accepted".into());
        let nid = self.store().event_nid(snap, event.event_id())?;
        let nid = nid.ok_or_else(gone)?;
        let meta = self.meta(snap, nid)?.filter(|meta| meta.is_placed());
        let meta = meta.filter(|meta| meta.room == room).ok_or_else(gone)?;
        // What is held may bear another signature than what came now.
        let held = self.event(snap, nid)?.ok_or_else(gone)?;
        let mut entered = Entered {
            event: Arc::new(held.event),
            state: Vec::new(),
            auth_chain: Vec::new(),
            members_omitted: false,
            servers: self.servers_with_us(snap, room, event.sender())?,
            stripped: Vec::new(),
        };
        let map = self.state_map(snap, meta.before)?;
        match event.membership() {
            Some(Membership::Join) => {
                entered.state = match omit_members {
                    true => self.without_members(snap, room, &map, event)?,
                    false => map.iter().map(|(_, nid)| nid).collect(),
                };
                entered.members_omitted = entered.state.len() < map.len();
                let from = entered.state.iter().copied().chain([nid]);
                entered.auth_chain = self.auth_chain(snap, room, from)?;
                if omit_members {
                    let told: std::collections::HashSet<_> = entered.state.iter().collect();
                    entered.auth_chain.retain(|nid| !told.contains(nid));
                }
            }
            Some(Membership::Knock) => entered.stripped = self.pdus_shown(snap, &map, None)?,
            _ => {}
        }
        Ok(entered)
    }

    /// The servers with users in a room, this one included, without that of the user who just
    /// came if they are the only one of it.
    fn servers_with_us(
        &self,
        snap: &Snapshot,
        room: RoomNid,
        newcomer: &str,
    ) -> Result<Vec<Arc<str>>, RoomError> {
        let mut servers = self.servers_in(snap, room)?;
        let server = names::server_of(newcomer).unwrap_or_default();
        if let Some(nid) = self.store().server_nid(server)?
            && let Some(user) = self.store().user_nid(newcomer)?
            && self.is_joined(snap, room, user)?
        {
            let key = (room, nid);
            let joined = snap.get::<skerry_store::schema::room::RoomServer>(&key)?;
            if joined == Some(1) {
                servers.retain(|one| **one != *server);
            }
        }
        servers.push(self.inner.config.server_name.clone());
        Ok(servers)
    }

    /// A state without its members, but for those that one needs to show the room by, and those
    /// that the newcomer's own event is about.
    fn without_members(
        &self,
        snap: &Snapshot,
        room: RoomNid,
        map: &StateMap,
        event: &StoredEvent,
    ) -> Result<Vec<EventNid>, RoomError> {
        let mut state = Vec::new();
        let mut named = false;
        for (key, nid) in map.iter() {
            let (kind, _) = self.store().state_key(key)?;
            named |= matches!(&*kind, "m.room.name" | "m.room.canonical_alias");
            if &*kind != "m.room.member" {
                state.push(nid);
            }
        }
        let mut wanted = vec![event.sender().to_owned()];
        if !named {
            for user in self.joined_users(snap, room)?.into_iter().take(HEROES) {
                wanted.push(self.store().user_id(user)?.to_string());
            }
        }
        for user_id in wanted {
            state.extend(self.in_state(map, "m.room.member", &user_id)?);
        }
        state.sort_unstable();
        state.dedup();
        Ok(state)
    }
}

/// Members by whom a room without a name is shown; one of them may be the newcomer.
const HEROES: usize = 6;

impl Change<'_> {
    /// The event with our signature, if it is a join that a user of ours is said to vouch for and
    /// the room's conditions are met.
    fn vouched(&mut self, event: Arc<StoredEvent>) -> Result<Arc<StoredEvent>, RoomError> {
        let version = self.tip.version;
        if event.membership() != Some(Membership::Join) || !version.has_restricted() {
            return Ok(event);
        }
        let content = event
            .content_object()
            .map_err(|error| RoomError::BadJson(error.to_string()))?;
        let Some(voucher) = content.get("join_authorised_via_users_server") else {
            return Ok(event);
        };
        let ours = voucher.as_str().filter(|user| self.rooms.is_local(user));
        if ours.is_none() {
            let text = "Only a user of this server can vouch for a join through it";
            return Err(RoomError::InvalidParam(text.into()));
        }
        // Whether the one named may is for the rules; here, whether the conditions are met.
        self.voucher_of_join(event.sender())?;
        Ok(Arc::new(self.rooms.countersigned(&event)?))
    }
}

impl Rooms {
    /// A member event as another server sends it to us, with the one signature that it cannot
    /// bear yet: ours, where it names a user of this server who vouches for a restricted join. It
    /// can then be checked like any event; whether we do vouch for it is asked by
    /// [`Rooms::take_member`], and before that it must not be handed out.
    #[must_use]
    pub fn vouched_draft(&self, mut event: Object, version: RoomVersion) -> Object {
        let voucher = event
            .object("content")
            .and_then(|content| content.str("join_authorised_via_users_server"));
        if version.has_restricted() && voucher.is_some_and(|user| self.is_local(user)) {
            let config = &self.inner.config;
            let text = signable_text(&event, version);
            let signature = config.key.sign(text.as_bytes());
            add_signature(&mut event, &config.server_name, config.key.id(), signature);
        }
        event
    }
}

/// Whether it is an event by which a user of a server moves themselves (server-server API,
/// `send_join`: what is to be checked).
fn check_own(
    event: &StoredEvent,
    origin: &str,
    room_id: &str,
    to: Membership,
) -> Result<(), RoomError> {
    let wrong = |text: &str| Err(RoomError::InvalidParam(text.to_owned()));
    if event.room_id() != room_id {
        return wrong("The event is of another room");
    }
    if event.membership() != Some(to) {
        return wrong("The event has another membership than was asked for");
    }
    if event.state_key() != Some(event.sender()) {
        return wrong("The event is about somebody else than its sender");
    }
    if names::server_of(event.sender()) != Some(origin) {
        return wrong("The event's sender is not of the server that sends it");
    }
    Ok(())
}
