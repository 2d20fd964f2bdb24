//! What lives in memory or is told only once: typing, presence, receipts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Serialize;
use skerry_account::{EphemeralPos, PresenceState, PresenceView};
use skerry_core::{Membership, RoomNid, UserNid};
use skerry_room::View;
use skerry_store::StoreError;

use super::devices::{Moves, Sharing};
use super::{Query, RoomAsk};
use crate::delta::{Presence, RoomDelta};
use crate::filter;

/// Users met at once of whom it is told that they are offline too; of more it goes without saying.
const MET_MAX: usize = 50;

/// The content of `m.presence`.
#[derive(Serialize)]
struct PresenceContent<'a> {
    presence: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_active_ago: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_msg: Option<&'a str>,
    currently_active: bool,
}

#[derive(Serialize)]
struct Typing<'a> {
    content: TypingContent<'a>,
    #[serde(rename = "type")]
    kind: &'static str,
}

#[derive(Serialize)]
struct TypingContent<'a> {
    user_ids: Vec<&'a str>,
}

impl Query<'_> {
    /// The typing position that the client has seen; 0 if it saw another run of the server.
    fn typing_seen(&self) -> u64 {
        let boot = self.sync.accounts.ephemeral().boot();
        self.req
            .since
            .and_then(|token| token.typing_in(boot))
            .unwrap_or(0)
    }

    /// Rooms in which typing changed.
    pub(super) fn typing_rooms(&self) -> Vec<RoomNid> {
        let seen = self.typing_seen();
        let typing = self.sync.rooms.typing();
        if typing.pos() > seen {
            typing.rooms_since(seen)
        } else {
            Vec::new()
        }
    }

    /// Receipts and typing of a room the user is in. True if a receipt of the user's own moved,
    /// which changes what is unread.
    pub(super) fn ephemeral(
        &self,
        ask: &RoomAsk,
        view: &View,
        room: &mut RoomDelta,
    ) -> Result<bool, StoreError> {
        let wanted = &self.req.filter.room.ephemeral;
        let wants_room = wanted.wants_room(&ask.room_id);
        let mut own = false;
        if ask.hint.receipts || ask.after.is_none() {
            let since = ask.after.unwrap_or_default();
            own = self
                .sync
                .rooms
                .has_read_since(self.snap, ask.room, self.req.user, since)?;
            if wants_room && wanted.wants_type("m.receipt") {
                room.ephemeral = view.receipt_events(ask.after)?;
            }
        }
        if wants_room
            && wanted.wants_type("m.typing")
            && let Some(typing) = self.typing(ask)?
        {
            room.ephemeral.push(typing);
        }
        Ok(own)
    }

    /// Who types in a room, if that is news to the client.
    fn typing(&self, ask: &RoomAsk) -> Result<Option<Vec<u8>>, StoreError> {
        let boot = self.sync.accounts.ephemeral().boot();
        let seen = self.req.since.and_then(|token| token.typing_in(boot));
        let now = self.sync.rooms.typing().since(ask.room, seen.unwrap_or(0));
        // A client that saw another run may still show somebody typing.
        let stale = seen.is_none() && self.req.since.is_some() && ask.after.is_some();
        let users = match now {
            Some(users) => users,
            None if stale => Vec::new(),
            None => return Ok(None),
        };
        self.typing_event(users)
    }

    /// `m.typing`, with these users.
    pub(crate) fn typing_event(&self, users: Vec<UserNid>) -> Result<Option<Vec<u8>>, StoreError> {
        let ignored = self.sync.accounts.ignored(self.snap, self.req.user)?;
        let store = self.sync.rooms.store();
        let ids = users.into_iter().filter(|user| !ignored.contains(user));
        let ids = ids
            .map(|user| store.user_id(user))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(typing_event(&ids))
    }

    /// Presence of those who share a room with the user: what changed, and what holds for those
    /// with whom a room is shared only now.
    pub(super) fn presence(&self, moves: &Moves) -> Result<Vec<Presence>, StoreError> {
        let wanted = &self.req.filter.presence;
        if !wanted.wants_type("m.presence") {
            return Ok(Vec::new());
        }
        let boot = self.sync.accounts.ephemeral().boot();
        let seen = self.req.since.and_then(|token| token.presence_in(boot));
        let board = self.sync.accounts.presence();
        let mut sharing = Sharing::from([(self.req.user, true)]);
        let friends_of = |user| self.sync.notifier.friends(self.snap, user);
        let friends = friends_of(self.req.user)?;
        let mut found = BTreeMap::new();
        for view in board.changed_since(EphemeralPos(seen.unwrap_or(0))) {
            // To a new client everybody is offline anyway.
            let news = self.req.since.is_some() || view.state != PresenceState::Offline;
            let is_among = |friends: &[UserNid], user| friends.binary_search(&user).is_ok();
            let shares = match &friends {
                Some(friends) if !view.abroad => {
                    view.user == self.req.user || is_among(friends, view.user)
                }
                // Friends are local users: it is asked whose friend this one is.
                _ if news => match friends_of(view.user)?.filter(|_| view.abroad) {
                    Some(friends) => is_among(&friends, self.req.user),
                    None => self.shares(view.user, &mut sharing)?,
                },
                _ => false,
            };
            if news && shares && view.pos <= self.presence_upto {
                found.insert(view.user, view);
            }
        }
        let met = self.met(moves)?;
        let few = met.len() <= MET_MAX;
        for user in met {
            let view = board.of(user);
            if few || view.state != PresenceState::Offline {
                found.entry(user).or_insert(view);
            }
        }
        let mut told = Vec::with_capacity(found.len());
        let ignored = self.sync.accounts.ignored(self.snap, self.req.user)?;
        for view in found
            .into_values()
            .filter(|view| !ignored.contains(&view.user))
        {
            let user_id = self.sync.rooms.store().user_id(view.user)?;
            if filter::wants(wanted, "m.presence", &user_id) {
                told.push(Presence {
                    user_id,
                    content: content(&view),
                });
            }
        }
        Ok(told)
    }

    /// Others with whom the user has come to share a room.
    fn met(&self, moves: &Moves) -> Result<BTreeSet<UserNid>, StoreError> {
        let joined = moves
            .others
            .iter()
            .filter(|(_, is)| *is == Membership::Join);
        let mut met: BTreeSet<UserNid> = joined.map(|(user, _)| *user).collect();
        for room in &moves.joined {
            met.extend(self.sync.rooms.joined_users(self.snap, *room)?);
        }
        Ok(met)
    }
}

/// `m.typing` with these users.
pub(super) fn typing_event(ids: &[Arc<str>]) -> Option<Vec<u8>> {
    let content = TypingContent {
        user_ids: ids.iter().map(|id| &**id).collect(),
    };
    let kind = "m.typing";
    // cannot fail: a struct of plain values always serializes
    serde_json::to_vec(&Typing { content, kind }).ok()
}

/// The content of `m.presence`.
pub(super) fn content(view: &PresenceView) -> String {
    let content = PresenceContent {
        presence: view.state.name(),
        last_active_ago: view.last_active_ago_ms,
        status_msg: view.status_msg.as_deref(),
        currently_active: view.currently_active,
    };
    // cannot fail: a struct of plain values always serializes
    serde_json::to_string(&content).unwrap_or_default()
}
