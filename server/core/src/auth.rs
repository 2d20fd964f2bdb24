//! Whether an event is allowed: ruma's rules, and a short way for ordinary events.
//!
//! Spec: server-server API, "Authorisation rules", and each room version's own.

mod selection;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use ruma_events::StateEventType;
use ruma_state_res::{check_state_dependent_auth_rules, check_state_independent_auth_rules};

use crate::Membership;
use crate::canonical::Object;
use crate::event::{RuledEvent, StoredEvent};
use crate::power::{CreateFacts, PowerLevels};
use crate::room_version::RoomVersion;

pub use selection::auth_types;

/// Which of the rules refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rule {
    /// Rules about `m.room.create`, or its absence.
    Create,
    /// Rules about the events named in `auth_events`.
    AuthEvents,
    /// The room is closed to other servers.
    Federate,
    /// Rules about `m.room.member`.
    Member,
    /// The sender is not in the room.
    NotJoined,
    /// The sender's power level is too low.
    Power,
    /// The state key is another user's id.
    StateKey,
    /// Rules about changes of `m.room.power_levels`.
    PowerLevels,
    /// Rules about redactions (versions 1 and 2).
    Redaction,
    /// Rules about `m.room.aliases` (versions 1 to 5).
    Aliases,
}

/// The rules do not allow the event.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{reason}")]
pub struct Refusal {
    /// The rule.
    pub rule: Rule,
    /// What was wrong, in words.
    pub reason: String,
}

impl Refusal {
    fn new(rule: Rule, reason: impl Into<String>) -> Self {
        Refusal {
            rule,
            reason: reason.into(),
        }
    }
}

/// What the ordinary rules need of a room's state; parse the parts once and cache them by the ids
/// of the events they come from.
#[derive(Clone, Copy, Debug)]
pub struct AuthState<'a> {
    /// Of the create event.
    pub create: &'a CreateFacts,
    /// Of the power levels.
    pub power: &'a PowerLevels,
    /// The sender's membership; `None` if there never was one.
    pub sender: Option<Membership>,
}

/// Whether an event of this type is judged by more than the ordinary rules, and so needs [`check`].
#[must_use]
pub fn is_special(event_type: &str, version: RoomVersion) -> bool {
    match event_type {
        "m.room.create" | "m.room.member" | "m.room.power_levels" | "m.room.third_party_invite" => {
            true
        }
        "m.room.aliases" => version.number() <= 5,
        "m.room.redaction" => version.number() <= 2,
        _ => false,
    }
}

/// The ordinary rules: the same answer as [`check`] for events that are not special, without
/// parsing anything. `None` for special ones.
#[must_use]
pub fn check_ordinary(event: &StoredEvent, state: AuthState<'_>) -> Option<Result<(), Refusal>> {
    if is_special(event.event_type(), event.version()) {
        return None;
    }
    let sender = event.sender();
    if !state.create.federate && crate::names::server_of(sender) != Some(&state.create.server) {
        return Some(Err(Refusal::new(
            Rule::Federate,
            "the room is closed to other servers",
        )));
    }
    if state.sender != Some(Membership::Join) {
        return Some(Err(Refusal::new(
            Rule::NotJoined,
            "sender is not in the room",
        )));
    }
    let (has, needs) = (
        state.power.user(sender),
        state.power.event(event.event_type(), event.is_state()),
    );
    if has < needs {
        let kind = event.event_type();
        let reason = format!("sending `{kind}` takes power level {needs}, sender has {has}");
        return Some(Err(Refusal::new(Rule::Power, reason)));
    }
    if event
        .state_key()
        .is_some_and(|key| key.starts_with('@') && key != sender)
    {
        return Some(Err(Refusal::new(
            Rule::StateKey,
            "state key is another user's id",
        )));
    }
    Some(Ok(()))
}

/// Whether the event is allowed by a room state, which `lookup` answers from
/// (`|type, state_key| -> event`). For local events, for each check on receipt, and in version 1
/// state resolution. The event's own signatures are taken for checked.
///
/// # Errors
/// The rule that refuses.
pub fn check(
    event: &Arc<StoredEvent>,
    lookup: impl Fn(&str, &str) -> Option<Arc<StoredEvent>>,
) -> Result<(), Refusal> {
    let ruled = RuledEvent::new(event.clone(), false);
    check_ruled(&ruled, |kind, key| {
        Some(RuledEvent::new(lookup(kind, key)?, false))
    })
}

