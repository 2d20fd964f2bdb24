//! Making rooms.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use skerry_http::{Answer, ApiError, Call, Route, route};
use skerry_remote::identity::{AddressInvite, IdentityError};
use skerry_room::{CreateRoom, InitialState, Preset, RoomError};

use crate::in_room::{refusal, who};
use crate::{Ctx, fault};

/// The endpoints of this file.
pub(crate) const ROUTES: &[Route<Ctx>] =
    &[route!(POST "/_matrix/client/v3/createRoom", Token, Join, create)];

/// The request's body.
#[derive(Deserialize)]
struct Body {
    room_version: Option<String>,
    preset: Option<PresetName>,
    visibility: Option<Visibility>,
    room_alias_name: Option<String>,
    name: Option<String>,
    topic: Option<String>,
    #[serde(default)]
    invite: Vec<String>,
    #[serde(default)]
    invite_3pid: Vec<AddressInvite>,
    #[serde(default)]
    is_direct: bool,
    creation_content: Option<Box<RawValue>>,
    #[serde(default)]
    initial_state: Vec<StateBody>,
    power_level_content_override: Option<Box<RawValue>>,
    /// MSC4491.
    #[serde(rename = "uk.timedout.msc4491.invite_reason")]
    invite_reason: Option<String>,
}

#[derive(Deserialize)]
struct StateBody {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    state_key: String,
    content: Box<RawValue>,
}

#[derive(Deserialize)]
enum PresetName {
    #[serde(rename = "private_chat")]
    Private,
    #[serde(rename = "public_chat")]
    Public,
    #[serde(rename = "trusted_private_chat")]
    Trusted,
}

#[derive(Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Visibility {
    Public,
    Private,
}

/// `POST /createRoom`: the room with all it begins with is durable before the answer, or there is
/// no room.
async fn create(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let mut body: Body = call.json()?;
    ctx.bridges.find_users(&body.invite).await;
    let who = who(&call)?;
    let by_address = std::mem::take(&mut body.invite_3pid);
    let made = match by_address.is_empty() {
        true => {
            let made = ctx.federation.create(who, request(body)).await;
            made.map_err(refused)
        }
        false => {
            let made = ctx.identity.create(who, request(body), by_address).await;
            made.map_err(|error| match error {
                IdentityError::Room(error) => refused(error),
                other => fault::identity(other),
            })
        }
    };
    Answer::json(&json!({ "room_id": made? }))
}

fn refused(error: RoomError) -> ApiError {
    match error {
        RoomError::AliasInUse(text) => ApiError::room_in_use(text),
        other => refusal(other),
    }
}

fn request(body: Body) -> CreateRoom {
    let text = |raw: Box<RawValue>| raw.get().to_owned();
    let state = |state: StateBody| InitialState {
        kind: state.kind,
        state_key: state.state_key,
        content: text(state.content),
    };
    CreateRoom {
        version: body.room_version,
        preset: body.preset.map(|preset| match preset {
            PresetName::Private => Preset::PrivateChat,
            PresetName::Public => Preset::PublicChat,
            PresetName::Trusted => Preset::TrustedPrivateChat,
        }),
        public: body.visibility == Some(Visibility::Public),
        alias: body.room_alias_name,
        name: body.name,
        topic: body.topic,
        invite: body.invite,
        is_direct: body.is_direct,
        creation_content: body.creation_content.map(text),
        initial_state: body.initial_state.into_iter().map(state).collect(),
        power_levels: body.power_level_content_override.map(text),
        invite_reason: body.invite_reason,
        notices_for: None,
    }
}
