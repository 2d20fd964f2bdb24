//! A search: rooms, hits of the index in them, and which of these the asker is given.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use skerry_core::search::{Key, Query, text_of};
use skerry_core::{EventNid, Membership, Pos, RoomNid};
use skerry_store::schema::room::Timeline;
use skerry_store::{Snapshot, StoreError};

use super::hits::Hits;
use super::token::{Group, Hit, Place};
use crate::{EventFilter, Placed, RoomError, Rooms, Standing, View, Viewer};

/// How long a search waits for the index to catch up with what was sent.
const CATCH_UP: Duration = Duration::from_secs(10);
/// Hits that are looked at for counting them.
const COUNTED: usize = 5_000;
/// Hits that are looked at for a page before it is given as it is.
const LOOK_MAX: usize = 50_000;
/// Hits looked at together.
const CHUNK: usize = 128;
/// How far a room's history is followed through the rooms that it replaced.
const UPGRADES_MAX: usize = 32;

/// What is searched for, and in what form it is wanted.
#[derive(Clone, Debug, Default)]
pub struct SearchAsk {
    /// What was typed.
    pub term: String,
    /// Where it may stand.
    pub keys: Vec<Key>,
    /// Which events are wanted.
    pub filter: EventFilter,
    /// The most results wanted.
    pub limit: usize,
    /// The newest first, not the best.
    pub recent: bool,
    /// With the state of the rooms.
    pub include_state: bool,
    /// With what stands around each result.
    pub context: Option<ContextSizes>,
    /// Which groups are wanted.
    pub groups: Vec<GroupBy>,
    /// Where to go on.
    pub next: Option<String>,
}

/// What is wanted around each result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContextSizes {
    /// Events before it.
    pub before: usize,
    /// Events after it.
    pub after: usize,
    /// With the senders' names and avatars of that time.
    pub profiles: bool,
}

/// By what results are put into groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupBy {
    /// `room_id`
    Room,
    /// `sender`
    Sender,
}

/// What was found.
pub(super) struct Found {
    pub(super) upto: Pos,
    pub(super) results: Vec<(Hit, Arc<Placed>)>,
    /// How many results there are, as far as was looked.
    pub(super) count: usize,
    /// There are more.
    pub(super) more: bool,
    /// Groups of which there are more.
    pub(super) more_of: Vec<Group>,
    /// The asker's views of the rooms.
    pub(super) views: HashMap<RoomNid, View>,
}

impl Rooms {
    /// Searches the rooms that a user is or was in. Finds everything that was acknowledged before.
    /// Gives the content of `room_events`, as JSON.
    ///
    /// # Errors
    /// [`RoomError::InvalidParam`] for an unknown `next`; the store's.
    pub async fn search(&self, viewer: Viewer, ask: SearchAsk) -> Result<Vec<u8>, RoomError> {
        let head = self.store().snapshot().head();
        match tokio::time::timeout(CATCH_UP, self.index_upto(head)).await {
            // Without space nothing is written, but reading goes on.
            Err(_) | Ok(Ok(()) | Err(RoomError::Store(StoreError::Full))) => {}
            Ok(Err(error)) => return Err(error),
        }
        self.query(move |this, snap| {
            let query = Query::parse(&ask.term);
            let found = this.find(snap, &viewer, &ask, &query)?;
            this.search_json(found, &ask, &query)
        })
        .await
    }

    fn find(
        &self,
        snap: &Snapshot,
        viewer: &Viewer,
        ask: &SearchAsk,
        query: &Query,
    ) -> Result<Found, RoomError> {
        let unknown = || RoomError::InvalidParam("Unknown next_batch".to_owned());
        let place = ask
            .next
            .as_deref()
            .map(|next| Place::parse(next).ok_or_else(unknown));
        let place = place.transpose()?;
        let upto = place.map_or(snap.head(), |place| place.upto.min(snap.head()));
        let mut rooms = self.rooms_to_search(snap, viewer, &ask.filter)?;
        if let Some(Group::Room(only)) = place.and_then(|place| place.group) {
            rooms.retain(|room| *room == only);
        }
        let mut hits = Hits::new(query, ask, upto);
        for room in rooms {
            hits.add_room(snap, room)?;
        }
        let hits = hits.ranked(!ask.recent);
        let mut walk = Walk {
            rooms: self,
            snap,
            viewer,
            ask,
            query,
            place,
            found: Found {
                upto,
                results: Vec::new(),
                count: 0,
                more: false,
                more_of: Vec::new(),
                views: HashMap::new(),
            },
        };
        walk.all(&hits)?;
        Ok(walk.found)
    }

    /// The rooms that a user may search: those they are or were in, of these the wanted ones and
    /// the rooms that those replaced.
    fn rooms_to_search(
        &self,
        snap: &Snapshot,
        viewer: &Viewer,
        filter: &EventFilter,
    ) -> Result<Vec<RoomNid>, StoreError> {
        let mut rooms = Vec::new();
        for (room, member) in self.rooms_of(snap, viewer.user)? {
            if member.membership == Membership::Join
                || self.standing(snap, room, viewer.user)?.0 != Standing::Outside
            {
                rooms.push(room);
            }
        }
        let unwanted: HashSet<RoomNid> = self.room_nids(&filter.not_rooms)?.collect();
        if let Some(wanted) = &filter.rooms {
            let mut wanted: HashSet<RoomNid> = self.room_nids(wanted)?.collect();
            for room in wanted.clone() {
                self.add_replaced(snap, room, &mut wanted)?;
            }
            rooms.retain(|room| wanted.contains(room));
        }
        rooms.retain(|room| !unwanted.contains(room));
        Ok(rooms)
    }

