//! The configuration: read, overridden by the environment, checked, and turned into types.
//!
//! `raw.rs` is the file's shape, `docs.rs` the one list of options with their meaning, this file
//! what is checked.

mod acme;
mod calls;
mod docs;
mod federation;
mod front;
mod media;
mod people;
mod policy_server;
mod preview;
mod raw;
mod rooms;
mod units;
mod web;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ruma_common::ServerName;
use skerry_account::{PasswordCost, Terms, appservice};
use skerry_core::RoomVersion;
use skerry_http::RateLimits;
use skerry_media::prune::Schedule;
use skerry_media::{Bounds, S3Settings, Unauthenticated, WorkerSettings};
use skerry_proxy::ListenerSpec;
use skerry_remote::federation::DeskOptions;
use skerry_remote::mail::MailOptions;
use skerry_room::{NoticeSettings, Retention};
use skerry_store::Durability;
use toml::{Table, Value};

pub use acme::Acme;
pub use calls::{Calls, LiveKit, Turn, TurnLogin};
pub use docs::{DOCS, Doc, example};
pub use federation::Federation;
pub use preview::UrlPreview;
pub use units::{duration, show_bytes};
pub use web::{Web, WellKnown};

use raw::RawConfig;

/// The configuration, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// The part of user ids after the colon.
    pub server_name: Arc<str>,
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// For caches and buffers together, in bytes.
    pub memory_budget: u64,
    /// When a change counts as done.
    pub durability: Durability,
    /// Where to listen.
    pub listen: Vec<ListenerSpec>,
    /// What holds at all listeners.
    pub front: skerry_proxy::Settings,
    /// Certificates that are got from a CA, if any.
    pub acme: Option<Acme>,
    /// Who may register.
    pub registration: Registration,
    /// Whether access tokens may stand in the query string.
    pub query_tokens: bool,
    /// The mail server, if there is one.
    pub mail: Option<MailOptions>,
    /// The version of new rooms.
    pub default_room_version: RoomVersion,
    /// For how long moderators may read what redacted events said, in ms.
    pub redacted_keep_ms: u64,
    /// How long messages are kept; none: for ever.
    pub retention: Option<Retention>,
    /// Whether guests may register.
    pub guests: bool,
    /// Whether the public rooms are listed for those who are not logged in.
    pub directory_without_auth: bool,
    /// Whether it answers other servers.
    pub directory_over_federation: bool,
    /// Whether people find everybody of this server by name.
    pub search_all_users: bool,
    /// How the server speaks to its users; none: not at all.
    pub notices: Option<NoticeSettings>,
    /// How hard passwords are hashed.
    pub password_cost: PasswordCost,
    /// Where clients reach this server, without a slash at the end.
    pub base_url: String,
    /// The largest upload, in bytes.
    pub max_upload: u64,
    /// How much each person may upload in all, in bytes; 0: no limit.
    pub user_quota: u64,
    /// What to leave free on the disk, in bytes.
    pub free_disk_floor: u64,
    /// What may be downloaded without a token.
    pub unauthenticated_media: Unauthenticated,
    /// The largest file that is fetched from another server, in bytes.
    pub max_remote: u64,
    /// How much of other servers' media is kept, in bytes; none: as much as there is.
    pub remote_cache: Option<u64>,
    /// How long deleted media can be brought back.
    pub media_trash: Duration,
    /// What media is deleted without being asked for; none: nothing.
    pub media_schedule: Option<Schedule>,
    /// What decoding a picture may take.
    pub pictures: Bounds,
    /// Whether thumbnails are made when a picture is uploaded.
    pub thumbnails_in_advance: bool,
    /// The object store that media lies in; none: the data directory.
    pub media_store: Option<S3Settings>,
    /// What decodes pictures; none: the server itself. Not an option: `skerry serve` sets it.
    pub picture_worker: Option<WorkerSettings>,
    /// What calls need from elsewhere.
    pub calls: Calls,
    /// How other servers are talked with.
    pub federation: Federation,
    /// This server as a policy server, if it is one.
    pub policy_server: Option<DeskOptions>,
    /// How requests to other machines are made.
    pub http_client: HttpClient,
    /// Whether links are previewed, and which.
    pub url_preview: Option<UrlPreview>,
    /// A web client served by this server.
    pub web: Web,
    /// More for `/.well-known/matrix`.
    pub well_known: WellKnown,
    /// How much of each kind people, servers and addresses may do.
    pub rates: RateLimits,
    /// A file with the token for whom metrics are served; none: on the admin socket alone.
    pub metrics_token_file: Option<PathBuf>,
    /// Application services, as their registration files say.
    pub appservices: Vec<appservice::Registration>,
    /// What to log.
    pub log: Log,
    /// Options that were set and do nothing as the others stand.
    pub ignored: Vec<&'static str>,
}

