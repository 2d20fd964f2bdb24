//! Pages for people: small, without anything from elsewhere, usable without a mouse and read by
//! screen readers. Nothing in them runs but what is written here.

mod email;
mod login;
mod stage;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use http::header::{
    CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use sha2::{Digest as _, Sha256};
use skerry_http::{Answer, Route};

use crate::Ctx;

/// The pages.
pub(crate) fn routes() -> Vec<Route<Ctx>> {
    [email::ROUTES, login::ROUTES, stage::ROUTES].concat()
}

const STYLE: &str = "\
body{font:1.1rem/1.5 system-ui,sans-serif;max-width:32rem;margin:3rem auto;padding:0 1rem;\
color:#1b1d22;background:#fff}\
h1{font-size:1.5rem}\
label{display:block;margin:1rem 0 .25rem}\
input{font:inherit;width:100%;box-sizing:border-box;padding:.5rem;border:1px solid #666;\
border-radius:.25rem}\
button{font:inherit;margin-top:1.5rem;padding:.5rem 1.5rem;border:0;border-radius:.25rem;\
background:#0b5c4a;color:#fff;cursor:pointer}\
.wrong{border-left:.25rem solid #b3261e;padding-left:.75rem}\
@media(prefers-color-scheme:dark){body{color:#e6e6e6;background:#15171b}a{color:#7fc8b5}}";

/// A page.
pub(crate) struct Page {
    /// What it is about: title and heading.
    title: String,
    /// What is below the heading, as HTML.
    body: String,
    script: Option<&'static str>,
    /// Whether the script may ask this server.
    asks: bool,
}

impl Page {
    fn new(title: &str) -> Page {
        Page {
            title: title.to_owned(),
            body: String::new(),
            script: None,
            asks: false,
        }
    }

    /// Adds a paragraph of plain text.
    fn says(mut self, text: &str) -> Page {
        self.body.push_str(&format!("<p>{}</p>\n", escape(text)));
        self
    }

    /// Adds a paragraph that says what went wrong.
    fn wrong(mut self, text: &str) -> Page {
        let text = escape(text);
        self.body
            .push_str(&format!("<p class=\"wrong\" role=\"alert\">{text}</p>\n"));
        self
    }

    /// Adds HTML, whose foreign parts are escaped.
    fn html(mut self, html: &str) -> Page {
        self.body.push_str(html);
        self
    }

    /// Runs a script.
    fn script(mut self, script: &'static str) -> Page {
        self.script = Some(script);
        self
    }

    /// The script may ask this server.
    fn asks(mut self) -> Page {
        self.asks = true;
        self
    }

    /// The page as an answer.
    fn answer(self, status: StatusCode) -> Answer {
        let title = escape(&self.title);
        let script = match self.script {
            Some(script) => format!("<script>{script}</script>\n"),
            None => String::new(),
        };
        let html = format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n\
             <h1>{title}</h1>\n{}</main>\n{script}</body>\n</html>\n",
            self.body
        );
        let scripts = self.script.map_or("'none'".to_owned(), source);
        let connect = if self.asks { "'self'" } else { "'none'" };
        let policy = format!(
            "default-src 'none'; style-src {}; script-src {scripts}; connect-src {connect}; \
             form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
            source(STYLE)
        );
        Answer::bytes("text/html; charset=utf-8", html)
            .status(status)
            .header(CONTENT_SECURITY_POLICY, &policy)
            .header(REFERRER_POLICY, "no-referrer")
            .header(X_CONTENT_TYPE_OPTIONS, "nosniff")
            .header(X_FRAME_OPTIONS, "DENY")
    }
}

/// A script or style in a policy: by its hash.
fn source(text: &str) -> String {
    format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text)))
}

/// Text that can stand in HTML and in its attributes.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::escape;

    #[test]
    fn what_is_foreign_cannot_leave_its_place() {
        assert_eq!(
            escape("<a href=\"'&\">"),
            "&lt;a href=&quot;&#39;&amp;&quot;&gt;"
        );
    }
}
