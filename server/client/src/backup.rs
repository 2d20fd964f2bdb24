//! Key backups (`/room_keys`): versions of a backup, and the keys in them.

use std::sync::Arc;

use serde_json::json;
use skerry_account::e2e::{BackupError, BackupKeys, NewBackup, RoomBackup, SessionBackup, Which};
use skerry_http::{Answer, ApiError, Call, Route, route};

use crate::{Ctx, fault};

/// The endpoints of this file.
pub(crate) const ROUTES: &[Route<Ctx>] = &[
    route!(POST "/_matrix/client/v3/room_keys/version", Token, Send, create),
    route!(GET "/_matrix/client/v3/room_keys/version", Token, Free, info),
    route!(GET "/_matrix/client/v3/room_keys/version/{version}", Token, Free, info),
    route!(PUT "/_matrix/client/v3/room_keys/version/{version}", Token, Send, update),
    route!(DELETE "/_matrix/client/v3/room_keys/version/{version}", Token, Send, delete),
    route!(PUT "/_matrix/client/v3/room_keys/keys", Token, Send, put_all).large(),
    route!(GET "/_matrix/client/v3/room_keys/keys", Token, Heavy, keys),
    route!(DELETE "/_matrix/client/v3/room_keys/keys", Token, Send, delete_keys),
    route!(PUT "/_matrix/client/v3/room_keys/keys/{roomId}", Token, Send, put_room).large(),
    route!(GET "/_matrix/client/v3/room_keys/keys/{roomId}", Token, Heavy, keys),
    route!(DELETE "/_matrix/client/v3/room_keys/keys/{roomId}", Token, Send, delete_keys),
    route!(PUT "/_matrix/client/v3/room_keys/keys/{roomId}/{sessionId}", Token, Send, put_one),
    route!(GET "/_matrix/client/v3/room_keys/keys/{roomId}/{sessionId}", Token, Free, keys),
    route!(DELETE "/_matrix/client/v3/room_keys/keys/{roomId}/{sessionId}",
        Token, Send, delete_keys),
];

fn refusal(error: BackupError) -> ApiError {
    match error {
        BackupError::NoVersion => ApiError::not_found("Unknown backup version"),
        BackupError::NoKey => ApiError::not_found("Key not found"),
        BackupError::WrongVersion { current } => {
            ApiError::wrong_room_keys_version("Wrong backup version")
                .with("current_version", current)
        }
        BackupError::Invalid(why) => ApiError::invalid_param(why),
        BackupError::TooLarge(why) => ApiError::too_large(why),
        BackupError::Store(error) => fault::store(&error),
    }
}

/// `POST /room_keys/version`: makes a new version, which is current from now on.
async fn create(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let user = call.requester()?.user;
    let backup: NewBackup = call.json()?;
    let version = ctx
        .accounts
        .keys()
        .create_backup(user, backup)
        .await
        .map_err(refusal)?;
    Answer::json(&json!({ "version": version }))
}

/// `GET /room_keys/version` and `GET /room_keys/version/{version}`.
async fn info(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let user = call.requester()?.user;
    let version = Some(call.param("version")).filter(|version| !version.is_empty());
    let info = ctx
        .accounts
        .keys()
        .backup_info(user, version)
        .await
        .map_err(refusal)?;
    Answer::json(&info)
}

/// `PUT /room_keys/version/{version}`: only `auth_data` can change.
async fn update(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let user = call.requester()?.user;
    let backup: NewBackup = call.json()?;
    let version = call.param("version");
    ctx.accounts
        .keys()
        .update_backup(user, version, backup)
        .await
        .map_err(refusal)?;
    Ok(Answer::empty())
}

/// `DELETE /room_keys/version/{version}`: goes well for a version deleted before.
async fn delete(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let user = call.requester()?.user;
    let version = call.param("version");
    ctx.accounts
        .keys()
        .delete_backup(user, version)
        .await
        .map_err(refusal)?;
    Ok(Answer::empty())
}

/// `PUT /room_keys/keys?version=`: keys of any rooms.
async fn put_all(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let keys: BackupKeys = call.json()?;
    put(ctx, call, keys).await
}

/// `PUT /room_keys/keys/{roomId}?version=`: keys of one room.
async fn put_room(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let keys: RoomBackup = call.json()?;
    let keys = BackupKeys::room(call.param("roomId"), keys);
    put(ctx, call, keys).await
}

/// `PUT /room_keys/keys/{roomId}/{sessionId}?version=`: one key.
async fn put_one(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let key: SessionBackup = call.json()?;
    let keys = BackupKeys::one(call.param("roomId"), call.param("sessionId"), key);
    put(ctx, call, keys).await
}

async fn put(ctx: Arc<Ctx>, call: Call, keys: BackupKeys) -> Result<Answer, ApiError> {
    let user = call.requester()?.user;
    let version = version(&call)?;
    let keys = ctx
        .accounts
        .keys()
        .put_backup_keys(user, &version, keys)
        .await;
    Answer::json(&keys.map_err(refusal)?)
}

/// `GET /room_keys/keys?version=` and its two narrower forms, each answering with what lies
/// below its path.
async fn keys(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let user = call.requester()?.user;
    let version = version(&call)?;
    let which = which(&call);
    let found = ctx
        .accounts
        .keys()
        .backup_keys(user, &version, which.clone())
        .await;
    let mut found = found.map_err(refusal)?;
    match which {
        Which::All => Answer::json(&found),
        Which::Room(room) => Answer::json(&found.rooms.remove(&room).unwrap_or_default()),
        Which::Session(room, session) => {
            let sessions = found.rooms.remove(&room).unwrap_or_default().sessions;
            Answer::json(
                sessions
                    .get(&session)
                    .ok_or_else(|| refusal(BackupError::NoKey))?,
            )
        }
    }
}

/// `DELETE /room_keys/keys?version=` and its two narrower forms.
async fn delete_keys(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let user = call.requester()?.user;
    let version = version(&call)?;
    let left = ctx
        .accounts
        .keys()
        .delete_backup_keys(user, &version, which(&call))
        .await;
    Answer::json(&left.map_err(refusal)?)
}

fn version(call: &Call) -> Result<String, ApiError> {
    call.query("version")
        .ok_or_else(|| ApiError::missing_param("Missing parameter: version"))
}

fn which(call: &Call) -> Which {
    match (call.param("roomId"), call.param("sessionId")) {
        ("", _) => Which::All,
        (room, "") => Which::Room(room.to_owned()),
        (room, session) => Which::Session(room.to_owned(), session.to_owned()),
    }
}