/// How requests to other machines are made.
#[derive(Clone, Debug)]
pub struct HttpClient {
    /// A file of further root certificates to trust.
    pub ca_file: Option<PathBuf>,
    /// Whether all private addresses may be reached.
    pub allow_private: bool,
    /// Hosts, addresses and networks that may be reached all the same.
    pub allowed_private: Vec<String>,
}

/// Who may register.
#[derive(Clone, Debug)]
pub struct Registration {
    /// From clients at all.
    pub enabled: bool,
    /// Without a token.
    pub open: bool,
    /// Where the first token is written.
    pub token_file: PathBuf,
    /// For `/_synapse/admin/v1/register`.
    pub shared_secret: Option<String>,
    /// Only with an e-mail address.
    pub email_required: bool,
    /// What to agree to.
    pub terms: Option<Terms>,
}

/// What to log, and how.
#[derive(Clone, Debug)]
pub struct Log {
    /// Levels by part of the program.
    pub level: String,
    /// The shape of a line.
    pub format: LogFormat,
}

/// The shape of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
    /// For the journal, which notes the time itself.
    Journald,
}

/// What is wrong with a configuration, in words for the operator.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigError(pub String);

impl std::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// Reads a file (or none), lays the environment's `SKERRY_` variables over it and checks the
    /// result.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn load(
        file: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Config, ConfigError> {
        let text = match file {
            None => String::new(),
            Some(path) => std::fs::read_to_string(path)
                .map_err(|e| ConfigError(format!("cannot read {}: {e}", path.display())))?,
        };
        let place = file.map_or("the configuration".into(), |path| {
            path.display().to_string()
        });
        Config::from_text(&text, environment)
            .map_err(|ConfigError(what)| ConfigError(format!("{place}: {what}")))
    }

    /// The same from text.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn from_text(
        text: &str,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Config, ConfigError> {
        // Read on its own first, because then an error names line and column.
        toml::from_str::<RawConfig>(text).map_err(|e| ConfigError(e.to_string()))?;
        let mut table: Table = text.parse().map_err(|e| ConfigError(format!("{e}")))?;
        let defaults = docs::defaults();
        for (name, value) in environment {
            overlay(&mut table, &defaults, &name, &value)?;
        }
        let raw: RawConfig = Value::Table(table)
            .try_into()
            .map_err(|e: toml::de::Error| {
                ConfigError(format!("in an environment variable: {}", e.message()))
            })?;
        check(&raw)
    }

    /// The path of the admin socket.
    #[must_use]
    pub fn admin_socket(&self) -> PathBuf {
        self.data_dir.join("admin.sock")
    }
}

