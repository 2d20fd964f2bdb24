//! Group calls (MatrixRTC): over which server they go (MSC4143), and tokens for a LiveKit server
//! (MSC4195).
//!
//! The tokens are given out in three forms: by endpoints of the client-server API, and, since
//! clients still ask so, by two of a service of its own, to which users show who they are by an
//! OpenID token. That is also how users of other servers join a call that goes over our LiveKit
//! server; it is for users of this server to begin one.

use std::sync::Arc;

use http::header::AUTHORIZATION;
use serde::Deserialize;
use serde_json::json;
use skerry_core::names;
use skerry_http::{Answer, ApiError, Call, Route, route};
use skerry_remote::livekit::{Grant, LiveKit, pseudonym};
use skerry_room::Delegation;

use crate::Ctx;
use crate::in_room::{refusal, who};
use crate::voip::Turn;

/// The endpoints of this file.
pub(crate) const ROUTES: &[Route<Ctx>] = &[
    route!(
        GET "/_matrix/client/unstable/org.matrix.msc4143/rtc/transports", Token, Free, transports
    ),
    route!(
        POST "/_matrix/client/unstable/io.element.msc4195/rtc/livekit/get_token",
        Token, Heavy, get_token
    ),
    route!(
        POST "/_matrix/client/unstable/io.element.msc4195/rtc/livekit/delegate_delayed_leave",
        Token, Heavy, delegate
    ),
    route!(POST "/livekit/jwt/sfu/get", None, Login, sfu_get),
    route!(POST "/livekit/jwt/get_token", None, Login, service_get_token),
    route!(POST "/livekit/jwt/sfu_webhook", None, Send, webhook),
];

/// What calls go over.
#[derive(Clone, Default)]
pub struct Calls {
    /// Relays for calls between two.
    pub turn: Option<Turn>,
    /// The LiveKit server.
    pub livekit: Option<LiveKit>,
}

/// The path under which clients that speak to a service of its own find it.
pub const SERVICE_PATH: &str = "/livekit/jwt";

/// The slot that clients mean who do not name one.
const ROOM_CALL: &str = "m.call#ROOM";
/// The shortest delay of an event that is handed over, in ms.
const DELEGATED_MIN_MS: u64 = 600_000;

fn livekit(ctx: &Ctx) -> Result<&LiveKit, ApiError> {
    let livekit = ctx.calls.livekit.as_ref();
    livekit.ok_or_else(|| ApiError::unrecognized("This server has no LiveKit server"))
}

/// `GET /rtc/transports`
async fn transports(ctx: Arc<Ctx>, _: Call) -> Result<Answer, ApiError> {
    let transports = ctx.calls.livekit.as_ref().map(|livekit| {
        json!({
            "type": "livekit",
            "url": livekit.url(),
            "livekit_service_url": format!("{}{SERVICE_PATH}", ctx.config.base_url),
        })
    });
    let transports: Vec<_> = transports.into_iter().collect();
    Answer::json(&json!({ "rtc_transports": transports }))
}

#[derive(Deserialize)]
struct Member {
    server_name: Option<String>,
    url: String,
    room_id: String,
    slot_id: String,
    member_id: String,
}

impl Member {
    /// Makes sure that it is about our LiveKit server.
    fn check(&self, ctx: &Ctx, livekit: &LiveKit) -> Result<(), ApiError> {
        let own = self.server_name.as_deref();
        if own.is_some_and(|name| *name != *ctx.config.server_name) {
            return Err(ApiError::invalid_param("That server cannot be asked"));
        }
        if self.url.trim_end_matches('/') != livekit.url() {
            return Err(ApiError::invalid_param(
                "url is not of a LiveKit server of this server",
            ));
        }
        Ok(())
    }

    fn room(&self) -> String {
        pseudonym(&[&self.room_id, &self.slot_id])
    }

    fn identity(&self, user_id: &str) -> String {
        pseudonym(&[user_id, &self.member_id])
    }
}

/// `POST /rtc/livekit/get_token`
async fn get_token(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let body: Member = call.json()?;
    let livekit = livekit(&ctx)?;
    let user_id = &call.requester()?.user_id;
    if !is_joined(&ctx, user_id, &body.room_id).await? {
        return Err(ApiError::forbidden("You are not in this room"));
    }
    body.check(&ctx, livekit)?;
    let grant = Grant {
        room: &body.room(),
        identity: &body.identity(user_id),
        metadata: false,
    };
    Answer::json(&json!({ "jwt": enter(livekit, grant).await? }))
}

