//! Stages of user-interactive authentication on pages, for clients that do not know them
//! (client-server API, "Fallback").

use std::sync::Arc;

use http::StatusCode;
use serde_json::Value;
use skerry_account::{AccountError, Shown, Stage};
use skerry_http::{Answer, ApiError, Call, Route, route};

use super::{Page, escape};
use crate::{Ctx, fault};

/// The endpoints of this file.
pub(super) const ROUTES: &[Route<Ctx>] = &[
    route!(GET "/_matrix/client/v3/auth/{authType}/fallback/web", None, Login, show),
    route!(POST "/_matrix/client/v3/auth/{authType}/fallback/web", None, Login, pass).bytes(),
];

/// What tells the client that the stage was passed, as the specification has it.
const DONE: &str = "\
if (window.onAuthDone) { window.onAuthDone(); }\
else if (window.opener && window.opener.postMessage) {\
 window.opener.postMessage(\"authDone\", \"*\"); }";

/// A stage that has a page.
fn stage_of(call: &Call) -> Result<Stage, ApiError> {
    Stage::named(call.param("authType"))
        .filter(|stage| matches!(stage, Stage::Terms | Stage::RegistrationToken))
        .ok_or_else(|| ApiError::unrecognized("This stage has no page"))
}

/// `GET /auth/{authType}/fallback/web`
async fn show(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let stage = stage_of(&call)?;
    let session = call.query("session");
    let session = session.ok_or_else(|| ApiError::missing_param("Missing parameter: session"))?;
    match ctx.accounts.uia_stage(&session, stage) {
        Ok(true) => Ok(done()),
        Ok(false) => Ok(form(&ctx, stage, &session, None)),
        Err(error) => lost(error),
    }
}

/// `POST /auth/{authType}/fallback/web`: the form of that page.
async fn pass(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let stage = stage_of(&call)?;
    let session = call.form("session").or_else(|| call.query("session"));
    let session = session.ok_or_else(|| ApiError::missing_param("Missing parameter: session"))?;
    let shown = match stage {
        Stage::RegistrationToken => Shown::Token(call.form("token").unwrap_or_default()),
        _ => Shown::Agreed,
    };
    match ctx.accounts.pass_stage(&session, shown).await {
        Ok(()) => Ok(done()),
        Err(AccountError::Forbidden(why)) => Ok(form(&ctx, stage, &session, Some(why))),
        Err(error) => lost(error),
    }
}

fn done() -> Answer {
    Page::new("Thank you")
        .says("You may now close this window and go back to your client.")
        .script(DONE)
        .answer(StatusCode::OK)
}

/// The session is not there any more: the client has to begin anew.
fn lost(error: AccountError) -> Result<Answer, ApiError> {
    match error {
        AccountError::NotFound(_) => Ok(Page::new("This page is out of date")
            .wrong("Go back to your client and begin again.")
            .answer(StatusCode::BAD_REQUEST)),
        other => Err(fault::account(other)),
    }
}

fn form(ctx: &Ctx, stage: Stage, session: &str, wrong: Option<&str>) -> Answer {
    let page = match stage {
        Stage::Terms => Page::new("Terms of this server"),
        _ => Page::new("Registration token"),
    };
    let (page, status) = match wrong {
        Some(why) => (page.wrong(why), StatusCode::UNAUTHORIZED),
        None => (page, StatusCode::OK),
    };
    let hidden = format!(
        "<form method=\"post\">\n<input type=\"hidden\" name=\"session\" value=\"{}\">\n",
        escape(session)
    );
    let page = match stage {
        Stage::Terms => page
            .says("To go on, please read and accept:")
            .html(&policies(ctx))
            .html(&hidden)
            .html("<button>I accept</button>\n</form>\n"),
        _ => page
            .says("Accounts are made here by invitation. Please enter the token you were given.")
            .html(&hidden)
            .html(
                "<label for=\"token\">Token</label>\n<input id=\"token\" name=\"token\" required \
                 autocomplete=\"off\" spellcheck=\"false\">\n<button>Go on</button>\n</form>\n",
            ),
    };
    page.answer(status)
}

/// The list of policies, in English where there is English.
fn policies(ctx: &Ctx) -> String {
    let terms = ctx.accounts.settings().registration.terms.as_ref();
    let policies = terms.and_then(|terms| terms.params.get("policies")?.as_object());
    let mut list = String::from("<ul>\n");
    for policy in policies.into_iter().flat_map(|policies| policies.values()) {
        let any = || policy.as_object()?.values().find(|text| text.is_object());
        let Some(text) = policy.get("en").or_else(any) else {
            continue;
        };
        let part = |name: &str| text.get(name).and_then(Value::as_str).unwrap_or_default();
        list.push_str(&format!(
            "<li><a href=\"{}\" target=\"_blank\" rel=\"noopener noreferrer\">{}</a></li>\n",
            escape(part("url")),
            escape(part("name"))
        ));
    }
    list.push_str("</ul>\n");
    list
}