/// Lays one environment variable over the table: `SKERRY_SECTION__KEY`.
fn overlay(
    table: &mut Table,
    defaults: &Table,
    name: &str,
    value: &str,
) -> Result<(), ConfigError> {
    let Some(rest) = name.strip_prefix("SKERRY_") else {
        return Ok(());
    };
    // This one names the file itself.
    if rest == "CONFIG" {
        return Ok(());
    }
    let key = rest.to_ascii_lowercase().replace("__", ".");
    let value = match docs::lookup(defaults, &key) {
        // Scripts around the server have variables of their own with this prefix; only a name
        // with a section in it can be nothing but a mistyped option.
        None if !key.contains('.') => return Ok(()),
        None => {
            return Err(ConfigError(format!(
                "{name} is not an option (no \"{key}\")"
            )));
        }
        Some(Value::String(_)) => Value::String(value.to_owned()),
        Some(_) => format!("value = {value}")
            .parse::<Table>()
            .ok()
            .and_then(|mut parsed| parsed.remove("value"))
            .ok_or_else(|| ConfigError(format!("{name}: \"{value}\" is not a TOML value")))?,
    };
    let (sections, last) = key.rsplit_once('.').unwrap_or(("", &key));
    let mut place = table;
    for section in sections.split('.').filter(|section| !section.is_empty()) {
        let entry = place
            .entry(section)
            .or_insert_with(|| Value::Table(Table::new()));
        place = entry
            .as_table_mut()
            .ok_or_else(|| ConfigError(format!("{name}: {section} is not a section")))?;
    }
    place.insert(last.to_owned(), value);
    Ok(())
}

fn check(raw: &RawConfig) -> Result<Config, ConfigError> {
    let server_name = ServerName::parse(raw.server_name.as_str())
        .map_err(|e| wrong("server_name", &format!("\"{}\": {e}", raw.server_name)))?;
    let bytes = |key: &str, text: &str| units::bytes(text).map_err(|e| wrong(key, &e));
    let memory_budget = match raw.memory_budget.as_str() {
        "auto" => units::quarter_of_memory(),
        text => bytes("memory_budget", text)?,
    };
    if memory_budget < 32 << 20 {
        return Err(wrong("memory_budget", &"at least 32MiB are needed"));
    }
    let data_dir = PathBuf::from(&raw.data_dir);
    Ok(Config {
        server_name: server_name.as_str().into(),
        memory_budget,
        durability: match raw.durability.as_str() {
            "fsync" => Durability::Fsync,
            "os" => Durability::Os,
            other => return Err(one_of("durability", other, &["fsync", "os"])),
        },
        listen: front::listeners(raw)?,
        front: front::settings(raw)?,
        acme: acme::check(raw, &data_dir)?,
        registration: Registration {
            enabled: raw.registration.enabled,
            open: raw.registration.open,
            token_file: data_dir.join(&raw.registration.token_file),
            shared_secret: Some(raw.registration.shared_secret.clone()).filter(|s| !s.is_empty()),
            email_required: raw.registration.email_required,
            terms: people::terms(raw)?,
        },
        query_tokens: raw.access_tokens.in_query,
        mail: people::mail(raw, &base_url(raw)?)?,
        default_room_version: rooms::room_version(&raw.rooms.default_version)?,
        redacted_keep_ms: rooms::redacted_keep_ms(&raw.rooms.keep_redacted)?,
        retention: rooms::retention(&raw.retention)?,
        guests: raw.guests.enabled,
        directory_without_auth: raw.room_directory.public_without_auth,
        directory_over_federation: raw.room_directory.public_over_federation,
        search_all_users: raw.user_directory.search_all_users,
        notices: rooms::notices(raw)?,
        password_cost: match raw.password.cost.as_str() {
            "default" => PasswordCost::Default,
            "minimal" => PasswordCost::Minimal,
            other => return Err(one_of("password.cost", other, &["default", "minimal"])),
        },
        base_url: base_url(raw)?,
        max_upload: bytes("media.max_upload", &raw.media.max_upload)?,
        user_quota: bytes("media.user_quota", &raw.media.user_quota)?,
        free_disk_floor: bytes("media.free_disk_floor", &raw.media.free_disk_floor)?,
        unauthenticated_media: match raw.media.unauthenticated.as_str() {
            "off" => Unauthenticated::Off,
            "frozen" => Unauthenticated::Frozen,
            "open" => Unauthenticated::Open,
            other => {
                let words = ["frozen", "off", "open"];
                return Err(one_of("media.unauthenticated", other, &words));
            }
        },
        max_remote: bytes("media.max_remote", &raw.media.max_remote)?,
        remote_cache: media::remote_cache(raw)?,
        media_trash: media::trash(raw),
        media_schedule: media::schedule(raw)?,
        pictures: media::pictures(raw)?,
        thumbnails_in_advance: raw.media.thumbnails_in_advance,
        media_store: media::store(raw)?,
        picture_worker: None,
        calls: calls::check(raw)?,
        federation: federation::check(raw)?,
        policy_server: policy_server::check(raw)?,
        http_client: web::http_client(raw)?,
        url_preview: preview::check(raw)?,
        web: web::web(raw, &data_dir)?,
        well_known: web::well_known(raw)?,
        rates: front::rates(raw)?,
        metrics_token_file: Some(PathBuf::from(&raw.metrics.token_file))
            .filter(|file| !file.as_os_str().is_empty()),
        appservices: appservices(raw)?,
        log: log(raw)?,
        ignored: ignored(raw),
        data_dir,
    })
}

