//! The events a new room begins with, in the order the specification gives
//! (client-server API, `POST /createRoom`).

use skerry_core::canonical::{Mode, Object, Value};
use skerry_core::{Membership, RoomVersion};

use super::{CreateRoom, Preset};
use crate::RoomError;
use crate::draft::{Draft, object, parse, topic};

/// The largest number of state events that a new room may be asked to begin with.
const MAX_INITIAL_STATE: usize = 1_000;
/// The largest number of people that can be invited while a room is made.
const MAX_INVITES: usize = 1_000;

/// What a room will begin with. Everything after `create` is sent by the creator, in order.
pub(super) struct Plan {
    /// Content of `m.room.create`.
    pub(super) create: Object,
    /// Join of the creator, then state.
    pub(super) events: Vec<Draft>,
}

/// Who creates, and what the member event says of them.
pub(super) struct Creator<'a> {
    pub(super) user_id: &'a str,
    pub(super) profile: Object,
}

/// Lays out the room. `alias` is the whole alias made of `room_alias_name`.
pub(super) fn plan(
    request: &CreateRoom,
    version: RoomVersion,
    creator: Creator<'_>,
    alias: Option<&str>,
) -> Result<Plan, RoomError> {
    if request.initial_state.len() > MAX_INITIAL_STATE {
        return Err(RoomError::InvalidParam(
            "initial_state has too many events".into(),
        ));
    }
    if request.invite.len() > MAX_INVITES {
        return Err(RoomError::InvalidParam(
            "too many people invited at once".into(),
        ));
    }
    let mode = version.json_mode();
    let preset = request.preset.unwrap_or(if request.public {
        Preset::PublicChat
    } else {
        Preset::PrivateChat
    });
    let user_id = creator.user_id.to_owned();
    let mut events = vec![Draft::member(&user_id, Membership::Join, creator.profile)];
    events.push(power_levels(request, version, &user_id, preset)?);
    if let Some(alias) = alias {
        events.push(Draft::setting("m.room.canonical_alias", "alias", alias));
    }
    let initial = initial_state(request, mode)?;
    events.extend(
        preset_events(preset)
            .into_iter()
            .filter(|draft| !overridden(draft, &initial)),
    );
    events.extend(initial);
    if let Some(name) = request.name.as_deref().filter(|name| !name.is_empty()) {
        events.push(Draft::setting("m.room.name", "name", name));
    }
    if let Some(text) = request.topic.as_deref().filter(|text| !text.is_empty()) {
        events.push(topic(text));
    }
    let create = create_content(request, version, &user_id, preset)?;
    Ok(Plan { create, events })
}

/// Content of the create event.
fn create_content(
    request: &CreateRoom,
    version: RoomVersion,
    user_id: &str,
    preset: Preset,
) -> Result<Object, RoomError> {
    let mut content = match &request.creation_content {
        Some(text) => parse(text.as_bytes(), version.json_mode())?,
        None => Object::new(),
    };
    content.remove("creator");
    if version.creator_in_content() {
        content.insert("creator", user_id);
    }
    content.insert("room_version", version.as_str());
    if version.creators_are_privileged() && preset == Preset::TrustedPrivateChat {
        let mut creators = match content.remove("additional_creators") {
            Some(Value::Array(creators)) => creators,
            None => Vec::new(),
            Some(_) => {
                return Err(RoomError::BadJson(
                    "additional_creators is not a list".into(),
                ));
            }
        };
        for invited in &request.invite {
            let invited = Value::Str(invited.clone());
            if invited.as_str() != Some(user_id) && !creators.contains(&invited) {
                creators.push(invited);
            }
        }
        if !creators.is_empty() {
            content.insert("additional_creators", creators);
        }
    }
    Ok(content)
}

/// The power levels a room begins with, with what the request puts on top.
fn power_levels(
    request: &CreateRoom,
    version: RoomVersion,
    user_id: &str,
    preset: Preset,
) -> Result<Draft, RoomError> {
    let mut users = Object::new();
    if !version.creators_are_privileged() {
        users.insert(user_id, 100);
        if preset == Preset::TrustedPrivateChat {
            for invited in &request.invite {
                users.insert(invited, 100);
            }
        }
    }
    // A room of version 12 is closed for good by its tombstone only: not by every admin.
    let tombstone = if version.creators_are_privileged() {
        150
    } else {
        100
    };
    let events = object([
        ("m.room.avatar", 50.into()),
        ("m.room.canonical_alias", 50.into()),
        ("m.room.encryption", 100.into()),
        ("m.room.history_visibility", 100.into()),
        ("m.room.name", 50.into()),
        ("m.room.power_levels", 100.into()),
        ("m.room.server_acl", 100.into()),
        ("m.room.tombstone", tombstone.into()),
    ]);
    let invite = if preset == Preset::PublicChat { 50 } else { 0 };
    let mut content = object([
        ("ban", 50.into()),
        ("events", events.into()),
        ("events_default", 0.into()),
        ("invite", invite.into()),
        ("kick", 50.into()),
        ("redact", 50.into()),
        ("state_default", 50.into()),
        ("users", users.into()),
        ("users_default", 0.into()),
    ]);
    if let Some(text) = &request.power_levels {
        for (name, value) in parse(text.as_bytes(), version.json_mode())?.iter() {
            content.insert(name, value.clone());
        }
    }
    Ok(Draft::state("m.room.power_levels", "", content))
}

/// State that a preset sets.
fn preset_events(preset: Preset) -> Vec<Draft> {
    let public = preset == Preset::PublicChat;
    let join_rule = if public { "public" } else { "invite" };
    let mut events = vec![
        Draft::setting("m.room.join_rules", "join_rule", join_rule),
        Draft::setting("m.room.history_visibility", "history_visibility", "shared"),
    ];
    // Guests are kept out where nothing is said of them.
    if !public {
        events.push(Draft::setting(
            "m.room.guest_access",
            "guest_access",
            "can_join",
        ));
    }
    events
}

fn initial_state(request: &CreateRoom, mode: Mode) -> Result<Vec<Draft>, RoomError> {
    let draft = |state: &super::InitialState| {
        if state.kind == "m.room.create" || state.kind == "m.room.member" {
            let text = format!("initial_state may not hold {}", state.kind);
            return Err(RoomError::InvalidState(text));
        }
        let content = parse(state.content.as_bytes(), mode)?;
        Ok(Draft::state(&state.kind, &state.state_key, content))
    };
    request.initial_state.iter().map(draft).collect()
}

fn overridden(draft: &Draft, by: &[Draft]) -> bool {
    by.iter()
        .any(|other| other.kind == draft.kind && other.state_key == draft.state_key)
}
