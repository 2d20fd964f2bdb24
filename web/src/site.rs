//! The pages: which request gets what, and with which headers.

use std::path::PathBuf;
use std::sync::Arc;

use http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, ETAG, HOST, HeaderName,
    IF_NONE_MATCH, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use skerry_http::{Answer, ApiError, Call, StatusCode};

use crate::files::{self, File};
use crate::{Shelf, runtime_config, welcome};

/// Nothing but the page's own inline style, which it needs for its two colour schemes.
const OUR_CSP: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'self'";
/// A client's pages say what they load in a policy of their own; who may frame them is for the
/// server to say.
const CLIENT_CSP: &str = "frame-ancestors 'self'";
const PERMISSIONS: &str = "camera=(self), microphone=(self), display-capture=(self), \
    autoplay=(self), geolocation=(self), payment=(), usb=(), serial=(), bluetooth=()";
/// Asked again each time, and answered without a body where nothing changed.
const REVALIDATE: &str = "no-cache";
const IMMUTABLE: &str = "public, max-age=31536000, immutable";
/// Where a client's own page of this name is found: ours has its place.
pub(crate) const CLIENTS_WELCOME: &str = "/client-welcome.html";

/// Who may make an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registration {
    /// Anybody.
    Open,
    /// Whoever has a registration token.
    Token,
    /// Nobody; the administrator makes accounts.
    Closed,
}

/// What the pages are told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The part of user ids after the colon.
    pub server_name: String,
    /// Where clients reach the server, without a slash at the end.
    pub base_url: String,
    /// Who may make an account.
    pub registration: Registration,
    /// Where installed builds are kept.
    pub shelf: PathBuf,
    /// The host name under which alone the web client is served; none: under all.
    pub host: Option<String>,
    /// A build that somebody else looks after; instead of the installed one.
    pub dir: Option<PathBuf>,
    /// The administrator's additions to the client's configuration, a JSON object.
    pub override_file: PathBuf,
    /// How the administrator can be reached, for the welcome page: text and link.
    pub contacts: Vec<(String, String)>,
    /// What people agree to with an account: name and link.
    pub policies: Vec<(String, String)>,
}

/// The pages of a server.
pub struct Site {
    settings: Settings,
    shelf: Shelf,
}

impl Site {
    /// The pages that follow from these settings.
    #[must_use]
    pub fn new(settings: Settings) -> Site {
        Site {
            shelf: Shelf::new(&settings.shelf),
            settings,
        }
    }

    /// The folder of the build that is served, if there is one.
    fn build(&self) -> Option<PathBuf> {
        match &self.settings.dir {
            Some(dir) => Some(dir.clone()),
            None => self.shelf.current(),
        }
    }

    /// What is at a path. Blocks on the disk.
    fn find(&self, path: &str, host: &str, accepts: &str) -> Found {
        let installed = self.build();
        let elsewhere = self
            .settings
            .host
            .as_deref()
            .filter(|own| !same_host(host, own));
        // Where it is found, if there is one.
        let client = installed.as_ref().map(|_| match elsewhere {
            Some(own) => format!("https://{own}/"),
            None => "/".to_owned(),
        });
        let build = installed.filter(|_| elsewhere.is_none());
        if is_config(path) && build.is_some() {
            let file = &self.settings.override_file;
            let config = runtime_config::render(&self.settings, file);
            return Found::Config(config);
        }
        let build = match (path, build) {
            ("/welcome.html", _) | ("/", None) => return self.welcome(client.as_deref(), host),
            (_, None) => return Found::Nothing,
            (_, Some(build)) => build,
        };
        let path = match path {
            "/" => "/index.html",
            CLIENTS_WELCOME => "/welcome.html",
            path => path,
        };
        match files::find(&build, path, accepts) {
            Some(file) => Found::File(file),
            None => Found::Nothing,
        }
    }

    fn welcome(&self, client: Option<&str>, host: &str) -> Found {
        match welcome::render(&self.settings, client, host) {
            Ok(page) => Found::Ours(page),
            Err(error) => Found::Failed(error),
        }
    }
}

