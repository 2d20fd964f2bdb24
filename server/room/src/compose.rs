//! From a draft to an event: what allows it, its bytes, the rules.

use std::sync::Arc;

use skerry_core::StoredEvent;
use skerry_core::auth::{self, AuthState};
use skerry_core::build::{self, EventRef, Place, Signer};
use skerry_core::canonical::Object;
use skerry_core::event::{FormatError, MAX_PREV_EVENTS, RuledEvent};
use skerry_core::power::Action;
use skerry_store::{Snapshot, StoreError};

use crate::draft::Draft;
use crate::tip::Tip;
use crate::{RoomError, Rooms};

/// Who sends, and when.
#[derive(Clone, Copy)]
pub(crate) struct Author<'a> {
    pub(crate) user_id: &'a str,
    /// Milliseconds since the Unix epoch.
    pub(crate) now_ms: u64,
}

impl Rooms {
    /// Makes an event at the tip: signed, not yet judged.
    pub(crate) fn build(
        &self,
        snap: &Snapshot,
        tip: &Tip,
        author: Author<'_>,
        draft: Draft,
    ) -> Result<StoredEvent, RoomError> {
        let auth = self.auth_refs(snap, tip, author.user_id, &draft)?;
        // The newest of too many: a tip that is written has no more (`federated::squash`).
        let ends = tip.ends.iter().rev().take(MAX_PREV_EVENTS);
        let prev: Vec<EventRef> = ends.map(|event| EventRef::of(event)).collect();
        let draft = build::Draft {
            room_id: Some(tip.room_id.to_string()),
            sender: author.user_id.to_owned(),
            event_type: draft.kind,
            state_key: draft.state_key,
            content: draft.content,
            redacts: draft.redacts,
            sticky_ms: draft.sticky_ms,
        };
        let place = Place {
            version: tip.version,
            prev: &prev,
            auth: &auth,
            origin_server_ts: author.now_ms,
        };
        self.sign(draft, place)
    }

    /// Hashes and signs.
    pub(crate) fn sign(
        &self,
        draft: build::Draft,
        place: Place<'_>,
    ) -> Result<StoredEvent, RoomError> {
        let config = &self.inner.config;
        let signer = Signer {
            server: &config.server_name,
            key: &config.key,
        };
        let mut dice = self.inner.dice.dice();
        build::build(draft, place, signer, &mut *dice).map_err(misshapen)
    }

    /// References to the state events that allow a draft.
    fn auth_refs(
        &self,
        snap: &Snapshot,
        tip: &Tip,
        sender: &str,
        draft: &Draft,
    ) -> Result<Vec<EventRef>, StoreError> {
        let key = draft.state_key.as_deref();
        let types = auth::auth_types(tip.version, &draft.kind, sender, key, &draft.content);
        let mut refs = Vec::with_capacity(types.len());
        for (kind, key) in &types {
            if let Some(event) = self.tip_state(snap, tip, kind, key)? {
                refs.push(EventRef::of(event.event()));
            }
        }
        Ok(refs)
    }

    /// Whether the rules allow an event at the tip.
    pub(crate) fn check(
        &self,
        snap: &Snapshot,
        tip: &mut Tip,
        event: &Arc<StoredEvent>,
    ) -> Result<(), RoomError> {
        if !auth::is_special(event.event_type(), tip.version) {
            let (create, power) = (self.create_facts(snap, tip)?, self.power(snap, tip)?);
            let sender = self.tip_membership(snap, tip, event.sender())?;
            let state = AuthState {
                create: &create,
                power: &power,
                sender,
            };
            if let Some(verdict) = auth::check_ordinary(event, state) {
                return verdict.map_err(|refusal| RoomError::Forbidden(refusal.reason));
            }
        }
        // ruma's rules ask for state by a closure that cannot fail: a failure is kept aside.
        let failed = std::cell::RefCell::new(None);
        let lookup = |kind: &str, key: &str| match self.tip_state(snap, tip, kind, key) {
            Ok(found) => found,
            Err(error) => {
                failed.replace(Some(error));
                None
            }
        };
        let verdict = auth::check_ruled(&RuledEvent::new(event.clone(), false), lookup);
        if let Some(error) = failed.into_inner() {
            return Err(error.into());
        }
        verdict.map_err(|refusal| RoomError::Forbidden(refusal.reason))
    }

    /// Whether a redaction may take effect on its target: its sender has the level for it, or
    /// the two come from one server (rooms/v3, "Handling redactions").
    pub(crate) fn may_redact(
        &self,
        snap: &Snapshot,
        tip: &mut Tip,
        redaction: &StoredEvent,
        target: &StoredEvent,
    ) -> Result<bool, RoomError> {
        if server(redaction.sender()) == server(target.sender()) {
            return Ok(true);
        }
        Ok(self
            .power(snap, tip)?
            .may(redaction.sender(), Action::Redact))
    }

    /// The member content of a user's profile: display name and avatar.
    pub(crate) fn profile(&self, snap: &Snapshot, user_id: &str) -> Result<Object, StoreError> {
        let mut content = Object::new();
        let Some(user) = self.store().user_nid(user_id)? else {
            return Ok(content);
        };
        let face = skerry_account::profile::face(snap, user)?;
        if let Some(name) = face.display_name {
            content.insert("displayname", name);
        }
        if let Some(url) = face.avatar_url {
            content.insert("avatar_url", url);
        }
        Ok(content)
    }
}

fn server(id: &str) -> Option<&str> {
    skerry_core::names::server_of(id)
}

/// The form of an event is not what the room version asks for.
pub(crate) fn misshapen(error: FormatError) -> RoomError {
    if error.is_size() {
        RoomError::TooLarge(error.to_string())
    } else {
        RoomError::BadJson(error.to_string())
    }
}