    fn room_nids(&self, ids: &[String]) -> Result<impl Iterator<Item = RoomNid>, StoreError> {
        let nids = ids.iter().map(|id| self.store().room_nid(id));
        let nids: Vec<_> = nids.collect::<Result<_, _>>()?;
        Ok(nids.into_iter().flatten())
    }

    /// Adds the rooms that a room replaced.
    fn add_replaced(
        &self,
        snap: &Snapshot,
        room: RoomNid,
        into: &mut HashSet<RoomNid>,
    ) -> Result<(), StoreError> {
        let mut at = room;
        for _ in 0..UPGRADES_MAX {
            let create = self.current_event(snap, at, "m.room.create", "")?;
            let content = create.and_then(|create| create.event.content_object().ok());
            let before = content
                .as_ref()
                .and_then(|content| content.object("predecessor")?.str("room_id"));
            let Some(before) = before else { break };
            match self.store().room_nid(before)? {
                Some(before) if into.insert(before) => at = before,
                _ => break,
            }
        }
        Ok(())
    }
}

/// Goes through hits, and looks at the events.
struct Walk<'a> {
    rooms: &'a Rooms,
    snap: &'a Snapshot,
    viewer: &'a Viewer,
    ask: &'a SearchAsk,
    query: &'a Query,
    place: Option<Place>,
    found: Found,
}

impl Walk<'_> {
    fn all(&mut self, hits: &[Hit]) -> Result<(), StoreError> {
        let mut looked = 0;
        for chunk in hits.chunks(CHUNK) {
            let full = self.found.results.len() >= self.ask.limit;
            let skipped = |hit: &Hit| self.is_before(hit);
            if looked >= COUNTED && chunk.iter().all(skipped) {
                continue;
            }
            if looked >= COUNTED && full || looked >= LOOK_MAX {
                self.found.more = true;
                return Ok(());
            }
            looked += chunk.len();
            for (hit, event) in self.look(chunk)? {
                self.take(hit, event);
            }
        }
        Ok(())
    }

    /// Whether a hit was on a page before.
    fn is_before(&self, hit: &Hit) -> bool {
        self.place
            .is_some_and(|place| hit.compare(&place.last).is_le())
    }

    fn take(&mut self, hit: Hit, event: Arc<Placed>) {
        let groups = [Group::Room(hit.room), Group::Sender(event.meta.sender)];
        let of = self.place.and_then(|place| place.group);
        if of.is_some_and(|of| !groups.contains(&of)) {
            return;
        }
        self.found.count += 1;
        if self.is_before(&hit) {
            return;
        }
        if self.found.results.len() < self.ask.limit {
            self.found.results.push((hit, event));
            return;
        }
        self.found.more = true;
        for group in groups {
            if !self.found.more_of.contains(&group) {
                self.found.more_of.push(group);
            }
        }
    }

    /// Those of some hits that the user is to get.
    fn look(&mut self, hits: &[Hit]) -> Result<Vec<(Hit, Arc<Placed>)>, StoreError> {
        let keys: Vec<_> = hits.iter().map(|hit| (hit.room, hit.order)).collect();
        let nids = self.snap.get_many::<Timeline>(&keys)?;
        let mut rooms: HashMap<RoomNid, Vec<EventNid>> = HashMap::new();
        for (hit, nid) in hits.iter().zip(&nids) {
            rooms.entry(hit.room).or_default().extend(nid);
        }
        let mut events: HashMap<EventNid, Arc<Placed>> = HashMap::new();
        for (room, nids) in rooms {
            let placed = self.rooms.placed_many(self.snap, room, &nids)?;
            events.extend(placed.into_iter().flatten().map(|event| (event.nid, event)));
        }
        let mut found = Vec::new();
        for (hit, nid) in hits.iter().zip(nids) {
            let event = nid.and_then(|nid| events.remove(&nid));
            if let Some(event) = event
                && self.admits(hit.room, &event)?
            {
                found.push((*hit, event));
            }
        }
        Ok(found)
    }

    /// Whether an event says what is searched for, is wanted, and may be seen as it is.
    fn admits(&mut self, room: RoomNid, event: &Arc<Placed>) -> Result<bool, StoreError> {
        let view = match self.found.views.entry(room) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => {
                entry.insert(self.rooms.view(self.snap, self.viewer, room)?)
            }
        };
        if event.redacted_by.is_some() || !view.passes(event, Some(&self.ask.filter))? {
            return Ok(false);
        }
        let shown = view.admit(event)?;
        // One that is shown in its redacted form is not found by what it said.
        if !shown.is_some_and(|shown| Arc::ptr_eq(&shown, event)) {
            return Ok(false);
        }
        if !self.query.needs_text() {
            return Ok(true);
        }
        Ok(text_of(&event.event).is_some_and(|(_, text)| self.query.matches(&text)))
    }
}