/// Whether a request's host, which may have a port, is this one.
fn same_host(asked: &str, own: &str) -> bool {
    let name = asked.rsplit_once(':').map_or(asked, |(name, _)| name);
    name.eq_ignore_ascii_case(own)
}

enum Found {
    Ours(String),
    Config(Vec<u8>),
    File(File),
    Nothing,
    Failed(String),
}

/// `/config.json` and `/config.<host>.json`, which Element Web asks for first.
fn is_config(path: &str) -> bool {
    let Some(name) = path.strip_prefix("/config") else {
        return false;
    };
    let Some(host) = name.strip_suffix(".json") else {
        return false;
    };
    host.is_empty() || (host.starts_with('.') && !host.contains('/'))
}

/// `GET` of any path that is not an API's: the client's files, its configuration, the welcome
/// page.
///
/// # Errors
/// 404 `M_NOT_FOUND` where there is no such page.
pub async fn page(site: Arc<Site>, call: Call) -> Result<Answer, ApiError> {
    let path = call.uri.path().to_owned();
    // HTTP/2 names it in another place.
    let host = call.uri.authority().map(http::uri::Authority::as_str);
    let host = host.or(call.header(&HOST)).unwrap_or_default().to_owned();
    let accepts = call
        .header(&http::header::ACCEPT_ENCODING)
        .unwrap_or_default()
        .to_owned();
    let known = call.header(&IF_NONE_MATCH).map(str::to_owned);
    let work = move || site.find(&path, &host, &accepts);
    let found = tokio::task::spawn_blocking(work)
        .await
        .map_err(ApiError::internal)?;
    match found {
        Found::Ours(page) => Ok(ours(page)),
        Found::Config(json) => {
            Ok(headers(Answer::json_bytes(json)).header(CACHE_CONTROL, "no-store"))
        }
        Found::File(file) => Ok(client_file(file, known.as_deref())),
        Found::Nothing => Err(ApiError::not_found("There is no such page")),
        Found::Failed(error) => Err(ApiError::internal(error)),
    }
}

fn ours(page: String) -> Answer {
    headers(Answer::bytes("text/html; charset=utf-8", page))
        .header(CONTENT_SECURITY_POLICY, OUR_CSP)
        .header(X_FRAME_OPTIONS, "SAMEORIGIN")
        .header(CACHE_CONTROL, REVALIDATE)
}

fn client_file(file: File, known: Option<&str>) -> Answer {
    let keep = if file.immutable {
        IMMUTABLE
    } else {
        REVALIDATE
    };
    // What was compressed on its way comes back with a weak tag.
    let same = |tag: &str| tag.trim().trim_start_matches("W/") == file.etag;
    let unchanged = known.is_some_and(|known| known.split(',').any(same));
    let (kind, encoding, etag) = (file.content_type, file.encoding, file.etag.clone());
    let mut answer = if unchanged {
        Answer::bytes(kind, bytes::Bytes::new()).status(StatusCode::NOT_MODIFIED)
    } else {
        Answer::file(kind, file.file, file.length)
    };
    if let Some(encoding) = encoding {
        answer = answer.header(CONTENT_ENCODING, encoding);
    }
    if kind.starts_with("text/html") {
        answer = answer
            .header(CONTENT_SECURITY_POLICY, CLIENT_CSP)
            .header(X_FRAME_OPTIONS, "SAMEORIGIN");
    }
    headers(answer)
        .header(CACHE_CONTROL, keep)
        .header(VARY, "Accept-Encoding")
        .header(ETAG, &etag)
}

/// What every page carries.
fn headers(answer: Answer) -> Answer {
    let named = |name: &'static str| HeaderName::from_static(name);
    answer
        .header(X_CONTENT_TYPE_OPTIONS, "nosniff")
        .header(REFERRER_POLICY, "no-referrer")
        .header(named("permissions-policy"), PERMISSIONS)
        .header(named("x-download-options"), "noopen")
        .header(named("x-permitted-cross-domain-policies"), "none")
        .header(named("x-robots-tag"), "noindex, nofollow")
}

#[cfg(test)]
mod tests;
