//! Quarantine of media, with the paths that Synapse's admin API has for it.

use std::sync::Arc;

use serde_json::json;
use skerry_http::{Answer, ApiError, Call};
use skerry_media::{MediaError, MediaId};
use skerry_store::StoreError;

use crate::{Admin, admin_only};

/// `POST /_synapse/admin/v1/media/quarantine/{serverName}/{mediaId}`: it is not given out any
/// more, and its bytes are not taken in again.
pub(crate) async fn quarantine(admin: Arc<Admin>, call: Call) -> Result<Answer, ApiError> {
    admin_only(&call)?;
    let (server, id) = (call.param("serverName").to_owned(), media_id(&call)?);
    admin.blobs.block(server, id).await.map_err(refuse)?;
    Ok(Answer::empty())
}

/// `POST /_synapse/admin/v1/media/unquarantine/{serverName}/{mediaId}`
pub(crate) async fn unquarantine(admin: Arc<Admin>, call: Call) -> Result<Answer, ApiError> {
    admin_only(&call)?;
    let (server, id) = (call.param("serverName").to_owned(), media_id(&call)?);
    admin.blobs.unblock(server, id).await.map_err(refuse)?;
    Ok(Answer::empty())
}

/// `POST /_synapse/admin/v1/user/{userId}/media/quarantine`: all that a user of ours uploaded.
pub(crate) async fn quarantine_user(admin: Arc<Admin>, call: Call) -> Result<Answer, ApiError> {
    admin_only(&call)?;
    let user = admin.accounts.store().user_nid(call.param("userId"));
    let user = user.map_err(ApiError::internal)?;
    let user = user.ok_or_else(|| ApiError::not_found("There is no such user"))?;
    let count = admin.blobs.block_uploads(user).await.map_err(refuse)?;
    Answer::json(&json!({ "num_quarantined": count }))
}

/// `POST /_synapse/admin/v1/media/protect/{mediaId}`
pub(crate) async fn protect(admin: Arc<Admin>, call: Call) -> Result<Answer, ApiError> {
    admin_only(&call)?;
    let id = media_id(&call)?;
    admin.blobs.protect(id, true).await.map_err(refuse)?;
    Ok(Answer::empty())
}

/// `POST /_synapse/admin/v1/media/unprotect/{mediaId}`
pub(crate) async fn unprotect(admin: Arc<Admin>, call: Call) -> Result<Answer, ApiError> {
    admin_only(&call)?;
    let id = media_id(&call)?;
    admin.blobs.protect(id, false).await.map_err(refuse)?;
    Ok(Answer::empty())
}

/// `POST /_skerry/admin/v1/media/blocked_hashes/{hash}`: bytes by their BLAKE3 hash, in hex,
/// whether or not they are here.
pub(crate) async fn block_hash(admin: Arc<Admin>, call: Call) -> Result<Answer, ApiError> {
    admin_only(&call)?;
    let hash = hash(&call)?;
    admin.blobs.block_hash(hash, true).await.map_err(refuse)?;
    Ok(Answer::empty())
}

/// `DELETE /_skerry/admin/v1/media/blocked_hashes/{hash}`
pub(crate) async fn unblock_hash(admin: Arc<Admin>, call: Call) -> Result<Answer, ApiError> {
    admin_only(&call)?;
    let hash = hash(&call)?;
    admin.blobs.block_hash(hash, false).await.map_err(refuse)?;
    Ok(Answer::empty())
}

fn media_id(call: &Call) -> Result<MediaId, ApiError> {
    let id = MediaId::parse(call.param("mediaId"));
    id.ok_or_else(|| ApiError::invalid_param("This cannot be a media id"))
}

fn hash(call: &Call) -> Result<[u8; 32], ApiError> {
    let hash = skerry_media::parse_hash(call.param("hash"));
    hash.ok_or_else(|| ApiError::invalid_param("A hash is 64 hexadecimal digits"))
}

fn refuse(error: MediaError) -> ApiError {
    match error {
        MediaError::Store(StoreError::Full) => {
            ApiError::no_space("The disk is full; nothing was changed")
        }
        error => ApiError::internal(error),
    }
}
