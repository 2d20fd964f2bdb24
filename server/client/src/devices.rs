//! One's devices.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};
use skerry_account::DeviceView;
use skerry_http::{Answer, ApiError, Call, Route, StatusCode, route};

use crate::{Ctx, fault, scope};

/// The endpoints of this file.
pub(crate) const ROUTES: &[Route<Ctx>] = &[
    route!(GET "/_matrix/client/v3/devices", Token, Free, list),
    route!(GET "/_matrix/client/v3/devices/{deviceId}", Token, Free, one),
    route!(PUT "/_matrix/client/v3/devices/{deviceId}", Token, Send, rename),
    route!(DELETE "/_matrix/client/v3/devices/{deviceId}", Token, Login, delete_one),
    route!(POST "/_matrix/client/v3/delete_devices", Token, Login, delete_many),
];

fn device_json(device: &DeviceView) -> Value {
    let mut body = json!({ "device_id": device.device_id });
    if let Some(map) = body.as_object_mut() {
        let optional = [
            (
                "display_name",
                device.display_name.as_ref().map(|name| json!(name)),
            ),
            ("last_seen_ts", device.last_seen_ms.map(|at| json!(at))),
            (
                "last_seen_ip",
                device.last_seen_ip.as_ref().map(|ip| json!(ip)),
            ),
        ];
        map.extend(
            optional
                .into_iter()
                .filter_map(|(k, v)| Some((k.to_owned(), v?))),
        );
    }
    body
}

/// `GET /devices`
async fn list(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let devices = ctx
        .accounts
        .devices(call.requester()?.user)
        .await
        .map_err(fault::account)?;
    let devices: Vec<Value> = devices.iter().map(device_json).collect();
    Answer::json(&json!({ "devices": devices }))
}

/// `GET /devices/{deviceId}`
async fn one(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let user = call.requester()?.user;
    let device = ctx.accounts.device(user, call.param("deviceId")).await;
    Answer::json(&device_json(&device.map_err(fault::account)?))
}

/// `PUT /devices/{deviceId}`: another name; for an application service also a new device.
async fn rename(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    #[derive(Deserialize)]
    struct Body {
        #[serde(default)]
        display_name: Option<String>,
    }
    let body: Body = call.json()?;
    let (user, device) = (call.requester()?.user, call.param("deviceId"));
    if call.requester()?.appservice.is_some() {
        let made = ctx.accounts.put_device(user, device, body.display_name);
        let made = made.await.map_err(fault::account)?;
        let status = if made {
            StatusCode::CREATED
        } else {
            StatusCode::OK
        };
        return Ok(Answer::empty().status(status));
    }
    let renamed = ctx.accounts.rename_device(user, device, body.display_name);
    renamed.await.map_err(fault::account)?;
    Ok(Answer::empty())
}

/// `DELETE /devices/{deviceId}`: after proving the password.
async fn delete_one(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    #[derive(Deserialize)]
    struct Body {
        #[serde(default)]
        auth: Option<Value>,
    }
    let body: Body = call.json()?;
    let devices = vec![call.param("deviceId").to_owned()];
    let gone = ctx
        .accounts
        .delete_own_devices(scope::uia(&call), body.auth.as_ref(), devices);
    gone.await.map_err(fault::account)?;
    Ok(Answer::empty())
}

/// `POST /delete_devices`: after proving the password.
async fn delete_many(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    #[derive(Deserialize)]
    struct Body {
        devices: Vec<String>,
        #[serde(default)]
        auth: Option<Value>,
    }
    let body: Body = call.json()?;
    let (scope, auth) = (scope::uia(&call), body.auth.as_ref());
    let gone = ctx.accounts.delete_own_devices(scope, auth, body.devices);
    gone.await.map_err(fault::account)?;
    Ok(Answer::empty())
}
