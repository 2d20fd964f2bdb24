//! Accounts.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::json;
use skerry_account::UserListing;
use skerry_core::UserNid;
use skerry_http::{Answer, ApiError, Call, StatusCode};

use crate::Admin;
use crate::error::refuse;

/// Accounts in one answer at most.
const MAX_PAGE: usize = 1000;

/// `GET /_synapse/admin/v1/server_version`
pub(crate) async fn server_version(admin: Arc<Admin>, _: Call) -> Result<Answer, ApiError> {
    Answer::json(&json!({ "server_version": format!("Skerry {}", admin.version) }))
}

#[derive(Deserialize)]
struct Create {
    name: String,
    password: String,
    /// Absent: the first person becomes an administrator.
    admin: Option<bool>,
}

/// `POST /_skerry/admin/v1/users`: makes an account, whoever may register otherwise. 201 with
/// its user id; `M_USER_IN_USE` if the name is taken.
pub(crate) async fn create(admin: Arc<Admin>, call: Call) -> Result<Answer, ApiError> {
    let wanted: Create = call.json()?;
    if wanted.password.is_empty() {
        return Err(ApiError::weak_password("The password is empty"));
    }
    let accounts = &admin.accounts;
    let user = accounts
        .create_user(&wanted.name, wanted.password, wanted.admin)
        .await
        .map_err(refuse)?;
    let user_id = accounts.store().user_id(user).map_err(ApiError::internal)?;
    Ok(Answer::json(&json!({ "user_id": &*user_id }))?.status(StatusCode::CREATED))
}

/// `GET /_synapse/admin/v2/users`: all accounts, from the oldest; `from` and `limit` as in
/// Synapse, where `from` is the `next_token` of the page before.
pub(crate) async fn list(admin: Arc<Admin>, call: Call) -> Result<Answer, ApiError> {
    let after: u64 = call.query_as("from")?.unwrap_or(0);
    let limit = call.query_as("limit")?.unwrap_or(100).clamp(1, MAX_PAGE);
    let after = (after > 0).then_some(UserNid(after));
    let page = admin
        .accounts
        .list_users(after, limit)
        .await
        .map_err(refuse)?;
    let users: Vec<_> = page.iter().map(|(_, user)| shown(user)).collect();
    let mut body = json!({ "users": users });
    if let (Some((last, _)), true) = (page.last(), page.len() == limit) {
        body["next_token"] = last.0.to_string().into();
    }
    Answer::json(&body)
}

fn shown(user: &UserListing) -> serde_json::Value {
    json!({
        "name": user.user_id,
        "admin": user.admin,
        "is_guest": user.guest,
        "deactivated": user.deactivated,
        "creation_ts": user.created_ms,
    })
}

#[derive(Deserialize)]
struct ResetPassword {
    new_password: String,
    #[serde(default = "yes")]
    logout_devices: bool,
}

fn yes() -> bool {
    true
}

/// `POST /_synapse/admin/v1/reset_password/{userId}`: sets a password, and logs all devices out
/// unless told not to.
pub(crate) async fn reset_password(admin: Arc<Admin>, call: Call) -> Result<Answer, ApiError> {
    let wanted: ResetPassword = call.json()?;
    if wanted.new_password.is_empty() {
        return Err(ApiError::weak_password("The password is empty"));
    }
    let user = admin
        .accounts
        .find_user(call.param("userId"))
        .await
        .map_err(refuse)?;
    admin
        .accounts
        .set_password(user, wanted.new_password, wanted.logout_devices, None)
        .await
        .map_err(refuse)?;
    Ok(Answer::empty())
}

#[derive(Deserialize)]
struct Deactivate {
    #[serde(default)]
    erase: bool,
}

/// `POST /_synapse/admin/v1/deactivate/{userId}`: closes an account for good.
pub(crate) async fn deactivate(admin: Arc<Admin>, call: Call) -> Result<Answer, ApiError> {
    let wanted: Deactivate = call.json()?;
    let user = admin
        .accounts
        .find_user(call.param("userId"))
        .await
        .map_err(refuse)?;
    admin
        .accounts
        .deactivate(user, wanted.erase)
        .await
        .map_err(refuse)?;
    Answer::json(&json!({ "id_server_unbind_result": "success" }))
}

#[derive(Deserialize)]
struct SetAdmin {
    admin: bool,
}

/// `PUT /_synapse/admin/v1/users/{userId}/admin`: makes someone an administrator, or no longer.
pub(crate) async fn set_admin(admin: Arc<Admin>, call: Call) -> Result<Answer, ApiError> {
    let wanted: SetAdmin = call.json()?;
    let user = admin
        .accounts
        .find_user(call.param("userId"))
        .await
        .map_err(refuse)?;
    admin
        .accounts
        .set_admin(user, wanted.admin)
        .await
        .map_err(refuse)?;
    Ok(Answer::empty())
}
