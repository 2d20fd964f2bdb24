//! Logging in on a page, for clients that know no way of ours (client-server API, "Login
//! Fallback").

use std::sync::Arc;

use http::StatusCode;
use skerry_http::{Answer, ApiError, Call, Route, route};

use super::Page;
use crate::Ctx;

/// The endpoints of this file.
pub(super) const ROUTES: &[Route<Ctx>] =
    &[route!(GET "/_matrix/static/client/login/", None, Free, show)];

const FORM: &str = "\
<p id=\"said\" role=\"status\" aria-live=\"polite\">This page needs JavaScript.</p>\n\
<form id=\"form\" hidden>\n\
<label for=\"user\">User name</label>\n\
<input id=\"user\" name=\"user\" required autocomplete=\"username\" autocapitalize=\"none\" \
spellcheck=\"false\">\n\
<label for=\"password\">Password</label>\n\
<input id=\"password\" name=\"password\" type=\"password\" required \
autocomplete=\"current-password\">\n\
<button>Log in</button>\n\
</form>\n";

/// The client puts its `onLogin` into `window.matrixLogin`, before or after this has run.
const SCRIPT: &str = r#"
"use strict";
(function () {
  var login = window.matrixLogin = window.matrixLogin || {};
  var form = document.getElementById("form");
  var said = document.getElementById("said");
  var asked = new URLSearchParams(window.location.search);
  function say(text) { said.textContent = text; }
  function send(body) {
    ["device_id", "initial_device_display_name"].forEach(function (name) {
      if (asked.has(name)) { body[name] = asked.get(name); }
    });
    if (asked.get("refresh_token") === "true") { body.refresh_token = true; }
    say("Logging in");
    fetch("/_matrix/client/v3/login", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body)
    }).then(function (answer) {
      return answer.json().then(function (json) {
        if (!answer.ok) { throw new Error(json.error || "That did not work"); }
        return json;
      });
    }).then(function (json) {
      form.hidden = true;
      say("You are logged in. You may close this window.");
      if (login.onLogin) { login.onLogin(json); }
    }).catch(function (error) {
      form.hidden = false;
      say(error.message);
    });
  }
  form.addEventListener("submit", function (event) {
    event.preventDefault();
    var name = form.elements.user.value.trim();
    var byMail = name.indexOf("@") > 0;
    send({
      type: "m.login.password",
      identifier: byMail
        ? { type: "m.id.thirdparty", medium: "email", address: name }
        : { type: "m.id.user", user: name },
      password: form.elements.password.value
    });
  });
  if (asked.has("loginToken")) {
    send({ type: "m.login.token", token: asked.get("loginToken") });
  } else {
    say("Please enter your user name and your password.");
    form.hidden = false;
    form.elements.user.focus();
  }
})();
"#;

/// `GET /_matrix/static/client/login/`
async fn show(ctx: Arc<Ctx>, _: Call) -> Result<Answer, ApiError> {
    let title = format!("Log in to {}", ctx.accounts.server_name());
    Ok(Page::new(&title)
        .html(FORM)
        .script(SCRIPT)
        .asks()
        .answer(StatusCode::OK))
}
