//! Which application services a room concerns, and what each of them is told (application
//! service API, "Pushing events").
//!
//! How many of a room's members belong to whom is counted once and then kept with the room's tip,
//! so that a message costs a few comparisons, and nothing where there are no application
//! services.

use std::sync::Arc;

use skerry_account::appservice::{Appservice, Appservices};
use skerry_core::canonical::write_string_bytes;
use skerry_core::event::ClientOptions;
use skerry_core::{Membership, Pos, RoomNid, StateId, StoredEvent, UserNid};
use skerry_store::outbox::{self, Dest};
use skerry_store::schema::room_read::{ReceiptAt, ReceiptKind, Receipts};
use skerry_store::{Snapshot, StoreError, Write};

use crate::tip::Tip;
use crate::{Placed, RoomError, Rooms, Who};

/// What of a room concerns application services.
#[derive(Clone, Debug)]
pub(crate) struct Interest {
    known: Arc<Appservices>,
    /// In the order of the list: whether the room's id is in the namespace, and how many joined
    /// members are the application service's.
    each: Vec<(bool, u32)>,
}

/// What was counted of a room, and at which state.
pub(crate) type Counted = (StateId, Arc<Interest>);

impl Interest {
    fn new(known: Arc<Appservices>, room_id: &str) -> Interest {
        let each = known.all().iter();
        let each = each.map(|one| (one.registration.rooms.has(room_id), 0));
        Interest {
            each: each.collect(),
            known,
        }
    }

    /// A user joined (`by` 1) or is joined no more (`by` -1).
    fn count(&mut self, user_id: &str, by: i32) {
        for (one, (_, joined)) in self.known.all().iter().zip(&mut self.each) {
            if one.has_user(user_id) {
                *joined = joined.saturating_add_signed(by);
            }
        }
    }

    /// The application services that something sent to them concerns: by the room, by one of its
    /// aliases, or because `also` says so.
    fn concerned<'a>(
        &'a self,
        aliases: &'a [String],
        also: impl Fn(&Appservice) -> bool + 'a,
    ) -> impl Iterator<Item = &'a Arc<Appservice>> {
        let each = self.known.all().iter().zip(&self.each);
        each.filter(move |(one, (by_id, joined))| {
            one.listens()
                && (*by_id
                    || *joined > 0
                    || aliases
                        .iter()
                        .any(|alias| one.registration.aliases.has(alias))
                    || also(one))
        })
        .map(|(one, _)| one)
    }
}

impl Rooms {
    /// Makes sure, before an event is added, that the tip knows whom its room concerns.
    pub(crate) fn begin_interest(&self, snap: &Snapshot, tip: &mut Tip) -> Result<(), StoreError> {
        let known = self.inner.accounts.appservices();
        if !known.any_listens() {
            tip.interest = None;
            return Ok(());
        }
        let begun = tip.head.last.is_stamp();
        let fits = |interest: &Arc<Interest>| {
            // What this write has added already is in no snapshot: counting anew would miss it.
            begun || interest.known.generation() == known.generation()
        };
        if !tip.interest.as_ref().is_some_and(fits) {
            let place = (tip.room, &*tip.room_id, tip.head.state);
            tip.interest = Some(self.held_interest(snap, place, known)?);
        }
        Ok(())
    }

    /// Keeps what a write made of a tip's interest, now that it is applied: counting the members
    /// of a large room takes a while.
    pub(crate) fn hold_interest(&self, tip: &Tip) {
        if let Some(interest) = &tip.interest {
            let bytes = 64 + 8 * interest.each.len();
            let counted = (tip.head.state, interest.clone());
            self.inner.interests.put(tip.room, counted, bytes);
        }
    }

    /// What of a room concerns application services, at a state: from memory where possible.
    fn held_interest(
        &self,
        snap: &Snapshot,
        (room, room_id, state): (RoomNid, &str, StateId),
        known: Arc<Appservices>,
    ) -> Result<Arc<Interest>, StoreError> {
        let held = self.inner.interests.get(room);
        let generation = known.generation();
        let held =
            held.filter(|(at, interest)| *at == state && interest.known.generation() == generation);
        if let Some((_, interest)) = held {
            return Ok(interest);
        }
        let interest = Arc::new(self.interest(snap, room, room_id, known)?);
        let bytes = 64 + 8 * interest.each.len();
        self.inner
            .interests
            .put(room, (state, interest.clone()), bytes);
        Ok(interest)
    }