/// As [`check`], on events already wrapped.
///
/// # Errors
/// The rule that refuses.
pub fn check_ruled(
    event: &RuledEvent,
    lookup: impl Fn(&str, &str) -> Option<RuledEvent>,
) -> Result<(), Refusal> {
    let stored = event.event();
    let rules = &stored.version().rules().authorization;
    let fetch = |kind: &StateEventType, key: &str| {
        let found = lookup(&kind.to_string(), key);
        match kind {
            StateEventType::RoomJoinRules => found.or_else(|| invite_only(stored)),
            _ => found,
        }
    };
    check_state_dependent_auth_rules(rules, event, fetch).map_err(|reason| {
        let rule = refusing_rule(stored, &|kind, key| {
            Some(lookup(kind, key)?.event().clone())
        });
        Refusal { rule, reason }
    })
}

/// The join rules of a room that has none set: by invite, as published servers have it. ruma lets
/// nobody into such a room, not even by invite.
fn invite_only(event: &StoredEvent) -> Option<RuledEvent> {
    let mut content = Object::new();
    content.insert("join_rule", "invite");
    let mut rules = event.object().ok()?;
    rules.insert("content", content);
    rules.insert("type", "m.room.join_rules");
    rules.insert("state_key", "");
    let rules = StoredEvent::from_object(rules, event.version()).ok()?;
    Some(RuledEvent::new(Arc::new(rules), false))
}

/// Which rule it was that refused: ruma tells it only in words.
fn refusing_rule(
    event: &StoredEvent,
    lookup: &dyn Fn(&str, &str) -> Option<Arc<StoredEvent>>,
) -> Rule {
    let create = lookup("m.room.create", "").and_then(|create| CreateFacts::of(&create));
    let Some(create) = create else {
        return Rule::Create;
    };
    if !create.federate && crate::names::server_of(event.sender()) != Some(&create.server) {
        return Rule::Federate;
    }
    match event.event_type() {
        "m.room.create" => return Rule::Create,
        "m.room.aliases" if event.version().number() <= 5 => return Rule::Aliases,
        "m.room.member" => return Rule::Member,
        _ => {}
    }
    let sender = lookup("m.room.member", event.sender()).and_then(|member| member.membership());
    if sender != Some(Membership::Join) {
        return Rule::NotJoined;
    }
    let levels = lookup("m.room.power_levels", "");
    let Ok(power) = PowerLevels::of(&create, levels.as_deref()) else {
        return Rule::Power;
    };
    if !power.may_send(event.sender(), event.event_type(), event.is_state()) {
        return Rule::Power;
    }
    match event.event_type() {
        "m.room.power_levels" => Rule::PowerLevels,
        "m.room.redaction" if event.version().number() <= 2 => Rule::Redaction,
        _ if event.state_key().is_some_and(|key| key.starts_with('@')) => Rule::StateKey,
        _ => Rule::Power,
    }
}

/// Whether the events named in `auth_events` are the right ones, and the rules on create events.
/// Once per event, on receipt. `fetch` finds an event by its id, and says whether it was rejected.
///
/// # Errors
/// The rule that refuses.
pub fn check_auth_events(
    event: &Arc<StoredEvent>,
    fetch: impl Fn(&str) -> Option<(Arc<StoredEvent>, bool)>,
) -> Result<(), Refusal> {
    let ruled = RuledEvent::new(event.clone(), false);
    check_auth_events_ruled(&ruled, |id| {
        fetch(id).map(|(event, rejected)| RuledEvent::new(event, rejected))
    })
}

/// As [`check_auth_events`], on events already wrapped.
///
/// # Errors
/// The rule that refuses.
pub fn check_auth_events_ruled(
    event: &RuledEvent,
    fetch: impl Fn(&str) -> Option<RuledEvent>,
) -> Result<(), Refusal> {
    let stored = event.event();
    let rules = &stored.version().rules().authorization;
    let fetch = |id: &ruma_common::EventId| fetch(id.as_str());
    let rule = if stored.is_create() {
        Rule::Create
    } else {
        Rule::AuthEvents
    };
    check_state_independent_auth_rules(rules, event, fetch)
        .map_err(|reason| Refusal { rule, reason })
}
