//! `[web]` and `[well_known]`: what browsers find.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use toml::Table;

use super::raw::RawConfig;
use super::{ConfigError, HttpClient, base_url, wrong};

/// A web client served by this server.
#[derive(Clone, Debug)]
pub struct Web {
    /// The host name under which alone the client is served; none: under all.
    pub host: Option<String>,
    /// A build that the operator looks after; none: the installed one.
    pub dir: Option<PathBuf>,
    /// Changes to the client's configuration.
    pub override_file: PathBuf,
}

/// More for `/.well-known/matrix`.
#[derive(Clone, Debug)]
pub struct WellKnown {
    /// Where other servers reach this one, as `host:port`; none: they are told nothing, and try
    /// port 8448 of the server's name.
    pub server: Option<String>,
    /// Added to what clients are told.
    pub client_extra: Map<String, Value>,
    /// Whom to ask; empty: nobody is named.
    pub support: Map<String, Value>,
}

impl WellKnown {
    /// Where people read about this server's limits: the page for support, or the welcome page.
    #[must_use]
    pub fn info_uri(&self, base_url: &str) -> String {
        let page = self.support.get("support_page").and_then(Value::as_str);
        page.map_or_else(|| format!("{base_url}/"), str::to_owned)
    }

    /// How the first of those to be asked is reached, as a URI.
    #[must_use]
    pub fn admin_contact(&self) -> Option<String> {
        let first = self.support.get("contacts")?.as_array()?.first()?;
        let text = |name: &str| first.get(name).and_then(Value::as_str);
        let mail = text("email_address").map(|address| format!("mailto:{address}"));
        mail.or_else(|| text("matrix_id").map(|id| format!("https://matrix.to/#/{id}")))
    }
}

pub(super) fn web(raw: &RawConfig, data_dir: &Path) -> Result<Web, ConfigError> {
    let host = Some(raw.web.host.to_ascii_lowercase()).filter(|host| !host.is_empty());
    if let Some(host) = &host
        && (host.contains(['/', ':']) || ruma_common::ServerName::parse(host.as_str()).is_err())
    {
        return Err(wrong("web.host", &"it has to be a host name alone"));
    }
    Ok(Web {
        host,
        dir: Some(PathBuf::from(&raw.web.dir)).filter(|dir| !dir.as_os_str().is_empty()),
        override_file: data_dir.join(&raw.web.r#override),
    })
}

pub(super) fn well_known(raw: &RawConfig) -> Result<WellKnown, ConfigError> {
    let support = json("well_known.support", &raw.well_known.support)?;
    let named = support.contains_key("contacts") || support.contains_key("support_page");
    if !support.is_empty() && !named {
        return Err(ConfigError(
            "well_known.support: it has to name contacts or a support_page".to_owned(),
        ));
    }
    Ok(WellKnown {
        server: server(raw)?,
        client_extra: json("well_known.client_extra", &raw.well_known.client_extra)?,
        support,
    })
}

/// What is said to other servers: what the operator wrote, or the port that clients use as well.
fn server(raw: &RawConfig) -> Result<Option<String>, ConfigError> {
    let given = &raw.well_known.server;
    if !given.is_empty() {
        return match ruma_common::ServerName::parse(given.as_str()) {
            Ok(_) => Ok(Some(given.clone())),
            Err(error) => Err(wrong("well_known.server", &error)),
        };
    }
    let url = base_url(raw)?;
    let authority = url
        .strip_prefix("https://")
        .and_then(|rest| rest.split('/').next());
    let authority = authority.filter(|_| raw.federation.enabled);
    Ok(authority.map(|authority| {
        let host = authority.parse::<http::uri::Authority>();
        match host.is_ok_and(|host| host.port().is_some()) {
            true => authority.to_owned(),
            false => format!("{authority}:443"),
        }
    }))
}

fn json(key: &str, table: &Table) -> Result<Map<String, Value>, ConfigError> {
    match serde_json::to_value(table) {
        Ok(Value::Object(map)) => Ok(map),
        _ => Err(ConfigError(format!("{key}: it cannot be written as JSON"))),
    }
}

/// How other machines are reached.
pub(super) fn http_client(raw: &RawConfig) -> Result<HttpClient, ConfigError> {
    let raw = &raw.http_client;
    skerry_remote::http::Guard::new(raw.allow_private_addresses, &raw.allowed_private)
        .map_err(|e| ConfigError(format!("http_client.allowed_private: {e}")))?;
    let ca_file = Some(&raw.ca_file).filter(|file| !file.is_empty());
    Ok(HttpClient {
        ca_file: ca_file.map(PathBuf::from),
        allow_private: raw.allow_private_addresses,
        allowed_private: raw.allowed_private.clone(),
    })
}
