//! Taking the content of an event away. `redact_many.rs` does it to many at once.

use std::sync::Arc;

use skerry_account::{TxnKey, user};
use skerry_core::canonical::Object;
use skerry_core::event::RuledEvent;
use skerry_core::power::Action;
use skerry_core::{EventNid, Pos, StoredEvent, UserNid};
use skerry_store::schema::federation::Awaits;
use skerry_store::schema::room as t;
use skerry_store::schema::room::{EventMeta, EventRow, SentBy};
use skerry_store::schema::room_redact::{Original, OriginalAt, OriginalRow};
use skerry_store::{Snapshot, StoreError, Write};

use crate::append::{await_event, is_event_id};
use crate::change::Change;
use crate::draft::{Draft, parse};
use crate::read::notes;
use crate::tip::Tip;
use crate::{Held, RoomError, Rooms, Who, search};

/// Members of a request to redact that are no content of the event.
const REL_TYPES: [&str; 2] = ["with_rel_types", "org.matrix.msc3912.with_relations"];

/// An event to be redacted.
#[derive(Clone, Debug)]
pub struct Redaction {
    /// The target's event id.
    pub target: String,
    /// The redaction's content, as JSON: `reason` and what else the client says.
    pub content: Vec<u8>,
    /// Events that relate to the target in these ways go too, as far as the user may redact them;
    /// `*` stands for every way (MSC3912).
    pub with_rel_types: Vec<String>,
    /// The client's transaction, and its id.
    pub txn: Option<(TxnKey, String)>,
}

/// Who redacts.
#[derive(Clone, Copy)]
pub(crate) struct Redactor<'a> {
    pub(crate) user: UserNid,
    pub(crate) user_id: &'a str,
    /// An administrator of this server.
    pub(crate) admin: bool,
}

impl<'a> Redactor<'a> {
    pub(crate) fn of(who: &'a Who) -> Redactor<'a> {
        Redactor {
            user: who.user,
            user_id: &who.user_id,
            admin: who.admin,
        }
    }
}

/// An event that is being redacted.
pub(crate) struct Target {
    pub(crate) held: Held,
    pub(crate) meta: EventMeta,
}

impl Rooms {
    /// Redacts an event; gives the redaction's id.
    ///
    /// # Errors
    /// `Forbidden`, `NotFound` for an unknown target, `InvalidParam` for one in another room, or
    /// as [`Self::send`].
    pub async fn redact(
        &self,
        who: Who,
        room_id: &str,
        redaction: Redaction,
    ) -> Result<String, RoomError> {
        let room = self.inside(room_id)?;
        let Redaction {
            target,
            content,
            with_rel_types,
            txn,
        } = redaction;
        if !with_rel_types.is_empty() {
            // These are the events of others too.
            who.not_suspended()?;
        }
        let device = who.device.clone();
        self.once(room, txn, &device, move |change, sent| {
            let mut content = parse(&content, change.tip.version.json_mode())?;
            REL_TYPES.iter().for_each(|name| {
                content.remove(name);
            });
            let target = change.named(&target)?;
            let event_id = change.redact(&who, &target, content.clone(), sent)?;
            if !with_rel_types.is_empty() {
                change.redact_related(&who, &target, &content, with_rel_types)?;
            }
            Ok(event_id)
        })
        .await
    }

    /// An event and where it stands.
    pub(crate) fn target(
        &self,
        snap: &Snapshot,
        nid: EventNid,
    ) -> Result<Option<Target>, StoreError> {
        let (held, meta) = (self.event(snap, nid)?, self.meta(snap, nid)?);
        Ok(held.zip(meta).map(|(held, meta)| Target { held, meta }))
    }

    /// A redaction takes its target's content away, if it may.
    pub(crate) fn redact_target(
        &self,
        w: &mut Write,
        snap: &Snapshot,
        tip: &mut Tip,
        (nid, pos): (EventNid, Pos),
        event: &StoredEvent,
    ) -> Result<(), RoomError> {
        if event.event_type() != "m.room.redaction" || event.is_state() {
            return Ok(());
        }
        let Some(target) = event.redacts() else {
            return Ok(());
        };
        let Some(found) = self.number_of(snap, &tip.fresh, target)? else {
            if is_event_id(target) {
                await_event(w, tip, target, (Awaits::Redaction, nid));
            }
            return Ok(());
        };
        let Some(target) = self.target_of(snap, tip, found)? else {
            return Ok(());
        };
        let of_room = target.meta.room == tip.room && target.held.redacted_by.is_none();
        if !of_room || !self.may_redact(snap, tip, event, &target.held.event)? {
            return Ok(());
        }
        self.take_content(w, snap, tip, target, (nid, pos))
    }

