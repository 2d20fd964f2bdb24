//! One message's way into a room; and state, and redactions.
//!
//! The room's lane, the newest snapshot, the room's tip from memory; look whether the transaction
//! was answered before; parse the content, build and sign, check by the rules, list the rows; one
//! commit; wait until durable.

use skerry_account::{TxnAnswer, TxnKey, txn};
use skerry_core::canonical::Object;
use skerry_core::{RoomNid, names};
use skerry_store::schema::room as t;
use skerry_store::schema::room::{RelKind, SentBy};
use skerry_store::{Scan, StoreError};

use crate::change::Change;
use crate::draft::{Draft, parse};
use crate::{RoomError, Rooms, Who, retention};

/// Most reactions of one user to one event: each further one reads all before it.
const OWN_ANNOTATIONS_MAX: usize = 200;

/// A message to be sent: an event that is no state.
#[derive(Clone, Debug)]
pub struct Message {
    /// The event type.
    pub kind: String,
    /// Its content, as JSON.
    pub content: Vec<u8>,
    /// The client's transaction, and its id: the same one makes no second event.
    pub txn: Option<(TxnKey, String)>,
    /// For how many ms it is to be sticky (MSC4354), at most `skerry_core::event::MAX_STICKY_MS`.
    pub sticky_ms: Option<u32>,
    /// The time it is to bear, in ms since the epoch; none: now. Only for application services.
    pub ts: Option<u64>,
}

/// A state event to be set.
#[derive(Clone, Debug)]
pub struct StateEvent {
    /// The event type.
    pub kind: String,
    /// The state key.
    pub key: String,
    /// Its content, as JSON.
    pub content: Vec<u8>,
    /// For how many ms it is to be sticky (MSC4354), at most `skerry_core::event::MAX_STICKY_MS`.
    pub sticky_ms: Option<u32>,
    /// The time it is to bear, in ms since the epoch; none: now. Only for application services.
    pub ts: Option<u64>,
}

/// What somebody wants to say, before it is read.
#[derive(Clone, Debug)]
pub(crate) struct Words {
    pub(crate) kind: String,
    /// Of a state event.
    pub(crate) state_key: Option<String>,
    /// JSON.
    pub(crate) content: Vec<u8>,
    pub(crate) sticky_ms: Option<u32>,
    pub(crate) ts: Option<u64>,
}

impl Rooms {
    /// Sends a message; gives the event's id. With a transaction that was answered before, also
    /// before a restart, it gives that answer and sends nothing.
    ///
    /// # Errors
    /// `Forbidden`, `TooLarge`, `BadJson`, `NotFound` (a redaction's target), or the store's.
    pub async fn send(
        &self,
        who: Who,
        room_id: &str,
        message: Message,
    ) -> Result<String, RoomError> {
        let room = self.inside(room_id)?;
        let Message {
            kind,
            content,
            txn,
            sticky_ms,
            ts,
        } = message;
        let words = Words {
            kind,
            state_key: None,
            content,
            sticky_ms,
            ts,
        };
        let device = who.device.clone();
        self.once(room, txn, &device, move |change, sent| {
            change.sent = sent;
            change.say(&who, words)
        })
        .await
    }

    /// Sets state; gives the event's id. Setting what is already there, by the same user, makes
    /// no event and gives the present one's id.
    ///
    /// # Errors
    /// `Forbidden`, `TooLarge`, `BadJson`, `BadAlias`, `InvalidParam`, or the store's.
    pub async fn set_state(
        &self,
        who: Who,
        room_id: &str,
        state: StateEvent,
    ) -> Result<String, RoomError> {
        let room = self.inside(room_id)?;
        let words = Words {
            kind: state.kind,
            state_key: Some(state.key),
            content: state.content,
            sticky_ms: state.sticky_ms,
            ts: state.ts,
        };
        self.change(room, move |change| change.say(&who, words))
            .await
    }

    /// A room that a client speaks into. Of an unknown one it hears that it is not in it.
    pub(crate) fn inside(&self, room_id: &str) -> Result<RoomNid, RoomError> {
        let found = self.store().room_nid(room_id)?;
        found.ok_or_else(|| RoomError::Forbidden("You are not in this room".into()))
    }

    /// A room that a client names. Of an unknown one it hears that it is unknown.
    pub(crate) fn known(&self, room_id: &str) -> Result<RoomNid, RoomError> {
        let found = self.store().room_nid(room_id)?;
        found.ok_or_else(|| RoomError::NotFound("Unknown room".into()))
    }

