//! What a client asks for beside rooms.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use skerry_account::{data, e2e};
use skerry_core::{EventNid, Membership, Pos, RoomNid};
use skerry_room::{Form, Viewer};
use skerry_store::StoreError;

use super::Slide;
use super::answer::{AccountData, E2ee, Extensions, Sticky, ToDevice};
use super::ask::{PagedAsk, ScopedAsk};
use super::connections::Known;
use super::lists::{Wanted, Window};
use super::room::Told;
use crate::SyncError;
use crate::compute::Mine;
use crate::compute::account_event;

/// The rooms of the answer, with what is told of them.
pub(super) struct Answered<'a> {
    pub window: &'a Window,
    pub told: &'a HashMap<RoomNid, Told>,
    pub mine: &'a mut Mine,
}

impl Slide<'_> {
    /// Everything that is asked for beside rooms; notes in `known` what of it the client will
    /// have.
    pub(super) fn extensions(
        &self,
        answered: &mut Answered<'_>,
        known: &mut Known,
    ) -> Result<Extensions, SyncError> {
        let mut found = Extensions::default();
        let Some(ask) = &self.ask.extensions else {
            return Ok(found);
        };
        if let Some(ask) = ask.to_device.as_ref().filter(|ask| ask.is_enabled()) {
            found.to_device = Some(self.to_device(ask)?);
        }
        if ask.e2ee.as_ref().is_some_and(|ask| ask.is_enabled()) {
            found.e2ee = Some(self.e2ee(answered.mine)?);
        }
        let rooms = |ask: &ScopedAsk| self.scope(ask, answered.window);
        if let Some(ask) = ask.account_data.as_ref().filter(|ask| ask.is_enabled()) {
            found.account_data = Some(self.account_data(&rooms(ask)?, known)?);
        }
        if let Some(ask) = ask.receipts.as_ref().filter(|ask| ask.is_enabled()) {
            found.receipts = Some(self.receipts(&rooms(ask)?, answered.told, known)?);
        }
        if let Some(ask) = ask.typing.as_ref().filter(|ask| ask.is_enabled()) {
            found.typing = Some(self.typing(&rooms(ask)?)?);
        }
        if let Some(ask) = ask.threads.as_ref().filter(|ask| ask.is_enabled()) {
            let (rooms, user) = (&self.q.sync.rooms, self.q.req.user);
            let span = (self.since.unwrap_or(Pos::ZERO), self.head);
            found.threads = Some(rooms.thread_changes(self.q.snap, user, span, ask.limit())?);
        }
        if let Some(ask) = ask.sticky.as_ref().filter(|ask| ask.is_enabled()) {
            found.sticky = Some(self.sticky(ask, answered)?);
        }
        Ok(found)
    }

    /// The rooms of the answer that an extension is asked for.
    fn scope<'w>(
        &self,
        ask: &ScopedAsk,
        window: &'w Window,
    ) -> Result<Vec<&'w Wanted>, StoreError> {
        let mut ids = HashSet::new();
        let mut all = false;
        for id in ask.rooms.iter().flatten() {
            all |= id == "*";
            ids.extend(self.q.sync.rooms.store().room_nid(id)?);
        }
        let mut names = HashSet::new();
        let mut lists = false;
        for name in ask.lists.iter().flatten() {
            lists |= name == "*";
            names.insert(name.as_str());
        }
        let by_list = |room: &Wanted| {
            let any = lists && !room.lists.is_empty();
            any || room.lists.iter().any(|name| names.contains(&**name))
        };
        let rooms = window.rooms.iter();
        Ok(rooms
            .filter(|room| all || ids.contains(&room.room) || by_list(room))
            .collect())
    }

    /// Messages to the device.
    fn to_device(&self, ask: &PagedAsk) -> Result<ToDevice, StoreError> {
        let since = ask.since().unwrap_or(Pos::ZERO);
        if since > self.head {
            return Ok(ToDevice {
                events: Vec::new(),
                next_batch: since.0.to_string(),
            });
        }
        let (user, device) = (self.q.req.user, &*self.q.req.device);
        let waiting = e2e::waiting(self.q.snap, user, device, since, ask.limit())?;
        Ok(ToDevice {
            events: waiting.messages,
            next_batch: waiting.upto.0.to_string(),
        })
    }

    /// Keys of the device, and whose devices changed.
    fn e2ee(&self, mine: &mut Mine) -> Result<E2ee, StoreError> {
        let req = self.q.req;
        let counts = e2e::key_counts(self.q.snap, req.user, &req.device)?;
        let Some(since) = self.since else {
            return Ok(E2ee {
                lists: None,
                counts,
                changed: true,
            });
        };
        let moves = self.q.moves(&self.changes)?;
        let lists = self.q.device_lists(&self.changes, &moves, mine, since)?;
        Ok(E2ee {
            lists: Some(lists),
            changed: counts.pos > since,
            counts,
        })
    }

    /// Account data: of no room, and of those asked for.
    fn account_data(&self, rooms: &[&Wanted], known: &mut Known) -> Result<AccountData, SyncError> {
        let (snap, user) = (self.q.snap, self.q.req.user);
        let mut found = AccountData::default();
        let told = |room: RoomNid| self.known.rooms.get(&room).and_then(|sent| sent.data);
        // What changed, for rooms that were out of sight too since they were told.
        let oldest = rooms.iter().filter_map(|wanted| told(wanted.room));
        let mut new: HashMap<RoomNid, Vec<data::Datum>> = HashMap::new();
        match self.since {
            None => {
                let data = self.q.sync.accounts.global_account_data(snap, user)?;
                found.global = data.into_iter().map(account_event).collect();
            }
            Some(since) => {
                let oldest = oldest.min().map_or(since, |oldest| oldest.min(since));
                for datum in data::changed(snap, user, oldest)? {
                    match datum.room {
                        None if datum.pos > since => found.global.push(account_event(datum)),
                        None => {}
                        Some(room) => new.entry(room).or_default().push(datum),
                    }
                }
            }
        }
        for wanted in rooms {
            let data = match told(wanted.room) {
                Some(told) => {
                    let mut data = new.remove(&wanted.room).unwrap_or_default();
                    data.retain(|datum| datum.pos > told);
                    data
                }
                None => data::all(snap, user, Some(wanted.room))?,
            };
            if !data.is_empty() {
                let events = data.into_iter().map(account_event).collect();
                found.rooms.insert(self.id_of(wanted)?, events);
            }
            if let Some(sent) = known.rooms.get_mut(&wanted.room) {
                sent.data = Some(self.head);
            }
        }
        Ok(found)
    }

    /// Receipts: in a room whose timeline is told anew, the user's own and those that the timeline
    /// shows; else those that moved.
    fn receipts(
        &self,
        rooms: &[&Wanted],
        told: &HashMap<RoomNid, Told>,
        known: &mut Known,
    ) -> Result<BTreeMap<Arc<str>, Vec<u8>>, StoreError> {
        let mut found = BTreeMap::new();
        for wanted in rooms {
            if wanted.member.membership != Membership::Join {
                continue;
            }
            let told = told.get(&wanted.room);
            let anew = told.filter(|told| told.anew);
            let before = self
                .known
                .rooms
                .get(&wanted.room)
                .and_then(|sent| sent.receipts);
            let hint = self.changes.rooms.get(&wanted.room);
            let event = match (before, anew) {
                (Some(before), None) => {
                    let quiet = self.is_live(before) && hint.is_none_or(|hint| !hint.receipts);
                    if quiet {
                        None
                    } else {
                        self.view(wanted)?.receipts_since(before)?
                    }
                }
                // What the client shows was told before.
                (None, None) => self.view(wanted)?.receipts_since(Pos::ZERO)?,
                (_, Some(_)) => {
                    let shown = told.map_or(&[][..], |told| &told.shown);
                    let first = told.and_then(|told| told.first);
                    self.view(wanted)?.receipts_at(shown, first)?
                }
            };
            if let Some(event) = event {
                found.insert(self.id_of(wanted)?, event);
            }
            if let Some(sent) = known.rooms.get_mut(&wanted.room) {
                sent.receipts = Some(self.head);
            }
        }
        Ok(found)
    }

    /// Who types, where that is news.
    fn typing(&self, rooms: &[&Wanted]) -> Result<BTreeMap<Arc<str>, Vec<u8>>, StoreError> {
        let boot = self.q.sync.accounts.ephemeral().boot();
        let seen = self.q.req.since.and_then(|token| token.typing_in(boot));
        let typing = self.q.sync.rooms.typing();
        let mut found = BTreeMap::new();
        for wanted in rooms {
            if wanted.member.membership != Membership::Join {
                continue;
            }
            let sent = self.known.rooms.get(&wanted.room);
            let users = match (sent, seen) {
                (Some(sent), Some(seen)) if self.is_live(sent.events) => {
                    typing.since(wanted.room, seen)
                }
                // The client may still show somebody.
                (Some(_), _) => Some(typing.since(wanted.room, 0).unwrap_or_default()),
                (None, _) => typing
                    .since(wanted.room, 0)
                    .filter(|users| !users.is_empty()),
            };
            if let Some(users) = users
                && let Some(event) = self.q.typing_event(users)?
            {
                found.insert(self.id_of(wanted)?, event);
            }
        }
        Ok(found)
    }

    /// Sticky events of all rooms of the lists, unless the timelines show them.
    fn sticky(&self, ask: &PagedAsk, answered: &Answered<'_>) -> Result<Sticky, StoreError> {
        let since = ask.since().unwrap_or(Pos::ZERO);
        let mut rooms = Vec::new();
        for room in &answered.window.listed {
            if let Some(member) = self.q.member_of(*room)?
                && member.membership == Membership::Join
            {
                let known = member.since <= since;
                rooms.push((*room, if known { since } else { Pos::ZERO }));
            }
        }
        let viewer = self.viewer();
        let page = self
            .q
            .sync
            .rooms
            .sticky(self.q.snap, &viewer, &rooms, ask.limit())?;
        let mut told = Vec::with_capacity(page.rooms.len());
        for (room, mut events) in page.rooms {
            let shown = answered.told.get(&room);
            let shown: &[EventNid] = shown.map_or(&[], |told| &told.shown);
            events.retain(|event| !shown.contains(&event.nid));
            if events.is_empty() {
                continue;
            }
            let mut view = self.q.sync.rooms.view(self.q.snap, &viewer, room)?;
            let events = self.q.render(&mut view, &events, Form::SYNC, false)?;
            told.push((self.q.sync.rooms.store().room_id(room)?, events));
        }
        Ok(Sticky {
            rooms: told,
            next_batch: page.upto.unwrap_or(self.head).0.to_string(),
        })
    }

    fn viewer(&self) -> Viewer {
        Viewer {
            user: self.q.req.user,
            user_id: Arc::clone(&self.q.req.user_id),
            device: Arc::clone(&self.q.req.device),
        }
    }

    fn view(&self, wanted: &Wanted) -> Result<skerry_room::View, StoreError> {
        let rooms = &self.q.sync.rooms;
        rooms.view(self.q.snap, &self.viewer(), wanted.room)
    }

    fn id_of(&self, wanted: &Wanted) -> Result<Arc<str>, StoreError> {
        self.q.sync.rooms.store().room_id(wanted.room)
    }
}