fn one_of(key: &str, given: &str, allowed: &[&str]) -> ConfigError {
    let allowed = allowed
        .iter()
        .map(|word| format!("\"{word}\""))
        .collect::<Vec<_>>()
        .join(", ");
    ConfigError(format!("{key}: \"{given}\" is not one of {allowed}"))
}

fn appservices(raw: &RawConfig) -> Result<Vec<appservice::Registration>, ConfigError> {
    let read = |file: &String| {
        crate::yaml::registration(Path::new(file))
            .map_err(|why| ConfigError(format!("appservice_registrations: {file}: {why}")))
    };
    raw.appservice_registrations.iter().map(read).collect()
}

/// What is wrong with an option.
fn wrong(key: &str, what: &dyn std::fmt::Display) -> ConfigError {
    ConfigError(format!("{key}: {what}"))
}

fn base_url(raw: &RawConfig) -> Result<String, ConfigError> {
    let given = raw.public.base_url.trim_end_matches('/');
    if given.is_empty() {
        let first = raw
            .listen
            .first()
            .map(|listen| listen.addr.as_str())
            .unwrap_or_default();
        let local = raw.server_name == "localhost";
        return Ok(match first.parse::<SocketAddr>() {
            Ok(addr) if local => format!("http://localhost:{}", addr.port()),
            _ => format!("https://{}", raw.server_name),
        });
    }
    if given.starts_with("https://") || given.starts_with("http://") {
        Ok(given.to_owned())
    } else {
        Err(ConfigError(
            "public.base_url: it has to start with https:// or http://".into(),
        ))
    }
}

fn log(raw: &RawConfig) -> Result<Log, ConfigError> {
    let format = match raw.log.format.as_str() {
        "text" => LogFormat::Text,
        "json" => LogFormat::Json,
        "journald" => LogFormat::Journald,
        other => return Err(one_of("log.format", other, &["text", "json", "journald"])),
    };
    tracing_subscriber::EnvFilter::try_new(&raw.log.level)
        .map_err(|e| ConfigError(format!("log.level: \"{}\": {e}", raw.log.level)))?;
    Ok(Log {
        level: raw.log.level.clone(),
        format,
    })
}

/// The options that differ from their default although they do nothing as the others stand.
fn ignored(raw: &RawConfig) -> Vec<&'static str> {
    let idle = |key: &str| key.starts_with("media.s3.") && raw.media.backend != "s3";
    let defaults = docs::defaults();
    let given = Table::try_from(raw).unwrap_or_default();
    DOCS.iter()
        .filter(|doc| idle(doc.key))
        .filter(|doc| docs::lookup(&given, doc.key) != docs::lookup(&defaults, doc.key))
        .map(|doc| doc.key)
        .collect()
}