    /// A change that makes one event, at most once per transaction.
    pub(crate) async fn once<P>(
        &self,
        room: RoomNid,
        txn: Option<(TxnKey, String)>,
        device: &str,
        plan: P,
    ) -> Result<String, RoomError>
    where
        P: FnOnce(&mut Change<'_>, Option<SentBy>) -> Result<String, RoomError>
            + Clone
            + Send
            + 'static,
    {
        let Some((key, id)) = txn else {
            return self.change(room, move |change| plan(change, None)).await;
        };
        let sent = SentBy {
            device: device.to_owned(),
            txn: Some(id),
            delay_id: None,
        };
        // An equal transaction names the same room, so the room's lane already makes the second
        // one wait until the first one's row is there.
        self.change(room, move |change| {
            if let Some(before) = txn::lookup(&change.snap, &key)? {
                return Ok(before.answer);
            }
            let event_id = plan(change, Some(sent))?;
            let answer = TxnAnswer {
                status: 200,
                answer: event_id.clone(),
            };
            txn::record(&mut change.w, &key, &answer, change.now_ms);
            Ok(event_id)
        })
        .await
    }
}

impl Change<'_> {
    /// Makes the event that somebody asks for.
    pub(crate) fn say(&mut self, who: &Who, words: Words) -> Result<String, RoomError> {
        self.ts = words.ts;
        let content = parse(&words.content, self.tip.version.json_mode())?;
        let kind = words.kind.as_str();
        let mut draft = match &words.state_key {
            Some(key) if kind == "m.room.member" => return self.member_state(who, key, content),
            Some(key) => Draft::state(kind, key, content),
            None if kind == "m.room.redaction" => return self.say_redaction(who, content),
            None => Draft::message(kind, content),
        };
        draft.sticky_ms = words.sticky_ms;
        if draft.state_key.is_some() {
            return self.set(who, draft);
        }
        who.not_suspended()?;
        self.vet(&draft)?;
        self.vet_annotation(who, &draft)?;
        self.vet_thread(&draft)?;
        self.add(&who.user_id, draft, None)
    }

    /// A redaction that was sent as any other event.
    fn say_redaction(&mut self, who: &Who, content: Object) -> Result<String, RoomError> {
        let target = content.str("redacts").map(str::to_owned);
        let missing = || RoomError::BadJson("A redaction needs `redacts`".into());
        let target = self.named(&target.ok_or_else(missing)?)?;
        let sent = self.sent.take();
        self.redact(who, &target, content, sent)
    }

    /// Sets state, unless the same user set the same before.
    pub(crate) fn set(&mut self, who: &Who, draft: Draft) -> Result<String, RoomError> {
        self.vet(&draft)?;
        // A sticky event that says the same again is sticky for longer.
        if draft.sticky_ms.is_none()
            && let Some(event_id) = self.same(&who.user_id, &draft)?
        {
            return Ok(event_id);
        }
        let closes = draft.kind == "m.room.guest_access"
            && draft.content.str("guest_access") != Some("can_join");
        let event_id = self.add(&who.user_id, draft, None)?;
        if closes {
            self.remove_guests()?;
        }
        Ok(event_id)
    }

    /// The present state event, where it says the same and comes from the same user.
    pub(crate) fn same(&self, user_id: &str, draft: &Draft) -> Result<Option<String>, StoreError> {
        let key = draft.state_key.as_deref().unwrap_or_default();
        let present = self
            .rooms
            .tip_state(&self.snap, &self.tip, &draft.kind, key)?;
        Ok(present.and_then(|present| {
            let event = present.event();
            let same = event.sender() == user_id && event.content() == draft.content.to_string();
            same.then(|| event.event_id().to_owned())
        }))
    }

    /// What this server asks of events of its own users beyond the rules of the room.
    fn vet(&self, draft: &Draft) -> Result<(), RoomError> {
        match draft.kind.as_str() {
            "m.room.tombstone"
                if draft.content.str("replacement_room") == Some(&self.tip.room_id) =>
            {
                Err(RoomError::InvalidParam(
                    "A room cannot replace itself".into(),
                ))
            }
            "m.room.canonical_alias" if draft.is_state("m.room.canonical_alias") => {
                self.vet_canonical_alias(&draft.content)
            }
            "m.room.retention" => retention::vet(draft),
            _ => Ok(()),
        }
    }

    /// One user says the same of an event once (client-server API, "Event annotations and
    /// reactions").
    fn vet_annotation(&self, who: &Who, draft: &Draft) -> Result<(), RoomError> {
        let Some(relates) = draft.content.object("m.relates_to") else {
            return Ok(());
        };
        let (Some("m.annotation"), Some(parent)) =
            (relates.str("rel_type"), relates.str("event_id"))
        else {
            return Ok(());
        };
        let rooms = self.rooms;
        let Some(parent) = rooms.store().event_nid(&self.snap, parent)? else {
            return Ok(());
        };
        let prefix = (parent, RelKind::Annotation);
        let mut own = 0;
        for row in self.snap.scan::<t::Relations>(Scan::prefix(&prefix)) {
            let (_, row) = row?;
            if row.sender != who.user {
                continue;
            }
            own += 1;
            if own >= OWN_ANNOTATIONS_MAX {
                let text = "You have said too much of this event";
                return Err(RoomError::DuplicateAnnotation(text.into()));
            }
            let Some(held) = rooms.event(&self.snap, row.child)? else {
                continue;
            };
            let content = held.event.content_object().unwrap_or_default();
            let key = content
                .object("m.relates_to")
                .and_then(|relates| relates.get("key"));
            if held.event.event_type() == draft.kind && key == relates.get("key") {
                let text = "You have said this of the event before";
                return Err(RoomError::DuplicateAnnotation(text.into()));
            }
        }
        Ok(())
    }
}

/// A user id, or the answer that it is none.
pub(crate) fn checked_user(user_id: &str) -> Result<(), RoomError> {
    if names::is_user_id(user_id) {
        Ok(())
    } else {
        Err(RoomError::InvalidParam(format!(
            "{user_id:?} is not a user id"
        )))
    }
}
