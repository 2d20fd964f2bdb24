//! Messages from device to device.

use std::sync::Arc;

use skerry_account::TxnKey;
use skerry_account::e2e::{Messages, Sender, ToDeviceError};
use skerry_http::{Answer, ApiError, Call, Route, route};

use crate::{Ctx, fault};

/// The endpoints of this file.
pub(crate) const ROUTES: &[Route<Ctx>] =
    &[route!(PUT "/_matrix/client/v3/sendToDevice/{eventType}/{txnId}", Token, Send, put).large()];

/// `PUT /sendToDevice/{eventType}/{txnId}`.
///
/// * Each message is stored once, however often the transaction is sent.
/// * `*` stands for all devices of a user; unknown users and devices are passed over.
/// * All messages are durable before the answer.
async fn put(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let requester = call.requester()?;
    let messages: Messages = call.json()?;
    let kind = call.param("eventType");
    let path = format!("/sendToDevice/{kind}");
    let txn = TxnKey::new(
        requester.user,
        requester.txn_scope(),
        "PUT",
        &path,
        call.param("txnId"),
    )
    .map_err(fault::account)?;
    let sender = Sender {
        user_id: requester.user_id.clone(),
        user: requester.user,
        txn,
    };
    ctx.accounts
        .keys()
        .send_to_device(sender, kind, messages)
        .await
        .map_err(refusal)?;
    Ok(Answer::empty())
}

fn refusal(error: ToDeviceError) -> ApiError {
    match error {
        ToDeviceError::Shape => ApiError::bad_json("Each message has to be a JSON object"),
        ToDeviceError::TooLarge => ApiError::too_large("A message or its type is too long"),
        ToDeviceError::Store(error) => fault::store(&error),
    }
}