    fn interest(
        &self,
        snap: &Snapshot,
        room: RoomNid,
        room_id: &str,
        known: Arc<Appservices>,
    ) -> Result<Interest, StoreError> {
        let mut interest = Interest::new(known, room_id);
        for (user, member) in self.members(snap, room)? {
            if member.membership == Membership::Join {
                interest.count(&self.store().user_id(user)?, 1);
            }
        }
        Ok(interest)
    }

    /// Notes whom a room concerns whose members are all new, where anybody listens.
    pub(crate) fn count_interest(
        &self,
        tip: &mut Tip,
        joined: impl Iterator<Item = UserNid>,
    ) -> Result<(), StoreError> {
        let known = self.inner.accounts.appservices();
        tip.interest = None;
        if known.any_listens() {
            let mut interest = Interest::new(known, &tip.room_id);
            for user in joined {
                interest.count(&self.store().user_id(user)?, 1);
            }
            tip.interest = Some(Arc::new(interest));
        }
        Ok(())
    }

    /// A membership changed at the tip.
    pub(crate) fn move_interest(
        tip: &mut Tip,
        user_id: &str,
        was: Option<Membership>,
        now: Membership,
    ) {
        let Some(interest) = &mut tip.interest else {
            return;
        };
        let by = i32::from(now == Membership::Join) - i32::from(was == Some(Membership::Join));
        if by != 0 {
            Arc::make_mut(interest).count(user_id, by);
        }
    }

    /// Queues a new event for the application services that it concerns.
    pub(crate) fn tell_appservices(
        &self,
        w: &mut Write,
        snap: &Snapshot,
        tip: &Tip,
        event: &StoredEvent,
    ) -> Result<(), StoreError> {
        let Some(interest) = &tip.interest else {
            return Ok(());
        };
        let mut aliases = self.aliases_that_count(snap, tip.room, &interest.known)?;
        aliases.extend(tip.fresh.alias.clone());
        let target = event
            .state_key()
            .filter(|_| event.event_type() == "m.room.member");
        let named = |one: &Appservice| {
            one.has_user(event.sender()) || target.is_some_and(|user_id| one.has_user(user_id))
        };
        for one in interest.concerned(&aliases, named) {
            let dest = Dest::Appservice(one.registration.id.clone());
            outbox::queue(w, &dest, &Item::Event(event.event_id().to_owned()).encode());
        }
        Ok(())
    }

    /// Queues an event of a room that this server does not take part in for the application
    /// services whom it is by or about.
    pub(crate) fn tell_appservices_outside(&self, w: &mut Write, event: &StoredEvent) {
        let known = self.inner.accounts.appservices();
        let target = event.state_key().unwrap_or_default();
        for one in known.all().iter().filter(|one| one.listens()) {
            let rooms = &one.registration.rooms;
            if one.has_user(event.sender()) || one.has_user(target) || rooms.has(event.room_id()) {
                let dest = Dest::Appservice(one.registration.id.clone());
                outbox::queue(w, &dest, &Item::Event(event.event_id().to_owned()).encode());
            }
        }
    }

    /// The aliases of a room, if anybody looks at them.
    fn aliases_that_count(
        &self,
        snap: &Snapshot,
        room: RoomNid,
        known: &Appservices,
    ) -> Result<Vec<String>, StoreError> {
        let any = |one: &Arc<Appservice>| !one.registration.aliases.is_empty();
        if known.all().iter().any(any) {
            self.aliases_of(snap, room)
        } else {
            Ok(Vec::new())
        }
    }

    /// The application services that everything in a room concerns.
    ///
    /// # Errors
    /// The store's.
    pub fn appservices_of(
        &self,
        snap: &Snapshot,
        room: RoomNid,
    ) -> Result<Vec<Arc<Appservice>>, StoreError> {
        let known = self.inner.accounts.appservices();
        if !known.any_listens() {
            return Ok(Vec::new());
        }
        let Some(head) = self.head(snap, room)? else {
            return Ok(Vec::new());
        };
        let room_id = self.store().room_id(room)?;
        let interest = self.held_interest(snap, (room, &*room_id, head.state), known)?;
        let aliases = self.aliases_that_count(snap, room, &interest.known)?;
        Ok(interest.concerned(&aliases, |_| false).cloned().collect())
    }