/// `POST /rtc/livekit/delegate_delayed_leave`: from now on the server restarts the delayed event
/// while the member is connected to LiveKit, and sends it when they are gone.
async fn delegate(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    #[derive(Deserialize)]
    struct Leave {
        #[serde(flatten)]
        member: Member,
        delay_id: String,
    }
    let body: Leave = call.json()?;
    body.member.check(&ctx, livekit(&ctx)?)?;
    let delegation = Delegation {
        room: body.member.room(),
        identity: body.member.identity(&call.requester()?.user_id),
        delay_id: body.delay_id,
    };
    let least_ms = DELEGATED_MIN_MS;
    let room_id = &body.member.room_id;
    let done = ctx
        .rooms
        .delegate(who(&call)?.user, room_id, delegation, least_ms);
    done.await.map_err(refusal)?;
    Ok(Answer::empty())
}

#[derive(Deserialize)]
struct OpenId {
    access_token: String,
    matrix_server_name: String,
}

/// `POST /sfu/get`, as the service of its own had it first.
async fn sfu_get(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    #[derive(Deserialize)]
    struct Get {
        room: String,
        openid_token: OpenId,
        device_id: String,
    }
    let body: Get = call.json()?;
    let livekit = livekit(&ctx)?;
    let user_id = shown(&ctx, &body.openid_token, &body.room).await?;
    let grant = Grant {
        room: &pseudonym(&[&body.room, ROOM_CALL]),
        identity: &format!("{user_id}:{}", body.device_id),
        metadata: true,
    };
    let jwt = enter_as(&ctx, livekit, &user_id, grant).await?;
    Answer::json(&json!({ "url": livekit.url(), "jwt": jwt }))
}

/// `POST /get_token`, as the service of its own has it.
async fn service_get_token(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    #[derive(Deserialize)]
    struct Claimed {
        id: String,
        claimed_user_id: String,
        claimed_device_id: String,
    }
    #[derive(Deserialize)]
    struct Get {
        room_id: String,
        slot_id: String,
        openid_token: OpenId,
        member: Claimed,
    }
    let body: Get = call.json()?;
    let livekit = livekit(&ctx)?;
    let user_id = shown(&ctx, &body.openid_token, &body.room_id).await?;
    let member = body.member;
    if member.claimed_user_id != *user_id {
        return Err(not_authorised());
    }
    let grant = Grant {
        room: &pseudonym(&[&body.room_id, &body.slot_id]),
        identity: &pseudonym(&[&user_id, &member.claimed_device_id, &member.id]),
        metadata: true,
    };
    let jwt = enter_as(&ctx, livekit, &user_id, grant).await?;
    Answer::json(&json!({ "url": livekit.url(), "jwt": jwt }))
}

/// A token, and the room it is for.
async fn enter(livekit: &LiveKit, grant: Grant<'_>) -> Result<String, ApiError> {
    let made = livekit.create_room(grant.room).await;
    made.map_err(|error| ApiError::bad_gateway("LiveKit cannot be reached").caused_by(error))?;
    Ok(livekit.token(grant))
}

/// The same for who may be of another server: for them no room is made.
async fn enter_as(
    ctx: &Ctx,
    livekit: &LiveKit,
    user_id: &str,
    grant: Grant<'_>,
) -> Result<String, ApiError> {
    match ctx.rooms.is_local(user_id) {
        true => enter(livekit, grant).await,
        false => Ok(livekit.token(grant)),
    }
}

/// Whose OpenID token this is: a user who is in the room. What exactly is wrong is nobody's
/// business.
async fn shown(ctx: &Ctx, token: &OpenId, room_id: &str) -> Result<Arc<str>, ApiError> {
    let (server, secret) = (&*token.matrix_server_name, &*token.access_token);
    let user_id = if *server == *ctx.config.server_name {
        let user_id = ctx.accounts.openid_user(secret).await;
        user_id.map_err(|_| not_authorised())?
    } else {
        // Only servers that are in the room are asked.
        let there = ctx.rooms.server_is_there(room_id, server).await;
        if !there.map_err(refusal)? {
            return Err(not_authorised());
        }
        let user_id = ctx.federation.openid_user(server, secret).await;
        user_id.map_err(|_| not_authorised())?.into()
    };
    if !is_joined(ctx, &user_id, room_id).await? {
        return Err(not_authorised());
    }
    Ok(user_id)
}

fn not_authorised() -> ApiError {
    ApiError::unauthorized("The request could not be authorised.")
}

async fn is_joined(ctx: &Ctx, user_id: &str, room_id: &str) -> Result<bool, ApiError> {
    if !names::is_room_id(room_id) {
        return Ok(false);
    }
    ctx.rooms.is_member(user_id, room_id).await.map_err(refusal)
}

/// `POST /sfu_webhook`: LiveKit tells who is gone.
async fn webhook(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let livekit = livekit(&ctx)?;
    let header = call.header(&AUTHORIZATION).unwrap_or_default();
    let hook = livekit
        .hook(header, &call.body)
        .ok_or_else(not_authorised)?;
    // Whose connection broke may be back in a moment; the others hung up.
    if hook.event == "participant_left" && hook.wanted {
        let done = ctx.rooms.hung_up(&hook.room, &hook.identity).await;
        done.map_err(refusal)?;
    }
    Ok(Answer::empty())
}
