//! The welcome page: what this server is, and how to connect.

use askama::Template;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use qrcode::QrCode;
use qrcode::render::svg;

use crate::{Registration, Settings};

#[derive(Template)]
#[template(path = "welcome.html")]
struct Page<'a> {
    server_name: &'a str,
    base_url: &'a str,
    /// Where the web client that is installed here is found.
    client: Option<&'a str>,
    registration: Registration,
    /// Opens Element on a phone with this server chosen.
    phone: String,
    /// The same as a picture, as SVG.
    code: String,
    /// Element on the web, elsewhere, with this server chosen.
    web: String,
    contacts: &'a [(String, String)],
    policies: &'a [(String, String)],
    /// Where this page was opened, where that is a local name no phone can reach.
    local: bool,
}

/// The page as HTML.
///
/// # Errors
/// What went wrong, for the log.
pub(crate) fn render(
    settings: &Settings,
    client: Option<&str>,
    host: &str,
) -> Result<String, String> {
    let escaped = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let phone = format!(
        "https://mobile.element.io/element/?account_provider={}",
        escaped(&settings.server_name)
    );
    let code = QrCode::new(&phone).map_err(|e| e.to_string())?;
    let code = code
        .render::<svg::Color<'_>>()
        .min_dimensions(180, 180)
        .quiet_zone(true)
        .build();
    // The declaration may stand in a file, not inside a page.
    let code = code
        .find("<svg")
        .and_then(|at| code.get(at..))
        .unwrap_or("")
        .to_owned();
    let page = Page {
        server_name: &settings.server_name,
        base_url: &settings.base_url,
        client,
        registration: settings.registration,
        phone,
        code,
        web: format!(
            "https://app.element.io/#/login?hs_url={}",
            escaped(&settings.base_url)
        ),
        contacts: &settings.contacts,
        policies: &settings.policies,
        local: is_local(host),
    };
    page.render().map_err(|e| e.to_string())
}

fn is_local(host: &str) -> bool {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    matches!(name, "localhost" | "127.0.0.1" | "[::1]")
}