    /// An event as application services get it: in the form of clients, and for invites and
    /// knocks with the stripped state of the room. None for an event that is not known.
    ///
    /// # Errors
    /// The store's.
    pub fn event_for_appservices(
        &self,
        snap: &Snapshot,
        event_id: &str,
        now_ms: u64,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(nid) = self.store().event_nid(snap, event_id)? else {
            return Ok(None);
        };
        let Some(meta) = self.meta(snap, nid)? else {
            return Ok(None);
        };
        let Some(placed) = self.placed(snap, meta.room, nid)? else {
            return Ok(None);
        };
        let unsigned = self.unsigned_for_appservices(snap, &placed, now_ms)?;
        let mut out = Vec::with_capacity(placed.event.json().len() + unsigned.len());
        placed.event.write_client(&mut out, options(&unsigned));
        Ok(Some(out))
    }

    fn unsigned_for_appservices(
        &self,
        snap: &Snapshot,
        placed: &Placed,
        now_ms: u64,
    ) -> Result<Vec<u8>, StoreError> {
        let mut out = age(&placed.event, now_ms);
        if let Some(before) = placed.meta.replaces {
            if let Some(before) = self.placed(snap, placed.meta.room, before)? {
                name("prev_content", &mut out);
                out.extend_from_slice(before.event.content().as_bytes());
            }
            name("replaces_state", &mut out);
            write_string_bytes(&self.store().event_id(before)?, &mut out);
        }
        if let Some(redaction) = placed.redacted_by
            && let Some(redaction) = self.placed(snap, placed.meta.room, redaction)?
        {
            name("redacted_because", &mut out);
            let mut unsigned = age(&redaction.event, now_ms);
            unsigned.push(b'}');
            redaction.event.write_client(&mut out, options(&unsigned));
        }
        if let Some((field, stripped)) = self.stripped_of(snap, placed)? {
            name(field, &mut out);
            out.extend_from_slice(&stripped);
        }
        out.push(b'}');
        Ok(out)
    }

    /// What an invite or knock tells of the room, while it stands.
    fn stripped_of(
        &self,
        snap: &Snapshot,
        placed: &Placed,
    ) -> Result<Option<(&'static str, Vec<u8>)>, StoreError> {
        let field = match placed.event.membership() {
            Some(Membership::Invite) => "invite_room_state",
            Some(Membership::Knock) => "knock_room_state",
            _ => return Ok(None),
        };
        let user_id = placed.event.state_key().unwrap_or_default();
        let Some(user) = self.store().user_nid(user_id)? else {
            return Ok(None);
        };
        let stripped = self.stripped(snap, user, placed.meta.room)?;
        Ok(stripped.map(|stripped| (field, stripped)))
    }

    /// The receipt that moved at this place of the log, as an `m.receipt` event that names its
    /// room; none if it has moved on since.
    ///
    /// # Errors
    /// The store's.
    pub fn receipt_for_appservices(
        &self,
        snap: &Snapshot,
        room: RoomNid,
        pos: Pos,
    ) -> Result<Option<String>, StoreError> {
        let Some((user, kind, thread)) = snap.get::<ReceiptAt>(&(room, pos))? else {
            return Ok(None);
        };
        let key = (room, user, kind, thread.clone());
        let Some(row) = snap.get::<Receipts>(&key)? else {
            return Ok(None);
        };
        let kind = match kind {
            ReceiptKind::Public => "m.read",
            ReceiptKind::Private => "m.read.private",
        };
        let quoted = |text: &str| {
            let mut out = Vec::with_capacity(text.len() + 2);
            write_string_bytes(text, &mut out);
            String::from_utf8_lossy(&out).into_owned()
        };
        let store = self.store();
        let (event, user) = (store.event_id(row.event)?, store.user_id(user)?);
        let (event, user) = (quoted(&event), quoted(&user));
        let room = quoted(&store.room_id(room)?);
        let thread = match thread.as_str() {
            "" => String::new(),
            thread => format!("\"thread_id\":{},", quoted(thread)),
        };
        let ts = row.ts;
        let content = format!("{{{event}:{{\"{kind}\":{{{user}:{{{thread}\"ts\":{ts}}}}}}}}}");
        Ok(Some(format!(
            "{{\"content\":{content},\"room_id\":{room},\"type\":\"m.receipt\"}}"
        )))
    }

