//! Server notices.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use skerry_account::TxnKey;
use skerry_core::UserNid;
use skerry_http::{Answer, ApiError, Call};
use skerry_room::Notice;

use crate::error::{refuse, refuse_room};
use crate::{Admin, admin_only};

#[derive(Deserialize)]
struct Body {
    user_id: String,
    content: Box<RawValue>,
    #[serde(rename = "type", default = "message")]
    kind: String,
    state_key: Option<String>,
}

fn message() -> String {
    "m.room.message".to_owned()
}

/// `POST /_synapse/admin/v1/send_server_notice`: says something to a user in the server's name.
pub(crate) async fn send(admin: Arc<Admin>, call: Call) -> Result<Answer, ApiError> {
    admin_only(&call)?;
    say(&admin, &call, None).await
}

/// `PUT /_synapse/admin/v1/send_server_notice/{txnId}`: the same, once for each transaction.
pub(crate) async fn send_once(admin: Arc<Admin>, call: Call) -> Result<Answer, ApiError> {
    admin_only(&call)?;
    let id = call.param("txnId").to_owned();
    let (user, device) = match call.requester_opt() {
        Some(requester) => (requester.user, &*requester.device),
        // On the socket: nobody's, and so of no device.
        None => (UserNid(0), ""),
    };
    let path = "/_synapse/admin/v1/send_server_notice";
    let key = TxnKey::new(user, device, "PUT", path, &id).map_err(refuse)?;
    say(&admin, &call, Some((key, id))).await
}

async fn say(
    admin: &Admin,
    call: &Call,
    txn: Option<(TxnKey, String)>,
) -> Result<Answer, ApiError> {
    let body: Body = call.json()?;
    let notice = Notice {
        user_id: body.user_id,
        kind: body.kind,
        state_key: body.state_key,
        content: body.content.get().as_bytes().to_vec(),
        txn,
    };
    let event_id = admin.rooms.send_notice(notice).await;
    Answer::json(&json!({ "event_id": event_id.map_err(refuse_room)? }))
}
