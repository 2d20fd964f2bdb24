//! OpenID: showing third parties who one is.

use std::sync::Arc;

use serde_json::json;
use skerry_http::{Answer, ApiError, Call, Route, route};

use crate::{Ctx, fault, scope};

/// The endpoints of this file.
pub(crate) const ROUTES: &[Route<Ctx>] = &[
    route!(POST "/_matrix/client/v3/user/{userId}/openid/request_token", Token, Send, request),
    route!(GET "/_matrix/federation/v1/openid/userinfo", None, Login, userinfo),
];

/// `POST /user/{userId}/openid/request_token`: a token that shows who one is, and no more.
async fn request(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let token = ctx.accounts.openid_token(scope::own(&call)?.user);
    Answer::json(&json!({
        "access_token": token.token,
        "token_type": "Bearer",
        "matrix_server_name": ctx.accounts.server_name(),
        "expires_in": token.expires_in_ms / 1000,
    }))
}

/// `GET /_matrix/federation/v1/openid/userinfo`: asked by third parties, without a signature.
async fn userinfo(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let token = call.query("access_token");
    let token = token.ok_or_else(|| ApiError::missing_token("Missing access token"))?;
    let user_id = ctx.accounts.openid_user(&token).await;
    Answer::json(&json!({ "sub": &*user_id.map_err(fault::account)? }))
}