    /// What an alias that belongs to application services alone means for who asks for it.
    pub(crate) fn check_alias_owner(&self, who: &Who, alias: &str) -> Result<(), RoomError> {
        let known = self.inner.accounts.appservices();
        let asker = who.appservice.as_deref();
        if known.keeps_alias(alias, asker) {
            let text = "This alias is kept for an application service";
            return Err(RoomError::Exclusive(text.into()));
        }
        let own = |id: &str| known.get(id).map(|one| &one.registration.aliases);
        match asker.and_then(own) {
            Some(aliases) if !aliases.has(alias) => Err(RoomError::Exclusive(
                "This alias is not in the application service's namespace".into(),
            )),
            _ => Ok(()),
        }
    }

    /// Whether an alias is in the namespace of the application service that asks.
    pub(crate) fn owns_alias(&self, who: &Who, alias: &str) -> bool {
        let known = self.inner.accounts.appservices();
        let asker = who.appservice.as_deref().and_then(|id| known.get(id));
        asker.is_some_and(|one| one.registration.aliases.has(alias))
    }
}

fn options(unsigned: &[u8]) -> ClientOptions<'_> {
    ClientOptions {
        room_id: true,
        unsigned: Some(unsigned),
        content: None,
    }
}

/// `{"age":..`, in ms.
fn age(event: &StoredEvent, now_ms: u64) -> Vec<u8> {
    let age = i128::from(now_ms) - i128::from(event.origin_server_ts());
    format!("{{\"age\":{age}").into_bytes()
}

fn name(name: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(format!(",\"{name}\":").as_bytes());
}

/// One thing in the queue of an application service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// An event, by id.
    Event(String),
    /// Typing, receipts or presence: a JSON object.
    Ephemeral(String),
    /// A message that waits for a device: its owner, the device, its place.
    ToDevice(u64, String, u64),
    /// The devices of a user changed; with false, the user shares no room any more.
    DeviceList(String, bool),
    /// The keys of a device were used up or added.
    Keys(u64, String),
}

impl Item {
    /// As it lies in the queue.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Item::Event(id) => format!("e{id}"),
            Item::Ephemeral(json) => format!("x{json}"),
            Item::ToDevice(user, device, pos) => format!("t{user} {pos} {device}"),
            Item::DeviceList(user_id, true) => format!("d{user_id}"),
            Item::DeviceList(user_id, false) => format!("l{user_id}"),
            Item::Keys(user, device) => format!("k{user} {device}"),
        }
        .into_bytes()
    }

    /// Reads an item; none for bytes that are none.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Item> {
        let text = std::str::from_utf8(bytes).ok()?;
        let (kind, rest) = text.split_at_checked(1)?;
        Some(match kind {
            "e" => Item::Event(rest.to_owned()),
            "x" => Item::Ephemeral(rest.to_owned()),
            "t" => {
                let (user, rest) = rest.split_once(' ')?;
                let (pos, device) = rest.split_once(' ')?;
                Item::ToDevice(user.parse().ok()?, device.to_owned(), pos.parse().ok()?)
            }
            "d" => Item::DeviceList(rest.to_owned(), true),
            "l" => Item::DeviceList(rest.to_owned(), false),
            "k" => {
                let (user, device) = rest.split_once(' ')?;
                Item::Keys(user.parse().ok()?, device.to_owned())
            }
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn items_survive_the_queue() {
        let items = [
            Item::Event("$id".into()),
            Item::Ephemeral("{\"a\":\"ü\"}".into()),
            Item::ToDevice(7, "A B".into(), 9),
            Item::DeviceList("@a:b".into(), true),
            Item::DeviceList("@a:b".into(), false),
            Item::Keys(7, "".into()),
        ];
        for item in items {
            assert_eq!(Item::decode(&item.encode()), Some(item));
        }
        for wrong in [&b""[..], b"?", b"t7", b"\xff", "ü".as_bytes()] {
            assert_eq!(Item::decode(wrong), None);
        }
    }
}