    /// Puts an event's redacted form in its place, in everything that a write touches by that.
    pub(crate) fn take_content(
        &self,
        w: &mut Write,
        snap: &Snapshot,
        tip: &mut Tip,
        target: Target,
        (by, pos): (EventNid, Pos),
    ) -> Result<(), RoomError> {
        let Target { held, meta } = target;
        if let Some((kind, parent)) = self.relation(snap, tip, &held.event)? {
            w.delete::<t::Relations>(&(parent, kind, meta.order));
        }
        let redacted = held
            .event
            .redacted()
            .map_err(|error| crate::base::damaged::<t::Event>(held.nid, &error.to_string()))?;
        self.keep_original(w, snap, &held, &meta)?;
        search::forget(w, &held.event, meta.room, meta.order);
        let row = EventRow {
            redacted_by: Some(by),
            sent: held.sent,
            event: redacted.encode(),
        };
        w.put::<t::Event>(&held.nid, &row);
        notes::redaction(w, tip.room, held.nid, by, pos);
        let redacted = Arc::new(redacted);
        if redacted.is_state() {
            (tip.create, tip.power) = (None, None);
            let ruled = RuledEvent::new(redacted.clone(), false);
            tip.fresh.ruled.insert(held.nid, ruled);
        }
        tip.fresh.redacted.insert(held.nid);
        // What follows the target is built on its id and hash, which stay.
        tip.fresh.events.insert(held.nid, redacted);
        Ok(())
    }

    /// What an event said is kept for a time, unless nothing is to be kept or its sender asked to
    /// be forgotten.
    fn keep_original(
        &self,
        w: &mut Write,
        snap: &Snapshot,
        held: &Held,
        meta: &EventMeta,
    ) -> Result<(), StoreError> {
        if self.inner.config.redacted_keep_ms == 0 || user::is_erased(snap, meta.sender)? {
            return Ok(());
        }
        let at_ms = self.inner.clock.now_ms();
        let row = OriginalRow {
            at_ms,
            sender: meta.sender,
            event: held.event.encode(),
        };
        w.put::<Original>(&(meta.room, held.nid), &row);
        w.put::<OriginalAt>(&(at_ms, held.nid), &meta.room);
        Ok(())
    }
}

impl Change<'_> {
    /// The event that a client wants redacted.
    pub(crate) fn named(&self, event_id: &str) -> Result<Target, RoomError> {
        let rooms = self.rooms;
        let nid = rooms.store().event_nid(&self.snap, event_id)?;
        let target = match nid {
            Some(nid) => rooms.target(&self.snap, nid)?,
            None => None,
        };
        let target = target.ok_or_else(|| RoomError::NotFound("Unknown event".into()))?;
        if target.meta.room != self.tip.room {
            let text = "The event to redact is in another room";
            return Err(RoomError::InvalidParam(text.into()));
        }
        Ok(target)
    }

    /// Makes a redaction, and lets it take effect.
    pub(crate) fn redact(
        &mut self,
        who: &Who,
        target: &Target,
        mut content: Object,
        sent: Option<SentBy>,
    ) -> Result<String, RoomError> {
        let own = target.meta.sender == who.user;
        if !own {
            who.not_suspended()?;
        }
        if !own && !self.may_redact_of(Redactor::of(who), target)? {
            let text = "You may not redact the events of others here";
            return Err(RoomError::Forbidden(text.into()));
        }
        content.remove("redacts");
        let mut draft = Draft::message("m.room.redaction", content);
        draft.redacts = Some(target.held.event.event_id().to_owned());
        self.add(&who.user_id, draft, sent)
    }

    /// Whether a user may redact what somebody else sent: by their level in the room, or as an
    /// administrator of the server that it came from.
    pub(crate) fn may_redact_of(
        &mut self,
        by: Redactor<'_>,
        target: &Target,
    ) -> Result<bool, RoomError> {
        if by.admin && self.rooms.is_local(target.held.event.sender()) {
            return Ok(true);
        }
        let power = self.rooms.power(&self.snap, &mut self.tip)?;
        Ok(power.may(by.user_id, Action::Redact))
    }
}
