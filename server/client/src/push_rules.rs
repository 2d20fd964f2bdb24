//! Push rules.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};
use skerry_http::{Answer, ApiError, Call, Route, route};

use crate::{Ctx, fault};

/// The endpoints of this file. Some clients ask for one kind, as earlier versions of the spec
/// had it.
pub(crate) const ROUTES: &[Route<Ctx>] = &[
    route!(GET "/_matrix/client/v3/pushrules/", Token, Free, all),
    route!(GET "/_matrix/client/v3/pushrules/global/", Token, Free, global),
    route!(GET "/_matrix/client/v3/pushrules/global/{kind}/", Token, Free, of_kind),
    route!(GET "/_matrix/client/v3/pushrules/global/{kind}/{ruleId}", Token, Free, one),
    route!(PUT "/_matrix/client/v3/pushrules/global/{kind}/{ruleId}", Token, Send, put),
    route!(DELETE "/_matrix/client/v3/pushrules/global/{kind}/{ruleId}", Token, Send, delete),
    route!(GET "/_matrix/client/v3/pushrules/global/{kind}/{ruleId}/enabled",
        Token, Free, enabled),
    route!(PUT "/_matrix/client/v3/pushrules/global/{kind}/{ruleId}/enabled",
        Token, Send, enable),
    route!(GET "/_matrix/client/v3/pushrules/global/{kind}/{ruleId}/actions",
        Token, Free, actions),
    route!(PUT "/_matrix/client/v3/pushrules/global/{kind}/{ruleId}/actions",
        Token, Send, set_actions),
];

/// `GET /pushrules/`
async fn all(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let rules = ctx.accounts.push_rules(call.requester()?.user).await;
    Answer::json(&rules.map_err(fault::account)?)
}

/// `GET /pushrules/global/`
async fn global(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let rules = ctx.accounts.push_rules(call.requester()?.user).await;
    Answer::json(&rules.map_err(fault::account)?.get("global"))
}

/// `GET /pushrules/global/{kind}/`
async fn of_kind(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let user = call.requester()?.user;
    let rules = ctx.accounts.push_rules_of(user, call.param("kind")).await;
    Answer::json(&rules.map_err(fault::account)?)
}

/// `GET /pushrules/global/{kind}/{ruleId}`
async fn one(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let user = call.requester()?.user;
    let rule = ctx
        .accounts
        .push_rule(user, call.param("kind"), call.param("ruleId"))
        .await;
    Answer::json(&rule.map_err(fault::account)?)
}

/// `PUT /pushrules/global/{kind}/{ruleId}`: a new rule comes first in its kind, or `before` or
/// `after` another of the user's own.
async fn put(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let body: Value = call.json()?;
    let user = call.requester()?.user;
    let rule = (call.param("kind"), call.param("ruleId"));
    let (before, after) = (call.query("before"), call.query("after"));
    let set = ctx.accounts.set_push_rule(user, rule, body, before, after);
    set.await.map_err(fault::account)?;
    Ok(Answer::empty())
}

/// `DELETE /pushrules/global/{kind}/{ruleId}`: not for the server's own rules.
async fn delete(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let user = call.requester()?.user;
    let gone = ctx
        .accounts
        .remove_push_rule(user, call.param("kind"), call.param("ruleId"));
    gone.await.map_err(fault::account)?;
    Ok(Answer::empty())
}

/// `GET /pushrules/global/{kind}/{ruleId}/enabled`
async fn enabled(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let user = call.requester()?.user;
    let rule = ctx
        .accounts
        .push_rule(user, call.param("kind"), call.param("ruleId"))
        .await;
    Answer::json(&json!({ "enabled": rule.map_err(fault::account)?.get("enabled") }))
}

/// `PUT /pushrules/global/{kind}/{ruleId}/enabled`
async fn enable(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    #[derive(Deserialize)]
    struct Body {
        enabled: bool,
    }
    let body: Body = call.json()?;
    let user = call.requester()?.user;
    let (kind, rule) = (call.param("kind"), call.param("ruleId"));
    let set = ctx
        .accounts
        .enable_push_rule(user, kind, rule, body.enabled);
    set.await.map_err(fault::account)?;
    Ok(Answer::empty())
}

/// `GET /pushrules/global/{kind}/{ruleId}/actions`
async fn actions(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let user = call.requester()?.user;
    let rule = ctx
        .accounts
        .push_rule(user, call.param("kind"), call.param("ruleId"))
        .await;
    Answer::json(&json!({ "actions": rule.map_err(fault::account)?.get("actions") }))
}

/// `PUT /pushrules/global/{kind}/{ruleId}/actions`
async fn set_actions(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    #[derive(Deserialize)]
    struct Body {
        actions: Value,
    }
    let body: Body = call.json()?;
    let user = call.requester()?.user;
    let (kind, rule) = (call.param("kind"), call.param("ruleId"));
    let set = ctx
        .accounts
        .set_push_rule_actions(user, kind, rule, body.actions);
    set.await.map_err(fault::account)?;
    Ok(Answer::empty())
}
