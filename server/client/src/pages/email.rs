//! The page that the link in a mail leads to.

use std::sync::Arc;

use http::StatusCode;
use skerry_account::AccountError;
use skerry_account::address::Purpose;
use skerry_account::validation::Opened;
use skerry_http::{Answer, ApiError, Call, Route, route};

use super::{Page, escape};
use crate::{Ctx, fault};

/// The endpoints of this file.
pub(super) const ROUTES: &[Route<Ctx>] = &[
    route!(GET "/_matrix/client/unstable/org.skerry/email/confirm", None, Login, show),
    route!(POST "/_matrix/client/unstable/org.skerry/email/confirm", None, Login, confirm).bytes(),
];

/// `GET`: opening the link is enough, except for a new password: programs that look at mail open
/// links too, so that is confirmed by hand.
async fn show(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let (sid, token) = (text(&call, "sid"), text(&call, "token"));
    let opened = match ctx.accounts.validation_link(&sid, &token).await {
        Ok(opened) if opened.purpose == Purpose::Password => return Ok(ask(&opened, &sid, &token)),
        Ok(_) => ctx.accounts.open_validation(&sid, &token).await,
        Err(error) => Err(error),
    };
    finished(opened)
}

/// `POST`: confirmed by hand.
async fn confirm(ctx: Arc<Ctx>, call: Call) -> Result<Answer, ApiError> {
    let (sid, token) = (text(&call, "sid"), text(&call, "token"));
    finished(ctx.accounts.open_validation(&sid, &token).await)
}

/// A field of the form, or of the link.
fn text(call: &Call, name: &str) -> String {
    call.form(name)
        .or_else(|| call.query(name))
        .unwrap_or_default()
}

fn ask(opened: &Opened, sid: &str, token: &str) -> Answer {
    let form = format!(
        "<form method=\"post\">\n<input type=\"hidden\" name=\"sid\" value=\"{}\">\n\
         <input type=\"hidden\" name=\"token\" value=\"{}\">\n\
         <button>Yes, it was me</button>\n</form>\n",
        escape(sid),
        escape(token)
    );
    Page::new("A new password")
        .says(&format!(
            "Somebody wants to set a new password for the account with the address {}. Was it you?",
            opened.email
        ))
        .says("If it was not you, simply close this page.")
        .html(&form)
        .answer(StatusCode::OK)
}

fn finished(opened: Result<Opened, AccountError>) -> Result<Answer, ApiError> {
    let opened = match opened {
        Ok(opened) => opened,
        Err(AccountError::NotFound(_)) => {
            return Ok(Page::new("This link does not work")
                .wrong("It is too old, was used already, or is not complete.")
                .says("Go back to your client and ask for another mail.")
                .answer(StatusCode::BAD_REQUEST));
        }
        Err(other) => return Err(fault::account(other)),
    };
    let page = Page::new("Thank you").says(&format!(
        "The address {} is confirmed. You may now go back to your client.",
        opened.email
    ));
    // Shown, not followed: the link in the mail bears this server's name, and must not lead
    // elsewhere unseen.
    let page = match &opened.next_link {
        Some(link) => page.html(&format!(
            "<p>Your client wants to go on at <a href=\"{0}\" rel=\"noreferrer\">{0}</a></p>\n",
            escape(link)
        )),
        None => page,
    };
    Ok(page.answer(StatusCode::OK))
}
